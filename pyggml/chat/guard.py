"""The budget of one template rendering: time, work and size, and the operations that could outgrow it.

A template comes with the file and may be hostile. Every value it makes is weighed when it is made, so that no single
call into C works on more than the limit; loops, calls and operators tick a deadline.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from jinja2.runtime import Undefined

from pyggml.errors import TemplateError

SECONDS = 1.0
MAX_WEIGHT = 1 << 20  # one value: characters, and 16 for each item
MAX_WORK = 3 << 24  # all values of one rendering together
MAX_OUTPUT = 1 << 22  # characters of the prompt
MAX_ITEM_DEPTH = 64
MAX_CALL_DEPTH = 64
MAX_INT_BITS = 4096
MAX_WIDTH = 1000  # of paddings, indents and format fields
MAX_RANGE = 100_000
MAX_INPUT = 1 << 24  # weight of messages and arguments
ITEM = 16
REPR_GROWTH = 10  # repr writes \U0001f600 for one character

_VIEWS: Any = (type({}.keys()), type({}.values()), type({}.items()))
_CONTAINERS: Any = (list, tuple, dict, *_VIEWS)


class RefusedError(Exception):
    """What a template may not do; template.py adds the template's name and line."""


class Guard:
    """What is left for one rendering. Inputs raise the limits, as a long chat needs more than a short one."""

    def __init__(self, input_weight: int) -> None:
        self.deadline = time.monotonic() + SECONDS
        self.max_weight = MAX_WEIGHT + 4 * input_weight
        self.max_output = MAX_OUTPUT + 2 * input_weight
        self.work_left = MAX_WORK + 32 * input_weight
        self.ticks = 0
        self.depth = 0

    def tick(self, n: int = 1) -> None:
        """Count a step; now and then look at the clock."""
        self.ticks += n
        if self.ticks >= 50:
            self.ticks = 0
            if time.monotonic() > self.deadline:
                raise RefusedError(f"it runs longer than {SECONDS:g} s")

    def charge(self, amount: int) -> None:
        """Take from the work of the whole rendering."""
        self.tick(1 + (amount >> 14))
        self.work_left -= amount
        if self.work_left < 0:
            raise RefusedError("it makes too much text and too many items in all")

    def fits(self, weight: int, what: str) -> None:
        """Refuse a value that would be too large, before it is made."""
        if weight > self.max_weight:
            raise RefusedError(
                f"{what} would be larger than {self.max_weight:,} characters or {self.max_weight // ITEM:,} items"
            )

    def weigh(self, value: Any) -> int:
        """Characters plus 16 for each item, all levels; refuses what is too large, too deep or of an unknown kind."""
        if isinstance(value, str):
            self.fits(len(value), "a text")
            return len(value)
        total = 0
        stack: list[tuple[Any, int]] = [(value, 0)]
        steps = 0
        while stack:
            item, depth = stack.pop()
            steps += 1
            if steps & 1023 == 0:
                self.tick(1000)
            total += ITEM
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, _CONTAINERS):
                if depth >= MAX_ITEM_DEPTH:
                    raise RefusedError(f"a list or mapping is nested deeper than {MAX_ITEM_DEPTH}")
                self.fits(total + ITEM * (len(item) + len(stack)), "a list")
                stack.extend((part, depth + 1) for part in item)
                if isinstance(item, dict):
                    stack.extend((part, depth + 1) for part in item.values())
            elif isinstance(item, range):
                total += ITEM * len(item)
            elif isinstance(item, int):
                total += item.bit_length() // 3
            self.fits(total, "a value")
        return total

    def made(self, value: Any) -> Any:
        """Weigh and charge a new value, and give it back."""
        if isinstance(value, str):
            self.fits(len(value), "a text")
            self.charge(len(value))
        elif isinstance(value, (list, tuple, dict)):
            self.weigh(value)
            self.charge(ITEM * len(value))
        elif isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            raise RefusedError(f"a number has more than {MAX_INT_BITS} bits")
        else:
            self.tick()
        return value

    def items(self, value: Iterable[Any]) -> Iterator[Any]:
        """The items of a value, each one a tick."""
        for item in value:
            self.tick()
            yield item

    def collect(self, value: Iterable[Any]) -> list[Any]:
        """The items as a list of bounded size."""
        out: list[Any] = []
        room = self.max_weight // ITEM
        for item in self.items(value):
            if len(out) >= room:
                raise RefusedError(f"a list would be larger than {room:,} items")
            out.append(item)
        self.made(out)
        return out


class _Active(threading.local):
    guard: Guard | None = None


_active = _Active()


def guard() -> Guard:
    """The guard of the rendering in this thread."""
    if _active.guard is None:
        raise RefusedError("a part of a template is used outside of its rendering")
    return _active.guard


class guarded:  # noqa: N801 (reads as a statement)
    """`with guarded(weight):` one rendering in this thread."""

    def __init__(self, input_weight: int) -> None:
        self._new = Guard(input_weight)
        self._old: Guard | None = None

    def __enter__(self) -> Guard:
        self._old, _active.guard = _active.guard, self._new
        return self._new

    def __exit__(self, *_: object) -> None:
        _active.guard = self._old


