"""The thread that makes texts: requests of any number of threads and coroutines, run together as they come and go.

It begins when there is work and ends when there is none; nothing of a model waits in it. Between steps it takes who has
come, lets go who has ended, was cancelled or is asked for by nobody any more, and gives out places and rows. It shares
one queue with the threads that ask and one with each that listens (outlet.py): signals, which come in the main thread
alone, find nothing here to leave half done. Where no thread can be begun the caller works here himself.
"""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from pyggml.engine import loop
from pyggml.engine.build import N_BATCH
from pyggml.engine.context import free_memory
from pyggml.engine.generation import Generation
from pyggml.engine.loaded import Loaded
from pyggml.engine.outlet import AHEAD, Bell, ring
from pyggml.engine.pace import Pace, shares
from pyggml.engine.pool import Pool, common
from pyggml.engine.ticket import Ticket
from pyggml.engine.turns import Turns
from pyggml.errors import ArgumentError, Cancelled, OutOfMemory, PyggmlError, QueueFull
from pyggml.threads import begun

_WORTH = 32  # ids of a prompt that another one waits for instead of reading them too
_LOOK = 0.05  # seconds between two looks at all who wait


def _own(error: Exception) -> Exception:
    """One like it: what ends several is raised in several threads, each of which writes its way into it."""
    try:
        twin = copy.copy(error)
    except Exception:  # of a class that cannot be copied
        return error
    twin.__cause__ = error
    return twin


