"""One file on disk, opened once: a read-only map, positioned reads, and the watch that it stays what it was.

RegularFile only reads; MappedFile has the map too. Nothing here knows GGUF. A file that shrinks under a map kills the
process with SIGBUS at the next touch, whatever was checked before. So everything is read by position, where a cut file
is an error, and the map is for plans alone: their weights are too large to copy, and the check before each step is all
that can be done (a cut within a step kills).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.arguments import PathLike
from pyggml.arguments import path as read_path
from pyggml.errors import FileIsFolder, GGUFError, OutOfMemory, file_error
from pyggml.files.recognise import folder_hint
from pyggml.pickling import Held
from pyggml.shown import clip

__all__ = ["OPEN_FLAGS", "MappedFile", "PathLike"]

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)
OPEN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ_AT_ONCE = 1 << 30  # one preadv moves at most 2 GiB
_noting = threading.local()


@contextlib.contextmanager
def noted() -> Iterator[set[RegularFile]]:
    """The files that this thread reads within the block: what code that was handed over reads, nobody else can say."""
    outer: set[RegularFile] | None = getattr(_noting, "files", None)
    files: set[RegularFile] = set()
    _noting.files = files
    try:
        yield files
    finally:
        _noting.files = outer
        if outer is not None:
            outer |= files


class RegularFile(Held):
    """A regular file, opened once, that is read at given places. expected: what the message says it should be."""

    def __init__(self, path: PathLike, expected: str = "a regular file") -> None:
        self.path = read_path("path", path)
        try:
            self._held = _native.Descriptor(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | OPEN_FLAGS)
        except (OSError, ValueError) as error:
            raise _cannot_open(self.path, error) from error
        try:
            self._judge(expected)
        except BaseException:
            self._held.close()
            raise

    def _judge(self, expected: str) -> None:
        self._stat = os.fstat(self._fd)
        if not stat.S_ISREG(self._stat.st_mode):
            kind = next((text for test, text in _KINDS if test(self._stat.st_mode)), "no regular file")
            if stat.S_ISDIR(self._stat.st_mode):
                message = f"{clip(self.path)} is {kind}, expected {expected}{folder_hint(self.path)}"
                raise FileIsFolder(message, errno.EISDIR, os.strerror(errno.EISDIR), self.path)
            raise GGUFError(f"{clip(self.path)} is {kind}, expected {expected}")
        self.size = self._stat.st_size
        self._key = (self.size, self._stat.st_mtime_ns, self._stat.st_ino)

    @property
    def _fd(self) -> int:
        return self._held.fd

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._fd < 0

    def lies_at(self, path: str) -> bool:
        """Whether a path, whatever it is called, leads to this file while it is open."""
        try:
            return not self.closed and os.path.samestat(os.stat(path), self._stat)
        except (OSError, ValueError):
            return False

    def check_unchanged(self) -> None:
        """Raises GGUFError if the file was cut or rewritten since it was opened; costs about a microsecond."""
        if self._fd < 0:
            raise GGUFError(f"{clip(self.path)} is closed")
        try:
            now = os.fstat(self._fd)
        except OSError as error:  # a network share that went away, or a close in another thread
            if self._fd < 0:
                raise GGUFError(f"{clip(self.path)} is closed") from None
            raise GGUFError(f"{clip(self.path)} is gone: {error.strerror}; load it again") from error
        if (now.st_size, now.st_mtime_ns, now.st_ino) != self._key:
            how = f"its size went from {self.size} to {now.st_size}" if now.st_size != self.size else "it was rewritten"
            raise GGUFError(f"{clip(self.path)} changed after it was opened: {how}; load it again")

    def copy(self, offset: int, n: int) -> NDArray[np.uint8]:
        """n bytes from offset: a copy of its own, taken while the file was as it had been opened.

        Raises GGUFError when it was changed or closed, OutOfMemory.
        """
        try:
            out = np.empty(n, np.uint8)
        except (MemoryError, ValueError) as error:
            raise OutOfMemory(f"{clip(self.path)}: no memory for {n} bytes of it") from error
        try:
            self.read_into(offset, memoryview(out))  # type: ignore[arg-type]
        finally:  # of all that can be wrong, this says the cause
            self.check_unchanged()
        return out

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fills buffer (flat, writable bytes) from offset without touching the map."""
        files = getattr(_noting, "files", None)
        if files is not None:
            files.add(self)
        done = 0
        while done < len(buffer):
            fd = self._fd
            try:
                got = _read_at(fd, buffer[done : done + _READ_AT_ONCE], offset + done) if fd >= 0 else 0
            except OSError as error:
                if self._fd < 0:
                    raise GGUFError(f"{clip(self.path)} is closed") from None
                raise GGUFError(f"{clip(self.path)} cannot be read at {offset + done}: {error.strerror}") from error
            if self._fd < 0:  # closed by another thread: the number may have been another file's
                raise GGUFError(f"{clip(self.path)} is closed")
            if got == 0:
                raise GGUFError(
                    f"{clip(self.path)} ended at byte {offset + done}, expected {offset + len(buffer)} bytes or more: "
                    "it was cut after it was opened; load it again"
                )
            done += got

    def read(self, offset: int, n: int) -> bytes:
        """n bytes from offset. Raises GGUFError where the file ends before, or changed since it was opened."""
        if not 0 <= n <= self.size - offset:
            raise GGUFError(f"{clip(self.path)} was cut: {n} bytes at byte {offset}, the file has {self.size}")
        self.check_unchanged()
        buffer = bytearray(n)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def close(self) -> None:
        """Gives the descriptor back, once, whoever calls and how often."""
        self._held.close()


class MappedFile(RegularFile):
    """A regular file as read-only bytes.

    `bytes` is a uint8 view of the whole map, for weights of plans; views of it keep the map alive after close().
    """

    def __init__(self, path: PathLike, expected: str = "a GGUF file") -> None:
        super().__init__(path, expected)
        try:
            self.bytes = self._map(self._fd, expected)
        except BaseException:
            super().close()
            raise

    def _map(self, fd: int, expected: str) -> NDArray[np.uint8]:
        if self.size == 0:
            raise GGUFError(f"{clip(self.path)} is empty, expected {expected}")
        try:
            mapped = mmap.mmap(fd, self.size, access=mmap.ACCESS_READ)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise OutOfMemory(f"{clip(self.path)}: no address space for a map of {self.size} bytes") from error
            raise GGUFError(f"{clip(self.path)} cannot be mapped: {error.strerror}") from error
        except (ValueError, OverflowError) as error:  # it changed between fstat and here
            raise GGUFError(f"{clip(self.path)} cannot be mapped: {error}") from error
        return np.frombuffer(mapped, np.uint8)

    def close(self) -> None:
        """Gives the descriptor back; the map goes with its last view."""
        super().close()
        self.bytes = np.empty(0, np.uint8)


def _read_at(fd: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [buffer], offset)
    os.lseek(fd, offset, os.SEEK_SET)  # Windows: the descriptor is ours alone
    piece = os.read(fd, len(buffer))
    buffer[: len(piece)] = piece
    return len(piece)


def _cannot_open(path: str, error: OSError | ValueError) -> GGUFError:
    if isinstance(error, FileNotFoundError):
        hint = "; nothing is downloaded: give a file" if "://" in path else ""
        return file_error(f"{clip(path)} does not exist (current directory: {clip(_cwd())}){hint}", error, path)
    if isinstance(error, OSError):
        return file_error(f"{clip(path)} cannot be opened: {error.strerror}", error, path)
    return GGUFError(f"{clip(path)} is no path: {error}")


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "deleted"
