"""How many rows of prompts a step takes, so that those who wait for their next token wait a stated time at most.

A step with few rows costs what reading the weights costs, so some rows of a prompt beside it are nearly free; more are
a delay for all others. Their rate is measured. Cuts of a prompt change no bits (docs/adr/0007), so any number is right.
"""

from __future__ import annotations

from collections.abc import Sequence

BESIDE, ALONE = 0.1, 0.5
"""Seconds that rows of prompts may add to a step: beside generated tokens, and without any."""
LEAST = 64
"""Rows that are worth a step of their own on the slowest machine."""
_ROUND = 32  # rows; kernels take them in groups


def shares(wanted: Sequence[int], most: int) -> list[int]:
    """most, given out to those who want so much each: to all alike, and what one does not want to the others.

    >>> shares([10, 500, 500], 110), shares([3, 4], 100), shares([5, 5, 5], 4)
    ([10, 50, 50], [3, 4], [2, 1, 1])
    """
    given = [0] * len(wanted)
    left = most
    by_want = sorted(range(len(wanted)), key=lambda i: wanted[i])
    for k, i in enumerate(by_want):
        given[i] = min(wanted[i], -(-left // (len(by_want) - k)))
        left -= given[i]
    return given


class Pace:
    """Rows of prompts a second, learned from steps. n_batch: the most that a step takes in one piece."""

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        self._rate = 0.0

    def most(self, decoding: bool) -> int:
        """Rows of prompts for the next step; decoding: some in it wait for their next token."""
        if not self._rate:
            return LEAST if decoding else self._n_batch
        rows = int(self._rate * (BESIDE if decoding else ALONE)) // _ROUND * _ROUND
        return min(max(rows, LEAST), self._n_batch)

    def note(self, n_prompt: int, n_decode: int, seconds: float) -> None:
        """What a step took. Steps of few rows of prompts say nothing about them."""
        if n_prompt >= max(LEAST // 2, 4 * n_decode) and seconds > 0:
            rate = n_prompt / seconds
            self._rate = (self._rate + rate) / 2 if self._rate else rate
