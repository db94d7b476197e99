"""Writes GGUF version 3: metadata and tensors are collected, then streamed beside the target and renamed over it.

Refuses what the reader would refuse, before a byte is written. Shapes come row-major and are stored innermost-first.
Source: the GGUF format description (ggml/docs/gguf.md).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import buffer, flag, instance, is_bytes, list_of, text, texts, wrong_type
from pyggml.arguments import path as read_path
from pyggml.arguments import shape as read_shape
from pyggml.errors import ArgumentError, GGUFError, ShapeError
from pyggml.files.atomic_file import beside, refuse_sources
from pyggml.files.background_writer import Behind
from pyggml.files.regular_file import PathLike, RegularFile, noted
from pyggml.gguf.format import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    DTYPES,
    MAGIC,
    MAX_DEPTH,
    MAX_KEYS,
    MAX_TENSORS,
    SCALARS,
    ValueType,
    align_up,
    check_alignment,
    check_dims,
    check_key,
    check_tensor_name,
)
from pyggml.gguf.metadata import Cursor, Metadata, walk_value
from pyggml.keywords import methods_known_only
from pyggml.pickling import Held
from pyggml.quant.tensor import Tensor
from pyggml.quant.types import QuantType, QuantTypeLike
from pyggml.shown import clip

#: Stored bytes of a tensor: a buffer, or a function that yields buffers when the file is written.
TensorData = NDArray[Any] | bytes | bytearray | memoryview | Callable[[], Iterable[Any]]

SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")
"""What a part of a split file says of the others."""

_RANGES = {
    ValueType.U8: (0, 2**8 - 1),
    ValueType.I8: (-(2**7), 2**7 - 1),
    ValueType.U16: (0, 2**16 - 1),
    ValueType.I16: (-(2**15), 2**15 - 1),
    ValueType.U32: (0, 2**32 - 1),
    ValueType.I32: (-(2**31), 2**31 - 1),
    ValueType.U64: (0, 2**64 - 1),
    ValueType.I64: (-(2**63), 2**63 - 1),
}
_LONG_NAMES = {
    "uint8": "u8", "int8": "i8", "uint16": "u16", "int16": "i16", "uint32": "u32", "int32": "i32", "uint64": "u64",
    "int64": "i64", "float32": "f32", "float64": "f64", "string": "str", "boolean": "bool",
}  # fmt: skip
_OF_DTYPE = {dtype.str.lstrip("<|"): kind for kind, dtype in DTYPES.items()}
_TENSOR_DTYPES = {"f32": "f4", "f16": "f2", "f64": "f8", "i8": "i1", "i16": "i2", "i32": "i4", "i64": "i8"}


def check_settable(keys: Iterable[str]) -> None:
    """Raises ArgumentError for a key that a user may not set in a whole file: it would not open."""
    wrong = [key for key in keys if key in (ALIGNMENT_KEY, *SPLIT_KEYS)]
    if wrong:
        raise ArgumentError(
            f"metadata: {wrong[0]} follows from how the file is written, and cannot be set; leave it out"
        )


class _Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    kind: QuantType
    nbytes: int
    data: TensorData


@methods_known_only
class Writer(Held):
    """Collects metadata and tensors; close() writes them to a new file beside path and renames it over path.

    Until close() nothing touches the disk; when it fails, or a with-block raises, path keeps what it had. Arrays are
    kept by reference and callables are called by close(), so a large model streams through little memory. behind: a
    thread writes a buffer while the next is made, so what callables yield must not change afterwards. sources: files
    that are read meanwhile and must not be replaced; open GGUF files that values are copied or tensors read from are
    known without. (To replace a file by what was made of it, read what is needed, close it, and then write.)

    >>> import pyggml.gguf, tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/x.gguf"
    >>> with pyggml.gguf.Writer(path) as w:
    ...     w.add("general.architecture", "llama")
    ...     w.add_tensor("token_embd.weight", (2, 4), "f32", np.ones((2, 4), np.float32))
    >>> pyggml.gguf.open(path).tensors["token_embd.weight"].shape
    (2, 4)

    Raises GGUFError for an illegal alignment, or where path is one of the sources.
    """

    _instead = "write the file, and open it there"

    def __init__(
        self,
        path: PathLike,
        alignment: int = DEFAULT_ALIGNMENT,
        *,
        behind: bool = False,
        sources: Iterable[PathLike] = (),
    ) -> None:
        self.path = read_path("path", path)
        self._sources = tuple(read_path(f"sources[{i}]", each) for i, each in enumerate(list_of("sources", sources)))
        refuse_sources(self.path, self._sources, GGUFError)
        self._behind = flag("behind", behind)
        self._values: dict[str, bytes] = {}
        self._tensors: dict[str, _Tensor] = {}
        self._n_strings = 0
        self._n_nested = 0
        self._copied: set[RegularFile] = set()
        self._done = False
        self.alignment = check_alignment(alignment)
        if self.alignment != DEFAULT_ALIGNMENT:
            self._put(ALIGNMENT_KEY, ValueType.U32, self.alignment.to_bytes(4, "little"))

    def add(self, key: str, value: Any, type: str | ValueType | None = None) -> None:  # noqa: A002
        """Adds a metadata value.

        Without a type: bool -> bool; int -> u32, or i32 if negative, u64 or i64 where those are too small; float ->
        f32; str and bytes -> str; numpy scalars and arrays -> their dtype; lists -> an array of the type that fits
        all their elements (ints: i32, else u32, i64, u64); lists of lists -> nested arrays. With a type ("u8" or
        "uint8", "f64", ValueType.I64 ...) the value, or every element of it, is stored as that.
        general.alignment is an argument of Writer.

        Raises GGUFError: a key that is illegal or there already, a value that does not fit its type.
        """
        self._check_open()
        if text("key", key) == ALIGNMENT_KEY:
            raise GGUFError(f"{ALIGNMENT_KEY} is set by Writer(path, alignment=...)")
        wanted = None if type is None else _value_type(type)
        kind, raw = _encode(value, wanted, f"the value of {clip(key)}")
        self._put(key, kind, raw)

    def add_raw(self, key: str, kind: ValueType, raw: bytes) -> None:
        """Adds a value in its encoded form, as Metadata.raw() gives it."""
        self._check_open()
        kind, raw = instance("kind", kind, ValueType, "a ValueType"), buffer("raw", raw).tobytes()
        if text("key", key) == ALIGNMENT_KEY:
            raise GGUFError(f"{ALIGNMENT_KEY} is set by Writer(path, alignment=...)")
        self._put(key, kind, raw)

    def copy(self, metadata: Metadata, key: str) -> None:
        """Adds a value of another file, byte for byte and with its stored type."""
        self._check_open()
        source = instance("metadata", metadata, Metadata, "the metadata of an open file")
        if text("key", key) not in source:
            raise GGUFError(f"the file has no key {clip(key)} that could be copied")
        self.add_raw(key, *source.raw(key))
        self._copied.add(source._file)

    def add_metadata(self, metadata: Metadata, skip: Iterable[str] = ()) -> None:
        """Copies all values of another file but its alignment, its split numbers and the keys in skip."""
        self._check_open()
        left_out = {ALIGNMENT_KEY, *SPLIT_KEYS, *texts("skip", skip)}
        for key in instance("metadata", metadata, Metadata, "the metadata of an open file"):
            if key not in left_out:
                self.copy(metadata, key)

    def add_tensor(self, name: str, shape: Iterable[int], type: QuantTypeLike, data: TensorData | Tensor) -> None:  # noqa: A002
        """Adds a tensor of row-major shape, stored as type, whose bytes data holds or yields.

        data: an array of the type's elements (of that shape, or flat), bytes, a Tensor of that type and shape, or a
        function that yields pieces of the bytes when the file is written. Raises GGUFError for an illegal name or
        shape, ShapeError where data has another size, shape or element type.
        """
        self._check_open()
        dims = read_shape("shape", shape)
        kind = QuantType.parse(type)
        check_tensor_name(_utf8(text("name", name), "tensor name"))
        if name in self._tensors:
            raise GGUFError(f"tensor {clip(name)} was added twice")
        n_elements = check_dims(name, dims)
        if dims[-1] % kind.elems:
            raise GGUFError(
                f"tensor {clip(name)} has rows of {dims[-1]} values, {kind} needs a multiple of {kind.elems}"
            )
        if len(self._tensors) == MAX_TENSORS:
            raise GGUFError(f"a file holds at most {MAX_TENSORS} tensors")
        nbytes = n_elements // kind.elems * kind.bytes
        if isinstance(data, Tensor):
            data = _stored(name, kind, dims, data)
        elif not callable(data):
            _check_data(name, kind, dims, nbytes, data)
        self._tensors[name] = _Tensor(name, dims, kind, nbytes, data)

    def close(self) -> None:
        """Writes the file, flushes it to the disk and renames it to path; a second call does nothing.

        Raises GGUFError: the target is no regular file, cannot be written, or is an open file that values come from;
        ShapeError: a callable yielded another number of bytes than its tensor has; ArgumentTypeError: what is no
        bytes. In all cases no trace is left.
        """
        if self._done:
            return
        self._done = True
        with beside(self.path, GGUFError, self._sources) as new:
            self._refuse(self._copied)
            with noted() as files:
                self._write(new.out)
            self._refuse(files)
            new.put()

    def _refuse(self, files: Iterable[RegularFile]) -> None:
        """Raises GGUFError where path is a file that values come from."""
        for file in files:
            if file.lies_at(self.path):
                raise GGUFError(
                    f"{clip(self.path)} would replace {clip(file.path)}, which is open and copied from; give another "
                    "name, or close that file before its place is taken"
                )

    def write(self, out: BinaryIO) -> None:
        """Writes the whole file into an open one, in place of close(): for files that get their name later."""
        self._check_open()
        writable = getattr(out, "writable", None)
        if not callable(getattr(out, "write", None)) or (callable(writable) and not writable()):
            raise wrong_type("out", "a file opened for writing bytes", out)
        self._done = True
        self._write(out)

    def abort(self) -> None:
        """Drops everything; path keeps what it had."""
        self._done = True
        self._values.clear()
        self._tensors.clear()

    def __enter__(self) -> Writer:
        self._check_open()
        return self

    def __repr__(self) -> str:
        state = ", closed" if self._done else ""
        return f"<pyggml.gguf.Writer {clip(self.path)}: {len(self._values)} keys, {len(self._tensors)} tensors{state}>"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _check_open(self) -> None:
        if self._done:
            raise GGUFError(f"the writer of {clip(self.path)} is closed")

    def _put(self, key: str, kind: ValueType, raw: bytes) -> None:
        self._check_open()
        check_key(_utf8(text("key", key), "metadata key"))
        if key in self._values:
            raise GGUFError(f"metadata key {clip(key)} was added twice")
        if len(self._values) == MAX_KEYS:
            raise GGUFError(f"a file holds at most {MAX_KEYS} metadata keys")
        cursor = Cursor(np.frombuffer(raw, np.uint8) if raw else np.empty(0, np.uint8))
        cursor.n_strings, cursor.n_nested = self._n_strings, self._n_nested
        walk_value(cursor, kind, f"the value of {clip(key)}")
        if cursor.left:
            raise GGUFError(f"the value of {clip(key)} has {cursor.left} bytes too many")
        self._n_strings, self._n_nested = cursor.n_strings, cursor.n_nested
        self._values[key] = kind.to_bytes(4, "little") + raw

    def _write(self, out: BinaryIO) -> None:
        at = 0
        for piece in self._header():
            out.write(piece)
            at += len(piece)
        out.write(bytes(align_up(at, self.alignment) - at))
        with Behind(out) if self._behind else contextlib.nullcontext(out) as to:
            for tensor in self._tensors.values():
                _write_tensor(to.write, tensor)
                to.write(bytes(align_up(tensor.nbytes, self.alignment) - tensor.nbytes))

    def _header(self) -> Iterator[bytes]:
        yield MAGIC + struct.pack("<IQQ", 3, len(self._tensors), len(self._values))
        for key, value in self._values.items():
            yield _string(key.encode())
            yield value
        offset = 0
        for tensor in self._tensors.values():
            yield _string(tensor.name.encode())
            dims = tensor.shape[::-1]
            yield struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, tensor.kind.id, offset)
            offset = align_up(offset + tensor.nbytes, self.alignment)


def _stored(name: str, kind: QuantType, dims: tuple[int, ...], data: Tensor) -> Callable[[], Iterable[Any]]:
    """The bytes of a Tensor, read when the file is written."""
    if data.type != kind or data.shape != dims:
        raise ShapeError(
            f"tensor {clip(name)} of type {kind} and shape {dims} is given a Tensor of type {data.type} and shape "
            f"{data.shape}; add it as what it is"
        )
    return lambda: (data.raw,)


def _check_data(name: str, kind: QuantType, dims: tuple[int, ...], nbytes: int, data: Any) -> None:
    if isinstance(data, np.ndarray):
        expected = _TENSOR_DTYPES.get(kind.name)
        got = data.dtype.str.lstrip("<|=")
        if data.dtype != np.uint8 and expected != got:
            want = f"{np.dtype(expected)} or uint8" if expected else "uint8"
            raise ShapeError(f"tensor {clip(name)} of type {kind} needs an array of {want}, got {data.dtype}")
        if data.dtype != np.uint8 and data.ndim != 1 and data.shape != dims:
            raise ShapeError(
                f"tensor {clip(name)} has shape {dims}, outermost first, its array {data.shape}: give that shape, or "
                "reshape the array"
            )
        got_bytes = data.nbytes
    else:
        got_bytes = buffer("data", data).nbytes
    if got_bytes != nbytes:
        raise ShapeError(f"tensor {clip(name)} of type {kind} needs {nbytes} bytes, got {got_bytes}")


def _pieces(tensor: _Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor, piece by piece. Raises ArgumentTypeError where a callable gives anything else."""
    said = f"what data of {clip(tensor.name)} "
    made = tensor.data() if callable(tensor.data) else (tensor.data,)
    if isinstance(made, str) or is_bytes(made) or not isinstance(made, Iterable):
        raise wrong_type(
            f"{said}returns", "an iterable of arrays or bytes", made, "make it a generator: yield each piece"
        )
    for piece in made:
        flat = np.ascontiguousarray(piece) if isinstance(piece, np.ndarray) else piece
        try:
            yield memoryview(flat).cast("B")  # type: ignore[arg-type]
        except (TypeError, ValueError, BufferError):  # no buffer, or not one of adjacent bytes
            raise wrong_type(f"{said}yields", "an array or bytes", piece) from None


