"""Files that are being written: hidden beside what they will become, locked while their writer lives.

A part is .pyggml-HEX.part; those of a set are .pyggml-HEX-N.part and live as long as .pyggml-HEX.part, their leader.
The system drops a lock with its process, whatever ended it, so sweep() knows the dead from the living: also across
containers that share a folder, where process numbers say nothing. Putting a part in its place is atomic_file.py's.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from typing import Any

from pyggml import _native
from pyggml.errors import PyggmlError, file_error
from pyggml.files.regular_file import OPEN_FLAGS
from pyggml.shown import clip

try:
    _locks: Any = importlib.import_module("fcntl")
except ImportError:  # Windows: a file that is open cannot be removed, which is a lock too
    _locks = None

log = logging.getLogger("pyggml")

_NAME = re.compile(r"\.pyggml-([0-9a-f]{16})(?:-\d+)?\.part(?:\.gguf)?")
_SET = b"pyggml set\n"  # how the leader of a set begins once its parts are put in place
_MOST = 16 << 20  # bytes of such a list
_NEW, _PATIENCE = 1.0, 0.02  # seconds: a part that young is given so long to be locked
_live: set[str] = set()  # leaders of this process; some network file systems lock by process

Placed = tuple[str, int, int, int]
"""A file that was put in its place: name, inode, bytes, time of its last change."""


class _Raw(io.FileIO):
    """A file whose errors of writing are the package's, so that no other OSError is taken for one."""

    def __init__(self, held: _native.Descriptor, shown: str, error: type[PyggmlError]) -> None:
        super().__init__(held.fd, "wb", closefd=False)
        self._held, self._shown, self._error = held, shown, error

    def write(self, data: Any) -> Any:
        try:
            return super().write(data)
        except OSError as e:
            raise unwritable(self._shown, self._error, e) from e

    def close(self) -> None:
        super().close()
        self._held.close()


class Out(io.BufferedWriter):
    """The buffer before it."""

    def __init__(self, held: _native.Descriptor, shown: str, error: type[PyggmlError]) -> None:
        super().__init__(_Raw(held, shown, error), 1 << 20)
        self._shown, self._error = shown, error

    def to_disk(self, all_of_it: bool = False) -> None:
        """Waits until the disk has what was written; all_of_it: times and permissions too."""
        self.flush()
        try:
            (os.fsync if all_of_it else getattr(os, "fdatasync", os.fsync))(self.fileno())
        except OSError as e:
            raise unwritable(self._shown, self._error, e) from e

    def drop(self) -> None:
        """Closes it; what could not be written was said before, or nobody wants it."""
        with contextlib.suppress(OSError, PyggmlError):
            self.close()


def unwritable(shown: str, error: type[PyggmlError], e: Exception) -> PyggmlError:
    """What is raised where a path cannot be written."""
    folder = os.path.dirname(shown)
    if isinstance(e, FileNotFoundError) and folder and not os.path.isdir(folder):
        message = f"{clip(shown)} cannot be written: the folder {clip(folder)} does not exist; make it first"
    else:
        message = f"{clip(shown)} cannot be written: {getattr(e, 'strerror', None) or e}"
    return file_error(message, e, shown) if isinstance(e, OSError) else error(message)


def create(path: str, shown: str, error: type[PyggmlError], mode: int = 0o666) -> Out:
    """A new file at path, which must not be there. shown: what messages call it."""
    try:
        held = _native.Descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS, mode)
    except (OSError, ValueError) as e:
        raise unwritable(shown, error, e) from e
    return Out(held, shown, error)


@contextlib.contextmanager
def part(folder: str, shown: str, error: type[PyggmlError], mode: int = 0o666) -> Iterator[tuple[Out, str]]:
    """A new, locked file in folder and its path; removed when the block ends, unless it was renamed."""
    out: Out | None = None
    path, owner = "", os.getpid()
    try:
        while out is None:
            path = os.path.join(folder, f".pyggml-{os.urandom(8).hex()}.part")
            _live.add(path)
            out = create(path, shown, error, mode)
            if not _hold(out.fileno(), path):  # a sweep came between
                _live.discard(path)
                out.drop()
                out = None
        yield out, path
    finally:
        if _locks is None and out is not None:
            out.drop()  # Windows removes nothing that is open
        if path and os.getpid() == owner:  # a forked child leaves it alone
            remove(path)
        if out is not None:
            out.drop()
        _live.discard(path)


def member(leader: str, number: int) -> str:
    """The path of a part of a set.

    >>> member("a/.pyggml-0123456789abcdef.part", 3)
    'a/.pyggml-0123456789abcdef-3.part'
    """
    return f"{leader.removesuffix('.part')}-{number}.part"


def placed(path: str, name: str) -> Placed:
    """What identifies the file at path once it is called name."""
    now = os.lstat(path)
    return name, now.st_ino, now.st_size, now.st_mtime_ns


