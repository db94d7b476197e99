"""Grammars for a vocabulary, kept for the next request, and constraints: how far one text has come in one."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GrammarError
from ..tokenizer import Tokenizer
from .compiling import compiled, short
from .library import ForkedLock, call
from .wanted import Wanted, read_wanted

_MOST_KEPT = 32  # of a tokenizer

_kept: weakref.WeakKeyDictionary[Tokenizer, OrderedDict[tuple[int, str, str], _Pristine]] = weakref.WeakKeyDictionary()
_keeping, _copying = ForkedLock(), ForkedLock()


class _Pristine:
    """A matcher at the beginning, which is only copied."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def copy(self) -> Any:
        with _copying:  # it is not for two threads at once
            return call("the grammar", self._matcher.deep_copy)


def grammar(tokenizer: Tokenizer, n_vocab: int, wanted: Wanted | None = None, **what: Any) -> Grammar:
    """What texts must be, compiled for a tokenizer whose model has n_vocab logits.

    what: one of schema (a JSON schema, its text, a pydantic model, a dataclass, a TypedDict or another type), regex
    (the whole text), grammar (GBNF), lark, choices (texts). Compiled in a thread of its own; of those that were asked
    for last, 32 are kept. Raises GrammarError for what cannot be enforced, with its place; UnsupportedError without
    llguidance.

    >>> import pyggml
    >>> with pyggml.load() as m:
    ...     c = grammar(m.tokenizer, m.n_vocab, choices=["yes", "no"]).begin()
    ...     for token in m.tokenizer.encode("yes", add_special=False):
    ...         c.take(token)
    >>> c.done
    True
    """
    wanted = wanted or read_wanted(what)
    if wanted is None:
        raise GrammarError("nothing is given that a text could follow: schema, regex, grammar, lark or choices")
    key = (n_vocab, "json" if wanted.name == "schema" else wanted.name, wanted.key)
    with _keeping:
        mine = _kept.setdefault(tokenizer, OrderedDict())
        found = mine.get(key)
        if found is not None:
            mine.move_to_end(key)
    if found is None:
        found = _Pristine(compiled(tokenizer, n_vocab, wanted))
        with _keeping:
            mine[key] = found
            while len(mine) > _MOST_KEPT:
                mine.popitem(last=False)
    return Grammar(wanted, found, n_vocab)


class Grammar:
    """What texts must be; any number of them at once, in any threads."""

    def __init__(self, wanted: Wanted, pristine: _Pristine, n_vocab: int) -> None:
        self._wanted = wanted
        self._pristine = pristine
        self._n_vocab = n_vocab

    def __repr__(self) -> str:
        return f"<pyggml.constrain.Grammar of a {self._wanted.name}>"

    def begin(self) -> Constraint:
        """A new text."""
        return Constraint(self._pristine.copy(), self._n_vocab)

    def parse(self, text: str) -> Any:
        """The object that a whole text stands for: of a schema the value, or an instance of the type it was made of; of
        choices the one that was chosen; of the others None. Raises GrammarError where the type refuses the value.
        """
        parse = self._wanted.parse
        if parse is None:
            return None
        try:
            return parse(text)
        except Exception as e:  # a validator of the caller's own
            raise GrammarError(
                f"the text follows the schema, but {self._wanted.name} refuses it: {type(e).__name__}: {short(str(e))}"
            ) from e


class Constraint:
    """One text that follows a grammar. Used by one thread at a time."""

    def __init__(self, matcher: Any, n_vocab: int) -> None:
        self._matcher = matcher
        self._n_vocab = n_vocab
        self._mask: NDArray[np.uint32] | None = None

    def mask(self) -> NDArray[np.uint32]:
        """The tokens that may come next: bit id & 31 of word id >> 5, ((n_vocab + 31) // 32,).

        The tokens that end a text are among them where it may end here. Raises GrammarError where the parser gives up;
        no token may follow then.
        """
        if self._mask is None:
            data = self._call(self._matcher.compute_bitmask)
            self._mask = np.frombuffer(data, "<u4")[: (self._n_vocab + 31) // 32].astype(np.uint32, copy=False)
        return self._mask

    def take(self, token: int) -> None:
        """The token that comes next. Raises GrammarError for one that the mask forbids."""
        self._mask = None
        if not self._call(self._matcher.consume_token, int(token)):
            raise self._wrong(f"token {token} cannot follow")

    def forced(self) -> list[int]:
        """Tokens that come next in any case, as the tokenizer cuts them; they are not taken yet."""
        if self.done:
            return []
        found: list[int] = self._call(self._matcher.compute_ff_tokens)
        return found

    def fits(self, tokens: Sequence[int]) -> int:
        """How many of tokens may come next, one after the other; none is taken."""
        return int(self._call(self._matcher.validate_tokens, [*map(int, tokens)]))

    @property
    def done(self) -> bool:
        """Whether the text is whole and nothing can follow it but its end."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    @property
    def may_end(self) -> bool:
        """Whether the text is whole as it is."""
        return bool(self._call(self._matcher.is_accepting))

    def copy(self) -> Constraint:
        """Another one that goes its own way from here; microseconds."""
        return Constraint(self._call(self._matcher.deep_copy), self._n_vocab)

    def rollback(self, n: int) -> None:
        """Takes the last n tokens back. Raises GrammarError where there are fewer."""
        self._mask = None
        if n and not self._call(self._matcher.rollback, n):
            raise self._wrong(f"{n} tokens cannot be taken back")

    def _call(self, function: Any, *args: object) -> Any:
        found = call("the grammar's parser gave up", function, *args)
        if self._matcher.is_error():
            raise self._wrong("the grammar's parser gave up")
        return found

    def _wrong(self, what: str) -> GrammarError:
        return GrammarError(f"{what}: {short(self._matcher.get_error()) or 'it is no continuation of the text'}")
