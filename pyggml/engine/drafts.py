"""Drafts: tokens that are guessed, and read together with the one before them, as many as turn out right.

A guess is checked by choosing at its place as without it: the same logits, to the bit (docs/adr/0007), and the same
random numbers. So a text is what it would be, whatever is guessed; only the number of steps changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

from pyggml.engine.loaded import Loaded
from pyggml.engine.sampling import Sampling
from pyggml.engine.session import Session
from pyggml.errors import ArgumentError, PyggmlError, UnsupportedError

Draft = str | Loaded
"""Of whom a guess comes: "ngram", "auto", another model."""

MOST = 8
"""Tokens of a draft, which are rows of one step more."""
_COST = 0.25  # of such a row, in steps (docs/adr/0007); a draft of which less turns out right does not pay
_REST, _LONGEST_REST = 32, 1024  # tokens without drafts, where they do not


class Drafter(Protocol):
    """Guesses how a sequence goes on."""

    def guess(self, ids: Sequence[int], most: int) -> list[int]:
        """At most so many tokens behind ids, which begin as those of the last time did."""
        ...


class Ngrams:
    """What followed the last tokens the last time that they stood in the sequence.

    >>> Ngrams().guess([1, 2, 3, 4, 9, 9, 1, 2, 3], 2)
    [4, 9]
    """

    _SIZES = (4, 3, 2)  # tokens that must be alike; longer ones are believed first

    def __init__(self) -> None:
        self._behind: dict[tuple[int, ...], int] = {}  # of each n-gram, the position behind it
        self._n = 0  # positions that are known

    def guess(self, ids: Sequence[int], most: int) -> list[int]:
        """As Drafter says."""
        for end in range(self._n, len(ids)):  # an n-gram is known when something stands behind it
            for size in self._SIZES:
                if end >= size:
                    self._behind[tuple(ids[end - size : end])] = end
        self._n = len(ids)
        for size in self._SIZES:
            at = self._behind.get(tuple(ids[-size:])) if len(ids) >= size else None
            if at is not None:
                return list(ids[at : at + most])
        return []


class Smaller:
    """The likeliest tokens of another model with the same vocabulary."""

    def __init__(self, loaded: Loaded) -> None:
        self._session = Session(loaded)
        self._chooser = Sampling(temperature=0).sampler(loaded.n_vocab)
        self._held: list[int] = []

    def guess(self, ids: Sequence[int], most: int) -> list[int]:
        """As Drafter says. Raises PyggmlError where that model was closed."""
        with _of_draft():
            return self._guess(ids, most)

    def _guess(self, ids: Sequence[int], most: int) -> list[int]:
        room = self._session.n_ctx - len(ids)
        if room < 1:
            return []
        same = next((i for i, (a, b) in enumerate(zip(self._held, ids, strict=False)) if a != b), len(self._held))
        same = self._session.back(min(same, len(ids) - 1))
        self._session.truncate(same)
        self._held[same:] = ids[same:]
        found = [self._session.next(self._chooser, ids[same:], draft=len(ids) - same <= MOST + 1)]
        while len(found) < min(most, room):
            self._held.append(found[-1])
            found.append(self._session.next(self._chooser, found[-1:], draft=True))
        return found


@contextlib.contextmanager
def _of_draft() -> Iterator[None]:
    """What goes wrong in the model that guesses says so."""
    try:
        yield
    except PyggmlError as error:
        raise type(error)(f"draft: {error}") from error


def drafts_of(loaded: Loaded, draft: Draft | None) -> Drafts | None:
    """Drafts for a text of loaded; "auto": where it can take tokens back.

    Raises UnsupportedError where it cannot, ArgumentError for a model with another vocabulary.
    """
    if draft is None or (draft == "auto" and loaded.recurrent):
        return None
    if loaded.recurrent:
        raise UnsupportedError(
            f"draft: layers of this model ({loaded.config.arch}) cannot take back what was guessed wrong; leave it out"
        )
    if isinstance(draft, str):
        return Drafts(Ngrams())
    with _of_draft():
        draft.check_open()
        draft.output("logits")
        drafter = Smaller(draft)
    check_vocabulary(loaded, draft)
    return Drafts(drafter)


def check_vocabulary(loaded: Loaded, other: Loaded) -> None:
    """Raises ArgumentError where a draft model's tokens are not those of the model."""
    mine, its = loaded.tokenizer, other.tokenizer
    n = min(mine.n_vocab, its.n_vocab)
    wrong = next((i for i in range(n) if mine.piece_bytes(i) != its.piece_bytes(i)), None)
    if mine.n_vocab != its.n_vocab or wrong is not None:
        where = f"token {wrong} differs" if wrong is not None else f"it has {its.n_vocab} tokens, not {mine.n_vocab}"
        raise ArgumentError(f"draft: a model guesses for another only with the same vocabulary, and {where}")


class Drafts:
    """How many tokens are worth a guess, by how many turned out right. n_guessed, n_right: all of them."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._size = MOST // 2
        self._share = 0.5  # of guesses that turn out right, lately
        self._rest = 0
        self._next_rest = _REST
        self.n_guessed = self.n_right = 0

    def guess(self, ids: Sequence[int], room: int) -> list[int]:
        """Tokens to read behind ids; none where there is no room or it has not paid."""
        most = min(self._size, room)
        if self._rest > 0 or most < 1:
            self._rest -= 1
            return []
        return self._drafter.guess(ids, most)[:most]

    def learn(self, n_guessed: int, n_right: int) -> None:
        """What came of a guess."""
        self.n_guessed += n_guessed
        self.n_right += n_right
        self._share += (n_right / n_guessed - self._share) / 4
        self._size = min(self._size + 2, MOST) if n_right == n_guessed else max(n_right + 1, 2)
        if self._share < _COST:
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _LONGEST_REST)
            self._share, self._size = 0.5, 2
        elif self._share > 2 * _COST:
            self._next_rest = _REST
