"""Integers of 2 to 8 bits with a scale per layer, per channel or per group, symmetric or with a zero point."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import flag
from pyggml.numeric.coded import F32, Coded, grouped, inverse, pack, scaled, ungrouped


def encode(
    values: F32, bits: int, granularity: str = "channel", group: int | None = None, symmetric: bool = True
) -> Coded:
    """Nearest integers. symmetric: value = scale * q, q from -(2^(bits-1) - 1); else value = scale * (q - zero)."""
    groups, _ = grouped(values, granularity, group)
    if flag("symmetric", symmetric):
        top = 2 ** (bits - 1) - 1
        scale = np.abs(groups).max(1, initial=0.0) / np.float32(top)
        q = np.rint(groups * inverse(scale)[:, None])
        stored = (np.clip(q, -top, top) + top).astype(np.uint8)
        parts: dict[str, NDArray[Any]] = {"scale": scale.astype(np.float32)}
    else:
        top = 2**bits - 1
        low, high = groups.min(1, initial=0.0), groups.max(1, initial=0.0)  # zero itself must be exact
        scale = ((high.astype(np.float64) - low) / top).astype(np.float32)  # the span may be beyond float32
        zero = np.clip(np.rint(-low * inverse(scale)), 0, top)
        q = np.rint(groups * inverse(scale)[:, None]) + zero[:, None]
        stored = np.clip(q, 0, top).astype(np.uint8)
        parts = {"scale": scale, "zero": zero.astype(np.uint8)}
    kept = ungrouped(stored, values.shape)
    name = f"int{bits}"
    decode = partial(_decode, shape=values.shape, bits=bits, granularity=granularity, group=group)
    return Coded(name, values.shape, bits, pack(kept.astype(np.uint8), bits), parts, decode)


def _decode(
    codes: NDArray[np.uint8],
    parts: dict[str, NDArray[Any]],
    shape: tuple[int, ...],
    bits: int,
    granularity: str,
    group: int | None,
) -> F32:
    groups, _ = grouped(codes.astype(np.float32).reshape(shape), granularity, group)
    zero = parts["zero"].astype(np.float32)[:, None] if "zero" in parts else np.float32(2 ** (bits - 1) - 1)
    return ungrouped(scaled(groups - zero, parts["scale"]), shape)
