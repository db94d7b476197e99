"""The commands that measure models on text: imatrix, compare. They read options, call one public function, print."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

import pyggml
from pyggml.cli import show
from pyggml.cli.files import stoppable
from pyggml.errors import ArgumentError

ModelArg = Annotated[Path, typer.Argument(help="A GGUF file.")]
Text = Annotated[Path, typer.Option("--text", "-f", "--file", help="A text file, UTF-8.")]
Context = Annotated[int, typer.Option("--ctx", "-c", help="Tokens in a chunk.")]
Chunks = Annotated[int | None, typer.Option("--chunks", help="At most so many chunks.")]
Threads = Annotated[int | None, typer.Option("--threads", "-t", help="Default: the cores this process may use.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def imatrix(
    model: ModelArg,
    text: Text,
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("imatrix.gguf"),
    ctx: Context = 512,
    chunks: Chunks = None,
    threads: Threads = None,
) -> None:
    """Collect the importance of every matrix's columns from text, in llama.cpp's file form.

    pyggml imatrix model-f16.gguf --text calibration.txt -o imatrix.gguf
    """
    words = read(text)
    with stoppable(), pyggml.load(model, n_threads=threads) as loaded, show.progress("reading") as progress:
        made = pyggml.imatrix(loaded, words, n_ctx=ctx, n_chunk=chunks, dataset=text.name, progress=progress)
        made.save(out)
    print(f"{len(made)} tensors, {made.n_chunk} chunks of {made.chunk_size} tokens: {out}")


def compare(
    a: Annotated[Path, typer.Argument(help="The reference, a GGUF file.")],
    b: Annotated[Path, typer.Argument(help="The file to judge.")],
    text: Text,
    ctx: Context = 512,
    chunks: Chunks = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """How far a model's predictions are from a reference's on a text.

    pyggml compare model-f16.gguf model-q4_k_m.gguf --text held-out.txt
    """
    words = read(text)
    with (
        pyggml.load(a, n_threads=threads) as first,
        pyggml.load(b, n_threads=threads) as second,
        show.progress("reading") as progress,
    ):
        c = pyggml.compare(first, second, words, n_ctx=ctx, n_chunk=chunks, progress=progress)
    if as_json:
        print(json.dumps(dataclasses.asdict(c), indent=1))
        return
    change = c.perplexity_b / c.perplexity_a - 1
    print(f"perplexity          {c.perplexity_a:.4f} -> {c.perplexity_b:.4f}  ({change:+.2%})")
    print(f"KL divergence       mean {c.kl_mean:.3e}  median {c.kl_median:.3e}  99 % {c.kl_99:.3e}  max {c.kl_max:.3e}")
    print(f"same top token      {c.same_top:.2%}")
    print(f"largest logit change {c.logit_change:.3f}   ({c.n} positions)")


def read(path: Path) -> str:
    """A text file, or one clear error."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ArgumentError(f"cannot read {path}: {e}") from None


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (imatrix, compare):
        app.command()(command)
