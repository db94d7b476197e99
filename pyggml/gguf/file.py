"""A GGUF file, opened: its header read and checked, its tensors named; one file or all parts of a split one.

This is the only place where GGUF's innermost-first dims are turned into row-major shapes (writer.py turns them
back). Metadata is in metadata.py, the map in files/regular_file.py, limits in format.py.
Source: the GGUF format description (ggml/docs/gguf.md), versions 2 and 3.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml import display
from pyggml.arguments import path as read_path
from pyggml.arguments import whole, wrong_type
from pyggml.errors import ArgumentError, FileMissing, GGUFError, OutOfMemory, ShapeError, UnsupportedError
from pyggml.files.recognise import HEAD, recognise
from pyggml.files.regular_file import MappedFile, PathLike
from pyggml.gguf.format import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    MAGIC,
    MAX_DIMS,
    MAX_NAME_BYTES,
    MAX_SPLITS,
    MAX_TENSORS,
    VERSIONS,
    ValueType,
    align_up,
    check_alignment,
    check_dims,
    check_tensor_name,
)
from pyggml.gguf.metadata import Cursor, Metadata, read_entries
from pyggml.keywords import known_only, methods_known_only
from pyggml.pickling import Held
from pyggml.quant.types import QuantType
from pyggml.shown import clip

_MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # length, one character, n_dims, one dim, type, offset
_SPLIT_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


@methods_known_only
class TensorInfo(Held):
    """One tensor of a file: where it lies and what it is.

    name, type (QuantType), shape (row-major: (out, in)), n_elements, nbytes, offset (absolute, in its part), part
    (0-based number of the file it lies in).
    """

    __slots__ = ("_file", "n_elements", "name", "nbytes", "offset", "part", "shape", "type")

    def __init__(self, name: str, kind: QuantType, shape: tuple[int, ...], offset: int, file: MappedFile) -> None:
        self.name = name
        self.type = kind
        self.shape = shape
        self.n_elements = check_dims(name, shape)
        self.nbytes = self.n_elements // kind.elems * kind.bytes
        self.offset = offset
        self.part = 0
        self._file = file

    @property
    def path(self) -> str:
        """The file it lies in."""
        return self._file.path

    @property
    def data(self) -> NDArray[np.uint8]:
        """Its stored bytes (nbytes,): a read-only copy, which whatever happens to the file does not touch.

        Each access reads anew; take a part of a large tensor with read(). Raises GGUFError when the file was changed or
        closed, OutOfMemory.
        """
        made = self.read()
        made.flags.writeable = False
        return made

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """A copy of its stored bytes from start to stop (the end by default): (stop - start,).

        Raises GGUFError when the file was changed or closed, ArgumentError for bytes it does not have, OutOfMemory.
        """
        start = whole("start", start, 0)
        stop = self.nbytes if stop is None else whole("stop", stop, 0, other="None")
        if not start <= stop <= self.nbytes:
            raise ArgumentError(f"tensor {clip(self.name)} has {self.nbytes} bytes, asked for {start} to {stop}")
        return self._file.copy(self.offset + start, stop - start)

    def every(self, step: int) -> NDArray[np.uint8]:
        """A copy of every step-th row, from the first: (ceil(rows / step), bytes of a row). Raises as read() does."""
        step = whole("step", step, 1)
        size = self.type.row_bytes(self.shape[-1])
        rows = self.n_elements // self.shape[-1]
        if step == 1:
            return self.read().reshape(rows, size)
        self._file.check_unchanged()
        made = np.empty((-(-rows // step), size), np.uint8)
        flat = memoryview(made.reshape(-1))  # type: ignore[arg-type]
        for i in range(len(made)):
            self._file.read_into(self.offset + i * step * size, flat[i * size : (i + 1) * size])
        self._file.check_unchanged()
        return made

    def _mapped(self) -> NDArray[np.uint8]:
        """Its stored bytes in the map, for a plan that checks the file before each step and for nobody else."""
        mapped = self._file.bytes  # before the check: a close in another thread takes it away
        self._file.check_unchanged()
        return mapped[self.offset : self.offset + self.nbytes]

    def read_into(self, buffer: Any) -> None:
        """Copies its stored bytes into a writable contiguous buffer of exactly nbytes, without the map.

        Raises GGUFError when the file was changed or closed, ShapeError for a buffer of another size.
        """
        try:
            view = memoryview(buffer)
        except TypeError:
            raise wrong_type("buffer", "a writable buffer", buffer) from None
        if view.nbytes != self.nbytes or not view.c_contiguous or view.readonly:
            raise ShapeError(
                f"tensor {clip(self.name)}: expected a writable contiguous buffer of {self.nbytes} bytes, got "
                f"{view.nbytes} bytes{' (read-only)' if view.readonly else ''}"
            )
        self._file.check_unchanged()
        self._file.read_into(self.offset, view.cast("B"))
        self._file.check_unchanged()

    def __repr__(self) -> str:
        return f"<TensorInfo {clip(self.name)} {self.type} {self.shape}, {self.nbytes} bytes>"


@methods_known_only
class GGUFFile(Held):
    """An open GGUF file; all parts of it where it is split.

    path, version, alignment, metadata (read-only mapping, arrays decoded on access), tensors (read-only mapping from
    name to TensorInfo, in file order). Use as a context manager, or close(). Made by open(). When closed, what the
    header says stays, but for arrays in the metadata; what reads the file raises GGUFError.
    """

    def __init__(self, parts: list[_Part]) -> None:
        first = parts[0]
        self.path = first.file.path
        self.version = first.version
        self.alignment = first.alignment
        self.metadata = first.metadata
        self._files = tuple(part.file for part in parts)
        tensors: dict[str, TensorInfo] = {}
        for number, part in enumerate(parts):
            for info in part.tensors:
                if info.name in tensors:
                    raise GGUFError(f"tensor {clip(info.name)} appears twice in {clip(part.file.path)}")
                info.part = number
                tensors[info.name] = info
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every part's path."""
        return tuple(file.path for file in self._files)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every part's bytes."""
        return tuple(file.size for file in self._files)

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(self.sizes)

    def header(self, part: int = 0) -> bytes:
        """The bytes of a part (of the first by default) that lie before its tensors.

        Raises ArgumentError for a part that there is not, GGUFError when a file was changed or closed.
        """
        file = self._files[whole("part", part, 0, len(self._files) - 1)]
        begins = (info.offset for info in self.tensors.values() if info.part == part)
        made = bytearray(min(begins, default=file.size))
        self.check_unchanged()
        file.read_into(0, memoryview(made))
        return bytes(made)

    @property
    def arch(self) -> str:
        """general.architecture; GGUFError where it is missing or no string."""
        value = self.metadata.get("general.architecture")
        if not isinstance(value, str) or not value:
            got = "missing" if value is None else clip(value)
            raise GGUFError(f"general.architecture is {got}, expected a name such as 'llama'")
        return value

    def check_unchanged(self) -> None:
        """Raises GGUFError if a part was cut or rewritten since open(), or closed; about a microsecond a part."""
        for file in self._files:
            file.check_unchanged()

    def close(self) -> None:
        """Gives the descriptors back; what was read before stays valid."""
        for file in self._files:
            file.close()

    def __enter__(self) -> GGUFFile:
        """Raises GGUFError when closed."""
        self.check_unchanged()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return _table(self)

    def _repr_html_(self) -> str:
        return display.preformatted(_table(self))


