"""GBNF, llama.cpp's form of grammars, translated to the parser's Lark in one pass over the text.

The parser cuts a text into pieces by regular expressions and takes the longest. So that this changes nothing, whatever
of a grammar refers to no rule that refers to itself becomes one expression: rules, and neighbours within a rule. Where
such a stretch could end at several places before a rule that does refer to itself, the longest is taken, and some
texts of the grammar are never made; none is made that is not of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import GrammarError
from ..shown import shown
from .rules import check_rules, check_size

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t]|#[^\n]*)*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_COUNT = re.compile(r"\{\s*(\d{1,6})\s*(,\s*(\d{1,6})?\s*)?\}")
_ESCAPES = {"t": 9, "n": 10, "r": 13, '"': 34, "[": 91, "]": 93, "\\": 92}
_MOST_LEVELS = 100
_DIGITS = {"x": 2, "u": 4, "U": 8}
_ANY = "(?s:.)"
_NOTHING = '""'


@dataclass
class _Part:
    """An element: an expression, a rule's name, or alternatives of sequences; how: what stands behind it (*, {2,3})."""

    regex: str = ""
    name: str = ""
    alternatives: list[list[_Part]] = field(default_factory=list)
    how: str = ""

    def names(self) -> Iterator[str]:
        """The rules it names."""
        if self.name:
            yield self.name
        for sequence in self.alternatives:
            for each in sequence:
                yield from each.names()


def to_lark(text: str) -> str:
    """The same grammar in Lark, whose start is root. Raises GrammarError with line and column.

    >>> print(to_lark('root ::= "yes" | "no"'))
    start: T0
    T0: (/yes/ | /no/)
    """
    check_size(text, "the GBNF grammar")
    rules = _Reader(text).read()
    uses = {name: [*_Part(alternatives=body).names()] for name, body in rules.items()}
    check_rules(uses, "the GBNF grammar")
    return _Writer(rules, _recursive(uses)).write()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._levels = 0
        self._used: dict[str, int] = {}

    def read(self) -> dict[str, list[list[_Part]]]:
        rules: dict[str, list[list[_Part]]] = {}
        self._skip(_SPACE)
        while self._at < len(self._text):
            at, name = self._at, self._name()
            self._skip(_BLANK)
            if not self._takes("::="):
                raise self._wrong("::=")
            self._skip(_SPACE)
            if name in rules:
                raise self._wrong(f"one rule {name}, this is a second", at)
            rules[name] = self._alternatives(nested=False)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                raise self._wrong("the end of a line, or | and more")
            self._skip(_SPACE)
        if "root" not in rules:
            raise GrammarError("the GBNF grammar has no rule root, which is where a text begins")
        for name, at in self._used.items():
            if name not in rules:
                raise self._wrong(f"a rule {name}, which is not there", at)
        return rules

    def _skip(self, what: re.Pattern[str]) -> None:
        found = what.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _takes(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) * found
        return found

    def _wrong(self, expected: str, at: int | None = None) -> GrammarError:
        at = self._at if at is None else at
        line, column = self._text.count("\n", 0, at) + 1, at - self._text.rfind("\n", 0, at)
        got = shown(self._text[at : at + 20])
        return GrammarError(f"the GBNF grammar, line {line}, column {column}: expected {expected}, got {got}")

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._wrong("the name of a rule")
        self._at = found.end()
        return found[0]

    def _alternatives(self, nested: bool) -> list[list[_Part]]:
        found = [self._sequence(nested)]
        while self._bar():
            self._skip(_SPACE)
            found.append(self._sequence(nested))
        return found

    def _bar(self) -> bool:
        """Whether | follows, perhaps on the next line."""
        at = self._at
        self._skip(_SPACE)
        if self._takes("|"):
            return True
        self._at = at
        return False

    def _sequence(self, nested: bool) -> list[_Part]:
        parts: list[_Part] = []
        while (part := self._part(parts)) is not None:
            if not part.how or part is not (parts[-1] if parts else None):
                parts.append(part)
            self._skip(_SPACE if nested else _BLANK)
        return parts

    def _part(self, before: list[_Part]) -> _Part | None:
        """The next element, or the last one again with what stands behind it; None at the end."""
        c = self._text[self._at : self._at + 1]
        if not c or c in "|)\r\n":
            return None
        if c in "*+?{":
            return self._repeated(before)
        if c == '"':
            return _Part(regex=self._literal())
        if c == "[":
            return _Part(regex=self._class())
        if c == ".":
            self._at += 1
            return _Part(regex=_ANY)
        if c == "(":
            return self._group()
        if c in "<!":
            raise self._wrong("no single tokens: a grammar is of text here")
        at = self._at
        name = self._name()
        self._used.setdefault(name, at)
        return _Part(name=name)

    def _group(self) -> _Part:
        opened = self._at
        self._levels += 1
        if self._levels > _MOST_LEVELS:
            raise self._wrong(f"at most {_MOST_LEVELS} levels of ()")
        self._at += 1
        self._skip(_SPACE)
        part = _Part(alternatives=self._alternatives(nested=True))
        self._skip(_SPACE)
        if not self._takes(")"):
            raise self._wrong("a ) for this (", opened)
        self._levels -= 1
        return part

    def _repeated(self, before: list[_Part]) -> _Part:
        if not before:
            raise self._wrong("something to repeat in front of it")
        how = self._text[self._at]
        if how == "{":
            found = _COUNT.match(self._text, self._at)
            if found is None:
                raise self._wrong("{n}, {n,} or {n,m}")
            if found[3] and int(found[3]) < int(found[1]):
                raise self._wrong(f"no fewer than {found[1]} repeats")
            self._at = found.end()
            how = f"{{{int(found[1])}{',' * (found[2] is not None)}{int(found[3]) if found[3] else ''}}}"
        else:
            self._at += 1
        last = before[-1]
        if last.how:
            before[-1] = last = _Part(alternatives=[[last]])
        last.how = how
        return last

    def _literal(self) -> str:
        opened = self._at
        self._at += 1
        codes = []
        while not self._takes('"'):
            codes.append(self._character('a " for this one', opened))
        return "".join(map(_escaped, codes))

    def _class(self) -> str:
        opened = self._at
        self._at += 1
        negated = self._takes("^")
        ranges = []
        while not self._takes("]"):
            low = high = self._character("a ] for this [", opened)
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._character("a ] for this [", opened)
                if high < low:
                    raise self._wrong("a range that goes up", opened)
            ranges.append(_escaped(low) if low == high else f"{_escaped(low)}-{_escaped(high)}")
        if not ranges:
            if negated:
                return _ANY
            raise self._wrong("something in []", opened)
        return f"[{'^' * negated}{''.join(ranges)}]"

    def _character(self, closing: str, opened: int) -> int:
        c = self._text[self._at : self._at + 1]
        if not c:
            raise self._wrong(closing, opened)
        self._at += 1
        if c != "\\":
            code = ord(c)
        else:
            c = self._text[self._at : self._at + 1]
            self._at += 1
            if c in _DIGITS and c:
                found = re.compile(f"[0-9a-fA-F]{{{_DIGITS[c]}}}").match(self._text, self._at)
                if found is None:
                    raise self._wrong(f"{_DIGITS[c]} hexadecimal digits")
                self._at = found.end()
                code = int(found[0], 16)
            elif c in _ESCAPES and c:
                code = _ESCAPES[c]
            else:
                raise self._wrong('one of \\n \\r \\t \\\\ \\" \\[ \\] \\x \\u \\U', self._at - 2)
        if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            raise self._wrong("a whole character", self._at - 1)
        return code


