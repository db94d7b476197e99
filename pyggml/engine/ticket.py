"""A ticket: what is to be done with one sequence, said step by step. Runs no model; loop.py drives many of them.

generation.py has those that make a text, Reading reads one that is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.engine.pool import Seat
from pyggml.errors import PyggmlError


class Feed(NamedTuple):
    """ids: what goes into the sequence next. n_rows: of how many at the end logits are wanted.

    sampler: its choice is enough, made of the last row. decode: they were generated; else they are read.
    """

    ids: Sequence[int]
    n_rows: int
    sampler: _native.Sampler | None = None
    decode: bool = False


class Ticket:
    """One sequence between its first step and its end. output: of the model, what read() gets rows of.

    The loop asks feed() and answers with take() or read(); where feed() says None, end() follows. prefix: the ids whose
    keys and values may be there already when it sits down; seat.ids are those that are. share: rows of a prompt that
    the next step has for it, None: as many as it likes. error: what ended it, where something did.
    """

    output = "logits"

    def __init__(self, prefix: Sequence[int]) -> None:
        self.prefix = prefix
        self.cancelled = False
        self.ended = False
        self.share: int | None = None
        self.error: Exception | None = None
        self._seat: Seat | None = None

    @property
    def seat(self) -> Seat:
        """Where it runs."""
        if self._seat is None:
            raise PyggmlError("this ticket has no session: it has ended, or waits for its turn")
        return self._seat

    def sit(self, seat: Seat) -> None:
        """Gives it its session."""
        self._seat = seat

    def leave(self) -> Seat | None:
        """Takes its session, which it has no more then; None if it had none."""
        seat, self._seat = self._seat, None
        return seat

    def repair(self) -> None:
        """In a child that was forked in a step: forgets what of it the session holds and the ticket does not know."""
        if self._seat is not None:
            with contextlib.suppress(PyggmlError):  # closed
                self._seat.keep(len(self._seat.ids))

    def feed(self) -> Feed | None:
        """What comes next; None at the end."""
        raise NotImplementedError

    def take(self, token: int) -> None:
        """The token that was chosen."""
        raise NotImplementedError

    def read(self, logits: NDArray[np.float32]) -> None:
        """The logits that were wanted: (n_rows, n_vocab)."""
        raise NotImplementedError

    def end(self) -> None:
        """No step follows."""
        self.ended = True

    def fail(self, error: Exception) -> None:
        """Ends by an error."""
        self.error = error
        self.ended = True


class Reading(Ticket):
    """Reads ids; no token is chosen.

    use(at, logits) is called with the logits of positions at and on, from first: those of piece ids at a time.
    """

    def __init__(
        self, ids: Sequence[int], use: Callable[[int, NDArray[np.float32]], None], first: int = 0, piece: int = 0
    ) -> None:
        super().__init__(ids[:first])
        self._ids = ids
        self._use = use
        self._first = first
        self._piece = piece or len(ids)
        self._at = self._next = 0

    def sit(self, seat: Seat) -> None:
        super().sit(seat)
        self._next = len(seat.ids)

    def feed(self) -> Feed | None:
        self._at = self._next
        if self.cancelled or self._at >= len(self._ids):
            return None
        if self._at < self._first:
            self._next = self._first
            return Feed(self._ids[self._at : self._first], 0)
        self._next = min(self._at + self._piece, len(self._ids))
        return Feed(self._ids[self._at : self._next], self._next - self._at)

    def read(self, logits: NDArray[np.float32]) -> None:
        if len(logits):
            self._use(self._at, logits)


class AtOnce(Ticket):
    """Reads ids in one step, of which the last n_rows rows are wanted, and ends."""

    def __init__(self, ids: Sequence[int], n_rows: int) -> None:
        super().__init__(())
        self.ids = ids
        self._n_rows = n_rows

    def feed(self) -> Feed | None:
        return Feed(self.ids, self._n_rows)

    def read(self, logits: NDArray[np.float32]) -> None:
        self.use(logits)
        self.end()

    def use(self, rows: NDArray[np.float32]) -> None:
        """What is made of the rows."""
        raise NotImplementedError
