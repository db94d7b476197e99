"""The three standard streams made safe: closed ones, characters an encoding lacks, text that comes in by stdin.

What comes in is UTF-8 (texts.py) whatever the locale says, except on a terminal. What goes out has a ? for characters
the output's encoding lacks; bytes of file names that are no text go out as they came.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from pyggml.errors import ArgumentError
from pyggml.files.texts import MOST, decode

_FEW = 3  # descriptors that a command needs at least: a file, its map, a library


def prepare() -> None:
    """Gives closed streams a place, so that no file is opened under their numbers, and every stream a way to fail.

    Reading or writing a closed one is an OSError at its first use; what goes to a closed stderr is dropped.
    """
    codecs.register_error("pyggml", _instead)
    if sys.stdin is None:
        sys.stdin = _nowhere(os.O_WRONLY, "r")
    if sys.stdout is None:
        sys.stdout = _nowhere(os.O_RDONLY, "w")
    if sys.stderr is None:
        sys.stderr = _nowhere(os.O_RDWR, "w")
    for stream, errors in ((sys.stdout, "pyggml"), (sys.stderr, "backslashreplace")):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=errors)


def _nowhere(flags: int, mode: str) -> Any:
    """A stream on a descriptor that refuses: the lowest free one, which is the closed stream's."""
    return open(os.open(os.devnull, flags), mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115


def _instead(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return b"".join(bytes([ord(c) - 0xDC00]) if "\udc80" <= c <= "\udcff" else b"?" for c in lost), error.end


def check_descriptors() -> None:
    """Raises OSError (EMFILE) where hardly any file can be opened; imports would say that a module is missing."""
    taken: list[int] = []
    try:
        taken.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(_FEW))
    finally:
        for fd in taken:
            os.close(fd)


def read_stdin(what: str) -> str:
    """All of stdin as text. what: the argument that was not given. Raises ArgumentError where nothing can be read."""
    if sys.stdin.isatty():
        print(f"type the {what}; Ctrl-D on an empty line ends it", file=sys.stderr)
        return sys.stdin.read()
    with _readable(what):
        raw = sys.stdin.buffer.read(MOST + 1)
    return decode(raw, "standard input")


def read_line(what: str) -> str | None:
    """A line of stdin as text, without its end; None behind the last."""
    with _readable(what):
        raw = sys.stdin.buffer.readline(MOST + 1)
    return decode(raw, "standard input").rstrip("\n") if raw else None


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise ArgumentError(f"no {what}: none is given and standard input cannot be read ({e.strerror})") from None


def text_of_argument(value: str, what: str) -> str:
    """An argument as it was typed: UTF-8, whatever the locale says. Raises ArgumentError naming the byte."""
    if not any("\ud800" <= c <= "\udfff" for c in value):
        return value
    try:
        raw = os.fsencode(value)
        return raw.decode()
    except UnicodeDecodeError as e:
        raise ArgumentError(f"the {what} is no UTF-8 text: byte 0x{raw[e.start]:02x} at offset {e.start}") from None
    except UnicodeEncodeError as e:
        raise ArgumentError(f"the {what} holds {value[e.start]!a}, which is no character") from None
