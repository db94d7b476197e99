"""A tensor of a source file, not read yet: name, shape, element type, and how to read it.

Every reader (safetensors.py, pickled.py, onnx.py, numpy_zip.py) yields these; nothing here knows a file format.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.errors import GGUFError
from pyggml.files.foreign import guarded, reading
from pyggml.files.regular_file import RegularFile
from pyggml.numeric import minifloat
from pyggml.quant.tensor import as_float32
from pyggml.shown import clip

# Element type -> how numpy holds it. bf16 and floats of 8 bits have no dtype of their own: their bits lie in u2, u1.
DTYPES: dict[str, str] = {
    "f64": "<f8", "f32": "<f4", "f16": "<f2", "bf16": "<u2", "i64": "<i8", "i32": "<i4", "i16": "<i2", "i8": "|i1",
    "u64": "<u8", "u32": "<u4", "u16": "<u2", "u8": "|u1", "bool": "|b1",
    "f8_e4m3": "|u1", "f8_e5m2": "|u1", "f8_e8m0": "|u1",
}  # fmt: skip
FLOATS = ("f64", "f32", "f16", "bf16")

MAX_DIMS = 8
MAX_BYTES = 1 << 46


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a source. read() gives it as an array of its shape (bf16: the bits as uint16)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], NDArray[Any]]


def check_shape(path: str, name: str, shape: Any, dtype: str) -> tuple[tuple[int, ...], int]:
    """A file's claim of a shape as (dims, bytes). Raises GGUFError where it cannot be true."""
    if not isinstance(shape, (list, tuple)) or len(shape) > MAX_DIMS:
        raise GGUFError(f"{path}: tensor {clip(name)} has the shape {clip(shape)}, expected up to {MAX_DIMS} numbers")
    total = np.dtype(DTYPES[dtype]).itemsize
    for dim in shape:
        if not isinstance(dim, int) or isinstance(dim, bool) or dim < 0:
            raise GGUFError(f"{path}: tensor {clip(name)} has the shape {clip(shape)}, expected whole numbers")
        total *= dim
        if total > MAX_BYTES:
            raise GGUFError(f"{path}: tensor {clip(name)} of shape {clip(shape)} would be larger than any file")
    return tuple(shape), total


def f32(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Elements as floats; bf16 and the floats of 8 bits from their bits. Raises NumericError for a
    double beyond them."""
    if dtype in _EIGHT_BITS:
        of_codes: NDArray[np.float32] = _EIGHT_BITS[dtype]()[values]
        return of_codes
    if dtype == "bf16":
        wide: NDArray[np.float32] = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return wide
    return as_float32(values)


MAX_GROWTH = 64
_ALLOWED = 64 << 20
_EIGHT_BITS: dict[str, Callable[[], NDArray[np.float32]]] = {
    "f8_e4m3": lambda: minifloat.table_of(minifloat.SPECS["fp8_e4m3"]),
    "f8_e5m2": lambda: minifloat.table_of(minifloat.SPECS["fp8_e5m2"]),
    "f8_e8m0": lambda: np.append(np.exp2(np.arange(-127.0, 128.0)), np.nan).astype(np.float32),
}
"""The value of each of the 256 codes."""


def check_total(what: str, tensors: Iterable[Stored], size: int) -> None:
    """Raises GGUFError where tensors that share or repeat bytes make far more of a file than it holds.

    A weight that several layers share is fine; two megabytes that become four gigabytes are not.
    """
    total = sum(math.prod(each.shape) * np.dtype(DTYPES[each.dtype]).itemsize for each in tensors)
    if total > _ALLOWED + MAX_GROWTH * size:
        raise GGUFError(f"{what} has {size} bytes, but its tensors would take {total}: they repeat the same bytes")


def reader(what: str) -> Callable[[Callable[[str], dict[str, Stored]]], Callable[[str], dict[str, Stored]]]:
    """Decorates a function path -> tensors: its errors, and those of reading a tensor later, name the file."""

    def wrap(read: Callable[[str], dict[str, Stored]]) -> Callable[[str], dict[str, Stored]]:
        @functools.wraps(read)
        def outer(path: str) -> dict[str, Stored]:
            with reading(path, what):
                found = read(path)
            return {name: replace(each, read=guarded(path, what, each.read)) for name, each in found.items()}

        return outer

    return wrap


def array_of(file: RegularFile, begin: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """The elements that lie at a byte of a file; read, not mapped, so that a file cut meanwhile is only an error."""
    values = np.empty(shape, DTYPES[dtype])
    file.check_unchanged()
    if values.size:
        file.read_into(begin, memoryview(values.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]
    return values
