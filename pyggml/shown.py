"""Values as messages show them: short, on one line, whatever they are and however large.

shown() is for what a caller passed, clip() for what stands in a file.
"""

from __future__ import annotations

import itertools
import reprlib

import numpy as np

_MOST = 60  # characters of a value in a message
_BITS = 200  # of an integer that is written out


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, _MOST, _MOST

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= _BITS else f"an integer of {x.bit_length()} bits"


def shown(value: object) -> str:
    """A value in a message: short, on one line, whatever it is.

    >>> shown(-1), shown("x" * 100)[:8], shown(10**5000), shown(np.zeros((2, 3)))
    ('-1', "'xxxxxxx", 'an integer of 16610 bits', 'ndarray of shape (2, 3) and type float64')
    """
    kind = type(value)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and not isinstance(value, np.generic):
        return f"{kind.__name__} of shape {tuple(shape)} and type {dtype}"[: 2 * _MOST]
    text = " ".join(_Short().repr(value).split())
    if value is None or kind in (bool, int, float, str) or isinstance(value, np.generic):
        return text
    return f"{kind.__name__} {text}"[: 2 * _MOST]


def clip(value: object, limit: int = 120) -> str:
    """repr(value) in ASCII, cut to limit: what error messages and tables show of foreign bytes and values.

    Of lists, tuples and dicts only a few items and levels are looked at: a small file can hold a value whose repr
    would fill any memory.
    """
    text = _shown(value, limit, 0)
    return text if len(text) <= limit else text[: limit - 3] + "..."


_ITEMS, _LEVELS = 10, 4
_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", dict: "{}"}


def _shown(value: object, limit: int, level: int) -> str:
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to print very long ones
    if isinstance(value, (str, bytes)):
        return ascii(value[:limit]) + "..." * (len(value) > limit)
    brackets = _BRACKETS.get(type(value))
    if brackets is None:
        return ascii(value)
    if level == _LEVELS:
        return brackets[0] + "..." + brackets[1]
    parts: list[str] = []
    if isinstance(value, dict):
        some = itertools.islice(value.items(), _ITEMS)
        parts = [f"{_shown(k, limit, level + 1)}: {_shown(v, limit, level + 1)}" for k, v in some]
    elif isinstance(value, (list, tuple)):
        parts = [_shown(item, limit, level + 1) for item in value[:_ITEMS]]
    if len(value) > _ITEMS:  # type: ignore[arg-type]
        parts.append("...")
    comma = "," if len(parts) == 1 and brackets == "()" else ""
    return brackets[0] + ", ".join(parts) + comma + brackets[1]
