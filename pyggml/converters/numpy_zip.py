"""NumPy archives (.npz): arrays by name, never objects. Two-byte void or uint16 arrays are taken as bf16 bits where
their name ends in ":bf16". Source: numpy.lib.format, version 1.0 to 3.0 of the header, which is never evaluated."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.archive import Archive, Entry
from pyggml.converters.stored import DTYPES, Stored, array_of, check_shape, check_total, reader
from pyggml.errors import GGUFError
from pyggml.shown import clip

MAX_HEADER = 4096
_KINDS = {np.dtype(code).str: name for name, code in DTYPES.items() if name != "bf16"}
_DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>=|]?[A-Za-z]\d{0,3})['"]""")
_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d\s,L]{0,400})\)""")


@reader(".npz archive")
def read(path: str) -> dict[str, Stored]:
    """The arrays of an archive. Raises GGUFError."""
    archive = Archive(path)
    found: dict[str, Stored] = {}
    for entry in archive.entries.values():
        if entry.name.endswith(".npy"):
            stored = _array(archive, entry)
            if stored.name in found:
                raise GGUFError(f"{archive.what}: two arrays are called {clip(stored.name)}")
            found[stored.name] = stored
    check_total(archive.what, found.values(), archive.file.size)
    return found


def _array(archive: Archive, entry: Entry) -> Stored:
    name = entry.name.removesuffix(".npy")
    where = f"{archive.what}: array {clip(name)}"
    descr, fortran, shape, begin = _head(archive.head(entry, MAX_HEADER + 12), where)
    swapped = descr.startswith(">")  # written where numbers begin with their large end
    descr = descr.replace(">", "<")
    kind = "bf16" if name.endswith(":bf16") and descr in ("|V2", "<V2", "<u2") else _KINDS.get(descr)
    if kind is None:
        raise GGUFError(f"{where} has the type {clip(descr)}, which is no plain number")
    name = name.removesuffix(":bf16")
    dims, nbytes = check_shape(archive.what, name, shape, kind)
    if begin + nbytes > entry.size:
        raise GGUFError(f"{where} needs {nbytes} bytes, {entry.size - begin} are there")
    return Stored(name, dims, kind, partial(_values, archive, entry, begin, dims, kind, fortran, swapped))


def _head(raw: bytes, where: str) -> tuple[str, bool, list[int], int]:
    """Type, whether columns lie together, shape, and where the values begin."""
    wide = raw[6:7] != b"\1"
    begin = 12 if wide else 10
    length = int.from_bytes(raw[8:begin], "little")
    if raw[:6] != b"\x93NUMPY" or raw[6:8] not in (b"\1\0", b"\2\0", b"\3\0") or len(raw) < begin:
        raise GGUFError(f"{where} does not begin as an array does")
    if length > MAX_HEADER or begin + length > len(raw):
        raise GGUFError(f"{where} says its header has {length} bytes, expected at most {MAX_HEADER}, all there")
    text = raw[begin : begin + length].decode("latin-1")
    descr, order, shape = _DESCR.search(text), _ORDER.search(text), _SHAPE.search(text)
    if descr is None or order is None or shape is None:
        raise GGUFError(f"{where} has the header {clip(text)}, which is of no plain numbers")
    dims = [int(word) for word in re.findall(r"\d+", shape[1])]
    return descr[1], order[1] == "True", dims, begin + length


def _values(
    archive: Archive, entry: Entry, begin: int, shape: tuple[int, ...], kind: str, fortran: bool, swapped: bool
) -> NDArray[Any]:
    count = int(np.prod(shape, dtype=np.int64))
    if entry.method == 0:
        flat = array_of(archive.file, archive.place(entry) + begin, (count,), kind)
    else:
        flat = np.frombuffer(archive.read(entry, entry.size), DTYPES[kind], count, begin)
    flat = flat.byteswap() if swapped else flat
    return np.ascontiguousarray(flat.reshape(shape, order="F" if fortran else "C")).reshape(shape)