def _write_tensor(write: Callable[[Any], object], tensor: _Tensor) -> None:
    written = 0
    for view in _pieces(tensor):
        written += view.nbytes
        if written > tensor.nbytes:
            break
        write(view)
    if written != tensor.nbytes:
        more = " or more" if written > tensor.nbytes else ""
        raise ShapeError(f"tensor {clip(tensor.name)} needs {tensor.nbytes} bytes, its data yielded {written}{more}")


# ---- values to bytes -------------------------------------------------------------------------------------------


def _value_type(name: str | ValueType) -> ValueType:
    try:
        kind = name if isinstance(name, ValueType) else ValueType[_LONG_NAMES.get(_word(name), _word(name)).upper()]
    except KeyError:
        known = " ".join(each.name.lower() for each in ValueType if each is not ValueType.ARR)
        raise GGUFError(f"unknown value type {clip(name)}, known: {known}") from None
    if kind is ValueType.ARR:
        raise GGUFError("name the type of an array's elements, not arr")
    return kind


def _word(name: str) -> str:
    return text("type", name).lower()


def _utf8(said: str, what: str) -> bytes:
    try:
        return said.encode()
    except UnicodeEncodeError:
        raise GGUFError(f"a {what} is not valid Unicode: {clip(said)}") from None


def _string(raw: bytes) -> bytes:
    return len(raw).to_bytes(8, "little") + raw


