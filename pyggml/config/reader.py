"""Reader: typed, bounded access to the keys of one architecture, and the memory of which were taken.

A key that changes the mathematics and that nobody took is refused by name, so an architecture asks only for what it
computes. Knows no key but general.architecture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyggml.errors import GGUFError, UnsupportedError

_MAX_NAME = 64
_LEAST = 1e-37  # what is smaller is 0 in float32


class Reader:
    """The keys `<arch>.x` of a file's metadata; keys are named without the architecture.

    arch: the architecture that the file names. taken: the keys that were read. Every reader raises GGUFError for a
    value that is missing without a default, of another type, not finite or out of range.

    >>> r = Reader({"general.architecture": "x", "x.block_count": 2, "x.heads": [1, 4]})
    >>> r.integer("block_count", 100), r.per_layer("heads", 100, 2), r.number("scale", 1.0)
    (2, (1, 4), 1.0)
    >>> sorted(r.taken)
    ['block_count', 'heads', 'scale']
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        name = metadata.get("general.architecture")
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
            raise wrong("general.architecture", name, "a name such as 'llama'")
        self.arch = name
        self.taken: set[str] = set()

    def value(self, key: str) -> Any:
        """The value of `<arch>.key` whatever it is, None if absent."""
        self.taken.add(key)
        return self.metadata.get(f"{self.arch}.{key}")

    def take(self, *keys: str) -> None:
        """Notes that the architecture computes what these keys say, whoever read them."""
        self.taken.update(keys)

    def integer(self, key: str, limit: int, default: int | None = None, least: int = 1) -> int:
        """An integer in [least, limit]."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if not _whole(value, least, limit):
            raise self.wrong(key, value, _integers(least, limit))
        return int(value)

    def per_layer(
        self, key: str, limit: int, n_layer: int, default: int | None = None, least: int = 1
    ) -> tuple[int, ...]:
        """An integer in [least, limit] for each of n_layer layers: an array of them, or one that holds for all."""
        value = self.value(key)
        if not isinstance(value, (list, tuple, np.ndarray)):
            return (self.integer(key, limit, default, least),) * n_layer
        expected = f"{_integers(least, limit)}, or one for each of {n_layer} layers"
        if len(value) != n_layer:
            raise self.wrong(key, value, expected)
        items = value.tolist() if isinstance(value, np.ndarray) else list(value)
        if not all(_whole(item, least, limit) for item in items):
            raise self.wrong(key, items, expected)
        return tuple(items)

    def alike(self, key: str, limit: int, n_layer: int, default: int | None = None) -> int:
        """As per_layer, where all layers must have the same.

        Raises UnsupportedError where they differ.
        """
        values = self.per_layer(key, limit, n_layer, default)
        if min(values) != max(values):
            raise UnsupportedError(
                f"{self.arch}.{key} differs between layers (from {min(values)} to {max(values)}); "
                "models with layers of different shapes are not supported"
            )
        return values[0]

    def number(self, key: str, default: float | None = None, *, zero: bool = False, limit: float = 1e30) -> float:
        """A finite number above 0 (or from 0, with zero) and at most limit."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not fits or value < 0 or (value == 0 and not zero) or 0 < value < _LEAST or value > limit:
            raise self.wrong(key, value, f"a finite number {'from' if zero else 'above'} 0 and at most {limit:g}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """A bool."""
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, value, "a bool")
        return value

    def flags(self, key: str, n_layer: int) -> tuple[bool, ...] | None:
        """A bool for each of n_layer layers, None if absent."""
        value = self.value(key)
        if value is None:
            return None
        items = value.tolist() if isinstance(value, np.ndarray) else value
        if not isinstance(items, (list, tuple)) or len(items) != n_layer or not all(_is_flag(each) for each in items):
            raise self.wrong(key, value, f"an array of a bool for each of {n_layer} layers")
        return tuple(bool(each) for each in items)

    def numbers(self, key: str, n_layer: int) -> tuple[float, ...]:
        """A number for each of n_layer layers, or minus infinity."""
        value = self.value(key)
        items = value.tolist() if isinstance(value, np.ndarray) else value
        if not isinstance(items, (list, tuple)) or len(items) != n_layer or not all(_is_number(each) for each in items):
            raise self.wrong(key, value, f"an array of a number, or -inf, for each of {n_layer} layers")
        return tuple(float(each) for each in items)

    def wrong(self, key: str, value: Any, expected: str) -> GGUFError:
        """The error that says what a key holds and what was expected."""
        return wrong(f"{self.arch}.{key}", value, expected)


def _whole(value: Any, least: int, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= limit


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and (abs(value) <= 1e30 or value == -math.inf)
    )


def _is_flag(value: Any) -> bool:
    return isinstance(value, (bool, int)) and value in (0, 1)


def _integers(least: int, limit: int) -> str:
    return f"an integer from {least} to {limit}"


def wrong(key: str, value: Any, expected: str) -> GGUFError:
    """The error that says what a key, named whole, holds and what was expected."""
    got = "missing" if value is None else short(value)
    return GGUFError(f"{key[:100]} is {got}, expected {expected}")


def short(value: Any) -> str:
    """A value of a file in a message: one line of ASCII, however large it is."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return f"an array of {len(value)} elements"
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "an integer of more than 64 bits"
    text = ascii(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."
