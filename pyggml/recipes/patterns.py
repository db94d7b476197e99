"""Regular expressions over tensor names that cannot hang: `search` as a yes or no, in time linear in the name.

Python's own matcher tries every way through an expression like (a+)+$ and cannot be stopped; names and expressions may
both come from files. Here the expression, parsed by Python, becomes a small program whose states are visited once for
each place of the name (Thompson's way), so nothing is tried twice. Back references, atomic groups and possessive
repeats, which need more than that, are refused; whatever else Python accepts means the same.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from pyggml.errors import ArgumentError
from pyggml.shown import clip

MAX_LENGTH = 1000  # characters of an expression
MAX_STATES = 4000

_parser: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")

Test = Callable[[str, int], bool]
"""Whether something holds of a text at a place."""

# A state is (kind, what, next states): CHAR a Test of the character, which is passed; IF a Test of the place, at which
# nothing is passed; SPLIT several ways on; END found.
_CHAR, _IF, _SPLIT, _END = range(4)


class Pattern:
    """A compiled expression. Raises ArgumentError for one that is none, too large, or needs back references."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise ArgumentError(f"the expression {clip(text, 60)} has {len(text)} characters, at most {MAX_LENGTH}")
        try:
            tree = _parser.parse(text)
            self._program = _Program(tree, tree.state.flags)
        except re.error as e:
            raise ArgumentError(f"{clip(text)} is no regular expression: {e}") from None
        except (RecursionError, OverflowError):
            raise ArgumentError(f"the expression {clip(text)} is nested too deeply") from None
        self._lock = threading.Lock()  # what is looked ahead remembers the name it is in
        self.search = functools.lru_cache(maxsize=4096)(self._search)
        """Whether the expression matches somewhere in a name. Any thread may ask."""

    def _search(self, name: str) -> bool:
        with self._lock:
            return self._program.search(name)


@functools.lru_cache(maxsize=256)
def compiled(text: str) -> Pattern:
    """The pattern of an expression, made once. Raises ArgumentError as Pattern does."""
    return Pattern(text)


def whole_name(text: str) -> str | None:
    r"""The one name that an expression of the form ^...$ stands for, each character as re.escape writes it; else None.

    >>> whole_name(r"^blk\.0\.attn_q\.weight$"), whole_name("^blk.0$")
    ('blk.0.attn_q.weight', None)
    """
    name = re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return name if text == f"^{re.escape(name)}$" else None


class _Program:
    """The states of an expression or of a part that is looked at ahead or behind."""

    def __init__(self, tree: Any, flags: int) -> None:
        self.states: list[tuple[int, Test | None, tuple[int, ...]]] = []
        self.start = self._of(tree, flags, self._add(_END, None))

    def search(self, text: str) -> bool:
        """Whether a way leads from some place of the text to the end."""
        return self.leads(text, range(len(text) + 1), None, set())

    def leads(self, text: str, begins: Iterable[int], end: int | None, seen: set[tuple[int, int]]) -> bool:
        """Whether a way leads from some of the places to the end of the expression, at place end if that is given.

        A walk over (state, place) pairs, none of them twice; seen: pairs from which no way leads to this end.
        """
        states = self.states
        for begin in begins:
            todo = [(self.start, begin)]
            while todo:
                pair = todo.pop()
                if pair in seen:
                    continue
                seen.add(pair)
                state, at = pair
                kind, test, after = states[state]
                if kind == _END:
                    if end is None or at == end:
                        return True
                elif kind == _CHAR:
                    if at < len(text) and test(text, at):  # type: ignore[misc]
                        todo.append((after[0], at + 1))
                elif kind == _SPLIT or test(text, at):  # type: ignore[misc]
                    todo.extend((each, at) for each in after)
        return False

    # ---- from Python's tree to states; each is made with what follows it known ------------------------------------

    def _add(self, kind: int, test: Test | None, *after: int) -> int:
        if len(self.states) >= MAX_STATES:
            raise ArgumentError(f"an expression needs more than {MAX_STATES} states; write it simpler")
        self.states.append((kind, test, after))
        return len(self.states) - 1

    def _of(self, items: Any, flags: int, after: int) -> int:
        for op, arg in reversed(list(items)):
            after = self._item(str(op), arg, flags, after)
        return after

    def _item(self, op: str, arg: Any, flags: int, after: int) -> int:
        if op in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self._add(_CHAR, _character(op, arg, flags), after)
        if op == "BRANCH":
            return self._add(_SPLIT, None, *(self._of(way, flags, after) for way in arg[1]))
        if op == "SUBPATTERN":
            _, more, less, inside = arg
            return self._of(inside, (flags | more) & ~less, after)
        if op in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inside = arg
            return self._repeat(int(low), high, inside, flags, after)
        if op == "AT":
            return self._add(_IF, _place(str(arg), flags), after)
        if op in ("ASSERT", "ASSERT_NOT"):
            return self._add(_IF, _look(arg[0], arg[1], flags, op == "ASSERT"), after)
        raise ArgumentError(
            f"an expression with {op.lower().replace('_', ' ')} is not supported here; write it without"
        )

    def _repeat(self, low: int, high: Any, inside: Any, flags: int, after: int) -> int:
        if low > MAX_STATES:
            raise ArgumentError(f"an expression repeats {low} times; at most {MAX_STATES}")
        if str(high) == "MAXREPEAT":
            loop = self._add(_SPLIT, None)  # its ways on are known when what it repeats is made
            self.states[loop] = (_SPLIT, None, (self._of(inside, flags, loop), after))
            after = loop
        else:
            for _ in range(min(int(high), MAX_STATES) - low):
                after = self._add(_SPLIT, None, self._of(inside, flags, after), after)
        for _ in range(low):
            after = self._of(inside, flags, after)
        return after


