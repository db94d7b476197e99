"""Tensor: numbers in any GGUF type with numpy's manners. Holds bytes and a shape; the sense of the bytes is native.

Rows are the last dimension and the unit of slicing; nothing is copied where the layout allows it. A tensor of a file
reads its bytes when they are first asked for, or only the rows that are; from then on they are its own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyggml import _native, display
from pyggml.arguments import buffer, choice, floats, threads, whole, wrong_type
from pyggml.arguments import shape as read_shape
from pyggml.errors import ArgumentError, ArgumentIndexError, NumericError, ShapeError
from pyggml.keywords import known_only, methods_known_only
from pyggml.quant.types import QuantType, QuantTypeLike
from pyggml.shown import clip, shown

_PLAIN: dict[str, np.dtype[Any]] = {
    "f32": np.dtype("<f4"), "f16": np.dtype("<f2"), "f64": np.dtype("<f8"), "i8": np.dtype("i1"),
    "i16": np.dtype("<i2"), "i32": np.dtype("<i4"), "i64": np.dtype("<i8"),
}  # fmt: skip
"""Types that numpy knows: shown as arrays without a copy."""


@methods_known_only
class Tensor:
    """shape (..., k) in type, over a buffer of exactly nbytes.

    >>> import numpy as np, pyggml
    >>> w = pyggml.quantize(np.eye(32, dtype=np.float32), "q8_0")
    >>> w.shape, w.type.name, w.nbytes
    ((32, 32), 'q8_0', 1088)
    >>> bool(abs((w @ np.arange(32, dtype=np.float32))[5] - 5) < 0.2)
    True
    >>> w[3:5].shape
    (2, 32)
    """

    __slots__ = ("_held", "_read", "_row", "shape", "type")

    def __init__(self, raw: Any, type: QuantTypeLike, shape: Iterable[int]) -> None:
        self._set(type, shape)
        flat = buffer("raw", raw)
        if flat.size != self.nbytes:
            raise ShapeError(
                f"{self.type.name} of shape {self.shape} has {self.nbytes} bytes, the buffer has {flat.size}"
            )
        self._held: NDArray[np.uint8] | None = flat.reshape(self._rows, self._row)
        self._read: Callable[[int, int], NDArray[np.uint8]] | None = None

    @classmethod
    def stored(cls, read: Callable[[int, int], NDArray[np.uint8]], type: QuantType, shape: Iterable[int]) -> Tensor:
        """A tensor that lies elsewhere: read(start, stop) gives bytes of it, as an array that nobody else holds."""
        if not callable(read):
            raise wrong_type("read", "a function of start and stop", read)
        made = cls.__new__(cls)
        made._set(type, shape)
        made._held, made._read = None, read
        return made

    def _set(self, type: QuantTypeLike, shape: Iterable[int]) -> None:
        self.type = QuantType.parse(type)
        self.shape = read_shape("shape", shape)
        if not self.shape or any(not 0 <= n < 2**63 for n in self.shape):
            raise ShapeError(f"shape has at least one dimension and none below 0 or above 2^63, got {self.shape}")
        k = self.shape[-1]
        row = _native.row_bytes(self.type.id, k)
        if row == 0 and k:
            raise ShapeError(f"rows of {k} values do not fit {self.type.name}, whose blocks hold {self.type.elems}")
        self._row = row

    @property
    def _rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def raw(self) -> NDArray[np.uint8]:
        """The stored bytes, (rows, bytes of a row). Of a file: read at the first call and kept; raises GGUFError."""
        if self._held is None:
            assert self._read is not None
            self._held = self._read(0, self.nbytes).reshape(self._rows, self._row)
        return self._held

    @property
    def nbytes(self) -> int:
        """Stored bytes."""
        return self._rows * self._row

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<pyggml.Tensor {self.type.name} {self.shape}, {self.nbytes:,} bytes>"

    def _repr_html_(self) -> str:
        rows = {"type": self.type, "shape": self.shape, "values": self.size, "bytes": self.nbytes}
        return display.facts("Tensor", rows | {"bits per value": round(self.type.bits_per_weight, 3)})

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Names the cure where numpy's array is meant."""
            hint = f"; the values have: .numpy().{name}" if hasattr(np.ndarray, name) and name[:1] != "_" else ""
            raise AttributeError(f"a Tensor has no {name!r}{hint}", name=name, obj=self)

    def __getitem__(self, index: int | slice) -> Tensor:
        """Rows along the first dimension: an int drops it, a slice keeps it. Steps other than 1 copy."""
        if self.ndim < 2:
            raise ArgumentError("only rows can be sliced; use .numpy() for single values of a row")
        if not isinstance(index, slice):
            index = whole("a row", index, -(2**4096), 2**4096)
        try:
            chosen = range(self.shape[0])[index]
        except IndexError:
            raise ArgumentIndexError(f"row {shown(index)} is outside the {self.shape[0]} of {self.shape}") from None
        except (TypeError, ValueError) as e:
            raise wrong_type("a slice of rows", "of whole numbers", index, str(e)) from None
        rows = chosen if isinstance(chosen, range) else range(chosen, chosen + 1)
        shape = (len(rows), *self.shape[1:]) if isinstance(chosen, range) else self.shape[1:]
        if self._held is None and self._read is not None and rows.step == 1:
            size = self.nbytes // max(self.shape[0], 1)
            return Tensor(self._read(rows.start * size, (rows.start + len(rows)) * size), self.type, shape)
        parts = self.raw.reshape(self.shape[0], -1)
        return Tensor(np.ascontiguousarray(parts[index]), self.type, shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return Tensor, (self.raw, self.type.name, self.shape)

    def dequantize(self, n_threads: int = 0) -> NDArray[np.float32]:
        """The values as float32, always a copy."""
        y = _native.dequantize(self.type.id, self.raw.reshape(-1), self._rows, self.shape[-1], threads(n_threads))
        return y.reshape(self.shape)

    def numpy(self) -> NDArray[Any]:
        """An array of the values: a view for types numpy knows, else float32."""
        plain = _PLAIN.get(self.type.name)
        if plain is None:
            return self.dequantize()
        return self.raw.reshape(-1).view(plain).reshape(self.shape)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        values = self.numpy()
        if copy is False and self.type.name not in _PLAIN:
            raise ValueError(f"{self.type.name} values cannot be shown as an array without a copy")
        made = values if dtype is None else cast(values, np.dtype(dtype), self.type.name)
        return made.copy() if copy and made is values else made

    def __matmul__(self, x: ArrayLike) -> NDArray[np.float32]:
        """w (m, k) @ x (k,) -> (m,), or x (k, n) -> (m, n), in float32; the weights stay quantized."""
        if self.ndim != 2:
            raise ShapeError(f"w @ x needs a matrix, this tensor is {self.shape}")
        values = floats("x", x)
        m, k = self.shape
        if values.ndim not in (1, 2) or values.shape[0] != k:
            raise ShapeError(f"w @ x: w is ({m}, {k}), expected x of shape ({k},) or ({k}, n), got {values.shape}")
        columns = np.ascontiguousarray(np.atleast_2d(values.T))
        y = _native.matmul(self.type.id, self.raw.reshape(-1), m, k, columns)
        return y[0] if values.ndim == 1 else np.ascontiguousarray(y.T)


def cast(values: NDArray[Any], dtype: np.dtype[Any], what: str = "the array") -> NDArray[Any]:
    """values.astype(dtype) without a copy where none is needed. Raises NumericError where a number became infinite."""
    with np.errstate(over="ignore"):
        made = values.astype(dtype, copy=False)
    if dtype.kind == "f" and values.dtype.kind == "f" and dtype.itemsize < values.itemsize:
        lost = np.isinf(made) & np.isfinite(values)
        if lost.any():
            at = tuple(map(int, np.argwhere(lost)[0])) if lost.ndim else ()
            raise NumericError(
                f"{what}: the value at {at} is {float(values[at]):g}, {dtype.name} ends at {np.finfo(dtype).max:g}"
            )
    return made


@contextlib.contextmanager
def naming(name: str, source: str, row: int = 0) -> Iterator[None]:
    """What is said of values that a type cannot hold names the tensor, its type, and where rows are counted from."""
    try:
        yield
    except NumericError as e:
        counted = f", counted from row {row}" if row else ""
        raise NumericError(f"tensor {clip(name)} of type {source}{counted}: {e}") from None


def as_float32(x: ArrayLike) -> NDArray[np.float32]:
    """An array of float32. Raises NumericError for a double that is beyond it."""
    return cast(np.asarray(x), np.dtype(np.float32))


@known_only
def quantize(
    x: ArrayLike,
    type: QuantTypeLike,
    importance: ArrayLike | None = None,
    *,
    effort: str = "default",
    n_threads: int = 0,
) -> Tensor:
    """Floats (..., k) -> Tensor of a type such as "q4_k". x may be a torch tensor, a Parameter and bf16 too.

    importance: k weights >= 0 for the squared error of each column; no type needs it. effort: without importance q4_0,
    q4_1, q5_0, q5_1 and q8_0 have llama.cpp's bytes by "default"; "best" searches their scales for the least squared
    error, as the other types always do. Raises ShapeError when k is no multiple of the type's block, NumericError for
    NaN, infinity and what is larger than the type holds (f16: 65504; where blocks share a half as their scale, the
    message has the number), UnsupportedError for a type that cannot be written, ArgumentError for an unknown effort.

    >>> quantize(np.ones((1, 256), np.float32), "iq2_xs").shape
    (1, 256)
    """
    effort, n_threads = choice("effort", effort, ("default", "best")), threads(n_threads)
    kind = QuantType.parse(type)
    values = floats("x", x)
    if values.ndim == 0:
        raise ShapeError("x is a single number and cannot be quantized; give at least one row")
    if values.shape[-1] == 0:
        raise ShapeError(f"x of shape {values.shape} has rows of no values")
    if importance is None and effort == "best":
        importance = np.ones(values.shape[-1], np.float32)  # the search, with all columns alike
    weights = None if importance is None else floats("importance", importance)
    if weights is not None and weights.shape != values.shape[-1:]:
        raise ShapeError(f"importance must be ({values.shape[-1]},), a weight of each column, got {weights.shape}")
    raw = _native.quantize(kind.id, values.reshape(-1, values.shape[-1]), weights, n_threads)
    return Tensor(raw, kind, values.shape)


@known_only
def dequantize(raw: Any, type: QuantTypeLike, shape: Iterable[int]) -> NDArray[np.float32]:
    """Stored bytes -> float32 of shape.

    >>> dequantize(b"\\x00\\x3c" + bytes(32), "q8_0", (32,)).shape
    (32,)
    """
    return Tensor(raw, type, shape).dequantize()
