"""The scheduler by a simulated clock: shares of a step, fair turns, admission, and what one's failure means to others.

Steps are simulated: they cost what such steps cost (64 rows of a prompt as much as one for generated tokens), and
nothing is computed. What runs beside real models stands in tests/model/test_scheduler.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

import pyggml
from pyggml.engine import outlet, scheduler
from pyggml.engine.pace import LEAST, Pace, shares
from pyggml.engine.turns import Turns
from pyggml.errors import NumericError, OutOfMemory, QueueFull


class Seat:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.session = self

    def worth(self, prefix: Sequence[int]) -> int:
        return 0

    def close(self) -> None:
        pass


class Pool:
    reuse = True
    n_out = 0

    def worth(self, prefix: Sequence[int]) -> int:
        return 0

    def take(self, prefix: Sequence[int]) -> Seat:
        return Seat()

    def give_back(self, seat: Seat) -> None:
        pass

    def let_go(self) -> bool:
        return False


class Plan:
    def kv_bytes(self, kind: int, positions: int) -> int:
        return positions


class Loaded:
    closed = False
    plan = Plan()

    class kv_type:  # noqa: N801
        id = 0


_numbers = itertools.count(1)


class Text:
    """A request that reads n_prompt ids and makes n_more tokens, as far as the scheduler looks at one."""

    def __init__(self, n_prompt: int, n_more: int = 10, owner: object = None) -> None:
        mark = next(_numbers)
        self.ids = [mark] * n_prompt
        self.prefix = self.ids[:-1]
        self.most_positions = n_prompt + n_more
        self.n_more, self.made = n_more, 0
        self.shifted = False
        self.parked, self.ended, self.cancelled, self.late = True, False, False, False
        self.share: int | None = None
        self.error: Exception | None = None
        self._seat: Seat | None = None
        self.outlet: outlet.Outlet[Any] = outlet.Outlet(owner or self, in_pieces=False)
        self.first = self.over = -1.0

    def __repr__(self) -> str:
        return f"<{len(self.ids)} ids, {self.made} made>"

    @property
    def seat(self) -> Seat:
        assert self._seat is not None
        return self._seat

    @property
    def seated(self) -> bool:
        return self._seat is not None

    @property
    def n_unread(self) -> int:
        return len(self.ids) - (len(self._seat.ids) if self._seat else 0)

    def twin_of(self, other: Any) -> bool:
        return False

    def sit(self, seat: Seat) -> None:
        self._seat = seat

    def leave(self) -> Seat | None:
        seat, self._seat = self._seat, None
        return seat

    def feed(self) -> None:
        if not (self.cancelled or self.late):
            self.seat.ids.clear()

    def end(self) -> None:
        self.ended = True

    def fail(self, error: Exception) -> None:
        self.error, self.ended = error, True

    def tell(self) -> list[Any]:
        return []


class World:
    """A scheduler over a machine of which a step takes 0.1 s, and 64 rows of prompts as much again."""

    def __init__(self, places: int = 4, most_waiting: int = 1000, room: int = 0) -> None:
        self.now = 0.0
        self.steps: list[list[tuple[Text, int]]] = []
        self.broken: dict[Text, Exception] = {}
        made: Any = scheduler.Scheduler(
            Loaded(), Pool(), places, most_waiting, clock=lambda: self.now, step=self.step  # type: ignore[arg-type]
        )  # fmt: skip
        made._room = room
        self.scheduler = made
        self.scheduler._take = self.scheduler._inbox.put  # no thread: turn() is called here

    def step(self, tickets: Sequence[Any]) -> None:
        for ticket in tickets:
            if ticket in self.broken:
                raise self.broken[ticket]
        rows = {ticket: min(ticket.share or 0, ticket.n_unread) for ticket in tickets if not ticket.cancelled}
        self.steps.append(list(rows.items()))
        self.now += 0.1 * (any(not ticket.n_unread for ticket in tickets) + sum(rows.values()) / 64)
        for ticket in tickets:
            if ticket.cancelled:
                ticket.end()
                continue
            if ticket.n_unread:
                ticket.seat.ids.extend(ticket.ids[: rows[ticket]])
                if ticket.n_unread:
                    continue
                ticket.first = self.now
            ticket.made += 1
            if ticket.made >= ticket.n_more:
                ticket.end()
                ticket.over = self.now

    def submit(self, *texts: Text) -> None:
        self.scheduler.submit(list(texts))

    def run(self, until: float = 1e9) -> None:
        while self.now < until and self.scheduler.turn():
            pass


@pytest.fixture(autouse=True)
def _looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_LOOK", 0.0)


def test_rows_are_shared_alike() -> None:
    assert shares([500, 500], 64) == [32, 32]
    assert shares([5, 500, 500], 65) == [5, 30, 30]
    assert shares([], 64) == []
    for wanted in ([1, 2, 3], [100] * 7, [0, 9]):
        for most in (0, 1, 5, 64, 1000):
            given = shares(wanted, most)
            assert sum(given) == min(most, sum(wanted))
            assert all(0 <= each <= want for each, want in zip(given, wanted, strict=True))
            hungry = [each for each, want in zip(given, wanted, strict=True) if each < want]
            assert not hungry or max(hungry) - min(hungry) <= 1


def test_the_pace_is_what_was_measured() -> None:
    pace = Pace(512)
    assert (pace.most(False), pace.most(True)) == (512, LEAST)  # nothing is known yet
    pace.note(512, 0, 0.5)
    assert (pace.most(False), pace.most(True)) == (512, 96)  # 1024 a second: 102 in 0.1 s
    pace.note(3, 16, 10.0)  # of few rows nothing is learned
    assert pace.most(True) == 96
    for _ in range(9):
        pace.note(64, 4, 3.2)  # a slow machine: 20 a second
    assert (pace.most(False), pace.most(True)) == (LEAST, LEAST)


def test_nobody_waits_longer_for_a_token_than_a_step_with_its_share_of_prompts() -> None:
    world = World(places=8)
    talking = [Text(8, 400) for _ in range(4)]
    world.submit(*talking)
    world.run(until=2)
    world.submit(Text(20_000, 1))
    before = [each.made for each in talking]
    began = world.now
    world.run(until=began + 20)
    for each, had in zip(talking, before, strict=True):  # a step of 0.1 s, and as much again for the prompt
        assert each.made - had >= 20 / 0.2 - 2


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    world = World(places=4)
    long, short = Text(30_000, 1), Text(60, 1)
    world.submit(long)
    world.run(until=5)
    came = world.now
    world.submit(short)
    world.run(until=came + 3)
    assert short.first > 0
    assert short.first - came <= 2 * (512 / 64 * 0.1) + 0.3  # the step that ran, and one that they share
    assert not long.ended
    world.run()
    assert long.ended


def test_a_list_of_thousands_lets_others_through() -> None:
    world = World(places=4)
    many, one = [Text(8, 20) for _ in range(1000)], Text(8, 20)
    world.submit(*many)
    world.run(until=5)
    came = world.now
    world.submit(one)
    world.run(until=came + 20)
    assert 0 < one.over <= came + 2 * 20 * 0.12  # the next place that becomes free, and its own tokens
    assert sum(each.ended for each in many) < 600
    world.run()
    assert all(each.ended for each in many)


def test_turns_go_round() -> None:
    turns = Turns()
    a, b, c = ([Text(i) for i in range(1, 4)] for _ in range(3))
    for each in (a, b, c):
        turns.add(each)  # type: ignore[arg-type]
    assert len(turns) == 9 == len(list(turns))
    order = []
    while (ticket := turns.first(lambda each: True)) is not None:
        turns.leave(ticket)
        order.append(ticket)
    assert order == [a[0], b[0], c[0], a[1], b[1], c[1], a[2], b[2], c[2]]  # type: ignore[comparison-overlap]
    turns.add(a)  # type: ignore[arg-type]
    turns.back(b[0])  # type: ignore[arg-type]
    assert turns.first(lambda each: True) is b[0]  # type: ignore[comparison-overlap]
    assert turns.take(lambda each: each in (a[0], a[2])) == [a[0], a[2]]  # type: ignore[comparison-overlap]
    assert len(turns) == 2
    assert list(turns) == [b[0], a[1]]  # type: ignore[comparison-overlap]


def test_memory_lets_in_as_many_as_it_bears_and_the_next_in_order() -> None:
    world = World(places=8, room=1000)
    big, small = [Text(400, 50) for _ in range(3)], [Text(10, 5) for _ in range(3)]
    world.submit(*big)
    world.submit(*small)
    world.run(until=0.01)
    seated = [each for each in (*big, *small) if each.seated or each.ended]
    assert big[0] in seated
    assert sum(each.most_positions for each in seated) <= 1000
    world.run()
    assert all(each.ended and each.error is None for each in (*big, *small))
    alone = World(places=8, room=100)
    huge = Text(500, 5)
    alone.submit(huge)
    alone.run()
    assert huge.ended
    assert huge.error is None


def test_a_queue_has_an_end() -> None:
    world = World(places=1, most_waiting=3)
    for _ in range(4):
        world.submit(Text(5, 5))
        world.scheduler.turn()
    with pytest.raises(QueueFull, match=r"3 requests wait already, 1 run: .* max_queue than 3"):
        world.submit(Text(5))
    world.run()
    world.submit(Text(5))
    world.run()


def test_the_cancelled_the_late_and_the_forgotten_leave_with_the_next_step() -> None:
    world = World(places=2)
    runs, waits, late = Text(5, 1000), [Text(5, 1000) for _ in range(3)], Text(5)

    class Owner:
        pass

    owner = Owner()
    forgotten = Text(5, 1000, owner)
    world.submit(runs, forgotten)
    world.scheduler.turn()
    world.submit(*waits, late)
    world.run(until=1)
    assert not any(each.seated for each in (*waits, late))
    world.scheduler.cancel(runs)
    world.scheduler.cancel(waits[1])
    late.late = True
    del owner
    n = len(world.steps)
    world.scheduler.turn()
    assert (runs.ended, forgotten.ended, waits[1].ended, late.ended) == (True,) * 4
    assert len(world.steps) == n + 1
    world.scheduler.turn()
    assert (waits[0].seated, waits[2].seated) == (True, True)


def test_who_waits_and_is_forgotten_harms_nobody() -> None:
    world = World(places=1)

    class Owner:
        pass

    owner = Owner()
    first, forgotten, last = Text(5, 20), Text(5, 20, owner), Text(5, 20)
    for each in (first, forgotten, last):
        world.submit(each)
    world.scheduler.turn()
    del owner
    world.run()
    assert [(each.ended, each.error) for each in (first, forgotten, last)] == [(True, None)] * 3
    assert forgotten.made == 0


def test_an_error_that_nobody_foresaw_leaves_nobody_waiting() -> None:
    world = World(places=1)
    texts = [Text(5, 20) for _ in range(3)]
    for each in texts:
        world.submit(each)
    world.scheduler.turn()
    world.scheduler._tell = lambda: 1 / 0  # type: ignore[assignment]
    world.scheduler._work()
    assert all(isinstance(each.error, ZeroDivisionError) and len(each.outlet) == 1 for each in texts)
    assert len({id(each.error) for each in texts}) == 3  # raised in three threads
    assert not world.scheduler.turn()


def test_what_one_does_wrong_is_its_own() -> None:
    world = World(places=4)
    good, bad = [Text(5, 5) for _ in range(3)], Text(5, 5)
    world.broken[bad] = NumericError("nan")
    world.submit(bad, *good)
    world.run()
    assert bad.error is world.broken[bad]
    assert all(each.ended and each.error is None and each.made == 5 for each in good)


def test_where_memory_ends_in_a_step_somebody_is_sent_back_and_comes_again() -> None:
    world = World(places=4)
    texts = [Text(5, 5) for _ in range(3)]
    world.submit(*texts)
    world.broken[texts[1]] = OutOfMemory("no more")
    world.scheduler.turn()
    assert not texts[1].seated
    assert not texts[1].ended
    world.broken.clear()
    world.run()
    assert all(each.ended and each.error is None and each.made == 5 for each in texts)
    lost = Text(5, 5)
    world.broken[lost] = OutOfMemory("no more")
    world.submit(lost)
    world.run()
    assert lost.error is world.broken[lost]


def test_whoever_makes_texts_cannot_wait_for_one() -> None:
    with pyggml.load(n_ctx=64) as m:
        works = m._engine._scheduler
        works._worker = scheduler.threading.get_ident()
        with pytest.raises(pyggml.ArgumentError, match="in the middle of making one"):
            m.generate("Once", max_tokens=1)
        works._worker = 0
        m.generate("Once", max_tokens=1)
