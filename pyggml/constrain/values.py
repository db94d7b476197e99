"""Numbers and constants of a schema as the parser can keep them: exact, or a little narrower, never wider.

Readers of JSON compute in doubles: what lies between two of them may pass for a neighbour that a bound forbids, so
digits beside a bound are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

_MOST_WHOLE = 2**53 - 1  # every double holds these
_MOST = 1e15  # of other bounds
_LEAST = 1e-9

ROOM = {"minimum": -_MOST, "maximum": _MOST}


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (isinstance(value, int) or math.isfinite(value))
    )


def bound(value: int | float, upper: bool) -> int | float | None:
    """The bound as it is, where the parser can keep it, else a number inside of it; None: nothing is left.

    >>> bound(5, upper=True), bound(2**63, upper=True), bound(1e-12, upper=False), bound(2**60, upper=False)
    (5, 9007199254740991, 1e-09, None)
    """
    most = _MOST_WHOLE if isinstance(value, int) else _MOST
    if abs(value) > most:
        return None if (value < 0) == upper else most if upper else -most
    if 0 < abs(value) < _LEAST:
        return 0 if (value > 0) == upper else -_LEAST if upper else _LEAST
    return value


def step(bounds: Iterable[int | float]) -> float:
    """Of what numbers must be multiples, so that none of them is read as one of bounds, which they are not.

    >>> step([1]), step([0, 10**9])
    (1e-09, 1e-05)
    """
    digits = min((14 - Decimal(repr(value)).adjusted() for value in bounds if value), default=9)
    return float(Decimal(10) ** -max(0, min(9, digits)))


def keeps(multiple: int | float) -> bool:
    """Whether division by it is exact in doubles: a whole number, or a half, a quarter and so on."""
    return 0 < multiple <= _MOST_WHOLE and (
        isinstance(multiple, int)
        or multiple == int(multiple)
        or (math.frexp(multiple)[0] == 0.5 and multiple >= 2**-20)
    )


def fault(value: Any, level: int = 0) -> str:
    """What is wrong with a constant: ""; or why a text of it cannot be told from its neighbours."""
    if level > 20:
        return "it is nested deeper than 20"
    if isinstance(value, str):
        return "" if whole(value) else "it has half of a character"
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return "" if abs(value) <= _MOST_WHOLE else "readers in doubles know it from its neighbours below 2^53 only"
    if isinstance(value, float):
        fits = math.isfinite(value) and (value == 0 or 1e-6 <= abs(value) <= _MOST)
        return "" if fits else "its size must be 0, or from 1e-6 to 1e15"
    if isinstance(value, list):
        return next(filter(None, (fault(each, level + 1) for each in value)), "")
    if isinstance(value, dict):
        return next(filter(None, (fault(each, level + 1) for pair in value.items() for each in pair)), "") or (
            "" if all(isinstance(key, str) for key in value) else "a key of it is no text"
        )
    return f"{type(value).__name__} is no value of JSON"


def whole(text: str) -> bool:
    """Whether a text has no half characters."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)
