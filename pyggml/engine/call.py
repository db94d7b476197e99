"""A call that wants whole texts: its tickets are made together, and it waits for all, or for the first error."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pyggml.completion import Completion
from pyggml.engine.engine import Engine
from pyggml.engine.generation import Generation, Request
from pyggml.engine.outlet import Outlet

Completions = Completion | list[Completion] | list[list[Completion]]


class Call:
    """Requests that run until run() or arun() has all their texts. What ends the waiting ends them too.

    prompts: the requests of each, one for each of its samples. one: a prompt, and no list of them. The result is a
    Completion, a list where there are several prompts or samples, and lists in a list where there are both.
    """

    def __init__(self, engine: Engine, prompts: Sequence[Sequence[Request]], one: bool) -> None:
        """Judges the requests, as Engine.ticket() does; no work yet."""
        self._engine = engine
        self._prompts, self._one = prompts, one
        self._outlet: Outlet[None] = Outlet(self, in_pieces=False)
        self._tickets = [engine.ticket(request, self._outlet) for requests in prompts for request in requests]

    def run(self) -> Completions:
        """Waits in this thread. After Ctrl-C and other exceptions nothing of it works on."""
        self._engine.submit(self._tickets)
        try:
            for _ in self._tickets:
                self._outlet.get()
                self._check()
        except BaseException:
            for _ in self._cancelled():
                self._outlet.get()
            raise
        return self._done()

    async def arun(self) -> Completions:
        """Waits in this coroutine; cancelled, it ends its tickets with the step that runs."""
        self._engine.submit(self._tickets)
        try:
            for _ in self._tickets:
                await self._outlet.heard()
                self._check()
        except BaseException:
            self._cancelled()
            raise
        return self._done()

    def _check(self) -> None:
        failed = next((ticket.error for ticket in self._tickets if ticket.error is not None), None)
        if failed is not None:
            raise failed

    def _cancelled(self) -> list[Generation]:
        """Cancels all that run still -> which."""
        left = [ticket for ticket in self._tickets if not ticket.ended]
        for ticket in left:
            self._engine.cancel(ticket)
        return left

    def _done(self) -> Completions:
        done = [ticket.sum_up() for ticket in self._tickets]
        if all(len(requests) == 1 for requests in self._prompts):
            return done[0] if self._one else done
        ends = list(itertools.accumulate(map(len, self._prompts)))
        groups = [done[first:end] for first, end in zip([0, *ends], ends, strict=False)]
        return groups[0] if self._one else groups
