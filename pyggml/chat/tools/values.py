"""Values as models write them: JSON, Python's literals, and what lies between (single quotes, keys without quotes).

One scanner, bounded in depth; nothing is evaluated. Raises ValueError alone, whatever the text.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, NoReturn

MAX_DEPTH = 64
MAX_DIGITS = 400

_BLANK = re.compile(r"\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[A-Za-z_][\w.$-]*")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None, "none": None}
_QUOTES = ('<|"|>', '"""', "'''", '"', "'")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
_PLAIN = {quote: re.compile(r"[^\\]*?(?=\\|" + re.escape(quote) + ")", re.S) for quote in _QUOTES}
_CODE = re.compile(r"u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})")


def _bad(number: str) -> NoReturn:
    raise ValueError(f"{number} is no number of JSON")


def loads(text: str) -> Any:
    """The value of a whole text. Raises ValueError.

    >>> loads('{"a": [1, true]}'), loads("{'a': None, b: 'it\\\\'s'}")
    ({'a': [1, True]}, {'a': None, 'b': "it's"})
    """
    try:
        return json.loads(text, strict=False, parse_constant=_bad)
    except (ValueError, RecursionError):
        found, at = value_at(text, 0)
        if text[at:].strip():
            raise ValueError(f"more text behind the value, at {at}") from None
        return found


def value_at(text: str, at: int, depth: int = 0) -> tuple[Any, int]:
    """(value, where it ends) of the value that begins at a position, blanks before it skipped."""
    at = skip(text, at)
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    first = text[at : at + 1]
    if first == "{":
        return _mapping(text, at + 1, depth)
    if first in ("[", "("):
        return _list(text, at + 1, "]" if first == "[" else ")", depth)
    if first in ('"', "'") or text.startswith(_QUOTES[0], at):
        return string_at(text, at)
    number = _NUMBER.match(text, at)
    if number and not text[number.end() : number.end() + 1].isalnum():
        return _number(number[0]), number.end()
    word = _WORD.match(text, at)
    if word and word[0] in _WORDS:
        return _WORDS[word[0]], word.end()
    raise ValueError(f"no value at {at}")


def _number(text: str) -> int | float:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} characters")
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    made = float(text)
    if made - made != 0:
        raise ValueError("a number that is too large")
    return made


def string_at(text: str, at: int) -> tuple[str, int]:
    """(text, where it ends) of a quoted string."""
    quote = next((quote for quote in _QUOTES if text.startswith(quote, at)), None)
    if quote is None:
        raise ValueError(f"no string at {at}")
    parts: list[str] = []
    at += len(quote)
    if quote == _QUOTES[0]:  # a token of Gemma's, within which nothing is escaped
        end = text.find(quote, at)
        if end < 0:
            raise ValueError("a string has no end")
        return text[at:end], end + len(quote)
    while True:
        plain = _PLAIN[quote].match(text, at)
        if plain is None:
            raise ValueError("a string has no end")
        parts.append(plain[0])
        at = plain.end()
        if text.startswith(quote, at):
            return _joined(parts), at + len(quote)
        at += 1
        code = _CODE.match(text, at)
        if code:
            parts.append(chr(int(code[1] or code[2] or code[3], 16)))
            at = code.end()
        else:
            parts.append(_ESCAPES.get(text[at : at + 1], text[at : at + 1]))
            at += 1


def _joined(parts: list[str]) -> str:
    """The text, whose surrogates in pairs are characters and alone U+FFFD."""
    text = "".join(parts)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _list(text: str, at: int, end: str, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while True:
        at = skip(text, at)
        if text.startswith(end, at):
            return found, at + 1
        value, at = value_at(text, at, depth + 1)
        found.append(value)
        at = comma(text, at, end)


def _mapping(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while True:
        at = skip(text, at)
        if text.startswith("}", at):
            return found, at + 1
        key, at = key_at(text, at)
        at = skip(text, at)
        if not text.startswith(":", at):
            raise ValueError(f"no ':' at {at}")
        found[key], at = value_at(text, at + 1, depth + 1)
        at = comma(text, at, "}")


def key_at(text: str, at: int) -> tuple[str, int]:
    """(key, where it ends): quoted or not."""
    word = _WORD.match(text, at)
    return (word[0], word.end()) if word else string_at(text, at)


def comma(text: str, at: int, end: str) -> int:
    """Behind a comma, or before the end."""
    at = skip(text, at)
    if text.startswith(",", at):
        return at + 1
    if not text.startswith(end, at):
        raise ValueError(f"neither ',' nor {end!r} at {at}")
    return at


def skip(text: str, at: int) -> int:
    """Where the blanks at a position end."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


class Balance:
    """Follows brackets and strings of a JSON text that comes in pieces, each character once.

    >>> b = Balance()
    >>> b.push(' {"a": "}'), b.push('"} x')
    (None, 2)
    """

    _NEXT = re.compile(r"[\"'\[\]{}]")
    _INSIDE: ClassVar = {quote: re.compile(rf"[{quote}\\\\]") for quote in "\"'"}

    def __init__(self) -> None:
        self.depth = 0
        self._quote = ""  # of the string that is open
        self._escaped = False

    @property
    def in_string(self) -> bool:
        """Whether a string is open."""
        return bool(self._quote)

    def push(self, text: str) -> int | None:
        """Where in this piece the value that began first ends (behind it); None: it goes on."""
        at = 0
        if self._escaped and text:
            at, self._escaped = 1, False
        while found := (self._INSIDE[self._quote] if self._quote else self._NEXT).search(text, at):
            at = found.end()
            mark = found[0]
            if mark == "\\":
                self._escaped = at == len(text)
                at += 1
            elif mark == self._quote:
                self._quote = ""
            elif mark in "\"'":
                self._quote = mark
            elif mark in "[{":
                self.depth += 1
            else:
                self.depth -= 1
                if self.depth <= 0:
                    return at
        return None
