"""Writing behind the back of the one who makes the bytes: a thread writes a piece while the next is made.

It also sends what it wrote to the disk now and then, so that the flush at the end has little left to wait for. Making a
file that is complete or not there at all is replacing.py's.
"""

from __future__ import annotations

import os
import queue
import threading
from types import TracebackType
from typing import Any, BinaryIO

_WAITING = 2  # pieces that are made and not written yet
_TO_DISK = 64 << 20  # bytes between two flushes, on systems that can flush the data alone


class Behind:
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
        self._pieces: queue.Queue[Any] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._dropped = False
        self._thread = threading.Thread(target=self._work, name="pyggml-write", daemon=True)

    def write(self, piece: Any) -> None:
        """Hands a buffer over; waits while too many are on their way."""
        if self._error is not None:
            raise self._error
        self._pieces.put(piece)

    def __enter__(self) -> Behind:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dropped = kind is not None
        self._pieces.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        """Takes pieces until None; after an error, or when all is dropped, without writing them."""
        on_disk = _TO_DISK
        written = 0
        while (piece := self._pieces.get()) is not None:
            if self._error is not None or self._dropped:
                continue
            try:
                self._out.write(piece)
                written += memoryview(piece).nbytes
                if written >= on_disk:
                    on_disk = written + _TO_DISK
                    self._sync()
            except BaseException as error:  # whatever it is belongs to the one who writes
                self._error = error

    def _sync(self) -> None:
        if not hasattr(os, "fdatasync"):
            return
        try:
            number = self._out.fileno()
        except OSError:  # not a file of the system
            return
        self._out.flush()
        os.fdatasync(number)
