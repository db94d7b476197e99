"""The options that commands share, once: llama.cpp's and Ollama's words beside this package's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import click
import typer
from click.core import ParameterSource

from pyggml.cli.streams import read_stdin, text_of_argument
from pyggml.cli.usage import Usage
from pyggml.engine.cache_type import CACHE_TYPES
from pyggml.engine.sampling import SAMPLING
from pyggml.engine.settings import SETTINGS, Settings
from pyggml.files.texts import read_text

ModelArg = Annotated[Path | None, typer.Argument(metavar="MODEL", help="A GGUF file.")]
ModelOpt = Annotated[Path | None, typer.Option("--model", "-m", help="The model, in place of the argument.")]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", help="Threads; default: the cores this process may use.", min=0)
]
_CTX = ("--ctx", "-c", "--ctx-size", "--n-ctx")
Context = Annotated[
    int | None,
    typer.Option(*_CTX, "--num-ctx", help="Context in tokens; 0 and default: what the model was trained for."),
]
_CHUNK_DEFAULT = "default: 512, or what the model was trained for."
Chunk = Annotated[int | None, typer.Option(*_CTX, help=f"Tokens in a chunk; {_CHUNK_DEFAULT}")]
ScoredChunk = Annotated[
    int | None, typer.Option(*_CTX, help=f"Tokens in a chunk, whose second half is scored; {_CHUNK_DEFAULT}")
]
Chunks = Annotated[int | None, typer.Option("--chunks", "--n-chunk", help="At most so many chunks.")]
KvType = Annotated[
    str | None,
    typer.Option(
        "--kv-type", "--cache-type", help=f"Type of the key/value cache: {', '.join(CACHE_TYPES)} (f16; encoders: f32)."
    ),
]
Copy = Annotated[bool, typer.Option("--no-mmap", help="Copy the weights into memory on huge pages.")]
Stats = Annotated[bool, typer.Option("--stats", "--verbose", help="Tokens per second, on stderr.")]
Text = Annotated[Path | None, typer.Option("--text", "-f", "--file", help="A text file; - is stdin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

T = TypeVar("T", Path, Path | None, str)

_STDIN = Path("-")
_FILES = ("schema", "grammar", "lark")  # settings that are texts, typed as the names of files
_KINDS: dict[str, Any] = {  # where the command line's type is another than Python's
    **dict.fromkeys(("stop", "choices", "dry_sequence_breakers"), list[str] | None),
    **dict.fromkeys(_FILES, Path | None),
    **dict.fromkeys(("order", "draft"), str | None),
}
_NOT_HERE = ("logprobs", "logit_bias", "logits_hook", "n")  # run and chat print one text and know no ids


def output(path: T) -> T:
    """The callback of what is written. Raises Usage for -: files are renamed into place, a pipe cannot be."""
    if str(path) == str(_STDIN):
        raise Usage("- is no output here: name a file, which appears when it is complete")
    return path


F = TypeVar("F", bound=Callable[..., Any])


def with_settings(before: str, **changed: Any) -> Callable[[F], F]:
    """Gives a command that takes **settings an option for each setting of a generation, in front of the one named.

    changed: other defaults than Python's.
    """

    def decorate(call: F) -> F:
        found = inspect.signature(call, eval_str=True)
        own = list(found.parameters.values())[:-1]
        at = [each.name for each in own].index(before)
        kinds = {**get_type_hints(Settings), **_KINDS}
        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=changed.get(name, each.default),
                annotation=Annotated[
                    kinds[name], typer.Option(f"--{name.replace('_', '-')}", *each.options, help=each.help)
                ],
            )
            for name, each in SETTINGS.items()
            if name not in _NOT_HERE
        ]
        made = [*own[:at], *options, *own[at:]]
        call.__signature__ = found.replace(parameters=made)  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in made}
        return call

    return decorate


def settings_of(given: dict[str, Any]) -> dict[str, Any]:
    """Settings as they were typed, as Python takes them. Raises ArgumentError for a stop text that is no text."""
    context = click.get_current_context(silent=True)
    typed = {
        name: value for name, value in given.items()
        if context is None or name not in SAMPLING or context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }  # fmt: skip
    n = given["max_tokens"]  # -1 and -2 are llama.cpp's and Ollama's words for no limit
    stops = [text_of_argument(text, "stop text") for text in given["stop"] or ()]
    files = {name: None if given[name] is None else read(given[name]) for name in _FILES}
    many = {name: given[name] or None for name in ("choices", "dry_sequence_breakers")}  # repeated ones come as lists
    return {**typed, **files, **many, "max_tokens": None if n in (-1, -2) else n, "stop": stops}


def read(path: Path) -> str:
    """The text of a file, of stdin for `-`. Raises ArgumentError."""
    return read_stdin("text") if path == _STDIN else read_text(path)


def needed_text(path: Path | None) -> Path:
    """The file of a text that a command cannot do without. Raises Usage."""
    if path is None:
        raise Usage("no text: give a file with -f")
    return path


def exact_text(argument: str | None, file: Path | None, what: str = "text") -> str:
    """An argument's text, or a file's, or stdin's. Raises Usage where an argument and a file are given."""
    if argument is not None and file is not None:
        raise Usage(f"the {what} is given twice, as an argument and as a file")
    if argument is not None:
        return text_of_argument(argument, what)
    return read_stdin(what) if file is None else read(file)


def prompt_text(argument: str | None, file: Path | None) -> str:
    """As exact_text; the line ends behind a file's or stdin's last line are no text of a prompt."""
    text = exact_text(argument, file, "prompt")
    return text if argument is not None else text.rstrip("\n")
