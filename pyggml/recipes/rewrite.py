"""quantize_file: reads a GGUF tensor by tensor, a few rows at a time, and writes it in other types.

Memory stays near the size of the pieces, not of the model. The destination appears only when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyggml import _native, gguf
from pyggml.errors import ArgumentError, NumericError
from pyggml.gguf import TensorInfo
from pyggml.quant import QuantType
from pyggml.recipes.choose import FILE_TYPE, choose, compile_rules, parse

_PIECE = 16 << 20  # values converted at once
_OWN_KEYS = ("general.file_type", "general.quantization_version")


@dataclass(frozen=True, slots=True)
class Change:
    """One tensor's way: its name, types before and after, and bytes after."""

    name: str
    old: str
    new: str
    nbytes: int


def quantize_file(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    recipe: str,
    *,
    imatrix: Mapping[str, Any] | None = None,
    rules: Mapping[str, str | QuantType] | None = None,
    allow_requantize: bool = False,
    dry_run: bool = False,
    n_threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Change]:
    """Writes src to dst with its matrices in another type and returns what became of each tensor.

    recipe: "pure:Q4_K" puts every matrix into Q4_K where its rows fit (norms, biases and the like stay).
    rules: {regex: type}, the first that matches a tensor name wins. imatrix: {tensor name: k weights >= 0}.
    allow_requantize: accept a source that is already quantized (quality suffers twice). dry_run: only report.
    progress(bytes_done, bytes_total). Raises GGUFError for a broken source, UnsupportedError for a type that cannot be
    written, NumericError for NaN or infinity in the source. An existing dst is replaced only when all is written.
    """
    base, patterns = parse(recipe), compile_rules(rules)
    weights = dict(imatrix or {})
    with gguf.open(src) as file:
        plan = [(info, choose(info.name, info.shape, info.type, base, patterns)) for info in file.tensors.values()]
        for info, kind in plan:
            if kind != info.type and info.type.kind == "block" and not allow_requantize:
                raise ArgumentError(
                    f"tensor {info.name} is already {info.type.name}; quantizing it again loses quality twice "
                    "(allow_requantize=True does it all the same)"
                )
        changes = [
            Change(i.name, i.type.name, k.name, i.n_elements // i.shape[-1] * k.row_bytes(i.shape[-1])) for i, k in plan
        ]
        if dry_run:
            return changes
        total, done = sum(c.nbytes for c in changes), 0

        def counted(pieces: Iterator[Any]) -> Iterator[Any]:
            nonlocal done
            for piece in pieces:
                yield piece
                done += piece.nbytes
                if progress is not None:
                    progress(done, total)

        with gguf.Writer(dst, alignment=file.alignment) as out:
            out.add_metadata(file.metadata, skip=_OWN_KEYS)
            out.add("general.file_type", FILE_TYPE.get(base.name, 0), "u32")
            out.add("general.quantization_version", 2, "u32")
            for info, kind in plan:
                importance = _importance(weights.get(info.name), info)
                pieces = _pieces(info, kind, importance, n_threads)
                out.add_tensor(info.name, info.shape, kind, lambda p=pieces: counted(p))  # type: ignore[misc]
    return changes


def _importance(values: Any, info: TensorInfo) -> Any:
    if values is None:
        return None
    made = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    if made.size != info.shape[-1]:
        raise ArgumentError(f"imatrix for {info.name}: expected {info.shape[-1]} values, got {made.size}")
    return made


def _pieces(info: TensorInfo, kind: QuantType, importance: Any, n_threads: int) -> Iterator[Any]:
    """The tensor's bytes in its new type, a few rows at a time."""
    k = info.shape[-1]
    rows = info.n_elements // k
    step = max(1, _PIECE // k) if kind != info.type else max(1, (64 << 20) // max(info.nbytes // rows, 1))
    row_bytes = info.nbytes // rows
    for at in range(0, rows, step):
        n = min(step, rows - at)
        raw = info.data[at * row_bytes : (at + n) * row_bytes]
        if kind == info.type:
            yield raw
            continue
        values = _native.dequantize(info.type.id, raw, n, k, n_threads)
        try:
            yield _native.quantize(kind.id, values, importance, n_threads).reshape(-1)
        except NumericError as e:
            raise NumericError(f"tensor {info.name}, rows {at} to {at + n - 1}: {e}") from None
