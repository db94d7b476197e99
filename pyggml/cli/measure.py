"""The commands that measure models on text: imatrix, compare, sensitivity, report. Each calls public functions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

import pyggml
from pyggml.cli import show
from pyggml.cli.files import read
from pyggml.errors import ArgumentError
from pyggml.recipes import report as drawing
from pyggml.recipes import survey
from pyggml.replacing import check_writable

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
    check_writable(out, ArgumentError, (model, text))
    with pyggml.load(model, n_threads=threads) as loaded, show.progress("reading") as progress:
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


def sensitivity(
    model: ModelArg,
    text: Annotated[
        Path | None, typer.Option("--text", "-f", "--file", help="A text file; default: the model's own text.")
    ] = None,
    near: Annotated[float, typer.Option("--near", help="Bits per weight that matter most.")] = 4.5,
    types: Annotated[str | None, typer.Option("--types", help="Candidates, e.g. q3_k,q4_k,q6_k.")] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep the result for quantize --sensitivity.")
    ] = None,
    chunks: Annotated[int, typer.Option("--chunks", help="Chunks of text to run each tensor on.")] = 4,
    ctx: Context = 512,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """What each tensor loses at each type: weighted error, and KL of the predictions for the types nearest to --near.

    pyggml sensitivity model-f16.gguf --text calibration.txt -o costs.json
    """
    words = None if text is None else read(text)
    kinds = None if types is None else [kind.strip() for kind in types.split(",")]
    if out is not None:
        check_writable(out, ArgumentError, (model, *([] if text is None else [text])))
    with pyggml.load(model, n_threads=threads) as loaded, show.progress("measuring") as progress:
        found = pyggml.sensitivity(
            loaded, words, near=near, types=kinds, n_ctx=ctx, n_chunk=chunks, n_threads=threads or 0,
            progress=progress,
        )  # fmt: skip
    if out is not None:
        found.save(out)
    if as_json:
        print(json.dumps([dataclasses.asdict(cost) for cost in found.tensors.values()], indent=1))
        return
    ranked = sorted(found.tensors.values(), key=lambda cost: -max(cost.kl.values(), default=0.0))
    for cost in ranked:
        measured = "  ".join(f"{kind} {value:.2e}" for kind, value in cost.kl.items())
        errors = "  ".join(f"{kind} {value:.1e}" for kind, value in cost.error.items() if kind not in cost.kl)
        print(f"{show.plain(cost.name):<32} KL {measured}   error {errors}")


def report(
    model: ModelArg,
    text: Text,
    out: Annotated[Path, typer.Option("--output", "-o", help=".html, .png, .svg or .pdf.")] = Path("report.html"),
    recipes: Annotated[
        str | None, typer.Option("--recipes", help="Mixes or pure:TYPE, joined by commas; default: all.")
    ] = None,
    importance: Annotated[
        Path | None, typer.Option("--importance", help="Another text; every recipe is made with and without it.")
    ] = None,
    shown: Annotated[str | None, typer.Option("--show", help="The recipe whose tensors are drawn.")] = None,
    ctx: Context = 512,
    chunks: Chunks = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Write a model in many recipes, measure each on text, and draw bits against KL, types and errors by tensor.

    pyggml report model-f16.gguf --text held-out.txt --importance calibration.txt -o report.html
    """
    words, other = read(text), None if importance is None else read(importance)
    names = None if recipes is None else [name.strip() for name in recipes.split(",")]
    drawing.check(out)
    check_writable(out, ArgumentError, (model, text))
    with show.progress("recipes") as progress:
        rows = survey.survey(
            model, words, names, importance=other, n_ctx=ctx, n_chunk=chunks, n_threads=threads or 0,
            progress=progress,
        )  # fmt: skip
    drawing.write_report(rows, out, shown=shown, title=model.name)
    if as_json:
        print(json.dumps([row.as_dict() for row in rows], indent=1))
        return
    for row in rows:
        f, how = row.found, "importance" if row.importance else ""
        print(
            f"{row.recipe:<10} {how:<10} {row.bits_per_weight:6.3f} bits   perplexity {f.perplexity_b:9.4f}   "
            f"KL {f.kl_mean:.3e}   same top {f.same_top:.2%}"
        )
    print(out)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (imatrix, compare, sensitivity, report):
        app.command()(command)
