"""Safetensors files: a reader with every claim of the header checked, and a writer.

Layout: u64 length of a JSON table, the table, the data. Source: the safetensors format description.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.stored import Stored, array_of, check_shape, reader
from pyggml.errors import GGUFError
from pyggml.files.atomic_file import replacing
from pyggml.files.foreign import name_of, parse_json, said
from pyggml.files.regular_file import RegularFile
from pyggml.shown import clip

MAX_HEADER = 100_000_000
_MAX_VALUES = 1 << 21  # some 300,000 tensors

_TYPES = {
    "F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16", "I64": "i64", "I32": "i32", "I16": "i16", "I8": "i8",
    "U64": "u64", "U32": "u32", "U16": "u16", "U8": "u8", "BOOL": "bool",
    "F8_E4M3": "f8_e4m3", "F8_E5M2": "f8_e5m2", "F8_E8M0": "f8_e8m0",
}  # fmt: skip
_NAMES = {ours: theirs for theirs, ours in _TYPES.items()}


@reader("safetensors file")
def read(path: str) -> dict[str, Stored]:
    """The tensors of one file. Raises GGUFError for a file that contradicts itself."""
    file = RegularFile(path, "a safetensors file")
    what = name_of(path)
    if file.size < 8:
        raise GGUFError(f"{what} has {file.size} bytes, a safetensors file has at least 8: was it cut?")
    length = int.from_bytes(file.read(0, 8), "little")
    if length > MAX_HEADER or 8 + length > file.size:
        raise GGUFError(
            f"{what} claims a table of {length} bytes, the file has {file.size}: it was cut or is no safetensors"
        )
    head = file.read(8, length)
    try:
        table = parse_json(head, _MAX_VALUES, unique=True)
    except (ValueError, RecursionError) as e:
        raise GGUFError(f"{what}: the table of tensors is no JSON: {said(e)}") from None
    if not isinstance(table, dict):
        raise GGUFError(f"{what}: the table of tensors is no JSON object")
    table.pop("__metadata__", None)
    begin = 8 + length
    spans: list[tuple[int, int, str]] = []
    found = {name: _tensor(what, name, entry, file, begin, spans) for name, entry in table.items()}
    _check_apart(what, spans)
    return found


def _tensor(
    what: str, name: str, entry: Any, file: RegularFile, base: int, spans: list[tuple[int, int, str]]
) -> Stored:
    where = f"{what}: tensor {clip(name)}"
    if not isinstance(entry, dict):
        raise GGUFError(f"{where} is {clip(entry)}, expected dtype, shape and data_offsets")
    kind = entry.get("dtype")
    dtype = _TYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise GGUFError(f"{where} has the type {clip(kind)}; known: {' '.join(_TYPES)}")
    shape, nbytes = check_shape(what, name, entry.get("shape"), dtype)
    offsets = entry.get("data_offsets")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(at) is int for at in offsets)):
        raise GGUFError(f"{where} has the offsets {clip(offsets)}, expected two numbers")
    if not 0 <= offsets[0] <= offsets[1] or offsets[1] - offsets[0] != nbytes:
        raise GGUFError(f"{where} lies at {clip(offsets)}, but its shape {list(shape)} needs {nbytes} bytes")
    if base + offsets[1] > file.size:
        raise GGUFError(f"{where} ends at byte {base + offsets[1]}, the file has {file.size}: it was cut")
    if nbytes:
        spans.append((offsets[0], offsets[1], name))
    return Stored(name, shape, dtype, partial(array_of, file, base + offsets[0], shape, dtype))


def _check_apart(what: str, spans: list[tuple[int, int, str]]) -> None:
    """No two tensors share bytes: the format forbids it, and a small file could become a large model."""
    spans.sort()
    for (_, end, one), (begin, _, other) in itertools.pairwise(spans):
        if begin < end:
            raise GGUFError(f"{what}: the tensors {clip(one)} and {clip(other)} lie over each other at byte {begin}")


Row = tuple[str, tuple[int, ...], str, Callable[[], NDArray[Any]]]
"""A tensor to be written: name, shape, element type, how to read it."""


def write(path: str, tensors: Iterable[Row]) -> int:
    """Writes tensors beside path and renames; returns how many."""
    with replacing(path) as out:
        return write_to(out, path, tensors)


def write_to(out: BinaryIO, path: str, tensors: Iterable[Row]) -> int:
    """Writes tensors one after another; returns how many. path: what messages name."""
    rows = list(tensors)
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape, dtype, _ in rows:
        _, nbytes = check_shape(clip(path), name, list(shape), dtype)
        table[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + nbytes]}
        at += nbytes
    head = json.dumps(table, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    out.write(len(head).to_bytes(8, "little") + head)
    for _, _, _, read_one in rows:
        out.write(np.ascontiguousarray(read_one()).tobytes())
    return len(rows)
