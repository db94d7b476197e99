"""Sizes as people write them: bytes with a unit and bits per weight, read alike by every call and option."""

from __future__ import annotations

import math
import operator
import re
from decimal import Decimal
from typing import Any

from pyggml.errors import ArgumentError
from pyggml.shown import shown

_SIZE = re.compile(r"(\d+(?:_\d+)*(?:\.\d+)?|\.\d+)(?:e(\+?\d{1,3}))?\s*(?:([kmgtp])(i?))?(?:b|bytes?)?", re.ASCII)
_BITS = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:bpw|bits?)?", re.ASCII)
_MOST = 1 << 63  # what a file or a memory cannot reach
_FORMS = 'a number of bytes, or text like "4GiB", "1.5G", "500MB", "2 TiB" or "1e9"'


def byte_size(value: Any, name: str = "size") -> int:
    """Bytes of a number or of text with a unit; K, M, G, T and P are powers of 1000, KiB ... of 1024. Case is free.

    name: what the message calls the value. Raises ArgumentError for all else, for parts of a byte and from 2^63 on.

    >>> byte_size("4GiB"), byte_size("500M"), byte_size("1.5 kib"), byte_size(12), byte_size("1e9")
    (4294967296, 500000000, 1536, 12, 1000000000)
    """
    nbytes = _bytes(value)
    if nbytes is None:
        raise ArgumentError(f"{name}: expected {_FORMS}; got {shown(value)}")
    if nbytes >= _MOST:
        raise ArgumentError(f"{name}: expected less than 2^63 bytes, got {shown(value)}")
    return int(nbytes)


def _bytes(value: Any) -> Decimal | int | None:
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip().lower())
        if found is None:
            return None
        number, power, unit, binary = found.groups()
        scale = (1024 if binary else 1000) ** (" kmgtp".index(unit) if unit else 0)
        nbytes = Decimal(number.replace("_", "")) * 10 ** int(power or 0) * scale
        return None if unit is None and nbytes != int(nbytes) else nbytes
    number = _number(value)
    return None if number is None or number < 0 or number != int(number) else int(number)


def bits_per_weight(value: Any, name: str) -> float:
    """Bits per weight: a finite number above 0, or text like "4.5" and "4.5bpw".

    >>> bits_per_weight("4.5bpw", "target_bpw"), bits_per_weight(3, "target_bpw")
    (4.5, 3.0)
    """
    bits = _number(value)
    if isinstance(value, str):
        found = _BITS.fullmatch(value.strip().lower())
        bits = float(found[1]) if found else None
    if bits is None or not 0 < bits <= 1e9:
        raise ArgumentError(f"{name}: expected bits per weight above 0, like 4.5; got {shown(value)}")
    return float(bits)


def _number(value: Any) -> int | float | None:
    """An int or a finite float of Python's or numpy's; None for all else, bool too."""
    if isinstance(value, (bool, str, bytes, complex)) or type(value).__name__ in ("bool", "bool_"):
        return None
    try:
        return operator.index(value)
    except Exception:  # no integer, or a stranger's __index__
        pass
    if not hasattr(value, "__float__") or getattr(value, "ndim", 0) != 0:
        return None
    try:
        number = float(value)
    except Exception:
        return None
    return number if math.isfinite(number) else None