def _encode(value: Any, wanted: ValueType | None, what: str) -> tuple[ValueType, bytes]:
    """Type and encoded bytes of a Python or numpy value."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (list, tuple, np.ndarray)):
        return ValueType.ARR, _encode_array(value, wanted, what, 1)
    kind = wanted if wanted is not None else _infer(value, what)
    return kind, _encode_scalar(value, kind, what)


def _infer(value: Any, what: str) -> ValueType:
    if isinstance(value, np.generic) and value.dtype.str.lstrip("<|=>") in _OF_DTYPE:
        return ValueType(_OF_DTYPE[value.dtype.str.lstrip("<|=>")])
    if isinstance(value, bool):
        return ValueType.BOOL
    if isinstance(value, int):
        return _infer_ints(value, value, (ValueType.U32, ValueType.I32, ValueType.U64, ValueType.I64), what)
    if isinstance(value, float):
        return ValueType.F32
    if isinstance(value, (str, bytes)):
        return ValueType.STR
    raise GGUFError(f"{what} is {type(value).__name__}, which GGUF cannot store")


def _infer_ints(low: int, high: int, order: tuple[ValueType, ...], what: str) -> ValueType:
    for kind in order:
        if _RANGES[kind][0] <= low and high <= _RANGES[kind][1]:
            return kind
    raise GGUFError(f"{what}: integers from {clip(low)} to {clip(high)} fit no 64-bit type")


def _encode_scalar(value: Any, kind: ValueType, what: str) -> bytes:
    if isinstance(value, np.generic):
        value = value.item()
    if kind is ValueType.STR:
        if not isinstance(value, (str, bytes)):
            raise GGUFError(f"{what} is {clip(value)}, expected str or bytes")
        return _string(value if isinstance(value, bytes) else _utf8(value, "string"))
    if kind is ValueType.BOOL:
        if not isinstance(value, bool):
            raise GGUFError(f"{what} is {clip(value)}, expected a bool")
        return bytes([value])
    if kind in _RANGES:
        low, high = _RANGES[kind]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise GGUFError(f"{what} is {clip(value)}, expected an integer from {low} to {high} ({kind.name.lower()})")
    elif not isinstance(value, (int, float)) or isinstance(value, bool):
        raise GGUFError(f"{what} is {clip(value)}, expected a number ({kind.name.lower()})")
    try:
        return SCALARS[kind].pack(value)
    except (OverflowError, struct.error) as error:
        raise GGUFError(f"{what} is {clip(value)}, which {kind.name.lower()} cannot hold") from error


def _encode_array(values: Any, wanted: ValueType | None, what: str, depth: int) -> bytes:
    if depth > MAX_DEPTH:
        raise GGUFError(f"{what} nests arrays deeper than {MAX_DEPTH} levels")
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.str[1:] in _OF_DTYPE:
        own = ValueType(_OF_DTYPE[values.dtype.str[1:]])
        if wanted is None or wanted is own:
            return _array_head(own, len(values)) + values.astype(DTYPES[own]).tobytes()
    items = list(values)
    if any(isinstance(item, (list, tuple, np.ndarray)) for item in items):
        if not all(isinstance(item, (list, tuple, np.ndarray)) for item in items):
            raise GGUFError(f"{what} mixes arrays and other values")
        inner = (_encode_array(item, wanted, what, depth + 1) for item in items)
        return _array_head(ValueType.ARR, len(items)) + b"".join(inner)
    kind = wanted if wanted is not None else _infer_items(items, what)
    return _array_head(kind, len(items)) + b"".join(_encode_scalar(item, kind, what) for item in items)


def _array_head(kind: ValueType, count: int) -> bytes:
    return struct.pack("<IQ", kind, count)


def _infer_items(items: list[Any], what: str) -> ValueType:
    if not items:
        raise GGUFError(f"{what} is an empty list, say the type of its elements")
    kinds = {_infer(item, what) for item in items}
    if len(kinds) == 1 and not kinds <= set(_RANGES):
        return kinds.pop()
    if kinds <= set(_RANGES):
        order = (ValueType.I32, ValueType.U32, ValueType.I64, ValueType.U64)
        return _infer_ints(int(min(items)), int(max(items)), order, what)
    names = ", ".join(sorted(kind.name.lower() for kind in kinds))
    raise GGUFError(f"{what} mixes {names}; an array holds one type")
