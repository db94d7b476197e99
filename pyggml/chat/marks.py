"""Finding marks in a text that comes in pieces: what may still become one is held back, the rest goes on at once.

The result does not depend on how the text is cut into pieces. Stop strings, reasoning and tool calls are found by it.
"""

from __future__ import annotations

from collections.abc import Iterable


def begun(text: str, mark: str) -> int:
    """Where the longest end of text that a mark may begin with starts; its length where there is none.

    >>> begun("one E", "END"), begun("one", "END")
    (4, 3)
    """
    at = max(0, len(text) - len(mark) + 1)
    while (at := text.find(mark[0], at)) >= 0:
        if mark.startswith(text[at:]):
            return at
        at += 1
    return len(text)


def cut(text: str, marks: Iterable[str]) -> tuple[str, str, str]:
    """(what is before a mark, the mark, what is behind it); without one (what is certain, "", what may become one).

    The mark that is complete first counts, of several that end together the longest.

    >>> cut("a<b>c", ["<b>"]), cut("a<b", ["<b>"])
    (('a', '<b>', 'c'), ('a', '', '<b'))
    """
    known = list(marks)
    ends = [(at + len(mark), at) for mark in known if (at := text.find(mark)) >= 0]
    if ends:
        end, at = min(ends)
        return text[:at], text[at:end], text[end:]
    at = min((begun(text, mark) for mark in known), default=len(text))
    return text[:at], "", text[at:]
