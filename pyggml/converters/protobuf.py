"""The wire format of protocol buffers: the fields of one message. Serves onnx.py and sentencepiece.py.

Only reads, checks every length, counts its steps, and never recurses: a caller opens the messages inside itself. A file
is read by position, a window at a time: a map of it would kill the process where it is cut meanwhile.
Source: the encoding page of the protocol buffers documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pyggml.errors import GGUFError
from pyggml.files.regular_file import RegularFile

_HEAD = 10  # bytes that a number of 64 bits takes at most
_WINDOW = 1 << 16


class Bytes(Protocol):
    """What a message lies in: gives the bytes of a slice (begin, end)."""

    def __getitem__(self, at: slice, /) -> memoryview: ...


class Window:
    """The bytes of a file, of which some are read around the place that is asked for."""

    def __init__(self, file: RegularFile) -> None:
        self._file = file
        self._begin, self._piece = 0, memoryview(b"")

    def __getitem__(self, at: slice, /) -> memoryview:
        begin, end = at.start, at.stop
        if not self._begin <= begin <= end <= self._begin + len(self._piece):
            size = min(max(end - begin, _WINDOW), self._file.size - begin)
            self._begin, self._piece = begin, memoryview(self._file.read(begin, size))
        return self._piece[begin - self._begin : end - self._begin]


class Steps:
    """How many fields a file may still have: a message of two bytes costs as much as an honest one."""

    def __init__(self, what: str, most: int) -> None:
        self.what, self.most, self.left = what, most, most


@dataclass(slots=True)
class Part:
    """A message, a string or a packed list: bytes begin to end of data, which is the whole file."""

    data: Bytes
    begin: int
    end: int
    steps: Steps

    def __len__(self) -> int:
        return self.end - self.begin

    @property
    def raw(self) -> memoryview:
        """The bytes alone."""
        return self.data[self.begin : self.end]


Value = int | Part
"""A number (varint, fixed 32 or 64 bits as they stand) or the bytes of a string, message or packed list."""


def whole(source: memoryview | RegularFile, what: str, steps: int) -> Part:
    """The message that a file, or what was read of it, is. steps: fields it may have, those of messages inside too."""
    if isinstance(source, RegularFile):
        return Part(Window(source), 0, source.size, Steps(what, steps))
    return Part(source, 0, len(source), Steps(what, steps))


def fields(part: Part) -> Iterator[tuple[int, Value]]:
    """(field number, value) one after another. Raises GGUFError naming the file and the byte."""
    data, at, end, steps = part.data, part.begin, part.end, part.steps
    what = steps.what
    while at < end:
        steps.left -= 1
        if steps.left < 0:
            raise GGUFError(f"{what} is refused: it has more than {steps.most:,} fields")
        key, at = _varint(data, at, end, what)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise GGUFError(f"{what} is damaged at byte {at}: a field has the number {number}")
        value: Value
        if kind == 0:
            value, at = _varint(data, at, end, what)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            if at + size > end:
                raise GGUFError(f"{what} ends within a number at byte {at}: it was cut")
            value = int.from_bytes(data[at : at + size], "little")
            at += size
        elif kind == 2:
            size, at = _varint(data, at, end, what)
            if size > end - at:
                raise GGUFError(f"{what} was cut: a field of {size} bytes at byte {at} of {end}")
            value = Part(data, at, at + size, steps)
            at += size
        else:
            raise GGUFError(f"{what} is damaged at byte {at}: wire type {kind}")
        yield number, value


def packed(value: Value, most: int, what: str) -> list[int]:
    """A repeated varint field of at most so many numbers: one number, or a packed run of them."""
    if isinstance(value, int):
        return [value]
    numbers: list[int] = varints(value, most, what).tolist()
    return numbers


def varints(part: Part, most: int, what: str) -> NDArray[np.uint64]:
    """A packed run of at most so many varints."""
    if len(part) > 10 * most:
        raise GGUFError(f"{what} has {len(part)} bytes of numbers, at most {most} numbers were expected")
    raw = np.frombuffer(part.raw, np.uint8)
    last = raw < 0x80
    ends = np.flatnonzero(last)
    if len(raw) and not last[-1]:
        raise GGUFError(f"{what} is damaged or cut at byte {part.end}")
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    if len(ends) > most or lengths.max(initial=0) > 10:
        raise GGUFError(f"{what} has {len(ends)} numbers, at most {most} were expected, or one without end")
    found = np.zeros(len(ends), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        there = lengths > place
        bits = (raw[starts[there] + place] & 0x7F).astype(np.uint64)
        found[there] |= bits << np.uint64(7 * place)
    return found


def message(value: Value, what: str) -> Part:
    """The bytes of a message inside. Raises GGUFError where there is a number."""
    if isinstance(value, int):
        raise GGUFError(f"{what} is damaged: a number where a message was expected")
    return value


def text(value: Value, what: str, most: int = 4096) -> str:
    """A string field of at most so many bytes."""
    part = message(value, what)
    if len(part) > most:
        raise GGUFError(f"{what} has a text of {len(part)} bytes at byte {part.begin}, expected at most {most}")
    return bytes(part.raw).decode("utf-8", "replace")


def f32_of(bits: Value) -> float:
    """A float field from its fixed 32 bits."""
    return float(struct.unpack("<f", (bits & 0xFFFFFFFF).to_bytes(4, "little"))[0]) if isinstance(bits, int) else 0.0


def _varint(data: Bytes, at: int, end: int, what: str) -> tuple[int, int]:
    value = shift = 0
    for byte in data[at : min(at + _HEAD, end)]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise GGUFError(f"{what} is damaged at byte {at}: a number of more than 64 bits")
            return value, at
        shift += 7
    raise GGUFError(f"{what} is damaged or cut at byte {at}")
