"""What ops are given beside nodes: weights, ropes, words for kinds; and whether they are what an op expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyggml import _native
from pyggml.arguments import buffer, instance
from pyggml.errors import ShapeError, UnsupportedError
from pyggml.quant.types import QuantType
from pyggml.shown import shown

ROPE_STYLES = {"norm": 0, "neox": 1}
_ACTIVATIONS = {name: i for i, name in enumerate(_native.activations())}


@dataclass(frozen=True, slots=True)
class Weight:
    """A named matrix (rows, cols) or vector (1, cols) in its stored type; data holds exactly its bytes.

    n_stack > 1: so many matrices of one shape, one after another; rows counts those of one.
    """

    name: str
    type_id: int
    rows: int
    cols: int
    data: Any
    n_stack: int = 1


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding of one model.

    kind: "norm" turns pairs (2i, 2i+1), "neox" pairs (i, i + n_rot/2). freq_scale is 1 / factor; ext_factor > 0 mixes
    in YaRN between beta_fast and beta_slow turns over n_ctx_orig, from and to whole pairs unless exact; attn_factor
    multiplies cos and sin.
    factors: one divisor per frequency (1, n_rot / 2), or None; far: those of contexts longer than n_ctx_orig.
    """

    kind: str
    n_rot: int
    freq_base: float = 10000.0
    freq_scale: float = 1.0
    n_ctx_orig: int = 0
    ext_factor: float = 0.0
    attn_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    factors: Weight | None = None
    far: Weight | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        word("kind of rope", self.kind, ROPE_STYLES)


def same(a: Weight, b: Weight) -> bool:
    """Whether two weights have the same type, shape and bytes."""
    if (a.type_id, a.rows * a.n_stack, a.cols) != (b.type_id, b.rows * b.n_stack, b.cols):
        return False
    if a.data is b.data:
        return True
    x, y = buffer(a.name, a.data), buffer(b.name, b.data)
    # not by .ctypes, which is imported at its first use: too late while the interpreter ends
    return (np.shares_memory(x[:1], y[:1]) and x.size == y.size) or np.array_equal(x, y)


def stored(w: Weight) -> str:
    return f"{QuantType.parse(w.type_id).name} ({w.rows * w.n_stack}, {w.cols})"


def expect(w: Weight, rows: int | None, cols: int) -> None:
    """Where the model's own numbers say what a matrix must be, the message should name the matrix."""
    if instance("a weight", w, Weight, "a Weight").n_stack != 1:
        raise ShapeError(f"{w.name} is a stack of {w.n_stack} matrices, expected one")
    if w.cols != cols or (rows is not None and w.rows != rows):
        raise ShapeError(f"{w.name} is ({w.rows}, {w.cols}), expected ({'m' if rows is None else rows}, {cols})")


def activation(name: str) -> int:
    return word("activation", name, _ACTIVATIONS)


def word(what: str, name: str, known: Mapping[str, int]) -> int:
    """The number of a word."""
    if not isinstance(name, str) or name not in known:
        raise UnsupportedError(f"there is no {what} {shown(name)}; known: {', '.join(known)}")
    return known[name]


def stem(w: Weight) -> str:
    return w.name.removesuffix(".weight")
