"""A plug-in of the `llm` command and package: files of models by names of one's own.

`llm pyggml add NAME FILE` keeps a name; then `llm -m NAME "..."`. Tools of llm are not offered; chats, system prompts,
schemas where grammars can be had, and the settings of a generation are.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import llm

import pyggml
from pyggml.errors import ArgumentError
from pyggml.model import BUNDLED

_KEPT = "pyggml.json"


def _file() -> Path:
    return Path(llm.user_dir()) / _KEPT


def names() -> dict[str, str]:
    """Name -> file, of those that were added, and the bundled model."""
    kept = json.loads(_file().read_text("utf-8")) if _file().exists() else {}
    if not isinstance(kept, dict):
        raise ArgumentError(
            f"{_file()} is no object of JSON: names and files are expected; delete it and add them anew"
        )
    return {"pyggml-tales": str(BUNDLED), **kept}


@functools.lru_cache(maxsize=1)
def _loaded(path: str) -> pyggml.Model:
    return pyggml.load(path)


class PyggmlModel(llm.Model):
    """One file."""

    can_stream = True

    class Options(llm.Options):
        """Settings of a generation."""

        max_tokens: int | None = None
        temperature: float | None = None
        top_k: int | None = None
        top_p: float | None = None
        seed: int | None = None

    def __init__(self, model_id: str, path: str) -> None:
        self.model_id, self.path = model_id, path

    def execute(self, prompt: Any, stream: bool, response: Any, conversation: Any = None) -> Iterator[str]:
        """The answer piece by piece."""
        m = _loaded(self.path)
        options = prompt.options.model_dump(exclude_none=True)
        if "tokenizer.chat_template" in m.metadata:
            pieces = m.chat(self.messages(prompt, conversation), stream=True, **options)
        else:
            pieces = m.stream(prompt.prompt, **{"max_tokens": None, **options})
        with pieces:
            yield from pieces
        done = pieces.result
        if done is not None:
            response.set_usage(input=done.usage.prompt_tokens, output=done.usage.completion_tokens)

    def messages(self, prompt: Any, conversation: Any) -> list[dict[str, str]]:
        """The conversation so far, and the question."""
        made: list[dict[str, str]] = []
        for each in conversation.responses if conversation is not None else ():
            if each.prompt.system and not made:
                made.append({"role": "system", "content": each.prompt.system})
            made.append({"role": "user", "content": each.prompt.prompt})
            made.append({"role": "assistant", "content": each.text()})
        if prompt.system and not made:
            made.append({"role": "system", "content": prompt.system})
        return [*made, {"role": "user", "content": prompt.prompt}]

    def __str__(self) -> str:
        return f"pyggml: {self.model_id}"


@llm.hookimpl
def register_models(register: Any) -> None:
    """The names that were added."""
    for name, path in names().items():
        register(PyggmlModel(name, path))


@llm.hookimpl
def register_commands(cli: Any) -> None:
    """`llm pyggml add NAME FILE`, `llm pyggml list`."""

    @cli.group()
    def pyggml() -> None:
        """GGUF files that are run by pyggml."""

    @pyggml.command()
    @click.argument("name")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, resolve_path=True))
    def add(name: str, file: str) -> None:
        """Keeps a name for a file."""
        kept = {key: path for key, path in names().items() if path != str(BUNDLED)}
        _file().write_text(json.dumps({**kept, name: file}, indent=1), "utf-8")

    @pyggml.command("list")
    def list_() -> None:
        """The names and their files."""
        for name, path in names().items():
            click.echo(f"{name}\t{path}")
