"""Ctrl-C at random moments of a piece of work, again and again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable


def struck(work: Callable[[int], object], times: int, longest: float, seed: int) -> int:
    """How many of so many calls work(i), each with one interrupt up to `longest` seconds after its beginning, saw it.

    What ended before waits for its own; one that is lost is missed after 20 seconds.
    """

    def strike(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    rng, seen = random.Random(seed), 0
    old = signal.signal(signal.SIGALRM, strike)
    try:
        for i in range(times):
            ends = time.monotonic() + 20
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, longest))
                work(i)
                while time.monotonic() < ends:
                    time.sleep(0.01)
            except KeyboardInterrupt:
                seen += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    return seen
