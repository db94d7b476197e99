"""What reader and writer of GGUF share: value types, limits and the checks of names and alignments.

No file is touched here. Limits are far above every known model and keep a hostile header from costing more than a
second or a few hundred megabytes. Source: the GGUF format description (ggml/docs/gguf.md), versions 2 and 3.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np

from pyggml.errors import GGUFError
from pyggml.shown import clip, shown

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
ALIGNMENT_KEY = "general.alignment"

MAX_KEYS = 1 << 16
MAX_KEY_BYTES = 65535
MAX_TENSORS = 1 << 17
MAX_NAME_BYTES = 1024
MAX_DIMS = 4
MAX_ELEMENTS = 1 << 63
MAX_ARRAY = 1 << 24  # numbers in one array
MAX_STRINGS = 1 << 21  # strings in one array; the longest known list of merges has half a million
MAX_STRINGS_TOTAL = 1 << 22
MAX_STRING_BYTES = 1 << 26  # one string: a whole tokenizer.json is the longest, up to 35 MB
MAX_STRING_ARRAY_BYTES = 1 << 28
MAX_DEPTH = 8  # of arrays in arrays
MAX_NESTED = 1 << 16  # arrays inside arrays, in a whole file
MAX_ALIGNMENT = 1 << 24
MAX_SPLITS = 1 << 12
MAX_HEADER_BYTES = 5 << 26  # metadata and tensor table; the longest known have 30 MB


class ValueType(IntEnum):
    """Types of metadata values."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STR = 8
    ARR = 9
    U64 = 10
    I64 = 11
    F64 = 12


SCALARS: dict[int, struct.Struct] = {
    ValueType.U8: struct.Struct("<B"),
    ValueType.I8: struct.Struct("<b"),
    ValueType.U16: struct.Struct("<H"),
    ValueType.I16: struct.Struct("<h"),
    ValueType.U32: struct.Struct("<I"),
    ValueType.I32: struct.Struct("<i"),
    ValueType.F32: struct.Struct("<f"),
    ValueType.BOOL: struct.Struct("<B"),
    ValueType.U64: struct.Struct("<Q"),
    ValueType.I64: struct.Struct("<q"),
    ValueType.F64: struct.Struct("<d"),
}

DTYPES: dict[int, np.dtype[np.generic]] = {
    ValueType.U8: np.dtype("u1"),
    ValueType.I8: np.dtype("i1"),
    ValueType.U16: np.dtype("<u2"),
    ValueType.I16: np.dtype("<i2"),
    ValueType.U32: np.dtype("<u4"),
    ValueType.I32: np.dtype("<i4"),
    ValueType.F32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("?"),
    ValueType.U64: np.dtype("<u8"),
    ValueType.I64: np.dtype("<i8"),
    ValueType.F64: np.dtype("<f8"),
}


def check_alignment(value: object) -> int:
    """A legal general.alignment: a power of two from 8 to 16 MiB."""
    if isinstance(value, np.integer):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise GGUFError(f"{ALIGNMENT_KEY} is {shown(value)}, expected an unsigned 32-bit integer")
    if not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
        raise GGUFError(f"{ALIGNMENT_KEY} is {shown(value)}, expected a power of two from 8 to {MAX_ALIGNMENT}")
    return value


def check_key(raw: bytes) -> str:
    """The text of a metadata key: not empty, UTF-8, without NUL, at most 65535 bytes."""
    return _check_name(raw, "metadata key", MAX_KEY_BYTES)


def check_tensor_name(raw: bytes) -> str:
    """The text of a tensor's name: not empty, UTF-8, without NUL, at most 1024 bytes."""
    return _check_name(raw, "tensor name", MAX_NAME_BYTES)


def _check_name(raw: bytes, what: str, limit: int) -> str:
    if not raw:
        raise GGUFError(f"a {what} is empty")
    if len(raw) > limit:
        raise GGUFError(f"a {what} has {len(raw)} bytes, at most {limit} are allowed: {clip(raw, 60)}")
    if b"\0" in raw:
        raise GGUFError(f"a {what} contains a NUL byte: {clip(raw)}")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GGUFError(f"a {what} is not valid UTF-8: {clip(raw)}") from error


def check_dims(name: str, shape: tuple[int, ...]) -> int:
    """The product of 1 to 4 dims, each at least 1, below 2^63."""
    if not 1 <= len(shape) <= MAX_DIMS:
        raise GGUFError(f"tensor {clip(name)} has {len(shape)} dimensions, expected 1 to {MAX_DIMS}")
    total = 1
    for dim in shape:
        if dim < 1:
            raise GGUFError(f"tensor {clip(name)} has shape {shape}, every dimension must be at least 1")
        total *= dim
    if total >= MAX_ELEMENTS:
        raise GGUFError(f"tensor {clip(name)} has shape {shape}: {total} elements, expected fewer than 2^63")
    return total


def align_up(offset: int, alignment: int) -> int:
    """The next multiple of alignment at or behind offset."""
    return (offset + alignment - 1) & -alignment
