"""A text as one vector: what the model says of its tokens, pooled.

Poolings are those of sentence-transformers and llama.cpp (pooling_type); sums are made in float64.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import choice, whole
from pyggml.engine.engine import Engine
from pyggml.engine.ticket import AtOnce
from pyggml.errors import ArgumentError, ContextFull, UnsupportedError

log = logging.getLogger("pyggml")

POOLINGS = {"mean": 1, "cls": 2, "last": 3, "none": 0}
"""Names of poolings, and the values of pooling_type; "none": a vector for each token."""
_RANK = 4
OVERFLOWS = ("error", "truncate")


class EmbedSettings(TypedDict, total=False):
    """Keywords of embed beside pooling."""

    normalize: bool
    dimensions: int | None
    prompt: str
    overflow: Literal["error", "truncate"]


class How(NamedTuple):
    """pooling: of POOLINGS. dimensions: so many first columns, None for all. normalize: to a length of 1."""

    pooling: str
    normalize: bool
    dimensions: int | None


def pooling_of(engine: Engine, pooling: str | None) -> str:
    """The pooling that was asked for, or the file's.

    Where neither says: "last" in a model whose tokens see only those before them, "mean" in others. Raises
    ArgumentError for no pooling, UnsupportedError for a model that ranks.
    """
    if pooling is not None:
        return choice("pooling", pooling, POOLINGS)
    config = engine.loaded.config
    if config.pooling_type == _RANK:
        raise UnsupportedError(
            "this model ranks pairs of texts and names no pooling for vectors; give one of "
            f"{', '.join(map(repr, POOLINGS))} as pooling="
        )
    said = next(name for name, value in POOLINGS.items() if value == config.pooling_type)
    return said if config.pooling_type else "last" if config.causal else "mean"


def check_dimensions(engine: Engine, dimensions: int | None) -> int | None:
    """dimensions, refused where a vector has not so many."""
    n = engine.loaded.config.n_embd
    if dimensions is not None and whole("dimensions", dimensions, 1) > n:
        raise ArgumentError(f"dimensions is {dimensions}, but a vector of this model has {n}")
    return dimensions


def fitted(
    engine: Engine, ids: Sequence[Sequence[int]], overflow: str, what: str = "text", end: Sequence[int] | None = None
) -> list[list[int]]:
    """ids, each no longer than the context; overflow "truncate" cuts what stands before end, which stays.

    what: what they are of. end: None: the marks that the tokenizer puts behind a text. Raises ContextFull for a longer
    one, which is named by its place, unless overflow is "truncate".
    """
    most = engine.loaded.n_ctx
    longer = [i for i, each in enumerate(ids) if len(each) > most]
    if not longer:
        return [list(each) for each in ids]
    if overflow == "error":
        raise ContextFull(
            f"{what} {longer[0]} has {len(ids[longer[0]])} tokens, but this model reads at most {most}"
            + (f" ({len(longer)} of {len(ids)} are longer)" if len(longer) > 1 else "")
            + "; shorten it, or pass overflow='truncate' to read its beginning"
        )
    if end is None:
        end = engine.loaded.tokenizer.ends if "tokenizer.ggml.model" in engine.loaded.file.metadata else ()
    end = end[-most:]
    for each in ids:
        engine.loaded.check_ids(each, 0, len(each))
    log.warning(
        "%d of %d %ss were cut to the %d tokens that this model reads; the longest has %d",
        len(longer), len(ids), what, most, max(map(len, ids)),
    )  # fmt: skip
    return [list(each) if len(each) <= most else _cut(each, most, end) for each in ids]


def _cut(ids: Sequence[int], most: int, end: Sequence[int]) -> list[int]:
    """The first ids, and the end marks where they had them."""
    if end and list(ids[-len(end) :]) == list(end):
        return [*ids[: most - len(end)], *end]
    return list(ids[:most])


class Embedding(AtOnce):
    """vector is there when it has ended: (n,), or (len(ids), n) without pooling."""

    output = "embedding"

    def __init__(self, ids: Sequence[int], how: How) -> None:
        super().__init__(ids, 1 if how.pooling == "last" else len(ids))
        self._how = how
        self.vector: NDArray[np.float32] = np.zeros(0, np.float32)

    def use(self, rows: NDArray[np.float32]) -> None:
        self.vector = _finished(_pooled(rows, self._how.pooling), self._how)


def _pooled(rows: NDArray[np.float32], pooling: str) -> NDArray[np.float64]:
    if pooling == "mean":
        return np.asarray(rows.mean(axis=0, dtype=np.float64))
    return (rows if pooling == "none" else rows[0 if pooling == "cls" else -1]).astype(np.float64)


def _finished(vector: NDArray[np.float64], how: How) -> NDArray[np.float32]:
    vector = vector[..., : how.dimensions]
    if how.normalize:
        length = np.linalg.norm(vector, axis=-1, keepdims=True)
        vector = vector / np.where(length > 0, length, 1.0)
    return vector.astype(np.float32)


def embed(engine: Engine, ids: Sequence[Sequence[int]], how: How) -> list[NDArray[np.float32]]:
    """The vector of each text, in the order of ids. Texts run together."""
    tickets = [Embedding(each, how) for each in ids]
    engine.read_at_once(tickets)
    return [each.vector for each in tickets]
