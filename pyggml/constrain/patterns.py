"""Regular expressions, judged and written anew in the words of the parser's dialect.

What is read is what JSON Schema (ECMA-262) and Python's `re` agree on; where the two differ in what a class holds
(\\d, \\w, \\s, the dot), what both match is taken, so that either finds the text valid. Look-around, back references,
\\b and flags are refused with their place.
"""

from __future__ import annotations

import re

from ..errors import GrammarError
from ..shown import shown

MOST = 1 << 16  # characters
_MOST_REPEATS = 100_000
_MOST_LEVELS = 100

# What a class holds in both dialects, and what in one of the two: the latter is what a negated class leaves out.
_BOTH = {
    "d": "0-9", "D": r"[^\p{Nd}]", "w": "0-9A-Za-z_", "W": r"[^\p{L}\p{N}_]",
    "s": r"\t\n\x{b}\x{c}\r\x{20}", "S": r"[^\s\x{1c}-\x{1f}\x{feff}]",
}  # fmt: skip
_EITHER = {
    "d": r"\p{Nd}", "D": "[^0-9]", "w": r"\p{L}\p{N}_", "W": "[^0-9A-Za-z_]",
    "s": r"\s\x{1c}-\x{1f}\x{feff}", "S": r"[^\t\n\x{b}\x{c}\r\x{20}]",
}  # fmt: skip
_DOT = r"[^\n\r\x{2028}\x{2029}]"
ANYTHING = "(?s:.)*"
_CONTROL = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}
_REPEATED = re.compile(r"\{(\d+)(,(\d*))?\}")


def searched(pattern: str) -> str:
    """What matches the whole of the texts in which pattern finds something.

    Raises GrammarError.

    >>> searched("^a+$"), searched("b")
    ('(?:(?:a+))', '(?:(?s:.)*b(?s:.)*)')
    """
    return _Reader(pattern).read(search=True)


def matched(pattern: str) -> str:
    """What matches the texts that pattern matches as a whole; ^ and $ at its ends change nothing.

    >>> matched(r"\\d{2,3}|x")
    '(?:(?:[0-9]{2,3})|x)'
    """
    return _Reader(pattern).read(search=False)


