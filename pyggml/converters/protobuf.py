"""The wire format of protocol buffers: the fields of one message. Serves onnx.py and sentencepiece.py.

Only reads, checks every length, and never recurses: a caller opens the messages inside itself.
Source: the encoding page of the protocol buffers documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pyggml.errors import GGUFError

Value = int | memoryview
"""A number (varint, fixed 32 or 64 bits as they stand) or the bytes of a string, message or packed list."""


def fields(data: memoryview, what: str) -> Iterator[tuple[int, Value]]:
    """(field number, value) one after another. Raises GGUFError naming what and the byte."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at, what)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise GGUFError(f"{what} is damaged at byte {at}: a field has the number 0")
        value: Value
        if kind == 0:
            value, at = _varint(data, at, what)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            if at + size > end:
                raise GGUFError(f"{what} ends within a number at byte {at}: it was cut")
            value = int.from_bytes(data[at : at + size], "little")
            at += size
        elif kind == 2:
            size, at = _varint(data, at, what)
            if size > end - at:
                raise GGUFError(f"{what} was cut: a field of {size} bytes at byte {at} of {end}")
            value = data[at : at + size]
            at += size
        else:
            raise GGUFError(f"{what} is damaged at byte {at}: wire type {kind}")
        yield number, value


def packed(value: Value, what: str) -> list[int]:
    """A repeated varint field: one number, or a packed run of them."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at, what)
        found.append(number)
    return found


def message(value: Value, what: str) -> memoryview:
    """The bytes of a message inside. Raises GGUFError where there is a number."""
    if isinstance(value, int):
        raise GGUFError(f"{what} is damaged: a number where a message was expected")
    return value


def text(value: Value, what: str) -> str:
    """A string field."""
    return bytes(message(value, what)).decode("utf-8", "replace")


def f32_of(bits: Value) -> float:
    """A float field from its fixed 32 bits."""
    return float(struct.unpack("<f", (bits & 0xFFFFFFFF).to_bytes(4, "little"))[0]) if isinstance(bits, int) else 0.0


def _varint(data: memoryview, at: int, what: str) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise GGUFError(f"{what} is damaged or cut at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
