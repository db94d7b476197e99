"""Endless repetition: whether a text has come to say the same over and over. Tokens in, no model."""

from __future__ import annotations

import numpy as np

LONGEST = 512
"""Tokens of the longest sentence whose repetition is seen."""
LEAST = 128
"""Tokens that must have repeated others: a table, a verse or a row of zeros is no loop yet."""
TIMES = 3
"""How often the whole of a long sentence must have come again."""


class Loops:
    """Watches the tokens of one text.

    A loop is a sentence of at most LONGEST tokens said TIMES more without a change, LEAST tokens at least.

    >>> watch = Loops()
    >>> [watch.closed_by(token) for token in [1, 2, 3] * 100].index(True)
    130
    """

    def __init__(self) -> None:
        self._last = np.full(LONGEST, -1, np.int64)  # the newest first
        self._runs = np.zeros(LONGEST, np.int64)  # [period - 1]: how many of the newest repeat those a period before
        periods = np.arange(1, LONGEST + 1)
        self._needed = np.maximum(LEAST, TIMES * periods)

    def closed_by(self, token: int) -> bool:
        """Whether this token, the next of the text, completes a loop."""
        self._runs += 1
        self._runs[self._last != token] = 0
        self._last[1:] = self._last[:-1]
        self._last[0] = token
        return bool((self._runs >= self._needed).any())
