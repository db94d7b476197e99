"""The commands that write model files: quantize, split, merge. They read options, call one public function, print."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import pyggml
from pyggml.cli import options, show, table
from pyggml.cli.models import checked
from pyggml.cli.usage import Usage
from pyggml.errors import ArgumentError, PyggmlError
from pyggml.files.atomic_file import check_writable, replacing

if TYPE_CHECKING:
    from pyggml.recipes import Change

Src = Annotated[Path, typer.Argument(help="A GGUF file; any part of a split one.")]
Dst = Annotated[
    Path, typer.Argument(help="The file to write; it appears when it is complete.", callback=options.output)
]

_QUANTIZE_HELP = """Write a model with its weights in other types.

    pyggml quantize in.gguf out.gguf Q4_K_M

    pyggml quantize in.gguf out.gguf q4_k_m --tensor-type 'ffn_down=q6_k' --output-type q8_0 --imatrix im.gguf

    pyggml quantize in.gguf out.gguf --target-bpw 4.5 --text calibration.txt

    pyggml quantize in.gguf out.gguf --strategy mobile --memory 4GiB --hardware arm

TYPE is a mix (Q4_K_M, IQ4_XS, q4_0 ... in any case), bits (W4A8, W4A16), pure:TYPE, or COPY, which leaves the types.
Patterns name layers as people do (attention_value, feed_forward_down, norm, router, lm_head) or are regular
expressions over tensor names.
"""


def quantize(
    src: Src,
    dst: Dst,
    type: Annotated[str, typer.Argument(metavar="[TYPE]", help="A mix, or pure:TYPE.")] = "",
    n_threads: Annotated[int | None, typer.Argument(metavar="[THREADS]", help="As --threads.", min=0)] = None,
    tensor_type: Annotated[
        list[str] | None, typer.Option("--tensor-type", "-T", help="PATTERN=TYPE; may be repeated, the first wins.")
    ] = None,
    tensor_type_file: Annotated[
        Path | None, typer.Option("--tensor-type-file", help="A file of such patterns, one in a line.")
    ] = None,
    output_type: Annotated[
        str | None,
        typer.Option(
            "--output-type",
            "--output-tensor-type",
            "--quantize-output",
            "--keep-output",
            help="Type of the output matrix.",
        ),
    ] = None,
    embedding_type: Annotated[
        str | None,
        typer.Option("--embedding-type", "--token-embedding-type", help="Type of the token embedding."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="PATTERN or PATTERN=TYPE, e.g. norm=f32: stays, or gets this; vectors too."),
    ] = None,
    keep_norm: Annotated[str | None, typer.Option("--keep-norm", help="Type of the norms, e.g. FP32.")] = None,
    leave_output: Annotated[
        bool, typer.Option("--leave-output-tensor", help="Leave the output matrix as it is.")
    ] = False,
    recipe_file: Annotated[
        Path | None, typer.Option("--recipe", help="A TOML or YAML file of a recipe, in place of TYPE.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="mobile, server, research or max-quality, in place of TYPE.")
    ] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="What a strategy may fill 3/4 of, e.g. 4GiB.")] = None,
    hardware: Annotated[
        str | None, typer.Option("--hardware", help="What a strategy is for: cpu (the default), arm or gpu.")
    ] = None,
    imatrix: Annotated[
        Path | None, typer.Option("--imatrix", help="Importance weights, as `pyggml imatrix` or llama.cpp writes them.")
    ] = None,
    target_bpw: Annotated[
        str | None, typer.Option("--target-bpw", help="Choose a type per tensor: bits per weight of the whole.")
    ] = None,
    target_size: Annotated[
        str | None, typer.Option("--target-size", help="Choose a type per tensor: size of the file, e.g. 4GiB.")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", "-f", "--file", help="What a target is measured on; default: the model's own text."),
    ] = None,
    sensitivity: Annotated[
        Path | None, typer.Option("--sensitivity", help="What `pyggml sensitivity` measured, in place of measuring.")
    ] = None,
    save_recipe: Annotated[
        Path | None,
        typer.Option(
            "--save-recipe", help="Write what was chosen, matrix by matrix, as a recipe file.", callback=options.output
        ),
    ] = None,
    pure: Annotated[bool, typer.Option("--pure", help="The mix's own type everywhere.")] = False,
    override_kv: Annotated[
        list[str] | None,
        typer.Option("--override-kv", help="KEY=int|float|bool|str:VALUE in the metadata; KEY= removes it."),
    ] = None,
    allow_requantize: Annotated[
        bool, typer.Option("--allow-requantize", help="Accept a source that is already quantized.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    as_json: options.AsJson = False,
    threads: Annotated[int, typer.Option("--threads", "-t", help="0: the cores this process may use.", min=0)] = 0,
) -> None:
    from pyggml.recipes.choose import as_pure

    src = checked(src)
    if not type and _is_recipe(dst.name):
        raise ArgumentError(f"{dst.name} is a type; the file to write comes before it")
    recipe: Any = type or "Q4_K_M"
    if (recipe_file is not None) + (strategy is not None) + bool(type or pure) > 1:
        raise ArgumentError("give one of TYPE, --recipe and --strategy")
    if n_threads is not None and threads:
        raise Usage(f"threads are given twice: {n_threads} as an argument, {threads} with --threads")
    alone = [name for name, given in (("--memory", memory), ("--hardware", hardware)) if given is not None]
    if strategy is None and alone:
        raise Usage(f"{alone[0]} tells a strategy what there is; give --strategy too, or leave it out")
    if recipe_file is not None:
        recipe = pyggml.load_recipe(recipe_file)
    elif strategy is not None:
        recipe = pyggml.strategy(strategy, memory, "cpu" if hardware is None else hardware)
    elif pure:
        recipe = as_pure(recipe)
    rules = _patterns([*(tensor_type or ()), *_lines(tensor_type_file)], "--tensor-type")
    kept = _patterns(keep or (), "--keep", bare=True)
    if keep_norm is not None:
        kept.append(pyggml.Rule("norm", keep_norm))
    if leave_output:
        kept.append(pyggml.Rule("output"))
    read_too = [path for path in (tensor_type_file, recipe_file, imatrix, sensitivity, text) if path is not None]
    if not dry_run:
        check_writable(dst, ArgumentError, read_too)
    if save_recipe is not None:
        check_output(save_recipe, src, dst, *read_too)
    with show.progress("quantizing") as progress:
        rows = pyggml.quantize_file(
            src, dst, recipe, imatrix=imatrix, rules=rules, keep=kept, output_type=output_type,
            embedding_type=embedding_type, metadata=dict(map(_override, override_kv or ())),
            target_bpw=target_bpw, target_size=target_size, sensitivity=sensitivity,
            text=None if text is None else options.read(text),
            allow_requantize=allow_requantize, dry_run=dry_run,
            n_threads=threads if n_threads is None else n_threads, progress=progress,
        )  # fmt: skip
    if save_recipe is not None:
        with replacing(save_recipe, ArgumentError) as out:
            out.write(rows.recipe.to_toml().encode())
    if as_json:
        print(show.dumps([dataclasses.asdict(row) for row in rows]))
        return
    if dry_run:
        print(plan(rows))
    print(total(rows))


def split(
    src: Src,
    prefix: Annotated[str, typer.Argument(help="Parts are named PREFIX-00001-of-0000N.gguf.", callback=options.output)],
    max_size: Annotated[
        str | None, typer.Option("--max-size", "--split-max-size", help="Of a part: 2G, 500M, 1.5GiB.")
    ] = None,
    max_tensors: Annotated[
        int | None, typer.Option("--max-tensors", "--split-max-tensors", help="Of a part; 128 without a size.")
    ] = None,
    metadata_alone: Annotated[
        bool, typer.Option("--metadata-alone", "--no-tensor-first-split", help="No tensors in the first part.")
    ] = False,
) -> None:
    """Cut a file into parts that load as one.

    pyggml split model.gguf model --max-size 2G
    """
    src = checked(src)
    with show.progress("splitting") as progress:
        paths = pyggml.split_file(
            src, prefix, max_size=max_size, max_tensors=max_tensors,
            metadata_alone=metadata_alone, progress=progress,
        )  # fmt: skip
    for path in paths:
        print(path)


def merge(src: Src, dst: Dst) -> None:
    """Join the parts of a split file.

    pyggml merge model-00001-of-00003.gguf model.gguf
    """
    src = checked(src)
    with show.progress("merging") as progress:
        print(pyggml.merge_file(src, dst, progress=progress))


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(help=_QUANTIZE_HELP)(quantize)
    app.command()(split)
    app.command()(merge)


# ---- printing ----------------------------------------------------------------------------------------------------


def plan(rows: Sequence[Change]) -> str:
    """A line for each tensor, then the sum of each type."""
    lines = [[show.plain(row.name), row.old, row.new, f"{row.nbytes:,}", row.why] for row in rows]
    kinds: dict[str, list[int]] = {}
    for row in rows:
        sums = kinds.setdefault(row.new, [0, 0])
        sums[0] += 1
        sums[1] += row.nbytes
    sums_of = [[kind, str(n), f"{nbytes:,}"] for kind, (n, nbytes) in sorted(kinds.items(), key=lambda k: -k[1][1])]
    tensors = table.show(("~tensor", ">old", "-> new", ">bytes", "~why"), lines)
    return f"{tensors}\n\n{table.show(('type', '>tensors', '>bytes'), sums_of)}\n"


def total(rows: Sequence[Change]) -> str:
    """Tensors, bytes and bits per weight on one line."""
    kinds = [(pyggml.QuantType.parse(row.new), row.nbytes) for row in rows]
    nbytes = sum(n for _, n in kinds)
    weights = sum(n // kind.bytes * kind.elems for kind, n in kinds)
    return f"{len(rows)} tensors, {nbytes:,} bytes, {8 * nbytes / max(weights, 1):.2f} bits per weight"


# ---- options -----------------------------------------------------------------------------------------------------


def check_output(out: Path, model: Path, *others: Path | None) -> None:
    """Raises where out cannot be written or is one of the files of the model or of the others, before the work."""
    with pyggml.gguf.open(model) as file:
        check_writable(out, ArgumentError, (*file.paths, *(path for path in others if path is not None)))


def _is_recipe(text: str) -> bool:
    from pyggml.recipes.choose import parse

    try:
        parse(text)
    except PyggmlError:
        return False
    return True


def _patterns(texts: Sequence[str], option: str, bare: bool = False) -> list[pyggml.Rule]:
    rules = []
    for text in texts:
        match, equals, kind = text.rpartition("=")
        if not bare and not (equals and kind.strip()):
            raise ArgumentError(f"{option} {text!r}: expected PATTERN=TYPE, e.g. ffn_down=q6_k")
        if not (match if equals else kind).strip():
            raise ArgumentError(f"{option} {text!r}: the pattern is empty")
        rules.append(pyggml.Rule(match, kind) if equals else pyggml.Rule(kind))
    return rules


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    return [word for line in options.read(path).splitlines() for word in line.partition("#")[0].split()]


def _override(text: str) -> tuple[str, Any]:
    key, equals, rest = text.partition("=")
    if not key or not equals:
        raise ArgumentError(f"--override-kv {text!r}: expected KEY=TYPE:VALUE, e.g. general.name=str:my model")
    if not rest:
        return key, None
    kind, colon, value = rest.partition(":")
    try:
        if colon and kind in ("int", "float"):
            return key, int(value) if kind == "int" else float(value)
        if colon and kind == "bool":
            return key, {"true": True, "false": False}[value.lower()]
        if colon and kind == "str":
            return key, value
    except (ValueError, KeyError):
        pass
    raise ArgumentError(f"--override-kv {text!r}: expected int:1, float:1.5, bool:true or str:text behind the =")
