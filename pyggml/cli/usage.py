"""What was mistyped, in one line with the nearest right word; words of other programs get the word used here."""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from pyggml.errors import ArgumentError

MISUSED = 2

_GPU = "pyggml computes on the CPU; leave it out"
_EMBEDS = "python -m pyggml answers compilers"
_ESCAPES = "the shell's $'a\\nb' makes escapes"
_CHATS = "`pyggml chat` talks, `pyggml run` continues a text"
OPTIONS = {
    "-ngl": _GPU, "--gpu-layers": _GPU, "--n-gpu-layers": _GPU, "-fa": "leave it out", "--flash-attn": "leave it out",
    "-sys": "it is --system", "-ctk": "it is --kv-type", "-ctv": "it is --kv-type", "--cache-type-k": "it is --kv-type",
    "--cache-type-v": "it is --kv-type", "-cnv": _CHATS, "-no-cnv": _CHATS, "--conversation": _CHATS, "-i": _CHATS,
    "--interactive": _CHATS, "-hf": "pyggml downloads nothing; give a file", "-ub": "leave it out",
    "--mlock": "--no-mmap copies the weights into memory", "--outtype": "it is --dtype",
    "--outfile": "it is the second argument", "-e": _ESCAPES, "--escape": _ESCAPES,
    "--color": "leave it out; NO_COLOR=1 turns colours off", "-v": "it is --version",
    "--cflags": _EMBEDS, "--libs": _EMBEDS, "--include": _EMBEDS, "--cmake-dir": _EMBEDS,
    "--format": "--json is the other format", "--model-path": "it is --model", "--max-new-tokens": "it is --max-tokens",
}  # fmt: skip
"""Options of llama.cpp, Ollama and transformers that are none here: what to type."""

COMMANDS = {
    "help": "pyggml --help", "generate": "pyggml run", "complete": "pyggml run", "show": "pyggml inspect",
    "ppl": "pyggml perplexity", "kl": "pyggml compare", "gguf-split": "pyggml split", "create": "pyggml quantize",
    "version": "pyggml --version", "encode": "pyggml tokenize", "ls": "your shell's ls", "list": "your shell's ls",
    "cli": "pyggml run", "download": "your browser", "pull": "your browser",
}  # fmt: skip


class Usage(ArgumentError):
    """Options or arguments that do not go together; status 2."""


def status_of(error: Exception, args: Sequence[str]) -> int | None:
    """The status that an exception of the option parser stands for, after one line on stderr; None for any other.

    The parser is typer's, whose exceptions live elsewhere in each of its versions: known by what they have.
    """
    if isinstance(error, Usage):
        _print(str(error), _command(args))
        return MISUSED
    status = getattr(error, "exit_code", None)
    if isinstance(status, int) and not hasattr(error, "format_message"):  # Exit
        return status
    if not isinstance(status, int):
        return None
    context: Any = getattr(error, "ctx", None)
    where = context.command_path if context is not None else _command(args)
    _print(_told(error, context, args), where)
    return MISUSED


def _print(line: str, command: str) -> None:
    print(f"error: {line} (see {command} --help)", file=sys.stderr)


def _command(args: Sequence[str]) -> str:
    return f"pyggml {args[0]}" if args and args[0].isidentifier() else "pyggml"


def _told(error: Any, context: Any, args: Sequence[str]) -> str:
    foreign = next((arg for arg in before_end(args) if arg.partition("=")[0] in OPTIONS), None)
    option = getattr(error, "option_name", None)
    known = [name for p in (context.command.params if context is not None else ()) for name in p.opts]
    if foreign is not None and foreign.partition("=")[0] not in known:
        word = foreign.partition("=")[0]
        return f"no option {word}: {OPTIONS[word]}"
    text = " ".join(str(error.format_message()).split()).rstrip(".")
    if type(error).__name__ == "NoSuchOption" and option:
        plain = option.lower().replace("_", "-")
        near = [plain] if plain in known else difflib.get_close_matches(plain, known, 3, 0.6)
        return f"no option {option}{'; did you mean ' + ' or '.join(near) + '?' if near else ''}"
    given = typed(getattr(getattr(error, "param", None), "opts", ()), before_end(args))
    if given and getattr(error, "message", None):
        reason = " ".join(str(error.message).split()).rstrip(".").partition(", unable")[0]
        return f"invalid value for {given[0]}: {ascii(given[1])[:60]}: {reason[:1].lower() + reason[1:]}"
    commands = getattr(getattr(context, "command", None), "commands", None)
    if commands and "o such command" in text:
        return _no_command(next((arg for arg in args if not arg.startswith("-")), ""), commands)
    return text[:1].lower() + text[1:]


def typed(names: Sequence[str], args: Sequence[str]) -> tuple[str, str] | None:
    """Which of an option's names was typed last, and its value.

    >>> typed(["--max-tokens", "-n"], ["run", "-n=3"]), typed(["--ctx"], ["--ctx", "x"])
    (('-n', '=3'), ('--ctx', 'x'))
    """
    for at in range(len(args) - 1, -1, -1):
        name, equals, value = args[at].partition("=")
        short = args[at][:2]
        if name in names and not (equals and name == short):
            return name, value if equals else "".join(args[at + 1 : at + 2])
        if short in names and not args[at].startswith("--"):
            return short, args[at][2:]
    return None


def before_end(args: Sequence[str]) -> Sequence[str]:
    """The arguments that may be options: those before --."""
    return args[: list(args).index("--")] if "--" in args else args


def _no_command(word: str, commands: Any) -> str:
    shown = ascii(word)[:60]
    if word.lower() in COMMANDS:
        return f"no command {shown}; did you mean {COMMANDS[word.lower()]}?"
    near = difflib.get_close_matches(word.lower(), list(commands), 1, 0.5)
    if near:
        return f"no command {shown}; did you mean pyggml {near[0]}?"
    if os.path.exists(word) or word.lower().endswith(".gguf"):
        return f"a command comes first: pyggml run {shlex.quote(word)}"
    return f"no command {shown}; there are {', '.join(commands)}"
