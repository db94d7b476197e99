"""Sessions between two uses: kept because their memory is warm, or for what they hold, so that a prompt that begins as
another one did goes on from there.

There is no lock: a list's pop, append and remove are whole, and who takes a session from the list has it alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from pyggml.engine.context import free_memory
from pyggml.engine.loaded import Loaded
from pyggml.engine.session import Session, forget_cancel
from pyggml.errors import OutOfMemory, PyggmlError

_MARKS = 4  # of a session with recurrent layers
_MOST = 8
"""Idle sessions kept for what they hold; fewer where all caches hold more than a quarter of what was free memory."""


class AnyKind(list[int]):
    """The beginning of a text of which anything that is held will do.

    Of other beginnings only what was read as a prompt is taken: what follows has the bits of a prompt read whole.
    """


class Seat:
    """A session, and the ids that it remembers. marked: where it can go back to, None where marks are of no use."""

    __slots__ = ("ids", "marked", "session")

    def __init__(self, session: Session, marks: bool = False) -> None:
        self.session = session
        self.ids: list[int] = []
        self.marked: list[int] | None = [] if marks else None

    def keep(self, n: int) -> None:
        """Forgets all but the first n ids, or fewer, down to none: windows and recurrent layers cannot go anywhere."""
        n = self.session.back(n)
        self.session.truncate(n)
        del self.ids[n:]
        if self.marked is not None:
            self.marked = [each for each in self.marked if each <= n]

    def shared(self, prefix: Sequence[int]) -> int:
        """How much of prefix may be taken from it: what rows of a prompt made, or with AnyKind any."""
        n = common(tuple(self.ids), prefix)  # a copy: whoever only asks may see another thread change them
        return n if isinstance(prefix, AnyKind) else min(n, self.session.n_prompted)

    def worth(self, prefix: Sequence[int]) -> int:
        """How many ids of prefix a session that goes on from here need not read; nothing where another thread has it.

        Whoever takes it then asks again: this only chooses.
        """
        try:
            return self.session.back(self.shared(prefix))
        except PyggmlError:  # closed
            return 0

    def fork(self, prefix: Sequence[int]) -> Seat:
        """Another one that holds what of prefix this one does. Raises OutOfMemory."""
        twin = Seat(self.session.fork())
        twin.ids, twin.marked = [*self.ids], None if self.marked is None else [*self.marked]
        twin.keep(twin.shared(prefix))
        return twin

    def mark(self) -> None:
        """The end of a prompt, to which another one that begins like it may want to go back."""
        if self.marked is None or self.marked[-1:] == [len(self.ids)]:
            return
        if len(self.marked) == _MARKS:
            self.session.unmark(self.marked.pop(0))
        self.session.mark()
        self.marked.append(len(self.ids))


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two lists begin with alike.

    >>> common([1, 2, 3], [1, 2, 4, 5]), common([], [1])
    (2, 0)
    """
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


class Pool:
    """The idle sessions of a model, which return one of its outputs.

    reuse: keep what they hold, and look there for the beginning of a prompt.
    """

    def __init__(self, loaded: Loaded, reuse: bool, output: str = "logits") -> None:
        self._loaded = loaded
        self._output = output
        self._idle: list[Seat] = []  # the one that was used last is the last
        self.reuse = reuse
        self._marks = reuse and loaded.mark_bytes(loaded.kv_type, loaded.n_ctx) > 0
        self._room = free_memory() // 4 if reuse else 0  # bytes of all caches beyond which an idle one goes

    def take(self, prefix: Sequence[int] = ()) -> Seat:
        """A session for what begins with prefix. It holds what seat.ids says: nothing, or with reuse a part of that.

        Raises OutOfMemory where there is none and none can be made.
        """
        self._loaded.check_open()
        while True:
            seat = self._chosen(prefix)
            if seat is None:
                try:
                    return Seat(Session(self._loaded, output=self._output), self._marks)
                except OutOfMemory:
                    idle = tuple(self._idle)
                    if not idle:
                        raise
                    seat = idle[0]
            try:
                self._idle.remove(seat)
            except ValueError:  # another thread was quicker
                continue
            self.pass_on(seat, prefix)
            return seat

    def pass_on(self, seat: Seat, prefix: Sequence[int]) -> None:
        """Makes a session ready for what begins with prefix, as take() says."""
        seat.keep(seat.shared(prefix) if self.reuse else 0)

    def give_back(self, seat: Seat) -> None:
        """The end of a use; never raises. A session that stopped in a step holds no more than seat.ids."""
        session = seat.session
        if self._loaded.closed or (self._idle and not self.reuse):
            session.close()
            return
        try:
            seat.keep(len(seat.ids) if self.reuse else 0)
            forget_cancel(session)
        except PyggmlError:  # the model was closed meanwhile
            session.close()
            return
        self._idle.append(seat)
        with contextlib.suppress(IndexError):  # the model was closed meanwhile
            while len(self._idle) > _MOST or (len(self._idle) > 1 and self._holds_much()):
                self._idle.pop(0).session.close()

    def clear(self) -> None:
        """Lets all go."""
        self._idle.clear()

    def worth(self, prefix: Sequence[int]) -> int:
        """How many ids of prefix some idle session holds, of those that are kept for what they hold."""
        return max((seat.worth(prefix) for seat in tuple(self._idle)), default=0) if self.reuse else 0

    def let_go(self) -> bool:
        """Frees the idle sessions; False where there was none."""
        found = False
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread was quicker
                self._idle.pop().session.close()
                found = True
        return found

    def _holds_much(self) -> bool:
        return self._loaded.plan.cache_bytes > self._room

    def _chosen(self, prefix: Sequence[int]) -> Seat | None:
        """The idle session to take; None for a new one.

        Of those that begin like prefix the one that does so longest, where it gains more than it forgets; else one is
        forgotten only when so many are kept as may be, and it is the one whose last use is the longest ago.
        """
        idle = tuple(self._idle)
        if not self.reuse or not idle:
            return idle[-1] if idle else None
        worth = ((seat.worth(prefix), len(seat.ids), seat) for seat in idle)
        shared, held, best = max(worth, key=lambda each: (each[0], -each[1]))
        full = len(idle) >= _MOST or self._holds_much()
        if 2 * shared >= held or (shared and full):
            return best
        return idle[0] if full else None
