"""Beginning a thread: none left, and what a signal handler raises meanwhile."""

from __future__ import annotations

import _thread
import threading
from collections import Counter
from functools import partial

import pytest
from unit.interrupts import struck

from pyggml.leaving import Made
from pyggml.threads import begun


def test_it_works_in_a_thread_of_its_own() -> None:
    where, worked = [threading.get_ident()], threading.Event()

    def work() -> None:
        where.append(threading.get_ident())
        worked.set()

    assert begun(work)
    assert worked.wait(60)
    assert where[0] != where[1]


def test_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    assert not begun(lambda: None)


def test_ctrl_c_at_any_moment_while_a_value_is_made() -> None:
    """None is lost, none lets a thread wait for ever, none makes a value twice."""

    made = Counter[int]()
    assert struck(lambda i: Made(partial(made.update, [i])).get(), 2000, 3e-4, seed=4) == 2000
    assert set(made.values()) == {1}
