"""How well texts answer a query: pairs of texts, read by a model that has a head for their score.

Pairs are put together as transformers does it for the model's kind of vocabulary, or by the file's template for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyggml.chat import named
from pyggml.engine import embedding
from pyggml.engine.engine import Engine
from pyggml.engine.loaded import Loaded
from pyggml.engine.ticket import AtOnce, Feed
from pyggml.errors import ContextFull, GGUFError, UnsupportedError
from pyggml.shown import shown

_TEMPLATE = f"{named.KEY}.rerank"
_MOST_LABELS = 2  # yes and no


def check(loaded: Loaded) -> None:
    """Raises UnsupportedError for a model that gives no score, or one of another kind."""
    loaded.output("score")
    n = len(loaded.file.tensors["cls.output.weight"].shape) > 1 and loaded.file.tensors["cls.output.weight"].shape[0]
    if n and n > _MOST_LABELS:
        raise UnsupportedError(f"cls.output.weight has {n} labels: this model sorts texts, it does not rank them")


class Pairs(NamedTuple):
    """ids of each pair. end: what stands behind each document; n_before: how many ids before the document at least.

    n_first: how many ids are of the first kind, in a model that knows the tokens of the second text by another; 0: all.
    """

    ids: list[list[int]]
    end: list[int]
    n_before: int
    n_first: int = 0


def pairs(loaded: Loaded, query: str, docs: Sequence[str]) -> Pairs:
    """The ids of each pair. Raises GGUFError for a template that does not hold query and document once each."""
    encode, first, last = loaded.tokenizer.encode, loaded.tokenizer.starts, loaded.tokenizer.ends
    template = loaded.file.metadata.get(_TEMPLATE)
    if template is not None:
        parts = template.split("{document}") if isinstance(template, str) else []
        if len(parts) != 2 or "".join(parts).count("{query}") != 1:
            raise GGUFError(
                f"{_TEMPLATE} is {shown(template)}, expected a text with one {{query}} and one {{document}}"
            )
        before, behind = (part.replace("{query}", query) for part in parts)
        ids = [encode(before + doc + behind) for doc in docs]
        return Pairs(ids, [*_plain(encode, behind), *last], len(first) + len(_plain(encode, before)))
    between = last if loaded.tokenizer.model == "bert" else last + last
    start = [*first, *_plain(encode, query), *between]
    ids = [[*start, *_plain(encode, doc), *last] for doc in docs]
    return Pairs(ids, list(last), len(start), len(start) if _knows_kinds(loaded) else 0)


def _knows_kinds(loaded: Loaded) -> bool:
    types = loaded.file.tensors.get("token_types.weight")
    return types is not None and len(types.shape) > 1 and types.shape[0] > 1


def fitted(engine: Engine, found: Pairs, overflow: str) -> list[list[int]]:
    """The ids of pairs that fit the context; overflow "truncate" cuts the ends of documents.

    Raises ContextFull, also where the query leaves a document no room.
    """
    most = engine.loaded.n_ctx
    taken = found.n_before + len(found.end)
    if found.ids and taken >= most:
        raise ContextFull(
            f"the query and what stands around it have {taken} tokens and leave a document no room in the {most} that "
            "this model reads; shorten the query"
        )
    return embedding.fitted(engine, found.ids, overflow, "pair", found.end)


def _plain(encode: Callable[..., list[int]], text: str) -> list[int]:
    return encode(text, add_special=False, parse_special=False)


class Ranking(AtOnce):
    """score is there when it has ended; it is made of the first row or of the last. kinds: the ids as the model is fed
    with them, which say of what kind a token is."""

    output = "score"

    def __init__(self, ids: Sequence[int], first: bool, kinds: Sequence[int]) -> None:
        super().__init__(ids, len(ids) if first else 1)
        self._kinds = kinds
        self.score = 0.0

    def feed(self) -> Feed | None:
        return Feed(self._kinds, self._n_rows)

    def use(self, rows: NDArray[np.float32]) -> None:
        row = rows[0].astype(np.float64)
        self.score = float(row[0] if row.size == 1 else 1.0 / (1.0 + np.exp(row[1] - row[0])))


def rank(engine: Engine, ids: Sequence[Sequence[int]], n_first: int = 0) -> NDArray[np.float32]:
    """The score of each pair, in the order of ids. n_first: as in Pairs."""
    n, first = engine.loaded.n_vocab if n_first else 0, not engine.loaded.config.causal
    tickets = [Ranking(each, first, [*each[:n_first], *(i + n for i in each[n_first:])]) for each in ids]
    engine.read_at_once(tickets)
    return np.array([each.score for each in tickets], np.float32)
