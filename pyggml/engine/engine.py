"""An engine: a loaded file, its sessions, and who steps them. A request becomes a ticket, and tickets run together.

A Model is its public face. Texts are made in a thread of their own (scheduler.py), what is only read in the caller's;
there is no lock here (docs/adr/0013).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.engine import loop
from pyggml.engine.generation import Generation, Request
from pyggml.engine.loaded import Loaded
from pyggml.engine.memory import Memory
from pyggml.engine.outlet import Outlet
from pyggml.engine.pool import Pool
from pyggml.engine.scheduler import Scheduler
from pyggml.engine.ticket import AtOnce, Reading, Ticket


class Engine:
    """prefix_reuse: idle sessions keep what they hold, and a prompt that begins as they do goes on from there.

    places: texts that are made at once. most_waiting: requests that may wait for one.
    """

    def __init__(self, loaded: Loaded, prefix_reuse: bool, places: int, most_waiting: int) -> None:
        self.loaded = loaded
        self._pool = Pool(loaded, prefix_reuse)
        self._readers = {name: Pool(loaded, False, name) for name in loaded.outputs if name != "logits"}
        self._scheduler = Scheduler(loaded, self._pool, places, most_waiting)

    @property
    def plan(self) -> _native.Plan:
        """The forward pass."""
        return self.loaded.plan

    def ticket(self, request: Request, outlet: Outlet[Any]) -> Generation:
        """A ticket for a text. Raises ContextFull or ArgumentError where the prompt cannot be fed; does no work."""
        self.loaded.check_open()
        self.loaded.output("logits")
        self.loaded.check_ids(request.ids, 0, self.loaded.n_ctx)
        return Generation(self.loaded, request, outlet)

    def submit(self, tickets: Sequence[Generation]) -> None:
        """Has the texts of a call made, in another thread. Raises QueueFull."""
        self.loaded.check_open()
        for ticket in tickets:
            ticket.ask()
        self._scheduler.submit(tickets)

    def go_on(self, ticket: Generation) -> None:
        """Has a text made as far as its reader can follow; submits it the first time.

        Where the model is closed, that is the error which the text ends with.
        """
        ticket.ask()
        self._scheduler.go_on(ticket)

    @property
    def works_here(self) -> bool:
        """Whether it is this thread that makes the texts, which cannot wait for one."""
        return self._scheduler.works_here

    def cancel(self, ticket: Generation) -> None:
        """Ends a text soon."""
        self._scheduler.cancel(ticket)

    def run(self, tickets: Sequence[Ticket]) -> None:
        """Runs tickets that read together in this thread, each to its end. All want the same output."""
        if tickets:
            loop.run(self._readers.get(tickets[0].output, self._pool), tickets)

    def read(
        self, ids: Sequence[int], use: Callable[[int, NDArray[np.float32]], None], first: int = 0, piece: int = 0
    ) -> None:
        """Feeds ids and calls use(at, logits) with the logits from position first on, so many at a time (0: all).

        Raises as submit() does.
        """
        self.loaded.check_open()
        self.loaded.output("logits")
        self.loaded.check_ids(ids, 0, self.loaded.n_ctx)
        self.run([Reading(ids, use, first, piece)])

    def read_at_once(self, tickets: Sequence[AtOnce]) -> None:
        """Runs tickets together, those of long texts first. Raises as submit() does, before any work."""
        self.loaded.check_open()
        for each in tickets:
            self.loaded.check_ids(each.ids, 0, self.loaded.n_ctx)
        longest_first: list[AtOnce] = sorted(tickets, key=lambda each: -len(each.ids))
        self.run(longest_first)

    def caches(self) -> list[int]:
        """Bytes of each open session's cache, the idle ones' too."""
        return self.plan.caches()

    def memory(self) -> Memory:
        """Bytes held now. Raises PyggmlError when closed."""
        self.loaded.check_open()
        weights = sum(info.nbytes for info in self.loaded.file.tensors.values())
        return Memory(weights, self.plan.cache_bytes, self.plan.arena_bytes)

    def close(self) -> None:
        """Frees everything at once; from any thread, any number of times."""
        self.loaded.close()
        self._pool.clear()
        for pool in self._readers.values():
            pool.clear()
