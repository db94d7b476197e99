"""The way from a target to a recipe: load the model, measure where nothing was measured before, choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyggml import gguf, model
from pyggml.arguments import PathLike
from pyggml.engine import scoring
from pyggml.errors import ArgumentError
from pyggml.recipes.budget import bits_left, recipe_for
from pyggml.recipes.costs import CHUNKS, Sensitivity, own_text, sensitivity
from pyggml.recipes.importance import imatrix as collect
from pyggml.recipes.recipe import Recipe


def measured(
    src: PathLike,
    recipe: Recipe,
    target_bpw: float | None,
    target_size: int | None,
    text: str | list[int] | None,
    known: Sensitivity | PathLike | None,
    weights: Mapping[str, Any],
    n_threads: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Recipe, Mapping[str, Any]]:
    """The recipe for a target, and importance weights to quantize with: those given, or those found on the way."""
    if target_bpw is not None and target_size is not None:
        raise ArgumentError("give target_bpw or target_size, not both")
    if known is not None and not isinstance(known, Sensitivity):
        known = Sensitivity.load(known)
    if known is None:
        with gguf.open(src) as file:
            near = bits_left(file, recipe, target_bpw, target_size)
        with model.load(src, n_threads=n_threads or None) as loaded:
            words = own_text(loaded, CHUNKS * scoring.chunk(None, loaded.n_ctx)) if text is None else text
            weights = weights or collect(loaded, words, n_chunk=4 * CHUNKS, progress=progress)
            known = sensitivity(loaded, words, near=near, imatrix=weights, n_threads=n_threads, progress=progress)
    with gguf.open(src) as file:
        return recipe_for(file, known, recipe, target_bpw=target_bpw, target_size=target_size), weights