def plain(value: Any, what: str) -> tuple[Any, int]:
    """A deep copy of messages or arguments made of dict, list, str, int, float, bool and None, and its weight.

    Raises TemplateError for other types, for keys that are no text, and for too much or too deep a value.
    """
    weight = 0

    def copy(item: Any, depth: int) -> Any:
        nonlocal weight
        weight += ITEM + (len(item) if isinstance(item, str) else 0)
        if weight > MAX_INPUT:
            raise TemplateError(f"{what} are larger than {MAX_INPUT:,} characters, or {MAX_INPUT // ITEM:,} items")
        if item is None or isinstance(item, (bool, float)):
            return item
        if isinstance(item, str):
            return str(item) if type(item) is not str else item
        if depth >= MAX_ITEM_DEPTH:
            raise TemplateError(f"{what} are nested deeper than {MAX_ITEM_DEPTH}")
        if isinstance(item, Mapping):
            for key in item:
                if not isinstance(key, str):
                    raise TemplateError(f"{what} have a key {_short(key)}, keys must be str")
            return {copy(key, depth + 1): copy(part, depth + 1) for key, part in item.items()}
        if isinstance(item, Sequence) and not isinstance(item, (bytes, bytearray, memoryview)):
            return [copy(part, depth + 1) for part in item]
        if isinstance(item, Integral):
            if int(item).bit_length() > MAX_INT_BITS:
                raise TemplateError(f"{what} hold a number of more than {MAX_INT_BITS} bits")
            return int(item)
        if isinstance(item, Real):
            return float(item)
        raise TemplateError(
            f"{what} hold a {type(item).__name__}; templates take dict, list, str, int, float, bool and None"
        )

    return copy(value, 0), weight


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


# ---- operators -----------------------------------------------------------------------------------------------------

_PERCENT = re.compile(r"%(?:\([^()]*\))?[#0\- +]*(\*|\d*)(?:\.(\*|\d*))?(.?)")


def add(left: Any, right: Any) -> Any:
    """left + right."""
    now = guard()
    if isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
        now.fits(now.weigh(left) + now.weigh(right), "a sum")
    return now.made(left + right)


def multiply(left: Any, right: Any) -> Any:
    """left * right, repetition included."""
    now = guard()
    for value, times in ((left, right), (right, left)):
        if isinstance(value, (str, list, tuple)) and isinstance(times, int):
            now.fits(now.weigh(value) * max(times, 0), "a repetition")
            return now.made(value * times)
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_INT_BITS:
        raise RefusedError(f"a product would have more than {MAX_INT_BITS} bits")
    return now.made(left * right)


def power(left: Any, right: Any) -> Any:
    """left ** right."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_INT_BITS:
        raise RefusedError(f"a power would have more than {MAX_INT_BITS} bits")
    return guard().made(left**right)


def modulo(left: Any, right: Any) -> Any:
    """left % right; for texts the printf form, whose widths and growth are bounded."""
    now = guard()
    if not isinstance(left, str):
        return now.made(left % right)
    now.weigh(left)
    growth = 1
    for width, precision, kind in _PERCENT.findall(left):
        for number in (width, precision):
            if number == "*" or len(number) > 4 or (number and int(number) > MAX_WIDTH):
                raise RefusedError(f"a width in a format is larger than {MAX_WIDTH}, or '*'")
        if kind == "(":  # looked for any further, many of them would cost the square of their number
            raise RefusedError("a key in a format has brackets in it, or no end")
        if kind in ("r", "a"):
            growth = REPR_GROWTH
    now.fits(len(left) + left.count("%") * (growth * printed(right) + MAX_WIDTH), "a formatted text")
    return now.made(left % right)


def printed(value: Any) -> int:
    """The weight of a value that may be printed: plain data. Others are refused, as their text has no bound."""
    now = guard()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, _CONTAINERS):
            stack.extend(item)
        elif item is not None and not isinstance(item, (str, int, float, range, Undefined)):
            raise RefusedError(f"a {type(item).__name__} cannot be printed")
        if len(stack) * ITEM > now.max_weight:
            raise RefusedError("a list is too large to be printed")
    return now.weigh(value)


def as_text(value: Any) -> str:
    """str(value) of bounded size."""
    if not isinstance(value, str):
        printed(value)
        value = str(value)
    out: str = guard().made(value)
    return out


def concat(parts: Iterable[str]) -> str:
    """The pieces of a macro, a block or `~` as one text."""
    now = guard()
    found: list[str] = []
    total = 0
    for part in parts:
        total += len(part)
        now.fits(total, "a text")
        found.append(part)
    now.charge(total)
    return "".join(found)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": add,
    "-": lambda a, b: guard().made(a - b),
    "*": multiply,
    "/": lambda a, b: guard().made(a / b),
    "//": lambda a, b: guard().made(a // b),
    "%": modulo,
    "**": power,
}
