"""Text from the outside: a str is text, a path is a file of text, and the bytes of a file or a pipe become text here.

UTF-8 is read, and UTF-16 or UTF-32 that begins with a byte order mark. The mark is no text; line ends become \\n.
"""

from __future__ import annotations

import codecs
import errno
import os
import select
import stat
from typing import Any

from pyggml import _native
from pyggml.arguments import PathLike, wrong_type
from pyggml.arguments import path as read_path
from pyggml.errors import ArgumentError, PyggmlError, file_error
from pyggml.files.regular_file import OPEN_FLAGS
from pyggml.shown import clip

Text = str | os.PathLike[str]
"""What is taken as text: text itself, or the path of a file of it (pathlib.Path)."""

_ENDINGS = (
    ".txt",
    ".md",
    ".raw",
    ".json",
    ".jsonl",
    ".csv",
    ".text",
    ".log",
    ".dat",
    ".bin",
    ".gz",
    ".zip",
    ".parquet",
)
MOST = 1 << 28  # bytes of a text: far more than any model reads, and thrice that is memory for it
_AT_ONCE = 1 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def text_of(text: Any, name: str = "text") -> str:
    """A str as it stands, the content of the file that a path names.

    Raises ArgumentError for anything else, and for a file that cannot be read or is no text.

    >>> text_of("held.txt")
    'held.txt'
    """
    if isinstance(text, str):
        return text
    if isinstance(text, os.PathLike):
        return read_text(text, name)
    raise wrong_type(name, "text (str) or the pathlib.Path of a text file", text)


def files_of(*texts: Any) -> tuple[str, ...]:
    """The files that texts are read from: what comes of them must not be written over them."""
    return tuple(read_path("text", text) for text in texts if isinstance(text, os.PathLike))


def is_text(value: Any) -> bool:
    """Whether text_of takes it: text or a path, and no ids."""
    return isinstance(value, (str, os.PathLike))


def read_text(path: PathLike, parameter: str = "path") -> str:
    """A whole file as text; `~` is the home folder. A pipe is read to its end, if anybody writes into it.

    Raises ArgumentError naming the file and, in it, the byte.
    """
    name = read_path(parameter, path)
    shown = clip(name)
    try:
        held = _native.Descriptor(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | OPEN_FLAGS)
        try:
            raw = _all_of(held.fd, name, shown)
        finally:
            held.close()
    except PyggmlError:
        raise
    except OSError as e:
        raise file_error(f"the text file {shown} cannot be read: {e.strerror}", e, name) from e
    except ValueError as e:
        raise ArgumentError(f"the text file {shown} cannot be read: {e}") from e
    return decode(raw, shown)


def _all_of(fd: int, path: str, shown: str) -> bytearray:
    """The bytes of a file or a pipe; no more than a text may have, and of a file judged before they are read."""
    now = os.fstat(fd)
    if stat.S_ISDIR(now.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    pipe, file = stat.S_ISFIFO(now.st_mode), stat.S_ISREG(now.st_mode)
    if not (pipe or file or os.isatty(fd) or os.path.realpath(path) == os.devnull):
        raise ArgumentError(f"the text file {shown} cannot be read: it is a device; name a file of text")
    spoken = not pipe or _stirs(fd, 0)
    raw = bytearray()
    while True:
        try:
            piece = os.read(fd, _AT_ONCE)
        except BlockingIOError:
            if file:  # of the system's own, which has no more to say now
                return raw
            _stirs(fd)  # somebody is to write into the pipe
            spoken = True
            continue
        if not piece and not spoken:
            raise ArgumentError(f"the text file {shown} cannot be read: it is a FIFO into which nobody writes")
        raw += piece
        check_length(raw, shown, max(len(raw), now.st_size if file else 0))
        if not piece:
            return raw


def _stirs(fd: int, seconds: float | None = None) -> bool:
    """Whether there is something to read from a pipe or its writer has left; waits until then, or so long."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds))


def check_length(raw: bytes | bytearray, name: str, size: int | None = None) -> None:
    """Raises ArgumentError where raw begins more than a text may have. size: of all of it, if known."""
    if raw.startswith(b"GGUF") and 0 in raw[4:8]:  # a text may begin with this word
        raise ArgumentError(f"{name} is a GGUF file; a text is wanted here")
    if (len(raw) if size is None else size) > MOST:
        raise ArgumentError(f"{name} is longer than {MOST:,} bytes; take a part of it")


def decode(raw: bytes | bytearray, name: str) -> str:
    """The text of a file's or a pipe's bytes. name: what the message calls it. Raises ArgumentError naming the byte.

    >>> decode(b"\\xef\\xbb\\xbfone\\r\\ntwo", "notes.txt")
    'one\\ntwo'
    """
    check_length(raw, name)
    mark, encoding = next(((m, e) for m, e in _MARKS if raw.startswith(m)), (b"", "utf-8"))
    if not mark and len(raw) > 1 and (raw[0] == 0) != (raw[1] == 0):
        raise ArgumentError(f"{name} looks like UTF-16 without a byte order mark; save it as UTF-8")
    try:
        text = str(memoryview(raw)[len(mark) :], encoding)
    except UnicodeDecodeError as e:
        if raw.startswith(b"GGUF"):
            raise ArgumentError(f"{name} is a GGUF file; a text is wanted here") from None
        at = len(mark) + e.start
        raise ArgumentError(
            f"{name} is no {encoding.upper()} text: byte 0x{raw[at]:02x} at offset {at} ({e.reason}); save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def too_short(what: str, text: Any, n_tokens: int, needed: int) -> ArgumentError:
    """The error for a text of too few tokens; where the text is the name of a file, it says how to read that."""
    return ArgumentError(f"{what}: the text has {n_tokens} tokens, at least {needed} are needed{_path_hint(text)}")


def check_no_name(what: str, text: str) -> None:
    """Raises ArgumentError for a str that is the name of a file: nobody wants the name measured."""
    hint = _path_hint(text)
    if hint:
        raise ArgumentError(f"{what}: a str is taken as text, and here it is {clip(text)}{hint}")


def _path_hint(text: Any) -> str:
    if not isinstance(text, str) or len(text) > 4096 or "\n" in text:
        return ""
    if _is_file(text):
        return f"; there is a file of this name: pass pathlib.Path({clip(text)}) to read it"
    if not any(map(str.isspace, text)) and text.lower().endswith(_ENDINGS):
        return "; this looks like a path: pass pathlib.Path(...) to read a file"
    return ""


def _is_file(text: str) -> bool:
    try:
        return os.path.isfile(os.path.expanduser(text))
    except ValueError:  # a NUL character
        return False
