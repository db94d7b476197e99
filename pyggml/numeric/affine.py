"""Integers of 2 to 8 bits with a scale per layer, per channel or per group, symmetric or with a zero point."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import flag
from pyggml.numeric.coded import F32, Coded, grouped, pack, ungrouped


def encode(
    values: F32, bits: int, granularity: str = "channel", group: int | None = None, symmetric: bool = True
) -> Coded:
    """Nearest integers. symmetric: value = scale * q, q from -(2^(bits-1) - 1); else value = scale * (q - zero)."""
    groups, _ = grouped(values, granularity, group)
    if flag("symmetric", symmetric):
        top = 2 ** (bits - 1) - 1
        scale = np.abs(groups).max(1, initial=0.0) / np.float32(top)
        q = np.rint(groups * _inverse(scale)[:, None])
        stored = (np.clip(q, -top, top) + top).astype(np.uint8)
        parts: dict[str, NDArray[Any]] = {"scale": scale.astype(np.float32)}
    else:
        top = 2**bits - 1
        low = np.minimum(groups.min(1, initial=0.0), 0)  # zero itself must be exact
        scale = ((np.maximum(groups.max(1, initial=0.0), 0) - low) / np.float32(top)).astype(np.float32)
        zero = np.clip(np.rint(-low * _inverse(scale)), 0, top)
        q = np.rint(groups * _inverse(scale)[:, None]) + zero[:, None]
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
    return ungrouped((groups - zero) * parts["scale"][:, None], shape)


def _inverse(scale: NDArray[Any]) -> F32:
    inverse: F32 = np.divide(1, scale, out=np.zeros_like(scale, dtype=np.float32), where=scale > 0)
    return inverse
