"""A value made beside other work: waited for, made without a thread, made in a child; and the door before a fork."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from pyggml import leaving


def test_it_is_made_once_by_a_thread_that_is_no_daemon() -> None:
    seen: list[threading.Thread] = []

    def make() -> int:
        seen.append(threading.current_thread())
        time.sleep(0.01)
        return 7

    made = leaving.Made(make)
    assert [made.get(), made.get()] == [7, 7]
    assert len(seen) == 1
    assert seen[0] is not threading.current_thread()
    assert not seen[0].daemon


def test_errors_are_raised_each_time() -> None:
    made = leaving.Made(lambda: int("x"))
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            made.get()


def test_without_a_thread_get_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    made = leaving.Made(threading.current_thread)
    made.wait()
    assert made.get() is threading.current_thread()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_makes_what_its_parent_had_not_finished() -> None:
    go = threading.Event()
    made = leaving.Made(lambda: go.wait(60) and os.getpid())
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        go.set()
        os._exit(0 if made.get() == os.getpid() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    go.set()
    assert made.get() == os.getpid()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_calls_that_must_not_be_cut() -> None:
    inside, done = threading.Event(), []

    def call() -> None:
        inside.set()
        time.sleep(0.05)
        done.append(1)

    thread = threading.Thread(target=leaving.whole, args=(call,))
    thread.start()
    inside.wait()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if done and not leaving._inside and not leaving._shut else 1)
    assert os.waitpid(pid, 0)[1] == 0
    thread.join()
    assert leaving.whole(leaving.whole, max, 1, 2) == 2
    assert not leaving._inside
    assert not leaving._shut