class Scheduler:
    """places: sequences that run at once. most_waiting: requests beyond them.

    clock and step are what a simulation replaces.
    """

    def __init__(
        self,
        loaded: Loaded,
        pool: Pool,
        places: int,
        most_waiting: int,
        clock: Callable[[], float] = time.perf_counter,
        step: Callable[[Sequence[Ticket]], None] = loop.step,
    ) -> None:
        self._loaded, self._pool = loaded, pool
        self._places, self._most_waiting = places, most_waiting
        self._clock, self._step_all = clock, step
        self._room = free_memory() // 2  # bytes of what all that run may come to remember; 0: not known
        self._pace = Pace(N_BATCH)
        self._process = 0
        self._renew()

    # ---- any thread ----------------------------------------------------------------------------------------------

    def submit(self, tickets: Sequence[Generation]) -> None:
        """Takes the tickets of a call. Raises QueueFull where too many wait already."""
        self._renewed()
        self._check_elsewhere()
        if len(self._waiting) >= self._most_waiting:
            raise QueueFull(
                f"{len(self._waiting)} requests wait already, {self._places} run: try again later, or load with a "
                f"larger max_queue than {self._most_waiting}"
            )
        self._take(tickets)

    def go_on(self, ticket: Generation) -> None:
        """Lets a ticket run where it does not; submits it the first time."""
        if self._renewed() and not ticket.ended:
            ticket.parked = True
        self._check_elsewhere()
        if ticket.parked:
            self.submit([ticket])

    def cancel(self, ticket: Generation) -> None:
        """Ends a ticket soon: at once where it runs alone, else with the step that runs."""
        ticket.cancelled = True
        if ticket.parked:
            self._take([ticket])
        elif self._alone is ticket:
            with contextlib.suppress(PyggmlError):  # it has left meanwhile
                ticket.seat.session.cancel()  # should it meet another's step, that is made again

    @property
    def works_here(self) -> bool:
        """Whether it is this thread that works, in what it calls: a finalizer, a handler of a signal."""
        return self._worker == threading.get_ident()

    def _check_elsewhere(self) -> None:
        if self.works_here:
            raise ArgumentError(
                "a text was asked for in the middle of making one: what is called while the model works (a hook on "
                "logits, a finalizer, a handler of a signal) must not wait for the same model"
            )

    def _take(self, tickets: Sequence[Generation]) -> None:
        self._inbox.put(tickets)
        if not self._worker and not begun(self._run):
            self._run()

    def _renewed(self) -> bool:
        """Whether this is a child forked meanwhile: it has neither the thread nor those who asked it."""
        if self._process == os.getpid():
            return False
        left = self._open
        self._renew()
        for ticket in left:
            ticket.parked = True
            ticket.repair()
        return True

    def _renew(self) -> None:
        """Nothing is there."""
        self._inbox: SimpleQueue[Sequence[Generation]] = SimpleQueue()
        self._working = threading.Lock()
        self._worker = 0  # ident of the thread that works
        self._waiting = Turns()
        self._running: list[Generation] = []
        self._open: dict[Generation, None] = {}  # all that were taken and have not heard of their end
        self._alone: Generation | None = None  # in the step that runs
        self._tight = False  # memory ended: nobody comes in before somebody has left
        self._looked = 0.0
        self._process = os.getpid()

    # ---- the working thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._working.acquire(blocking=False):
            try:
                self._worker = threading.get_ident()
                self._work()
            finally:
                self._worker = 0
                self._working.release()
            if self._inbox.empty():  # looked at when all can see that nobody works
                return

    def _work(self) -> None:
        try:
            while self.turn():
                pass
        except BaseException as error:  # nobody may wait for a thread that has ended
            failed = error if isinstance(error, Exception) else PyggmlError(f"the engine's thread ended: {error!r}")
            left, self._open = self._open, {}
            self._running, self._waiting, self._alone = [], Turns(), None
            for ticket in left:
                ticket.fail(_own(failed))
                loop.leave(self._pool, ticket)
                ring(ticket.outlet.put(None))
            if not isinstance(error, Exception):  # Ctrl-C, where the caller works himself
                raise

    def turn(self) -> bool:
        """Who has come and gone, and a step. False where there is nothing to do."""
        self._arrive()
        self._dismiss()
        self._admit()
        if not self._running:
            return bool(self._waiting) or not self._inbox.empty()
        at_work = self._given_shares()
        n_prompt = sum(ticket.share or 0 for ticket in at_work)
        n_decode = sum(not ticket.n_unread for ticket in at_work)
        self._alone = at_work[0] if len(at_work) == 1 else None
        began = self._clock()
        self._step(at_work)
        self._alone = None
        self._pace.note(n_prompt, n_decode, self._clock() - began)
        self._tell()
        return True

    def _arrive(self) -> None:
        try:
            while True:
                come = [ticket for ticket in self._inbox.get_nowait() if ticket.parked]  # else it was taken before
                for ticket in come:
                    ticket.parked = False
                    self._open[ticket] = None
                self._waiting.add(come)
        except Empty:
            return

    def _dismiss(self) -> None:
        """Lets those go who are not to run any more, before they have a place."""
        for ticket in self._running:
            ticket.cancelled = ticket.cancelled or ticket.outlet.gone
        now = self._clock()
        if not self._waiting or now - self._looked < _LOOK:
            return
        self._looked = now
        bells = []
        for ticket in self._waiting.take(lambda each: each.cancelled or each.late or each.outlet.gone):
            ticket.cancelled = ticket.cancelled or ticket.outlet.gone
            ticket.feed()  # it says why
            ticket.end()
            bells += self._left(ticket)
        ring(bells)

    # ---- places --------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Gives out places, as long as there are some and the memory for what everyone may come to remember."""
        while len(self._running) < self._places and not (self._tight and self._running):
            ticket = self._waiting.first(lambda each: not self._follows(each))
            if ticket is None or not self._fits(ticket):
                return
            self._waiting.leave(ticket)
            try:
                self._seat(ticket)
            except OutOfMemory as error:
                if self._running:
                    self._waiting.back(ticket)
                    self._tight = True
                    return
                ticket.fail(error)
                ring(self._left(ticket))
            except PyggmlError as error:
                ticket.fail(error)
                ring(self._left(ticket))
            else:
                self._running.append(ticket)

    def _seat(self, ticket: Generation) -> None:
        """A session: its own, that of who holds most of its prompt and runs, or one of the pool."""
        if ticket.seated:
            return
        sources = self._running if self._pool.reuse else [each for each in self._running if each.twin_of(ticket)]
        held = [(each.seat.worth(ticket.prefix), i) for i, each in enumerate(sources)]
        most, which = max(held, default=(0, 0))
        if most and most > self._pool.worth(ticket.prefix):
            ticket.sit(sources[which].seat.fork(ticket.prefix))
        else:
            ticket.sit(self._pool.take(ticket.prefix))

    def _follows(self, ticket: Generation) -> bool:
        """Whether another one is just reading what this one begins with."""
        return any(
            common(ticket.prefix, each.ids) >= len(each.seat.ids) + (1 if each.twin_of(ticket) else _WORTH)
            for each in self._running
            if each.n_unread and (self._pool.reuse or each.twin_of(ticket))
        )

    def _fits(self, ticket: Generation) -> bool:
        if not self._running or not self._room:
            return True
        kind, bytes_of = self._loaded.kv_type.id, self._loaded.plan.kv_bytes
        return sum(bytes_of(kind, each.most_positions) for each in (*self._running, ticket)) <= self._room

    # ---- steps ---------------------------------------------------------------------------------------------------

    def _given_shares(self) -> list[Generation]:
        """Says how much of their prompts those who read feed next -> who takes part in the step."""
        reading = [ticket for ticket in self._running if ticket.n_unread]
        others = [ticket for ticket in self._running if not ticket.n_unread]
        for ticket in others:
            ticket.share = None
        most = self._pace.most(bool(others))
        for ticket, share in zip(reading, shares([ticket.n_unread for ticket in reading], most), strict=True):
            ticket.share = share
        return [*(ticket for ticket in reading if ticket.share), *others]

    def _step(self, tickets: Sequence[Generation]) -> None:
        """One step. What fails with several is made again one by one, so that the others go on."""
        try:
            self._step_all(tickets)
        except Cancelled:  # meant for another, who had this session before: it is made again
            return
        except OutOfMemory as error:
            if self._pool.let_go():
                self._step(tickets)
            elif len(tickets) > 1:
                self._one_by_one(tickets)
            elif len(self._running) > 1:
                self._send_back(tickets[0])
            else:
                self._fail(tickets, error)
        except Exception as error:
            if self._loaded.closed or len(tickets) == 1:
                self._fail(tickets, error)
            else:
                self._one_by_one(tickets)

    def _one_by_one(self, tickets: Sequence[Generation]) -> None:
        for ticket in tickets:
            if not ticket.ended:
                self._step([ticket])

    def _fail(self, tickets: Sequence[Generation], error: Exception) -> None:
        for ticket in tickets:
            ticket.fail(error if len(tickets) == 1 else _own(error))

    def _send_back(self, ticket: Generation) -> None:
        """Takes its place and what it remembers; it computes that again later, in the same rows.

        What was shifted cannot be computed again: that it keeps, and waits with it.
        """
        self._running.remove(ticket)
        self._tight = True
        seat = None if ticket.shifted else ticket.leave()
        if seat is not None:
            seat.session.close()
        self._waiting.back(ticket)

    def _tell(self) -> None:
        """Hands out what there is, and gives the places of those who have ended or are far ahead of their readers."""
        bells: list[Bell] = []
        for ticket in [*self._running]:
            if ticket.ended:
                self._running.remove(ticket)
                bells += self._left(ticket)
                continue
            bells += ticket.tell()
            if len(ticket.outlet) >= AHEAD and not self._read_meanwhile(ticket):
                self._running.remove(ticket)
                self._open.pop(ticket, None)
        ring(bells)

    def _read_meanwhile(self, ticket: Generation) -> bool:
        """Parks a ticket. True where its reader has read all before he could see that, and waits: it goes on."""
        ticket.parked = True
        if not len(ticket.outlet):
            ticket.parked = False
        return not ticket.parked

    def _left(self, ticket: Generation) -> list[Bell]:
        """The end of a ticket -> who hears of it."""
        self._tight = False
        self._open.pop(ticket, None)
        loop.leave(self._pool, ticket)
        return [*ticket.tell(), *ticket.outlet.put(None)]