def write_set(leader: Out, files: Sequence[Placed]) -> None:
    """Notes in a leader which files are about to get their names, so that a sweep can take half a set away again."""
    leader.write(_SET + json.dumps(list(files)).encode())
    leader.to_disk()


def take_back(folder: str, files: Sequence[Placed]) -> list[str]:
    """Removes those of a set that are in their place, unless all are: then it is whole. Returns the names."""
    there = [name for name, *known in files if _is(os.path.join(folder, name), known)]
    if len(there) == len(files):
        return []
    for name in there:
        remove(os.path.join(folder, name))
    return there


def remove(path: str) -> None:
    """Removes a file if it is there."""
    with contextlib.suppress(OSError):  # the error that led here says more
        os.unlink(path)


def sweep(folder: str) -> list[str]:
    """Removes the parts that dead writers left in a folder, says so in the log, and returns their names.

    A part is dead where nobody holds its leader's lock. Links, other users' files and whatever else bears such a name
    are left alone, and all of them on a file system without locks.
    """
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return []
    found: dict[str, list[str]] = {}
    for name in names:
        match = _NAME.fullmatch(name)
        if match:
            found.setdefault(match[1], []).append(name)
    gone: list[str] = []
    for number, parts in found.items():
        with contextlib.suppress(OSError):
            gone += _sweep(folder, number, parts)
    if gone:
        log.warning("removed %d files that a killed run left in %s: %s", len(gone), clip(folder or "."), gone[:5])
    return gone


def _sweep(folder: str, number: str, names: Sequence[str]) -> list[str]:
    """The parts of one number, if they are dead."""
    lead = next((name for name in names if "-" not in name[8 + len(number) :]), f".pyggml-{number}.part")
    path = os.path.join(folder, lead)
    if path in _live:
        return []
    gone: list[str] = []
    held: _native.Descriptor | None = None
    if os.path.lexists(path):  # asked by its name: a listing may have missed it
        if not _ours(path):
            return []
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | OPEN_FLAGS
        held = _native.Descriptor(path, os.O_RDWR | flags)
    try:
        if held is not None:
            if _locks is not None and not _alone(held.fd, path):
                return []
            files = _set_of(held.fd)
            if _locks is None:
                held.close()
                os.unlink(path)  # fails where it is open
                gone.append(lead)
            gone += take_back(folder, files) if files else []
        for name in names:
            if name != lead and _ours(os.path.join(folder, name), names=2):  # its place may have it already
                os.unlink(os.path.join(folder, name))
                gone.append(name)
        if held is not None and held.fd >= 0:
            os.unlink(path)
            gone.append(lead)
        return gone  # what went away by itself since the folder was listed had a writer that lived
    finally:
        if held is not None:
            held.close()


def _ours(path: str, names: int = 1) -> bool:
    """A plain file of this user that has at most so many names."""
    now = os.lstat(path)
    mine = not hasattr(os, "geteuid") or now.st_uid == os.geteuid()
    return stat.S_ISREG(now.st_mode) and now.st_nlink <= names and mine


def _alone(fd: int, path: str) -> bool:
    """Takes the lock of a part that is still at its path, a name that comes once. False while its writer lives."""
    try:
        _locks.flock(fd, _locks.LOCK_EX | _locks.LOCK_NB)
        now = os.fstat(fd)
        if now.st_size == 0 and abs(time.time() - now.st_mtime) < _NEW:  # made, and perhaps not locked yet
            _locks.flock(fd, _locks.LOCK_UN)
            time.sleep(_PATIENCE)
            _locks.flock(fd, _locks.LOCK_EX | _locks.LOCK_NB)
    except OSError:  # held, or no locks here: nothing is known to be dead
        return False
    return os.path.lexists(path)


def _hold(fd: int, path: str) -> bool:
    """Locks a new part. False where a sweep removed it before that."""
    if _locks is None:
        return True
    with contextlib.suppress(OSError):  # no locks here: no sweep will touch it
        _locks.flock(fd, _locks.LOCK_EX)
    return os.path.lexists(path)


def _set_of(fd: int) -> list[Placed]:
    """What write_set noted, or nothing; names lead nowhere but into the folder."""
    if os.fstat(fd).st_size > _MOST or os.read(fd, len(_SET)) != _SET:
        return []
    raw = b""
    while piece := os.read(fd, 1 << 20):
        raw += piece
    try:
        rows = [(str(name), int(inode), int(size), int(time)) for name, inode, size, time in json.loads(raw)]
    except (ValueError, TypeError, RecursionError):
        return []  # it was killed while it noted, before anything got its name
    return rows if all(name == os.path.basename(name) for name, *_ in rows) else []


def _is(path: str, known: Sequence[int]) -> bool:
    try:
        now = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(now.st_mode) and [now.st_ino, now.st_size, now.st_mtime_ns] == list(known)
