"""Beginning a thread: none left, and what a signal handler raises meanwhile."""

from __future__ import annotations

import _thread
import random
import signal
import threading
import time
from collections import Counter

import pytest

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

    def strike(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    rng, struck, made = random.Random(4), 0, Counter[int]()
    old = signal.signal(signal.SIGALRM, strike)
    try:
        for i in range(2000):
            ends = time.monotonic() + 20
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 3e-4))
                Made(lambda i=i: made.update([i])).get()  # type: ignore[misc]
                while time.monotonic() < ends:
                    time.sleep(0.01)
            except KeyboardInterrupt:
                struck += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert struck == 2000
    assert set(made.values()) == {1}
