"""The command `convert`: options to pyggml.convert, a progress bar, the result and whether it runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import pyggml
from pyggml.cli import options, show


def convert(
    src: Annotated[Path, typer.Argument(help="A model directory, a weight file beside its config.json, or a .gguf.")],
    dst: Annotated[
        Path,
        typer.Argument(help="The .gguf to write; for a .gguf source the directory to fill.", callback=options.output),
    ],
    dtype: Annotated[str, typer.Option("--dtype", help="auto, f32, f16, bf16 or q8_0.")] = "auto",
    quantize: Annotated[str | None, typer.Option("--quantize", help='A recipe, e.g. "Q4_K_M".')] = None,
    name: Annotated[str | None, typer.Option("--name", help="general.name of the new file.")] = None,
) -> None:
    """Make a GGUF of safetensors, PyTorch, ONNX or NumPy weights, or safetensors of a GGUF.

    pyggml convert ./Llama-3.2-1B llama.gguf --quantize Q4_K_M
    """
    with show.progress("converting") as progress:
        made = pyggml.convert(src, dst, dtype=dtype, quantize=quantize, name=name, progress=progress)
    tokenizer = f", tokenizer {made.tokenizer}" if made.tokenizer else ""
    print(f"{made.arch}: {made.n_tensors} tensors, {show.size(made.nbytes)}{tokenizer}")
    if made.runs:
        only = "" if made.tokenizer else ", for token ids only: it has no tokenizer"
        print(f"pyggml can run it{only}: pyggml run {made.path}")
    else:
        print(f"pyggml cannot run it: {made.why_not}")
