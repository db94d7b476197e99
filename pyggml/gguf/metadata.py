"""The metadata of a GGUF file: a walk that believes no number, and a mapping that decodes late.

The walk notes where each value lies and checks that it lies inside the file; scalars are decoded on the way, arrays
and long strings when they are asked for. Tensors are not known here. Source: the GGUF format description.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.errors import GGUFError, OutOfMemory, PyggmlError
from pyggml.files.regular_file import MappedFile
from pyggml.gguf.format import (
    DTYPES,
    MAX_ARRAY,
    MAX_DEPTH,
    MAX_HEADER_BYTES,
    MAX_KEY_BYTES,
    MAX_KEYS,
    MAX_NESTED,
    MAX_STRING_ARRAY_BYTES,
    MAX_STRING_BYTES,
    MAX_STRINGS,
    MAX_STRINGS_TOTAL,
    SCALARS,
    ValueType,
    check_key,
)
from pyggml.shown import clip

_MIN_KEY_BYTES = 8 + 1 + 4 + 1  # length, one character, type, one byte of value
_EAGER_STRING = 1 << 12
_STRINGS_AT_ONCE = 1 << 14
_FIRST_READ = 1 << 18
_LARGE = 1 << 20
_FEW_STRINGS = 1 << 12
_HANDFUL = 8
_NO_BYTES = np.empty(0, np.uint8)


class Cursor:
    """A position in bytes, or in a file of which as much is read as is asked for; every read is checked against what
    is left.

    data: the bytes there are (of a file: read so far); size: of all.
    """

    def __init__(self, source: NDArray[np.uint8] | MappedFile) -> None:
        self._file = source if isinstance(source, MappedFile) else None
        self._room = _NO_BYTES  # what data is the beginning of
        self.data = _NO_BYTES if isinstance(source, MappedFile) else source
        self.size = source.size
        self._loaded = len(self.data)
        self.at = 0
        self.view = memoryview(self.data)  # type: ignore[arg-type]
        self.n_strings = 0
        self.n_nested = 0

    def load(self, stop: int) -> None:
        """Reads on, so that the bytes before stop (no more than size) are in data."""
        had = self._loaded
        if self._file is None or stop <= had:
            return
        if stop > MAX_HEADER_BYTES:
            raise GGUFError(f"the header does not end within {MAX_HEADER_BYTES} bytes, which is all that is allowed")
        end = min(self.size, max(stop, min(max(2 * had, _FIRST_READ), MAX_HEADER_BYTES)))
        if end > len(self._room):  # pages that nothing is read into cost nothing
            self._room = np.empty(end if end <= _LARGE else min(self.size, MAX_HEADER_BYTES), np.uint8)
            self._room[:had] = self.data
        self.data = self._room[:end]
        self.view = memoryview(self.data)  # type: ignore[arg-type]
        self._file.read_into(had, self.view[had:])
        self._loaded = end

    @property
    def left(self) -> int:
        """Bytes from here to the end of the file."""
        return self.size - self.at

    def take(self, n: int, what: str) -> memoryview:
        """The next n bytes; GGUFError naming what if the file ends before."""
        start = self.at
        stop = start + n
        if stop > self._loaded:
            if stop > self.size:
                raise GGUFError(f"{what} at byte {start} needs {n} bytes, {self.left} are left: the file is cut")
            self.load(stop)
        self.at = stop
        return self.view[start:stop]

    def number(self, kind: int, what: str) -> Any:
        """The next scalar of that ValueType."""
        form = SCALARS[kind]
        return form.unpack(self.take(form.size, what))[0]

    def u32(self, what: str) -> int:
        """The next unsigned 32-bit integer."""
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        """The next unsigned 64-bit integer."""
        return int.from_bytes(self.take(8, what), "little")

    def string(self, what: str, limit: int) -> bytes:
        """The next string, length first."""
        return bytes(self.take(self.string_length(what, limit), what))

    def string_length(self, what: str, limit: int) -> int:
        """The length in front of the next string, at most limit."""
        n = self.u64(f"the length of {what}")
        if n > self.left:
            raise GGUFError(f"{what} at byte {self.at} says it has {n} bytes, {self.left} are left in the file")
        if n > limit:
            raise GGUFError(f"{what} has {n} bytes, at most {limit} are allowed")
        return n


class Span(NamedTuple):
    """Where a value lies that is not decoded yet."""

    kind: ValueType  # STR, or ARR
    item: ValueType  # of arrays: the elements' type; ARR for arrays of arrays
    n: int  # elements, or bytes of a string
    at: int  # of the first element


class Entry(NamedTuple):
    """One key's value: its type, its encoded bytes in the file, and its Span or decoded scalar."""

    kind: ValueType
    start: int
    stop: int
    value: Any


