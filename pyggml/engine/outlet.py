"""Where the news of tickets go: from the engine's thread to whoever asked, be it a thread or a coroutine.

A queue between the two is all that they share: it is compiled, so a signal cannot leave it in between, and a handler of
one may wait at it again.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pyggml.errors import PyggmlError, UnsupportedError

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

AHEAD = 32
"""Pieces that nobody has read yet; whoever makes more of them waits then."""

Bell = tuple["asyncio.AbstractEventLoop", "asyncio.Future[None]"]


class Outlet(Generic[T]):
    """News for owner, in order. in_pieces: he reads a text as it is made, else its end is news enough.

    gone: nobody holds the owner any more, so nobody will ask.
    """

    def __init__(self, owner: object, in_pieces: bool) -> None:
        self.in_pieces = in_pieces
        self._owner = weakref.ref(owner)
        self._news: SimpleQueue[T] = SimpleQueue()
        self._bells: list[Bell] = []  # of coroutines that wait

    @property
    def gone(self) -> bool:
        """Whether the owner is no more."""
        return self._owner() is None

    def put(self, news: T) -> list[Bell]:
        """Tells. -> the bells to ring, for ring(): those of coroutines, which were asleep."""
        self._news.put(news)
        bells, self._bells = self._bells, []
        return bells

    def get(self) -> T:
        """The next news; waits, and Ctrl-C ends the waiting in the main thread.

        Raises PyggmlError where the interpreter is ending: other threads stand still then, and nothing comes.
        """
        if not sys.is_finalizing():
            return self._news.get()
        try:
            return self._news.get_nowait()
        except Empty:
            raise PyggmlError("the interpreter is ending, and so has the thread that makes texts") from None

    async def heard(self) -> T:
        """The next news, for a coroutine. Raises UnsupportedError in one that no event loop of asyncio runs."""
        import asyncio  # whoever comes here has it

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise UnsupportedError(
                "coroutines of a model need an event loop of asyncio, and none runs here: asyncio.run(...) has one; "
                "with trio or another library call generate, stream or chat in a thread (trio.to_thread.run_sync)"
            ) from None
        while True:
            bell = loop.create_future()
            self._bells.append((loop, bell))  # before looking: either this is rung, or the news are seen here
            with contextlib.suppress(Empty):
                return self._news.get_nowait()
            await bell

    @property
    def plenty(self) -> bool:
        """Whether so much waits to be read that more would be of no use yet."""
        return len(self) >= AHEAD // 2

    def __len__(self) -> int:
        return self._news.qsize()


def ring(bells: Iterable[Bell]) -> None:
    """Wakes coroutines, by one call for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for loop, bell in bells:
        by_loop.setdefault(loop, []).append(bell)
    for loop, rung in by_loop.items():
        try:
            loop.call_soon_threadsafe(_wake, rung)
        except RuntimeError:  # the loop was closed: nobody waits there
            continue


def _wake(bells: list[asyncio.Future[Any]]) -> None:
    for bell in bells:
        if not bell.done():
            bell.set_result(None)
