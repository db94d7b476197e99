"""The one loop over steps: all tickets that run are fed together, so that weights are read once for all of them.

Each ticket has a session of its own. Prompts and generated tokens go into the same ragged steps, each in the form
of its kind; who has finished leaves, and the next one takes the place. What a token means to its sequence is the
ticket's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pyggml.engine import session as stepping
from pyggml.engine.pool import Pool
from pyggml.engine.ticket import Feed, Ticket
from pyggml.errors import Cancelled, OutOfMemory

T = TypeVar("T")

PLACES = 16
"""Sequences that run at once; more gain little and their caches take memory."""


def step(tickets: Sequence[Ticket]) -> None:
    """One step of all of them; those that have nothing to feed end. A cancelled one ends no later than the next step.

    Raises what the step raises, and then no ticket has moved. What a ticket itself raises ends that ticket alone.
    """
    feeds = [(ticket, feed) for ticket in tickets if (feed := _fed(ticket)) is not None]
    if not feeds:
        return
    feeds.sort(key=lambda each: each[1].decode)  # rows of a kind run together
    for ticket, feed in feeds:
        stepping.feeds(ticket.seat.session, feed.decode)
    sessions = [ticket.seat.session for ticket, _ in feeds]
    ids = [feed.ids for _, feed in feeds]
    try:
        if all(feed.sampler is not None or not feed.n_rows for _, feed in feeds):
            chosen = stepping.choose(sessions, [feed.sampler for _, feed in feeds], ids)
            for (ticket, feed), token in zip(feeds, chosen, strict=True):
                ticket.seat.ids.extend(feed.ids)
                if feed.sampler is not None:
                    _told(ticket, ticket.take, token)
        else:
            logits = stepping.rows(sessions, ids, [feed.n_rows for _, feed in feeds])
            for (ticket, feed), rows in zip(feeds, logits, strict=True):
                ticket.seat.ids.extend(feed.ids)
                if feed.n_rows:
                    _told(ticket, ticket.read, rows)
    except Cancelled:
        if not any(ticket.cancelled for ticket, _ in feeds):
            raise  # by somebody who knows the session, not the ticket


def _fed(ticket: Ticket) -> Feed | None:
    try:
        feed = ticket.feed()
    except Exception as error:
        ticket.fail(error)
        return None
    if feed is None:
        ticket.end()
    return feed


def _told(ticket: Ticket, tell: Callable[[T], None], what: T) -> None:
    try:
        tell(what)
    except Exception as error:
        ticket.fail(error)


def run(pool: Pool, tickets: Iterable[Ticket]) -> None:
    """Runs all to their ends, PLACES at a time, in any order. Where memory ends, fewer run at a time."""
    waiting = deque(tickets)
    running: list[Ticket] = []
    try:
        while waiting or running:
            while waiting and len(running) < PLACES and _sits(pool, waiting[0], bool(running)):
                running.append(waiting.popleft())
            step(running)
            for ticket in [each for each in running if each.ended]:
                if ticket.error is not None:
                    raise ticket.error
                running.remove(ticket)
                seat = ticket.leave()
                if seat is not None and waiting:
                    pool.pass_on(seat, waiting[0].prefix)
                    waiting[0].sit(seat)
                    running.append(waiting.popleft())
                elif seat is not None:
                    pool.give_back(seat)
    finally:
        for ticket in running:
            leave(pool, ticket)


def leave(pool: Pool, ticket: Ticket) -> None:
    """Gives back what a ticket ran on, if it has it still."""
    seat = ticket.leave()
    if seat is not None:
        pool.give_back(seat)


def _sits(pool: Pool, ticket: Ticket, others: bool) -> bool:
    """Whether there was a session for one more."""
    try:
        ticket.sit(pool.take(ticket.prefix))
    except OutOfMemory:
        if not others:
            raise
        return False
    return True
