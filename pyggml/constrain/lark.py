"""Grammars in the parser's own language, a kind of Lark: what is looked at before it reads them.

Its syntax is the parser's business; here are its size, how deep rules and brackets go, and the doors that are shut.
"""

from __future__ import annotations

import re

from ..errors import GrammarError
from .rules import MOST_LEVELS, check_rules, check_size

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|\#[^\n]*)
    |(?P<quoted>"(?:\\.|[^"\\\n])*"i?|/(?:\\.|[^/\\\n])+/[imslux]*)
    |(?P<directive>%[A-Za-z_]\w*)
    |(?P<name>[!?]?[A-Za-z_][\w.\-]*)
    |(?P<open>[(\[{])|(?P<shut>[)\]}])
    |(?P<other>.)""",
    re.X | re.S,
)
_CLOSED = {
    "%json": "give a schema by schema=, where it is judged",
    "%llguidance": "options of the parser are not taken from a grammar",
}


def judge(text: str) -> str:
    """The grammar as it stands. Raises GrammarError.

    >>> judge('start: "a"')
    'start: "a"'
    """
    check_size(text, "the Lark grammar")
    uses: dict[str, list[str]] = {}
    current: list[str] = []
    depth = 0
    tokens = [(m.lastgroup or "", m[0], m.start()) for m in _TOKEN.finditer(text)]
    shown = [each for each in tokens if each[0] != "skip"]
    for i, (kind, word, at) in enumerate(shown):
        line = text.count("\n", 0, at) + 1
        if kind == "directive" and word in _CLOSED:
            raise GrammarError(f"the Lark grammar, line {line}: {word} is not taken: {_CLOSED[word]}")
        if kind == "open":
            depth += 1
            if depth > MOST_LEVELS:
                raise GrammarError(f"the Lark grammar, line {line}: brackets are nested deeper than {MOST_LEVELS}")
        depth -= kind == "shut" and depth > 0
        if kind != "name":
            continue
        name = word.lstrip("!?")
        if not depth and _begins_line(text, at) and _defines(shown, i):
            current = uses.setdefault(name, [])
        else:
            current.append(name)
    if "start" not in uses:
        raise GrammarError("the Lark grammar has no rule start, which is where a text begins")
    check_rules(uses, "the Lark grammar")
    return text


def _begins_line(text: str, at: int) -> bool:
    return not text[text.rfind("\n", 0, at) + 1 : at].strip()


def _defines(tokens: list[tuple[str, str, int]], i: int) -> bool:
    """Whether a name is followed by a colon, perhaps with [attributes], {parameters} or a .priority between."""
    depth = 0
    for kind, word, _ in tokens[i + 1 : i + 60]:
        if kind == "open":
            depth += 1
        elif kind == "shut":
            depth -= 1
        elif not depth:
            return word == ":" or word == "::"
    return False
