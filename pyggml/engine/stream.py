"""A text as it is made, for a thread or a coroutine that reads it piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from pyggml.answer import Part
from pyggml.completion import Completion
from pyggml.engine.engine import Engine
from pyggml.engine.generation import Request
from pyggml.engine.outlet import Outlet, ring
from pyggml.errors import PyggmlError
from pyggml.pickling import Held


class Stream(Held):
    """Text pieces as they come; never half a character. After the last piece `.result` is the Completion.

    `for` reads it in a thread, `async for` in a coroutine. It begins when the first piece is asked for, as its timeout
    does, and runs ahead of its reader by some pieces at most. Raises like generate; a model closed meanwhile ends it
    with PyggmlError. Threads may share it: each piece goes to one of them. Closing or dropping it frees the sequence's
    place with the step that runs, or before; so does cancelling a coroutine that waits for a piece. It may close
    itself: with, async with.

    >>> import pyggml
    >>> with pyggml.load() as m, m.stream("Once upon a time", max_tokens=4) as s:
    ...     "".join(s) == s.result.text
    True
    """

    _instead = "its .result can, once it has ended"

    def __init__(self, engine: Engine, request: Request) -> None:
        self.result: Completion | None = None
        self._engine = engine
        self._outlet: Outlet[Part | None] = Outlet(self, in_pieces=True)  # None behind the last part
        self._ticket = engine.ticket(request, self._outlet)

    def __repr__(self) -> str:
        done, n = self.result, len(self._ticket.tokens)
        return f"<pyggml.Stream {'open' if done is None else done.finish_reason}, {n} tokens>"

    # ---- reading -------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while (part := self._next()) is not None:
            if part.kind == "text":
                return part.text
        raise StopIteration

    def parts(self) -> Iterator[Part]:
        """What comes next with its kind: "reasoning", which iterating over the stream leaves out, and "text".

        >>> import pyggml
        >>> with pyggml.load() as m, m.stream("Once upon a time", max_tokens=4) as s:
        ...     {part.kind for part in s.parts()}
        {'text'}
        """
        while (part := self._next()) is not None:
            yield part

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while (part := await self._anext()) is not None:
            if part.kind == "text":
                return part.text
        raise StopAsyncIteration

    async def aparts(self) -> AsyncIterator[Part]:
        """As parts, for a coroutine."""
        while (part := await self._anext()) is not None:
            yield part

    def _next(self) -> Part | None:
        """The next part; None at the end."""
        if self.result is not None:
            return None
        self._go_on()
        try:
            part = self._outlet.get()
        except BaseException:
            self.close()
            raise
        if part is None:
            self._end()
        return part

    async def _anext(self) -> Part | None:
        if self.result is not None:
            return None
        self._go_on()
        try:
            part = await self._outlet.heard()
        except BaseException:
            self.cancel()
            raise
        if part is None:
            self._end()
        return part

    def _go_on(self) -> None:
        """Lets it run, where it waits to be read."""
        if not self._outlet.plenty:
            self._engine.go_on(self._ticket)

    # ---- ending --------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Behind the last part: sums up, once, and tells the other readers. Raises what ended it, to one of them."""
        ring(self._outlet.put(None))
        self.result = self.result or self._ticket.sum_up()
        error, self._ticket.error = self._ticket.error, None
        if error is not None:
            raise error

    def cancel(self) -> None:
        """Ends the generation from any thread; `.result` then holds what was there, finish_reason "cancelled"."""
        self._engine.cancel(self._ticket)

    def close(self) -> None:
        """Stops early and frees the place; from any thread, any number of times.

        It waits for the end, but in what is called while the model works: there the end comes with the step.
        """
        self.cancel()
        while self.result is None and not self._engine.works_here:
            try:
                over = self._outlet.get() is None
            except PyggmlError:  # the interpreter is ending
                over = True
            if over:
                self._close()

    async def aclose(self) -> None:
        """As close, for a coroutine."""
        self.cancel()
        while self.result is None:
            try:
                part = await self._outlet.heard()
            except RuntimeError:  # its loop has ended, and it is dropped: nobody can wait
                return
            if part is None:
                self._close()

    def _close(self) -> None:
        """The end, whose error nobody reads on to be told of."""
        self._ticket.error = None
        self._end()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *what: object) -> None:
        await self.aclose()