#: What a key may hold: a number, flag or text, an array of numbers or flags, a list of texts or of such.
MetadataValue = bool | int | float | str | NDArray[Any] | list[Any]


class Metadata(Mapping[str, MetadataValue]):
    """The key-value pairs of a file, a read-only mapping.

    Numbers and flags are int, float and bool; strings are str; arrays of numbers or flags are read-only numpy arrays
    (native byte order, a copy); arrays of strings are lists of str; nested arrays are lists of those. Arrays are
    decoded on first access and kept: treat lists as read-only. Bytes that are not UTF-8 become U+FFFD in str;
    raw_strings() gives them as they are.

    Raises GGUFError on access when the file was changed since it was opened.
    """

    def __init__(self, file: MappedFile, entries: dict[str, Entry]) -> None:
        self._file = file
        self._entries = entries
        self._decoded: dict[str, MetadataValue] = {}

    def __getitem__(self, key: str) -> MetadataValue:
        entry = self._entries[key]
        if not isinstance(entry.value, Span):
            return entry.value  # type: ignore[no-any-return]
        if key not in self._decoded:
            try:
                self._decoded[key] = _decode(*self._stored(entry), f"the value of {clip(key)}")
            except MemoryError as error:
                raise OutOfMemory(f"no memory for {entry.value.n} elements of {clip(key)}") from error
        return self._decoded[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def _stored(self, entry: Entry) -> tuple[NDArray[np.uint8], Span]:
        """The encoded bytes of an array or a long string, and its span in them."""
        kind, item, n, at = entry.value
        return self._file.copy(entry.start, entry.stop - entry.start), Span(kind, item, n, at - entry.start)

    def __repr__(self) -> str:
        return f"<Metadata of {len(self)} keys>"

    def type_of(self, key: str) -> str:
        """The stored type as text: "u32", "str", "arr[f32]"; KeyError if the key is absent."""
        entry = self._entries[key]
        if entry.kind is ValueType.ARR:
            return f"arr[{entry.value.item.name.lower()}]"
        return entry.kind.name.lower()

    def array_length(self, key: str) -> int | None:
        """How many elements an array has, without decoding it; None if the value is no array."""
        value = self._entries[key].value
        return value.n if isinstance(value, Span) and value.kind is ValueType.ARR else None

    def raw_strings(self, key: str) -> list[bytes]:
        """The bytes of a string array, for tokens that are no UTF-8; GGUFError if the value is something else."""
        entry = self._entries[key]
        value = entry.value
        if not isinstance(value, Span) or value.item is not ValueType.STR or value.kind is not ValueType.ARR:
            raise GGUFError(f"{clip(key)} is {self.type_of(key)}, expected arr[str]")
        return list(_byte_strings(*self._stored(entry), clip(key)))

    def raw(self, key: str) -> tuple[ValueType, bytes]:
        """Type and encoded bytes of a value exactly as stored, what Writer.add_raw takes."""
        entry = self._entries[key]
        return entry.kind, self._file.copy(entry.start, entry.stop - entry.start).tobytes()

    def summary(self, key: str, width: int = 60) -> str:
        """One printable ASCII line for tables; long arrays show only their length."""
        entry = self._entries[key]
        value = entry.value
        if isinstance(value, Span) and value.kind is ValueType.ARR and value.n > 6:
            return f"{value.n} x {value.item.name.lower()}"
        shown = self[key]
        if isinstance(shown, np.ndarray):
            shown = shown.tolist()
        return clip(shown, width)


def read_entries(cursor: Cursor, count: int) -> dict[str, Entry]:
    """The count key-value pairs at the cursor, which ends behind them."""
    if count > cursor.left // _MIN_KEY_BYTES:
        raise GGUFError(f"the header says {count} metadata keys, {cursor.left} bytes cannot hold them")
    if count > MAX_KEYS:
        raise GGUFError(f"the header says {count} metadata keys, at most {MAX_KEYS} are allowed")
    entries: dict[str, Entry] = {}
    for i in range(count):
        key = check_key(cursor.string(f"metadata key {i}", MAX_KEY_BYTES))
        shown = clip(key)
        if key in entries:
            raise GGUFError(f"metadata key {shown} appears twice")
        what = f"the value of {shown}"
        kind = _value_type(cursor.u32(f"the type of {shown}"), what)
        start = cursor.at
        value = walk_value(cursor, kind, what)
        entries[key] = Entry(kind, start, cursor.at, value)
    return entries


def _value_type(number: int, what: str) -> ValueType:
    try:
        return ValueType(number)
    except ValueError:
        raise GGUFError(f"{what} has the unknown type {number}, known types are 0 to {max(ValueType)}") from None


def walk_value(cursor: Cursor, kind: ValueType, what: str) -> Any:
    """Passes over one value: the scalar, or the Span of what is decoded later."""
    if kind is ValueType.ARR:
        return _walk_array(cursor, what)
    if kind is ValueType.STR:
        n = cursor.string_length(what, MAX_STRING_BYTES)
        span = Span(ValueType.STR, ValueType.STR, n, cursor.at)
        raw = cursor.take(n, what)
        return span if n > _EAGER_STRING else bytes(raw).decode("utf-8", "replace")
    value = cursor.number(kind, what)
    if kind is ValueType.BOOL:
        if value > 1:
            raise GGUFError(f"{what} is a bool of value {value}, expected 0 or 1")
        return bool(value)
    return value


def _array_head(cursor: Cursor, what: str) -> Span:
    item = _value_type(cursor.u32(f"the element type of {what}"), f"the elements of {what}")
    count = cursor.u64(f"the length of {what}")
    return Span(ValueType.ARR, item, count, cursor.at)


def _walk_array(cursor: Cursor, what: str) -> Span:
    """Passes over an array of any nesting; a stack instead of recursion, so depth costs nothing to refuse."""
    top = _array_head(cursor, what)
    pending: list[int] = []  # arrays left to walk on each open level
    span = top
    while True:
        if span.item is ValueType.ARR:
            _check_nested(cursor, span, len(pending), what)
            pending.append(span.n)
        elif span.item is ValueType.STR:
            _walk_strings(cursor, span, what)
        else:
            _walk_numbers(cursor, span, what)
        while pending and pending[-1] == 0:
            pending.pop()
        if not pending:
            return top
        pending[-1] -= 1
        span = _array_head(cursor, what)


def _check_nested(cursor: Cursor, span: Span, depth: int, what: str) -> None:
    if depth + 2 > MAX_DEPTH:
        raise GGUFError(f"{what} nests arrays deeper than {MAX_DEPTH} levels")
    if span.n > cursor.left // 12:
        raise GGUFError(f"{what} says it has {span.n} arrays inside, {cursor.left} bytes cannot hold them")
    cursor.n_nested += span.n
    if cursor.n_nested > MAX_NESTED:
        raise GGUFError(f"{what}: more than {MAX_NESTED} nested arrays in one file are refused")


def _walk_numbers(cursor: Cursor, span: Span, what: str) -> None:
    size = DTYPES[span.item].itemsize
    if span.n > cursor.left // size:
        raise GGUFError(
            f"{what} says it has {span.n} elements of {size} bytes, {cursor.left} bytes are left in the file"
        )
    if span.n > MAX_ARRAY:
        raise GGUFError(f"{what} has {span.n} elements, at most {MAX_ARRAY} are allowed")
    cursor.at += span.n * size
    if span.item is ValueType.BOOL and span.n:
        cursor.load(cursor.at)
        if cursor.data[span.at : cursor.at].max() > 1:
            raise GGUFError(f"{what} is an array of bools with a value that is not 0 or 1")


def _walk_strings(cursor: Cursor, span: Span, what: str) -> None:
    if span.n > cursor.left // 8:
        raise GGUFError(f"{what} says it has {span.n} strings, {cursor.left} bytes cannot hold them")
    cursor.n_strings += span.n
    if span.n > MAX_STRINGS or cursor.n_strings > MAX_STRINGS_TOTAL:
        raise GGUFError(
            f"{what} has {span.n} strings, at most {MAX_STRINGS} in an array and {MAX_STRINGS_TOTAL} in a file "
            "are allowed"
        )
    cursor.at, longest = _end_of_strings(cursor, span, what)
    if cursor.at - span.at > MAX_STRING_ARRAY_BYTES:
        raise GGUFError(f"{what} takes {cursor.at - span.at} bytes, at most {MAX_STRING_ARRAY_BYTES} are allowed")
    if longest > MAX_STRING_BYTES:
        raise GGUFError(f"{what} holds a string of {longest} bytes, at most {MAX_STRING_BYTES} are allowed")


def _end_of_strings(cursor: Cursor, span: Span, what: str) -> tuple[int, int]:
    """The offset behind the last string at the cursor, and the length of the longest; reads on until they end."""
    longest = 0
    if span.n < _FEW_STRINGS:  # perhaps long ones: one by one, so that nothing is read for a length that lies
        for i in range(span.n):
            n = cursor.string_length(f"string {i} of {what}", MAX_STRING_BYTES)
            cursor.take(n, what)
            longest = max(longest, n)
        return cursor.at, longest
    stop = span.at + 20 * span.n
    while True:
        stop = min(stop, cursor.size, span.at + MAX_STRING_ARRAY_BYTES)
        cursor.load(stop)
        try:
            spans, end = _string_spans(cursor.data, span, what)
            return end, int(spans[:, 1].max())
        except GGUFError:
            if len(cursor.data) == cursor.size:
                raise
            if stop == span.at + MAX_STRING_ARRAY_BYTES:
                raise GGUFError(f"{what} takes more than the {MAX_STRING_ARRAY_BYTES} bytes that are allowed") from None
        stop = max(2 * stop, len(cursor.data) + 1)


def _string_spans(data: NDArray[np.uint8], span: Span, what: str) -> tuple[NDArray[np.uint64], int]:
    """Spans (count, 2) offset, length; and the offset behind the last string."""
    if span.n == 0:
        return np.empty((0, 2), np.uint64), span.at
    try:
        return _native.gguf_strings(data, span.at, span.n)
    except PyggmlError as error:
        raise GGUFError(f"{what}: {clip(str(error), 300)}") from error


def _byte_strings(data: NDArray[np.uint8], span: Span, what: str) -> Iterator[bytes]:
    if span.n < _HANDFUL:  # a call of the core costs more
        cursor = Cursor(data)
        cursor.at = span.at
        for i in range(span.n):
            yield cursor.string(f"string {i} of {what}", MAX_STRING_BYTES)
        return
    spans, end = _string_spans(data, span, what)
    block = data[span.at : end].tobytes()
    for first in range(0, span.n, _STRINGS_AT_ONCE):  # bounds as Python ints would fill memory for millions
        starts = spans[first : first + _STRINGS_AT_ONCE, 0] - np.uint64(span.at)
        stops = starts + spans[first : first + _STRINGS_AT_ONCE, 1]
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            yield block[start:stop]


def _decode(data: NDArray[np.uint8], span: Span, what: str) -> Any:
    if span.kind is ValueType.STR:
        return data[span.at : span.at + span.n].tobytes().decode("utf-8", "replace")
    if span.item is not ValueType.ARR:
        return _decode_flat(data, span, what)
    # Depth is at most MAX_DEPTH and the walk has judged every length, so plain recursion is safe here.
    cursor = Cursor(data)
    cursor.at = span.at
    return _decode_nested(cursor, span, what)


def _decode_flat(data: NDArray[np.uint8], span: Span, what: str) -> Any:
    if span.item is ValueType.STR:
        return [raw.decode("utf-8", "replace") for raw in _byte_strings(data, span, what)]
    dtype = DTYPES[span.item]
    stored = data[span.at : span.at + span.n * dtype.itemsize].view(dtype)
    array = stored.astype(dtype.newbyteorder("="), copy=True)
    array.flags.writeable = False
    return array


def _decode_nested(cursor: Cursor, span: Span, what: str) -> list[Any]:
    items: list[Any] = []
    for _ in range(span.n):
        inner = _array_head(cursor, what)
        if inner.item is ValueType.ARR:
            items.append(_decode_nested(cursor, inner, what))
            continue
        items.append(_decode_flat(cursor.data, inner, what))
        if inner.item is ValueType.STR:
            cursor.at = _string_spans(cursor.data, inner, what)[1]
        else:
            cursor.at += inner.n * DTYPES[inner.item].itemsize
    return items
