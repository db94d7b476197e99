"""Experts that a checkpoint holds in MXFP4: X_blocks and X_scales are multiplied out to the floats of X.

A block is 32 values of 4 bits in 16 bytes, the lower half of a byte first, under one power of two. Matrices lie as
(experts, out, in) there, those of the model as (experts, in, out). Source: transformers/integrations/mxfp4.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.stored import Stored
from pyggml.errors import GGUFError
from pyggml.shown import clip

_BLOCKS, _SCALES = "_blocks", "_scales"
_CODES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_VALUES = np.concatenate([_CODES, -_CODES])
_BIAS = 127


def held(tensors: Mapping[str, Stored]) -> list[str]:
    """The names of the blocks that there are."""
    return [name for name, each in tensors.items() if name.endswith(_BLOCKS) and each.dtype == "u8"]


def unpacked(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors, with the packed ones as floats. Raises GGUFError where blocks and scales do not fit each other."""
    made = dict(tensors)
    for name in held(tensors):
        stem = name.removesuffix(_BLOCKS)
        blocks, scales = made.pop(name), made.pop(stem + _SCALES, None)
        if scales is None:
            raise GGUFError(f"tensor {clip(name)} is packed, and {clip(stem + _SCALES)} is missing")
        if len(blocks.shape) != 4 or blocks.shape[3] != 16 or scales.shape != blocks.shape[:3] or scales.dtype != "u8":
            raise GGUFError(
                f"tensor {clip(name)} has the shape {list(blocks.shape)} and its scales {list(scales.shape)} as "
                f"{scales.dtype}; expected (experts, rows, n, 16) and (experts, rows, n) as u8"
            )
        n, rows, groups, _ = blocks.shape
        made[stem] = Stored(stem, (n, 32 * groups, rows), "f32", partial(_read, blocks, scales))
    return made


def _read(blocks: Stored, scales: Stored) -> NDArray[np.float32]:
    codes = blocks.read()
    n, rows, groups, _ = codes.shape
    values = np.stack([_VALUES[codes & 15], _VALUES[codes >> 4]], axis=-1).reshape(n, rows, groups, 32)
    values = np.ldexp(values, scales.read().astype(np.int32)[..., None] - _BIAS, dtype=np.float32)
    return np.ascontiguousarray(values.reshape(n, rows, 32 * groups).swapaxes(1, 2))
