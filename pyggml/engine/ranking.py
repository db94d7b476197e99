"""How well texts answer a query: pairs of texts, read by a model that has a head for their score.

Pairs are put together as transformers does it for the model's kind of vocabulary, or by the file's template for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pyggml.chat import named
from pyggml.engine.engine import Engine
from pyggml.engine.loaded import Loaded
from pyggml.engine.ticket import Feed, Ticket
from pyggml.errors import UnsupportedError

_TEMPLATE = f"{named.KEY}.rerank"
_MOST_LABELS = 2  # yes and no


def check(loaded: Loaded) -> None:
    """Raises UnsupportedError for a model that gives no score, or one of another kind."""
    loaded.output("score")
    n = len(loaded.file.tensors["cls.output.weight"].shape) > 1 and loaded.file.tensors["cls.output.weight"].shape[0]
    if n and n > _MOST_LABELS:
        raise UnsupportedError(f"cls.output.weight has {n} labels: this model sorts texts, it does not rank them")
    types = loaded.file.tensors.get("token_types.weight")
    if types is not None and types.shape[0] > 1 and len(types.shape) > 1:
        raise UnsupportedError(
            f"token_types.weight has {types.shape[0]} rows: this model wants another type for the tokens of the second "
            "text, which cannot be fed yet"
        )


def pairs(loaded: Loaded, query: str, docs: Sequence[str]) -> list[list[int]]:
    """The ids of each pair."""
    encode = loaded.tokenizer.encode
    template = loaded.file.metadata.get(_TEMPLATE)
    if isinstance(template, str):
        return [encode(_filled(template, query, doc)) for doc in docs]
    first, last = loaded.tokenizer.starts, loaded.tokenizer.ends
    between = last if loaded.tokenizer.model == "bert" else last + last
    before = [*first, *_plain(encode, query), *between]
    return [[*before, *_plain(encode, doc), *last] for doc in docs]


def _plain(encode: Callable[[str, bool, bool], list[int]], text: str) -> list[int]:
    return encode(text, False, False)


def _filled(template: str, query: str, doc: str) -> str:
    """In one go, as a text may hold what stands for the other."""
    parts = template.replace("{document}", "{query}\0").split("{query}")
    return parts[0] + "".join((doc + part[1:]) if part.startswith("\0") else query + part for part in parts[1:])


class Ranking(Ticket):
    """Reads a pair at once; score is there when it has ended."""

    output = "score"

    def __init__(self, ids: Sequence[int], first: bool) -> None:
        super().__init__(())
        self._ids = ids
        self._first = first
        self.score = 0.0

    def feed(self) -> Feed | None:
        return Feed(self._ids, len(self._ids) if self._first else 1)

    def read(self, rows: NDArray[np.float32]) -> None:
        row = rows[0].astype(np.float64)
        self.score = float(row[0] if row.size == 1 else 1.0 / (1.0 + np.exp(row[1] - row[0])))
        self.end()


def rank(engine: Engine, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """The score of each pair, in the order of ids."""
    loaded = engine.loaded
    for each in ids:
        loaded.check_ids(each, 0, loaded.n_ctx)
    tickets = [Ranking(each, not loaded.config.causal) for each in ids]
    engine.run([tickets[i] for i in sorted(range(len(ids)), key=lambda i: -len(ids[i]))])
    return np.array([each.score for each in tickets], np.float32)