def literal(text: str) -> str:
    """A text as a regular expression of itself.

    >>> literal("a.b")
    'a\\\\x{2e}b'
    """
    return "".join(c if c.isalnum() and c.isascii() else f"\\x{{{ord(c):x}}}" for c in text)


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._levels = 0

    def read(self, search: bool) -> str:
        if len(self._text) > MOST:
            raise GrammarError(f"a pattern of {len(self._text):,} characters is longer than {MOST:,}")
        parts = []
        while True:
            begins = self._takes("^")
            body = self._sequence(top=True)
            ends = self._takes("$")
            if self._peek == ")":
                raise self._wrong("no ) without a (")
            if not self._done and self._peek != "|":
                raise self._wrong("the end of an alternative behind $")
            before, behind = ("" if begins or not search else ANYTHING), ("" if ends or not search else ANYTHING)
            parts.append(before + body + behind)
            if not self._takes("|"):
                break
        return f"(?:{'|'.join(parts)})"

    # ---- the text --------------------------------------------------------------------------------------------------

    @property
    def _done(self) -> bool:
        return self._at >= len(self._text)

    @property
    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _takes(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) * found
        return found

    def _wrong(self, expected: str, back: int = 0) -> GrammarError:
        at = self._at - back
        text = shown(self._text)
        return GrammarError(f"the pattern {text} cannot be enforced: at position {at}, expected {expected}")

    # ---- its parts -------------------------------------------------------------------------------------------------

    def _sequence(self, top: bool = False) -> str:
        parts = []
        while not self._done and self._peek not in "|)":
            if self._peek == "$" and top:
                break
            parts.append(self._repeated(self._atom()))
        return "".join(parts)

    def _atom(self) -> str:
        c = self._peek
        self._at += 1
        if c == "(":
            return self._group()
        if c == "[":
            return self._class()
        if c == ".":
            return _DOT
        if c == "\\":
            escape = self._escape()
            if isinstance(escape, int):
                return literal(chr(escape))
            return escape if escape.startswith((r"\p", r"\P")) else self._bracketed(_BOTH[escape])
        if c in "^$":
            raise self._wrong(f"{c} at an end of the pattern or of an alternative only", 1)
        if c in "*+?":
            raise self._wrong(f"something in front of {c}", 1)
        if c == "{" and re.match(r"\{\d*(,\d*)?\}", self._text[self._at - 1 :]):
            raise self._wrong("something in front of {", 1)
        return self._literal(c, 1)

    def _literal(self, c: str, back: int) -> str:
        if "\ud800" <= c <= "\udfff":
            raise self._wrong("no half of a character", back)
        return literal(c)

    @staticmethod
    def _bracketed(body: str) -> str:
        return body if body.startswith("[") else f"[{body}]"

    def _group(self) -> str:
        self._levels += 1
        if self._levels > _MOST_LEVELS:
            raise self._wrong(f"at most {_MOST_LEVELS} levels of ()")
        opened = self._at - 1
        if self._takes("?") and not self._takes(":"):
            name = re.compile(r"P?<[A-Za-z_]\w*>").match(self._text, self._at)
            if name is None:
                raise self._wrong("(?: or (?<name> behind (; look-around and flags are not enforced", 1)
            self._at = name.end()
        parts = [self._sequence()]
        while self._takes("|"):
            parts.append(self._sequence())
        if not self._takes(")"):
            self._at = opened
            raise self._wrong("a ) for this (")
        self._levels -= 1
        return f"(?:{'|'.join(parts)})"

    def _repeated(self, atom: str) -> str:
        c = self._peek
        if c and c in "*+?":
            self._at += 1
            made = atom + c
        elif (found := _REPEATED.match(self._text, self._at)) is not None:
            low, high = int(found[1][:9]), int(found[3][:9]) if found[3] else None
            high = low if found[2] is None else high
            if max(low, high or 0) > _MOST_REPEATS or max(map(len, filter(None, found.groups()))) > 9:
                raise self._wrong(f"at most {_MOST_REPEATS:,} repeats")
            if high is not None and high < low:
                raise self._wrong(f"no fewer than {low} repeats")
            self._at = found.end()
            made = f"{atom}{{{low}}}" if high == low else f"{atom}{{{low},{'' if high is None else high}}}"
        elif re.compile(r"\{,\d+\}").match(self._text, self._at):
            raise self._wrong("a first number in {,n}, which ECMA-262 and Python read differently: {0,n}")
        else:
            return atom
        self._takes("?")  # lazy: the same texts
        if self._peek in ("*", "+", "?") or _REPEATED.match(self._text, self._at):
            raise self._wrong("one repetition behind another in a group: (?:a{2}){3}")
        return f"(?:{made})"

    def _escape(self) -> int | str:
        """The character, the letter of a class, or \\p{..} as it stands."""
        if self._done:
            raise self._wrong(r"a character behind the last \, or \\ for itself")
        c = self._peek
        self._at += 1
        if c in _BOTH:
            return c
        if c in _CONTROL:
            if c == "0" and self._peek.isdigit():
                raise self._wrong("no octal number")
            return _CONTROL[c]
        if c in "pP":
            found = re.compile(r"\{[A-Z][a-z]?\}").match(self._text, self._at)
            if found is None:
                raise self._wrong(r"a category such as \p{L}")
            self._at = found.end()
            return f"\\{c}{found[0]}"
        if c in "xu":
            return self._code(c)
        if c == "c" and re.match(r"[A-Za-z]", self._peek):
            self._at += 1
            return ord(self._text[self._at - 1]) % 32
        if c.isalnum() or not c.isascii():
            raise self._wrong(rf"no \{c}: word borders, back references and the like are not enforced", 2)
        return ord(c)

    def _code(self, c: str) -> int:
        form = r"[0-9a-fA-F]{2}" if c == "x" else r"\{[0-9a-fA-F]{1,6}\}|[0-9a-fA-F]{4}"
        found = re.compile(form).match(self._text, self._at)
        if found is None:
            raise self._wrong(rf"hexadecimal digits behind \{c}")
        self._at = found.end()
        code = int(found[0].strip("{}"), 16)
        low = re.compile(r"\\u(d[c-f][0-9a-f]{2})", re.I).match(self._text, self._at)
        if 0xD800 <= code < 0xDC00 and low is not None:
            self._at = low.end()
            return 0x10000 + ((code - 0xD800) << 10) + int(low[1], 16) - 0xDC00
        if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            raise self._wrong("a whole character")
        return code

    def _class(self) -> str:
        opened = self._at - 1
        negated = self._takes("^")
        classes = _EITHER if negated else _BOTH
        if self._peek == "]":
            raise self._wrong(r"something in [], or \] for a ]")
        parts = []
        while not self._takes("]"):
            if self._done:
                self._at = opened
                raise self._wrong("a ] for this [")
            low = self._member()
            dashed = self._peek == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", "")
            if isinstance(low, str):
                if dashed:
                    raise self._wrong("a character on both sides of -")
                parts.append(classes.get(low, low))
                continue
            high = low
            if dashed:
                self._at += 1
                last = self._member()
                if isinstance(last, str) or last < low:
                    raise self._wrong("a range that goes up")
                high = last
            if low <= 0xD7FF and high >= 0xE000:  # no text has what lies between
                parts += [f"\\x{{{low:x}}}-\\x{{d7ff}}", f"\\x{{e000}}-\\x{{{high:x}}}"]
            else:
                parts.append(f"\\x{{{low:x}}}" + (f"-\\x{{{high:x}}}" if high != low else ""))
        return f"[{'^' * negated}{''.join(parts)}]"

    def _member(self) -> int | str:
        c = self._peek
        self._at += 1
        if c == "\\":
            if self._peek == "b":
                self._at += 1
                return 8
            return self._escape()
        if c == "[" and self._peek in (":", "=", "."):
            raise self._wrong(r"no class of POSIX; \[ stands for a [", 1)
        if "\ud800" <= c <= "\udfff":
            raise self._wrong("no half of a character", 1)
        return ord(c)
