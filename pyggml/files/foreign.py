"""Reading what others wrote: one place where errors of any library become ours, and bounded ways to bytes and JSON.

A file may be hostile: sizes are judged before memory is asked for, and a parser is called only on what its time and
memory are bounded for. Formats are not known here.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pyggml.errors import FileError, GGUFError, PyggmlError
from pyggml.files.regular_file import PathLike, RegularFile
from pyggml.shown import clip

log = logging.getLogger("pyggml")

MAX_MESSAGE = 1500
MAX_DIGITS = 300  # of a number in JSON: what still fits a float
_MAX_PATH = 200
_T = TypeVar("_T")


@contextlib.contextmanager
def reading(path: PathLike, what: str, error: type[PyggmlError] = GGUFError) -> Iterator[None]:
    """Whatever goes wrong inside, while `what` is read from path, leaves as a PyggmlError that names the file.

    Errors of the package keep their class. Not for code that calls back into the user's own functions.
    """
    name = name_of(path)
    try:
        yield
    except FileError as e:  # names its path, which may be that of another file that this one asks for
        if e.filename is None or e.filename == os.fsdecode(os.fspath(path)):
            raise
        raise type(e)(_cut(f"{name}: {e}"), e.errno, e.strerror, e.filename) from None
    except PyggmlError as e:
        text = str(e)
        named = name[1:-1] in text
        if named and len(text) <= MAX_MESSAGE:
            raise
        raise type(e)(_cut(text if named else f"{name}: {text}")) from None
    except BaseException as e:
        if not isinstance(e, Exception) and not is_panic(e):
            raise
        log.debug("%s is no whole %s", name, what, exc_info=True)
        raise error(_cut(f"{name} is no whole {what}: {said(e)}")) from None


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust gave up; what it raises then is no Exception."""
    return type(error).__name__ == "PanicException" and type(error).__module__ == "pyo3_runtime"


def name_of(path: PathLike) -> str:
    """A path as messages show it: quoted ASCII; of a long one the end, where the file's name is."""
    text = os.fsdecode(os.fspath(path))
    shown = clip(text[-_MAX_PATH:], 6 * _MAX_PATH)
    return shown if len(text) <= _MAX_PATH else f"{shown[0]}...{shown[1:]}"


def said(error: BaseException) -> str:
    """What an error of another library says, in one short line."""
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    text = " ".join(str(error)[:400].split())
    text = text if text.isprintable() else clip(text, 400)
    return text[:300] if isinstance(error, (ValueError, EOFError)) and text else f"{type(error).__name__}: {text[:300]}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."


def guarded(path: str, what: str, read: Callable[[], _T]) -> Callable[[], _T]:
    """read, with its errors as reading() gives them."""

    @functools.wraps(read)
    def outer() -> _T:
        with reading(path, what):
            return read()

    return outer


def read_bytes(path: PathLike, limit: int, expected: str) -> bytes:
    """All bytes of a regular file of at most limit bytes; never waits for a FIFO. Raises GGUFError."""
    file = RegularFile(path, expected)
    try:
        if file.size > limit:
            raise GGUFError(f"{name_of(file.path)} has {file.size} bytes, {expected} has at most {limit}")
        return file.read(0, file.size)
    finally:
        file.close()


def read_text(path: PathLike, limit: int, expected: str) -> str:
    """The UTF-8 text of a regular file, line ends as they are, without a byte order mark. Raises GGUFError."""
    with reading(path, "UTF-8 text"):
        return read_bytes(path, limit, expected).decode("utf-8-sig")


# ---- JSON --------------------------------------------------------------------------------------------------------


def parse_json(data: bytes, items: int, unique: bool = False) -> Any:
    """The value of JSON text with at most items values in it, so that memory is bounded before a parser runs.

    unique: a key that comes twice in an object is refused. Raises GGUFError, ValueError or RecursionError: call it
    inside reading().
    """
    n = data.count(b",") + data.count(b"[") + data.count(b"{")  # also those within strings: a bound, no count
    if n > items:
        raise GGUFError(f"it has more than {items:,} values")
    hook = _unique if unique else None
    made = json.loads(data.decode("utf-8-sig"), parse_int=_int, object_pairs_hook=hook)
    if b"\\ud" in data or b"\\uD" in data:  # halves of a character, which no file could hold
        json.dumps(made, ensure_ascii=False).encode()
    return made


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise GGUFError(f"it has a number of {len(digits)} digits")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise GGUFError(f"the key {clip(twice)} comes twice")
    return made
