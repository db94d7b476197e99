"""Many prompts at once: one step feeds all running sequences, so that weights are read once for all of them.

Each prompt has a session of its own. Prompts and single tokens go into the same ragged steps; who has finished leaves,
and the next prompt takes the place. What a token means to its sequence is Continuation's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyggml.completion import Completion
from pyggml.engine.generate import Continuation, Stream, complete
from pyggml.engine.session import Session
from pyggml.errors import OutOfMemory

if TYPE_CHECKING:
    from pyggml.model import Model

PLACES = 16
"""Sequences that run at once; more gain little and their caches take memory."""


def complete_all(model: Model, whats: Sequence[Continuation]) -> list[Completion]:
    """Runs all to their ends, in any order; results in the order given. Every prompt is judged before any work."""
    spare = [model._borrow()]
    running: dict[int, Session] = {}
    done: dict[int, Completion] = {}
    try:
        for what in whats:
            spare[0].check(what.prompt)
        if any(what.n_logprobs is not None for what in whats):  # they need every logit: one by one
            return [complete(Stream(model, what)) for what in whats]
        waiting = list(reversed(range(len(whats))))
        while waiting or running:
            while waiting and len(running) < PLACES and _place(model, spare, bool(running)):
                whats[waiting[-1]].begin()
                running[waiting.pop()] = spare.pop()
            feeds: dict[int, list[int]] = {}
            for i, session in list(running.items()):
                feed = whats[i].feed(session)
                if feed is None:
                    whats[i].end()
                    done[i] = whats[i].sum_up()
                    spare.append(running.pop(i))
                    spare[-1].reset()
                else:
                    feeds[i] = feed
            if feeds:
                tokens = _step(model, [running[i] for i in feeds], [whats[i] for i in feeds], list(feeds.values()))
                for i, token in zip(feeds, tokens, strict=True):
                    whats[i].take(token)
        return [done[i] for i in range(len(whats))]
    finally:
        for session in [*spare, *running.values()]:
            model._give_back(session)


def _place(model: Model, spare: list[Session], others: bool) -> bool:
    """Whether there is a session for one more. Where memory ends, those that run go on alone."""
    if spare:
        return True
    try:
        spare.append(model._borrow())
    except OutOfMemory:
        if not others:
            raise
        return False
    return True


def _step(model: Model, sessions: list[Session], whats: list[Continuation], feeds: list[list[int]]) -> list[int]:
    """One step of all: -> the token chosen for each."""
    tokens = [np.asarray(feed, np.int32) for feed in feeds]
    natives = [session._native for session in sessions]
    samplers = [what.sampler for what in whats]
    with model._stepping():
        return model._plan.next(natives, samplers, tokens, model.n_threads)
