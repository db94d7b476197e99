"""Random walks through the masks of a grammar: texts without a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pyggml.constrain import Constraint
from pyggml.tokenizer import Tokenizer

_CLOSING = (b'"', b"}", b"]", b",")


def allowed(mask: NDArray[np.uint32]) -> NDArray[np.intp]:
    """The ids of a mask."""
    return np.nonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))[0]


class Walker:
    """Walks over one vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._ends = tokenizer.eog_ids
        self._pieces: Callable[[int], bytes] = tokenizer.piece_bytes
        self._closes = np.array(
            [any(c in tokenizer.piece_bytes(i) for c in _CLOSING) for i in range(tokenizer.n_vocab)]
        )

    def walk(self, constraint: Constraint, seed: int, most: int = 250) -> str | None:
        """A whole text, None: most tokens were not enough. Every second walk takes what is forced."""
        choose = random.Random(seed)
        data = b""
        for step in range(most):
            if seed % 2 and (forced := constraint.forced()):
                for token in forced:
                    constraint.take(token)
                    data += self._pieces(token)
                continue
            mask = constraint.mask()
            ids = allowed(mask)
            assert len(ids), "a mask allows nothing, and is no error"
            ends = [i for i in self._ends if mask[i >> 5] >> (i & 31) & 1]
            if ends and (len(ends) == len(ids) or choose.random() < 0.5):
                assert constraint.may_end
                return data.decode()
            token = self._choose(ids, choose, step > most // 3)
            constraint.take(token)
            data += self._pieces(token)
        return None

    def _choose(self, ids: NDArray[np.intp], choose: random.Random, hurry: bool) -> int:
        ids = np.array([i for i in ids if i not in self._ends]) if len(ids) < 50 else ids
        closing = ids[self._closes[np.minimum(ids, len(self._closes) - 1)]]
        if len(closing) and choose.random() < (0.9 if hurry else 0.4):
            ids = closing
        while True:
            token = int(choose.choice(ids))
            if token not in self._ends:
                return token


def follows(constraint: Constraint, ids: Sequence[int]) -> bool:
    """Whether a text of these ids is a whole one."""
    return constraint.fits(ids) == len(ids) and _taken(constraint, ids).may_end


def _taken(constraint: Constraint, ids: Sequence[int]) -> Constraint:
    for token in ids:
        constraint.take(token)
    return constraint
