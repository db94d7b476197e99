"""One tensor of a file in another type, a few rows at a time, and the weights of its columns judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.arguments import floats
from pyggml.errors import ArgumentError
from pyggml.gguf import TensorInfo
from pyggml.quant.tensor import naming
from pyggml.quant.types import QuantType

_PIECE = 4 << 20  # values converted at once: what Ctrl-C waits for


def columns_of(values: Any, info: TensorInfo) -> NDArray[np.float32] | None:
    """(1 or n_expert, k) weights of the columns."""
    if values is None:
        return None
    made = floats(f"imatrix[{info.name!r}]", values).reshape(-1)
    k = info.shape[-1]
    n_expert = info.shape[0] if len(info.shape) == 3 else 1
    if made.size not in (k, k * n_expert):
        if info.name == "token_embd.weight":  # rows are looked up there, and a tied output may have been counted apart
            return None
        raise ArgumentError(
            f"imatrix for {info.name}: expected {k * n_expert} values, got {made.size}; another model's?"
        )
    if not np.isfinite(made).all() or (made < 0).any():
        raise ArgumentError(f"imatrix for {info.name}: values must be finite and not negative")
    return made.reshape(-1, k)


def encoded(
    info: TensorInfo, kind: QuantType, importance: NDArray[np.float32] | None, n_threads: int
) -> Iterator[NDArray[np.uint8]]:
    """The tensor's bytes in its new type, a few rows at a time."""
    k = info.shape[-1]
    rows = info.n_elements // k
    row_bytes = info.nbytes // rows
    if kind == info.type:
        step = max(1, (64 << 20) // max(row_bytes, 1))
        for at in range(0, rows, step):
            yield info.read(at * row_bytes, (at + min(step, rows - at)) * row_bytes)
        return
    each = rows if importance is None or len(importance) == 1 else rows // len(importance)  # rows of one expert
    step = max(1, _PIECE // k)
    for start in range(0, rows, each):
        columns = None if importance is None else importance[min(start // each, len(importance) - 1)]
        for at in range(start, start + each, step):
            n = min(step, start + each - at)
            raw = info.read(at * row_bytes, (at + n) * row_bytes)
            with naming(info.name, info.type.name, at):
                made = _native.requantize(info.type.id, raw, n, k, kind.id, columns, n_threads)
            yield made.reshape(-1)
