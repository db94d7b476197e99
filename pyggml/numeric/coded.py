"""Coded: packed codes, the numbers they stand for, and how the scales lie over the values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import choice, whole

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Coded:
    """An array in a number format: format and shape, packed codes, and parts (scales, zero points, tables) by name.

    decode() gives float32 of shape; nbytes and bits_per_weight count everything that decode needs.
    """

    format: str
    shape: tuple[int, ...]
    bits: int
    codes: NDArray[np.uint8] = field(repr=False)
    parts: dict[str, NDArray[Any]] = field(repr=False)
    _decode: Callable[[NDArray[np.uint8], dict[str, NDArray[Any]]], F32] = field(repr=False)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and parts."""
        return self.codes.nbytes + sum(part.nbytes for part in self.parts.values())

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per value, scales and tables included."""
        return 8.0 * self.nbytes / max(self.size, 1)

    def unpacked(self) -> NDArray[np.uint8]:
        """The codes one by one, (size,)."""
        return unpack(self.codes, self.bits, self.size)

    def decode(self) -> F32:
        """The values as float32 of shape."""
        return self._decode(self.unpacked(), self.parts).reshape(self.shape)


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Codes of some bits, one behind the other from the lowest bit of the first byte on."""
    if bits == 8:
        return codes.reshape(-1)
    planes = codes.reshape(-1, 1) >> np.arange(bits, dtype=np.uint8) & np.uint8(1)
    return np.packbits(planes.reshape(-1), bitorder="little")


def unpack(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The inverse of pack."""
    if bits == 8:
        return packed
    planes = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    weights = (1 << np.arange(bits)).astype(np.uint8)
    codes: NDArray[np.uint8] = (planes * weights).sum(1, dtype=np.uint8)
    return codes


def grouped(values: F32, granularity: str, group: int | None) -> tuple[F32, int]:
    """Values as (groups, length), each group under one scale, and the length of a group.

    The last group of a row is filled with zeros where the group does not divide it.
    """
    granularity = choice("granularity", granularity, ("tensor", "channel"))
    if group is None and granularity == "tensor":
        return values.reshape(1, -1), max(values.size, 1)
    k = values.shape[-1]
    n = math.prod(values.shape[:-1])
    if group is None:
        return values.reshape(n, k), k
    rows = values.reshape(n, k)
    group = min(whole("group", group, 1), max(k, 1))
    short = -k % group
    if short:
        rows = np.pad(rows, ((0, 0), (0, short)))
    return rows.reshape(-1, group), group


def inverse(scale: F32) -> F32:
    """1 / scale; 0 for a scale of 0 and for one so small that it would be infinite: its values are 0 then."""
    least = np.float32(1) / np.finfo(np.float32).max
    made: F32 = np.divide(1, scale, out=np.zeros_like(scale, dtype=np.float32), where=scale > least)
    return made


def scaled(groups: F32, scale: F32) -> F32:
    """groups times their scales; what rounding carries beyond the largest float stays there."""
    top = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        made: F32 = groups * scale[:, None]
    return np.clip(made, -top, top, out=made)


def ungrouped(groups: F32, shape: tuple[int, ...]) -> F32:
    """The inverse of grouped."""
    size, k = math.prod(shape), shape[-1]
    if groups.size == size:
        return groups.reshape(shape)
    rows = size // max(k, 1)
    return np.ascontiguousarray(groups.reshape(rows, -1)[:, :k]).reshape(shape)
