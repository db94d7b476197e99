"""Codebooks: each code stands for an entry of a table, scaled by the largest magnitude of its block.

NF4 and its kin take the table from the quantiles of the normal distribution, "quantile" from those of the data.
Sources: QLoRA (arXiv 2305.14314) for NF4 and double quantization, 8-bit optimizers (arXiv 2110.02861) for the dynamic
table that holds the scales then.
"""

from __future__ import annotations

from functools import cache, partial
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import flag, whole
from pyggml.numeric.coded import F32, Coded, inverse, pack

SCALES_TOGETHER = 256
"""Scales of blocks that share one scale of their own when they are quantized too."""


@cache
def normal_table(bits: int) -> F32:
    """2^bits quantiles of the normal distribution between -1 and 1, zero among them, one more above than below."""
    n = 1 << bits
    edge = 0.5 * ((1 - 1 / (2 * (n - 1))) + (1 - 1 / (2 * n)))
    normal = NormalDist()
    above = [normal.inv_cdf(p) for p in np.linspace(edge, 0.5, n // 2 + 1)[:-1].tolist()]
    below = [-normal.inv_cdf(p) for p in np.linspace(edge, 0.5, n // 2)[:-1].tolist()]
    table = np.array(sorted([*above, 0.0, *below]))
    scaled: F32 = (table / table.max()).astype(np.float32)
    return scaled


@cache
def dynamic_table() -> F32:
    """256 values from -1 to 1: seven decades, each twice as fine as the one below."""
    values = [0.0, 1.0]
    for decade in range(7):
        edges = np.linspace(0.1, 1, 2**decade + 1, dtype=np.float32)
        means = (edges[:-1] + edges[1:]) / 2 * np.float32(10.0 ** (decade - 6))
        values += [*means.tolist(), *(-means).tolist()]
    return np.array(sorted(values), np.float32)


def own_table(blocks: F32, bits: int) -> F32:
    """2^bits quantiles of the values themselves."""
    n = 1 << bits
    return np.quantile(blocks, (np.arange(n) + 0.5) / n).astype(np.float32)


def encode_normal(values: F32, bits: int, block: int = 64, double: bool | None = None) -> Coded:
    """nf2 .. nf8. double: the scales in 8 bits; nf4's default, as in QLoRA."""
    return _encode(values, bits, f"nf{bits}", block, bits == 4 if double is None else double, normal_table(bits))


def encode_own(values: F32, bits: int, block: int = 64, double: bool = False) -> Coded:
    """A table of the data's own quantiles, kept beside the codes."""
    return _encode(values, bits, f"quantile{bits}", block, double, None)


def _encode(values: F32, bits: int, name: str, block: int, double: bool, table: F32 | None) -> Coded:
    block = min(whole("block", block, 1), max(values.size, 1))
    double = flag("double", double)
    blocks = np.pad(values.reshape(-1), (0, -values.size % block)).reshape(-1, block)
    scale = np.abs(blocks).max(1, initial=0.0)
    parts = _scales(scale, double)
    unit = blocks * inverse(scale)[:, None]
    if table is None:
        table = own_table(unit.reshape(-1)[: values.size], bits) if values.size else normal_table(bits)
        parts["table"] = table
    codes = nearest(unit, table).reshape(-1)[: values.size]
    decode = partial(_decode, count=values.size, block=block, table=None if "table" in parts else table)
    return Coded(name, values.shape, bits, pack(codes, bits), parts, decode)


def nearest(values: F32, table: F32) -> NDArray[np.uint8]:
    """Codes of the nearest entries of a sorted table."""
    middles = (table[:-1] + table[1:]) / 2
    return np.searchsorted(middles, values, "left").astype(np.uint8)


def _scales(scale: F32, double: bool) -> dict[str, NDArray[Any]]:
    """What is stored of the scales."""
    if not double:
        return {"scale": scale}
    mean = np.float32(scale.mean(dtype=np.float64)) if scale.size else np.float32(0)
    moved = np.pad(scale - mean, (0, -scale.size % SCALES_TOGETHER)).reshape(-1, SCALES_TOGETHER)
    second = np.abs(moved).max(1, initial=0.0)
    codes = nearest(moved * inverse(second)[:, None], dynamic_table()).reshape(-1)[: scale.size]
    return {"scale_codes": codes, "scale_scale": second, "scale_mean": np.array([mean])}


def _read_scales(parts: dict[str, NDArray[Any]]) -> F32:
    if "scale" in parts:
        return parts["scale"]
    codes = parts["scale_codes"]
    second = np.repeat(parts["scale_scale"], SCALES_TOGETHER)[: codes.size]
    scale: F32 = dynamic_table()[codes] * second + parts["scale_mean"][0]
    return scale


def _decode(codes: NDArray[np.uint8], parts: dict[str, NDArray[Any]], count: int, block: int, table: F32 | None) -> F32:
    entries = parts["table"] if table is None else table
    scale = np.repeat(_read_scales(parts), block)[:count]
    values: F32 = entries[codes] * scale
    return values
