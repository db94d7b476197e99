"""The commands that look and write nothing: inspect, estimate, info, formats, tokenize."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import pyggml
from pyggml.cli import options, show, table
from pyggml.cli.models import model_of, only_model
from pyggml.cli.usage import Usage
from pyggml.errors import ArgumentError
from pyggml.files.foreign import reading
from pyggml.tokenizer import from_metadata


def inspect(
    argument: options.ModelArg = None,
    model: options.ModelOpt = None,
    as_json: options.AsJson = False,
    ctx: options.Context = None,
    kv_type: options.KvType = None,
) -> None:
    """Metadata, tensors, parameters and memory of a file, from its header only.

    pyggml inspect model.gguf --json
    """
    from pyggml.cli import inspect as page

    page.show(only_model(model, argument), as_json, ctx or None, kv_type)


def estimate(
    argument: options.ModelArg = None,
    model: options.ModelOpt = None,
    as_json: options.AsJson = False,
    ctx: options.Context = None,
    kv_type: options.KvType = None,
) -> None:
    """Bytes that a model needs, with a context and a type of its cache, from the header only.

    pyggml estimate model.gguf -c 8192 --kv-type q8_0
    """
    from pyggml.cli import inspect as page

    need = pyggml.estimate(only_model(model, argument), ctx or None, kv_type)
    print(show.dumps(dataclasses.asdict(need)) if as_json else page.memory(need))


def info(as_json: options.AsJson = False) -> None:
    """What this installation found: CPU level, threads, types, architectures, devices, versions.

    pyggml info --json
    """
    found = pyggml.info()
    if as_json:
        print(show.dumps(found))
        return
    for key, value in found.items():
        print(table.paragraph(f"{key:>14}  ", show.flat(value), 16))


def formats(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Names; without any: all.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Every number format: bits, block, sign/exponent/mantissa, range of a code, bits per weight, and where it lives.

    pyggml formats q4_k nf4 fp8_e4m3 --json
    """
    rows = pyggml.formats()
    wanted = [name.lower() for name in names or ()]
    unknown = [name for name in wanted if name not in {row.name for row in rows}]
    if unknown:
        raise ArgumentError(f"no format is called {unknown[0]!r}; `pyggml formats` lists them all")
    rows = type(rows)(row for row in rows if not wanted or row.name in wanted)
    print(show.dumps([dataclasses.asdict(row) for row in rows]) if as_json else rows)


def tokenize(
    args: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL [TEXT]", help="A GGUF file; without a text: stdin.")
    ] = None,
    model: options.ModelOpt = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="The text.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A text file.")] = None,
    no_special: Annotated[
        bool, typer.Option("--no-special", help="No BOS/EOS; special tokens are plain text.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", "--ids", help="Only the ids, as a list.")] = False,
) -> None:
    """Token ids of a text, and the text that each stands for.

    pyggml tokenize model.gguf "Once upon a time"
    """
    words = list(args or ())
    path, _ = model_of(model, *([Path(words.pop(0))] if model is None and words else []))
    if len(words) + (prompt is not None) > 1:
        raise Usage(f"{words[-1]!r} is one argument too many: a model and a text; quote the text")
    given = prompt if prompt is not None else words[0] if words else None
    text = options.exact_text(given, file)
    with pyggml.gguf.open(path) as opened, reading(opened.path, "tokenizer"):  # a file of a vocabulary alone too
        known = from_metadata(opened.metadata)
    ids = known.encode(text, add_special=not no_special, parse_special=not no_special)
    if as_json:
        print(show.dumps(ids))
        return
    for token in ids:
        print(f"{token:>8}  {show.token(known, token)}")
    print(f"{len(ids)} tokens")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (inspect, estimate, info, formats, tokenize):
        app.command()(command)