class _Part:
    """One file's header, read and judged."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        cursor = Cursor(file)
        self.version = _read_version(cursor, file)
        n_tensors = cursor.u64("the tensor count")
        n_keys = cursor.u64("the metadata count")
        if n_tensors > cursor.left // _MIN_TENSOR_BYTES:
            raise GGUFError(f"the header says {n_tensors} tensors, {cursor.left} bytes cannot hold them")
        if n_tensors > MAX_TENSORS:
            raise GGUFError(f"the header says {n_tensors} tensors, at most {MAX_TENSORS} are allowed")
        entries = read_entries(cursor, n_keys)
        self.metadata = Metadata(file, entries)
        self.alignment = DEFAULT_ALIGNMENT
        if ALIGNMENT_KEY in entries:
            entry = entries[ALIGNMENT_KEY]
            if entry.kind is not ValueType.U32:
                raise GGUFError(f"{ALIGNMENT_KEY} is {self.metadata.type_of(ALIGNMENT_KEY)}, expected u32")
            self.alignment = check_alignment(entry.value)
        self.tensors = _read_tensors(cursor, n_tensors, file)
        _place_tensors(self.tensors, align_up(cursor.at, self.alignment), self.alignment, file.size)
        file.check_unchanged()


@known_only
def open(path: PathLike) -> GGUFFile:  # noqa: A001 - the module is the namespace: gguf.open
    """Opens a GGUF file of version 2 or 3; any part of a split one opens all parts.

    Nothing but the header is read: tensors stay in the file until they are asked for. Every count, length, offset,
    alignment, type and shape is checked against the file first.

    Raises:
        GGUFError: the file is missing, no regular file, cut, broken or hostile; the message names what and where.
            Where the system refuses it is also FileNotFoundError, PermissionError, IsADirectoryError or OSError.
        UnsupportedError: a big-endian file, version 1, a removed or unknown tensor type.
        OutOfMemory: the address space is too small for the map.
    """
    opened: list[_Part] = []
    try:
        _open_parts(read_path("path", path), opened)
        return GGUFFile(opened)
    except BaseException:
        for part in opened:
            part.file.close()
        raise


def _open_part(path: str) -> _Part:
    file = MappedFile(path)
    try:
        return _Part(file)
    except (GGUFError, UnsupportedError) as error:
        file.close()
        raise type(error)(f"{clip(path)}: {str(error)[:1500]}") from error
    except MemoryError as error:
        file.close()
        raise OutOfMemory(f"{clip(path)}: no memory for its header") from error
    except BaseException:
        file.close()
        raise


def _open_parts(path: str, opened: list[_Part]) -> None:
    """Appends the file at path, or every part of the split file it belongs to, first part first."""
    part = _open_part(path)
    opened.append(part)
    count = _split_number(part, "split.count", 1)
    if count <= 1:
        return
    names = _split_names(path, count)
    number = _split_number(part, "split.no", 0)
    if not number < count or os.path.basename(names[number]) != os.path.basename(path):
        raise GGUFError(f"{clip(path)}: split.no is {number} of {count}, which its name contradicts")
    for other in names:
        if not os.path.exists(other):
            message = f"{clip(other)} is missing: {clip(path)} is one of {count} parts that must lie together"
            raise FileMissing(message, errno.ENOENT, os.strerror(errno.ENOENT), other)
    opened.clear()
    for i, other in enumerate(names):
        opened.append(part if i == number else _open_part(other))
        got = _split_number(opened[i], "split.no", -1), _split_number(opened[i], "split.count", 1)
        if got != (i, count):
            raise GGUFError(f"{clip(other)}: split.no and split.count are {got}, expected {(i, count)}")
    total = sum(len(each.tensors) for each in opened)
    for each in opened:
        said = _split_number(each, "split.tensors.count", total)
        if said != total:
            raise GGUFError(f"{clip(each.file.path)}: split.tensors.count is {said}, the parts hold {total} tensors")


def _split_number(part: _Part, key: str, default: int) -> int:
    value = part.metadata.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not (0 <= value <= MAX_TENSORS or value == default):
        raise GGUFError(f"{clip(part.file.path)}: {key} is {clip(value)}, expected a small non-negative integer")
    return value


def _split_names(path: str, count: int) -> list[str]:
    """The names of all parts, from the name of one."""
    folder, base = os.path.split(path)
    match = _SPLIT_NAME.fullmatch(base)
    if match is None or int(match[3]) != count:
        raise GGUFError(
            f"{clip(path)} is part of a file split in {count}, but its name is not NAME-00001-of-{count:05d}.gguf; "
            "give the parts their names back"
        )
    if count > MAX_SPLITS:
        raise GGUFError(f"{clip(path)}: split.count is {count}, at most {MAX_SPLITS} parts are allowed")
    return [os.path.join(folder, f"{match[1]}-{i + 1:05d}-of-{count:05d}.gguf") for i in range(count)]


def _read_version(cursor: Cursor, file: MappedFile) -> int:
    magic = bytes(cursor.take(min(4, cursor.left), "the magic"))
    if magic != MAGIC:
        if magic == MAGIC[::-1]:
            raise UnsupportedError("a big-endian GGUF file (its magic is reversed); convert it to little-endian")
        known = recognise(file.read(0, min(HEAD, file.size)), file.path)
        raise GGUFError(f"no GGUF file: {known or f'it begins with {clip(magic)}, expected {MAGIC!r}'}")
    version = cursor.u32("the version")
    if version in VERSIONS:
        return version
    if version & 0xFFFF == 0 and version:
        raise UnsupportedError(
            f"a big-endian GGUF file (version {int.from_bytes(version.to_bytes(4, 'little'), 'big')}); "
            "convert it to little-endian"
        )
    if version == 1:
        raise UnsupportedError("GGUF version 1 (before October 2023) is not supported; convert the model again")
    raise UnsupportedError(f"GGUF version {version} is not known; versions 2 and 3 are supported")


def _read_tensors(cursor: Cursor, count: int, file: MappedFile) -> list[TensorInfo]:
    """The tensor table; offsets are still relative to the data section."""
    tensors: list[TensorInfo] = []
    names: set[str] = set()
    for i in range(count):
        name = check_tensor_name(cursor.string(f"the name of tensor {i}", MAX_NAME_BYTES))
        if name in names:
            raise GGUFError(f"tensor {clip(name)} appears twice")
        names.add(name)
        what = f"the record of tensor {clip(name)}"
        n_dims = cursor.u32(what)
        if not 1 <= n_dims <= MAX_DIMS:
            raise GGUFError(f"tensor {clip(name)} has {n_dims} dimensions, expected 1 to {MAX_DIMS}")
        shape = tuple(cursor.u64(what) for _ in range(n_dims))[::-1]
        kind = _tensor_type(cursor.u32(what), name)
        check_dims(name, shape)
        if shape[-1] % kind.elems:
            raise GGUFError(
                f"tensor {clip(name)} has rows of {shape[-1]} values, {kind} needs a multiple of {kind.elems}"
            )
        tensors.append(TensorInfo(name, kind, shape, cursor.u64(what), file))
    return tensors


def _tensor_type(type_id: int, name: str) -> QuantType:
    try:
        return QuantType.parse(type_id)
    except UnsupportedError as error:
        raise UnsupportedError(f"tensor {clip(name)}: {error}") from None


def _place_tensors(tensors: list[TensorInfo], start: int, alignment: int, size: int) -> None:
    """Makes offsets absolute; each must be aligned, inside the file and behind the tensor before."""
    end, before = start, ""
    for info in sorted(tensors, key=lambda info: info.offset):
        if info.offset % alignment:
            raise GGUFError(f"tensor {clip(info.name)} is at offset {info.offset}, no multiple of {alignment}")
        info.offset += start
        if info.offset + info.nbytes > size:
            raise GGUFError(
                f"tensor {clip(info.name)} lies at bytes {info.offset} to {info.offset + info.nbytes}, but the file "
                f"has {size}: it is cut or broken"
            )
        if info.offset < end:
            raise GGUFError(f"tensors {clip(before)} and {clip(info.name)} overlap at byte {info.offset}")
        end, before = info.offset + info.nbytes, info.name


def _table(file: GGUFFile, most: int = 40) -> str:
    """What repr shows: a head line, the metadata, the tensors."""
    total = sum(info.n_elements for info in file.tensors.values())
    lines = [
        f"GGUF v{file.version} {clip(file.path)}: {file.size:,} bytes, {len(file.metadata)} keys, "
        f"{len(file.tensors)} tensors, {total:,} parameters"
    ]
    if any(each.closed for each in file._files):
        return lines[0] + " (closed)"
    try:
        file.check_unchanged()
    except GGUFError:
        return lines[0] + " (changed since it was opened)"
    keys = list(file.metadata)
    width = max((min(len(key), 48) for key in keys[:most]), default=0)
    for key in keys[:most]:
        value = file.metadata.summary(key)
        lines.append(f"  {clip(key, 50)[1:-1]:{width}}  {file.metadata.type_of(key):8}  {value}")
    lines += [f"  ... {len(keys) - most} keys more"] if len(keys) > most else []
    infos = list(file.tensors.values())
    width = max((min(len(info.name), 48) for info in infos[:most]), default=0)
    for info in infos[:most]:
        shape = " x ".join(map(str, info.shape))
        lines.append(f"  {clip(info.name, 50)[1:-1]:{width}}  {info.type!s:8}  {shape:>16}  {info.nbytes:>13,} bytes")
    lines += [f"  ... {len(infos) - most} tensors more"] if len(infos) > most else []
    return "\n".join(lines)