def _escaped(code: int) -> str:
    c = chr(code)
    return c if c.isascii() and c.isalnum() else f"\\x{{{code:x}}}"


def _recursive(uses: dict[str, list[str]]) -> set[str]:
    """The rules that lead to one that leads to itself."""
    loose = {name: {each for each in called if each in uses} for name, called in uses.items()}
    callers: dict[str, list[str]] = {name: [] for name in uses}
    for name, called in loose.items():
        for each in called:
            callers[each].append(name)
    done = [name for name, called in loose.items() if not called]
    for name in done:  # grows
        for caller in callers[name]:
            loose[caller].discard(name)
            if not loose[caller]:
                done.append(caller)
    return set(uses) - set(done)


class _Writer:
    """Rules that are plain expressions become terminals (T..), the others rules (r..)."""

    def __init__(self, rules: dict[str, list[list[_Part]]], recursive: set[str]) -> None:
        self._rules = rules
        self._recursive = recursive
        self._names = {name: f"{'r' if name in recursive else 'T'}{i}" for i, name in enumerate(rules)}
        self._lines: list[str] = []
        self._made: dict[str, str] = {}

    def write(self) -> str:
        start = [f"start: {self._names['root']}"]
        for name, body in self._rules.items():
            made = self._several(body) if name in self._recursive else self._plain_several(body)
            self._lines.append(f"{self._names[name]}: {made}")
        return "\n".join(start + self._lines)

    def _is_plain(self, part: _Part) -> bool:
        return not any(name in self._recursive for name in part.names())

    def _plain_several(self, alternatives: list[list[_Part]]) -> str:
        return f"({' | '.join(' '.join(map(self._plain, each)) or _NOTHING for each in alternatives)})"

    def _plain(self, part: _Part) -> str:
        if part.name:
            made = self._names[part.name]
        elif part.alternatives:
            made = self._plain_several(part.alternatives)
        else:
            made = f"/{part.regex}/" if part.regex else _NOTHING
        return made + part.how

    def _several(self, alternatives: list[list[_Part]]) -> str:
        return f"({' | '.join(map(self._sequence, alternatives))})"

    def _sequence(self, parts: list[_Part]) -> str:
        made: list[str] = []
        run: list[_Part] = []
        for part in parts:
            if self._is_plain(part):
                run.append(part)
                continue
            made += self._terminal(run)
            run = []
            made.append((self._names[part.name] if part.name else self._several(part.alternatives)) + part.how)
        made += self._terminal(run)
        return " ".join(made) or _NOTHING

    def _terminal(self, run: list[_Part]) -> list[str]:
        """The name of the one expression for a run of parts."""
        if not run:
            return []
        text = " ".join(map(self._plain, run))
        if text not in self._made:
            self._made[text] = f"X{len(self._made)}"
            self._lines.append(f"{self._made[text]}: {text}")
        return [self._made[text]]
