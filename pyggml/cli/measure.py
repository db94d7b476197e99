"""The commands that measure models on text: perplexity, imatrix, compare, sensitivity, report.

Each calls public functions.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import pyggml
from pyggml.cli import options, show, table
from pyggml.cli.files import check_output
from pyggml.cli.models import checked, model_of, only_model
from pyggml.cli.usage import Usage
from pyggml.engine import scoring


def perplexity(
    argument: options.ModelArg = None,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A text file; - is stdin.")] = None,
    model: options.ModelOpt = None,
    text: options.Text = None,
    ctx: options.ScoredChunk = None,
    threads: options.Threads = None,
    kv_type: options.KvType = None,
    as_json: options.AsJson = False,
) -> None:
    """Perplexity of a text, counted as llama.cpp counts it.

    pyggml perplexity model.gguf held-out.txt
    """
    path, rest = model_of(model, argument, file)
    given = [*rest, *([] if text is None else [text])]
    if len(given) > 1:
        raise Usage(f"two texts: {given[0]} and {given[1]}; give one")
    words = options.read(options.needed_text(given[0] if given else None))
    with (
        pyggml.load(path, n_threads=threads or None, kv_type=kv_type) as loaded,
        show.progress("scoring") as progress,
    ):
        ctx = scoring.chunk(ctx, loaded.n_ctx)
        value = loaded.perplexity(words, n_ctx=ctx, progress=progress)
    print(show.dumps({"perplexity": value, "n_ctx": ctx}) if as_json else f"perplexity {value:.4f}")


def imatrix(
    argument: options.ModelArg = None,
    model: options.ModelOpt = None,
    text: options.Text = None,
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", callback=options.output)] = Path(
        "imatrix.gguf"
    ),
    ctx: options.Chunk = None,
    chunks: options.Chunks = None,
    threads: options.Threads = None,
) -> None:
    """Collect the importance of every matrix's columns from text, in llama.cpp's file form.

    pyggml imatrix model-f16.gguf --text calibration.txt -o imatrix.gguf
    """
    path, text = only_model(model, argument), options.needed_text(text)
    words = options.read(text)
    check_output(out, path, text)
    with pyggml.load(path, n_threads=threads or None) as loaded, show.progress("reading") as progress:
        made = pyggml.imatrix(loaded, words, n_ctx=ctx, n_chunk=chunks, dataset=text.name, progress=progress)
        made.save(out)
    print(f"{len(made)} tensors, {made.n_chunk} chunks of {made.chunk_size} tokens: {out}")


def compare(
    a: Annotated[Path, typer.Argument(help="The reference, a GGUF file.")],
    b: Annotated[Path, typer.Argument(help="The file to judge.")],
    text: options.Text = None,
    ctx: options.Chunk = None,
    chunks: options.Chunks = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """How far a model's predictions are from a reference's on a text.

    pyggml compare model-f16.gguf model-q4_k_m.gguf --text held-out.txt
    """
    words = options.read(options.needed_text(text))
    with (
        pyggml.load(checked(a), n_threads=threads or None) as first,
        pyggml.load(checked(b), n_threads=threads or None) as second,
        show.progress("reading") as progress,
    ):
        c = pyggml.compare(first, second, words, n_ctx=ctx, n_chunk=chunks, progress=progress)
    if as_json:
        print(show.dumps(dataclasses.asdict(c)))
        return
    change = c.perplexity_b / c.perplexity_a - 1
    print(f"perplexity          {c.perplexity_a:.4f} -> {c.perplexity_b:.4f}  ({change:+.2%})")
    print(f"KL divergence       mean {c.kl_mean:.3e}  median {c.kl_median:.3e}")
    print(f"                    99 % {c.kl_99:.3e}  max    {c.kl_max:.3e}")
    print(f"same top token      {c.same_top:.2%}")
    print(f"largest logit change {c.logit_change:.3f}   ({c.n} positions)")


def sensitivity(
    argument: options.ModelArg = None,
    model: options.ModelOpt = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", "-f", "--file", help="A text file; - is stdin; default: the model's own text."),
    ] = None,
    near: Annotated[str, typer.Option("--near", help="Bits per weight that matter most.")] = "4.5",
    types: Annotated[str | None, typer.Option("--types", help="Candidates, e.g. q3_k,q4_k,q6_k.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Keep the result for quantize --sensitivity.", callback=options.output),
    ] = None,
    chunks: Annotated[
        int | None,
        typer.Option(
            "--chunks", "--n-chunk", help="Run each tensor on at most so many chunks; default: 4, or as fit memory."
        ),
    ] = None,
    ctx: options.Chunk = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """What each tensor loses at each type: weighted error, and KL of the predictions for the types nearest to --near.

    pyggml sensitivity model-f16.gguf --text calibration.txt -o costs.json
    """
    path = only_model(model, argument)
    words = None if text is None else options.read(text)
    kinds = None if types is None else [kind.strip() for kind in types.split(",")]
    if out is not None:
        check_output(out, path, text)
    with pyggml.load(path, n_threads=threads or None) as loaded, show.progress("measuring") as progress:
        found = pyggml.sensitivity(
            loaded, words, near=near, types=kinds, n_ctx=ctx, n_chunk=chunks, n_threads=threads or 0,
            progress=progress,
        )  # fmt: skip
    if out is not None:
        found.save(out)
    if as_json:
        print(show.dumps([dataclasses.asdict(cost) for cost in found.tensors.values()]))
        return
    ranked = sorted(found.tensors.values(), key=lambda cost: -max(cost.kl.values(), default=0.0))
    for cost in ranked:
        print(show.plain(cost.name))
        errors = {kind: value for kind, value in cost.error.items() if kind not in cost.kl}
        for what, values in (("KL", cost.kl), ("error", errors)):
            if values:
                print(table.paragraph(f"  {what}", "  ".join(f"{k}:{v:.1e}" for k, v in values.items()), 9))


def report(
    argument: options.ModelArg = None,
    model: options.ModelOpt = None,
    text: options.Text = None,
    out: Annotated[
        Path, typer.Option("--output", "-o", help=".html, .png, .svg or .pdf.", callback=options.output)
    ] = Path("report.html"),
    recipes: Annotated[
        str | None, typer.Option("--recipes", help="Mixes or pure:TYPE, joined by commas; default: all.")
    ] = None,
    importance: Annotated[
        Path | None, typer.Option("--importance", help="Another text; every recipe is made with and without it.")
    ] = None,
    shown: Annotated[str | None, typer.Option("--show", help="The recipe whose tensors are drawn.")] = None,
    ctx: options.Chunk = None,
    chunks: options.Chunks = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a model in many recipes, measure each on text, and draw bits against KL, types and errors by tensor.

    pyggml report model-f16.gguf --text held-out.txt --importance calibration.txt -o report.html
    """
    from pyggml.recipes import report as drawing
    from pyggml.recipes import survey

    path, text = only_model(model, argument), options.needed_text(text)
    words, other = options.read(text), None if importance is None else options.read(importance)
    names = None if recipes is None else [name.strip() for name in recipes.split(",")]
    drawing.check(out)
    check_output(out, path, text, importance)
    with show.progress("recipes") as progress:
        rows = survey.survey(
            path, words, names, importance=other, n_ctx=ctx, n_chunk=chunks, n_threads=threads or 0,
            progress=progress,
        )  # fmt: skip
    drawing.write_report(rows, out, shown=shown, title=path.name)
    if as_json:
        print(show.dumps([row.as_dict() for row in rows]))
        return
    lines = [
        [
            row.recipe, "importance" if row.importance else "", f"{row.bits_per_weight:.3f}",
            f"{row.found.perplexity_b:.4f}", f"{row.found.kl_mean:.3e}", f"{row.found.same_top:.2%}",
        ]
        for row in rows
    ]  # fmt: skip
    print(table.show(("recipe", "with", ">bits", ">perplexity", ">KL", ">same top"), lines))
    print(out)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (perplexity, imatrix, compare, sensitivity, report):
        app.command()(command)