def _character(op: str, arg: Any, flags: int) -> Test:
    """One character, as Python's own matcher sees it: the test is made of the tree's text again."""
    if op == "ANY":
        return (lambda text, at: True) if flags & re.DOTALL else (lambda text, at: text[at] != "\n")
    if op == "IN":
        negated = str(arg[0][0]) == "NEGATE"
        body = "".join(_member(str(kind), value) for kind, value in arg[negated:])
        source = f"[{'^' * negated}{body}]"
    else:
        source = f"[{'^' * (op == 'NOT_LITERAL')}{_member('LITERAL', arg)}]"
    kept = flags & (re.IGNORECASE | re.ASCII)
    match = re.compile(source, kept).match
    known: dict[str, bool] = {}

    def test(text: str, at: int) -> bool:
        c = text[at]
        if c not in known:
            known[c] = match(c) is not None
        return known[c]

    return test


_CATEGORIES = {"DIGIT": r"\d", "NOT_DIGIT": r"\D", "SPACE": r"\s", "NOT_SPACE": r"\S", "WORD": r"\w",
               "NOT_WORD": r"\W"}  # fmt: skip


def _member(kind: str, value: Any) -> str:
    if kind == "RANGE":
        return f"\\U{value[0]:08x}-\\U{value[1]:08x}"
    if kind == "CATEGORY":
        return _CATEGORIES[str(value).removeprefix("CATEGORY_")]
    return f"\\U{value:08x}"


_PLACES = {"AT_BEGINNING": "^", "AT_BEGINNING_STRING": r"\A", "AT_BOUNDARY": r"\b", "AT_NON_BOUNDARY": r"\B",
           "AT_END": "$", "AT_END_STRING": r"\Z"}  # fmt: skip


def _place(name: str, flags: int) -> Test:
    match = re.compile(_PLACES[name], flags & (re.MULTILINE | re.ASCII)).match
    return lambda text, at: match(text, at) is not None


def _look(direction: int, inside: Any, flags: int, wanted: bool) -> Test:
    """Whether something follows (direction 1) or comes before (-1); remembered for each place of the last text."""
    program = _Program(inside, flags)
    width = inside.getwidth()[0]
    last: list[Any] = [None, {}, set()]  # the text, what was found at its places, and its dead ends

    def test(text: str, at: int) -> bool:
        if last[0] is not text:
            last[:] = [text, {}, set()]
        found: dict[int, bool] = last[1]
        if at not in found:
            if direction > 0:
                found[at] = program.leads(text, (at,), None, last[2])
                if found[at]:
                    last[2] = set()
            else:
                found[at] = at >= width and program.leads(text, (at - width,), at, set())
        return found[at] is wanted

    return test
