"""Writing behind the back of the one who makes the bytes: a thread writes a piece while the next is made.

It also sends what it wrote to the disk now and then, so that the flush at the end has little left to wait for. Making a
file that is complete or not there at all is atomic_file.py's.
"""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any, BinaryIO

from pyggml import _native
from pyggml.threads import begun

_WAITING = 2  # pieces that are made and not written yet
_TO_DISK = 64 << 20  # bytes between two flushes


class Behind(_native.Ended):
    """write(piece) puts pieces into out, in order; they must stay as they are until the with-block has ended.

    An error of the disk is raised by a later write() or by the end of the block.

    >>> import io
    >>> out = io.BytesIO()
    >>> with Behind(out) as behind:
    ...     behind.write(b"one "), behind.write(b"two")
    (None, None)
    >>> out.getvalue()
    b'one two'
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._written = self._flushed = 0
        # Simple queues, which an exception of a signal handler cannot leave locked.
        self._pieces: SimpleQueue[Any] = SimpleQueue()
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(_WAITING):
            self._places.put(None)
        self._error: BaseException | None = None
        self._working: set[str] = set()  # until the thread touches out no more
        # Ctrl-C or not: whoever closes out behind the block closes it behind the last write.
        super().__init__(self._pieces.put, self._working)

    def write(self, piece: Any) -> None:
        """Hands a buffer over; waits while too many are on their way."""
        if self._error is not None:
            raise self._error
        if not self._working:
            self._write(piece)
            return
        self._places.get()
        self._pieces.put(piece)

    def __enter__(self) -> Behind:
        self._working.add("thread")
        try:
            if not begun(self._work):
                self._working.clear()  # and write() writes
        except BaseException:
            self._pieces.put(None)
            raise
        return self

    def ended(self, error: BaseException | None) -> None:
        """At the end of the block, which may have an error of its own."""
        if error is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        """Takes pieces until None; after an error without writing them."""
        try:
            while (piece := self._pieces.get()) is not None:
                try:
                    if self._error is None:
                        self._write(piece)
                except BaseException as error:  # whatever it is belongs to the one who writes
                    self._error = error
                self._places.put(None)
        finally:
            self._working.clear()

    def _write(self, piece: Any) -> None:
        self._out.write(piece)
        self._written += memoryview(piece).nbytes
        if self._written >= self._flushed + _TO_DISK:
            self._flushed = self._written
            self._sync()

    def _sync(self) -> None:
        to_disk = getattr(self._out, "to_disk", None)  # parts.Out has it
        if to_disk is not None:
            to_disk()
