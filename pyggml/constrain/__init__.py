"""Texts that follow a JSON schema, a regular expression, a grammar or a list of choices, token by token.

The way: wanted.py (what a caller gives) -> schema.py, patterns.py, gbnf.py, lark.py (judged and made one form, with the
place of whatever is not enforced) -> compiling.py (for a vocabulary, in a thread with a stack of its own) ->
masks.py (Grammar, Constraint: a mask for each next token). The parser is `llguidance`, the extra `constrain`; it is
imported when the first grammar is compiled. Whatever it cannot enforce is an error before the first token, never a
warning.
"""

from __future__ import annotations

from .masks import Constraint, Grammar, grammar
from .wanted import Wanted, read_wanted

__all__ = ["Constraint", "Grammar", "Wanted", "grammar", "read_wanted"]
