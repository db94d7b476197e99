"""A text as it is made: whoever reads the next piece runs the steps up to it, in his own thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from pyggml.answer import Part
from pyggml.completion import Completion
from pyggml.engine.engine import Engine
from pyggml.engine.generation import Request
from pyggml.pickling import Held


class Stream(Held):
    """Text pieces as they come; never half a character. After the last piece `.result` is the Completion.

    Raises like generate; a model closed meanwhile ends it with PyggmlError. Threads may share it: each piece goes to
    one of them. Closing or dropping it frees the sequence's cache at once; no code of its own runs when it is dropped.
    As a context manager it closes itself.

    >>> import pyggml
    >>> with pyggml.load() as m, m.stream("Once upon a time", max_tokens=4) as s:
    ...     "".join(s) == s.result.text
    True
    """

    _instead = "its .result can, once it has ended"

    def __init__(self, engine: Engine, request: Request) -> None:
        self.result: Completion | None = None
        self._engine = engine
        # Taken again by a signal handler of the thread that has them: both must be reentrant.
        self._reading = threading.RLock()  # one piece at a time
        self._swap = threading.RLock()  # a session that was given back must not be cancelled
        self._ticket = engine.submit(request)
        engine.seat(self._ticket)

    def __repr__(self) -> str:
        done, n = self.result, len(self._ticket.tokens)
        return f"<pyggml.Stream {'open' if done is None else done.finish_reason}, {n} tokens>"

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        with self._reading:
            while parts := self._next():
                text = "".join(part.text for part in parts if part.kind == "text")
                if text:
                    return text
            raise StopIteration

    def parts(self) -> Iterator[Part]:
        """What comes next with its kind: "reasoning", which iterating over the stream leaves out, and "text".

        >>> import pyggml
        >>> with pyggml.load() as m, m.stream("Once upon a time", max_tokens=4) as s:
        ...     {part.kind for part in s.parts()}
        {'text'}
        """
        while True:
            with self._reading:
                parts = self._next()
            if not parts:
                return
            yield from parts

    def _next(self) -> list[Part]:
        """The next parts; none at the end."""
        ticket, parts = self._ticket, list[Part]()
        if self.result is not None:
            return parts
        try:
            while not parts and not ticket.ended:
                self._engine.step([ticket])
                parts = ticket.new_parts()
        except BaseException:
            self._end()
            raise
        if ticket.ended:
            self._end()
        return parts

    def cancel(self) -> None:
        """Ends the generation from any thread; `.result` then holds what was there, finish_reason "cancelled"."""
        self._ticket.cancelled = True
        with self._swap:
            if self.result is None:
                self._ticket.seat.session.cancel()

    def close(self) -> None:
        """Stops early and frees the cache; from any thread, any number of times."""
        self.cancel()
        with self._reading:
            self._end()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()

    def _end(self) -> None:
        """Sums up and gives the session back, once."""
        with self._swap:
            if self.result is None:
                self.result = self._ticket.sum_up()
                self._engine.leave(self._ticket)
