"""Log-probabilities and perplexity from logits, in float64, without keeping more logits than a piece."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import whole_or_none
from pyggml.engine.engine import Engine
from pyggml.errors import ArgumentError

LEAST, _CHUNK = 4, 512  # tokens of a chunk whose second half is scored
_PIECE = 128  # positions whose logits are held at once


def chunk(n_ctx: int | None, most: int) -> int:
    """Tokens of a chunk: n_ctx, or 512 if the model's context, most, has room for them.

    Raises ArgumentError for more than most, and where most holds no chunk at all.

    >>> chunk(None, 2048), chunk(None, 128), chunk(64, 128)
    (512, 128, 64)
    """
    n = whole_or_none("n_ctx", n_ctx, LEAST)
    if n is not None and n > most:
        raise ArgumentError(
            f"n_ctx is {n}: chunks of so many tokens do not fit the model's context of {most}; take at most {most}, or "
            "a model with a longer context"
        )
    if most < LEAST:
        raise ArgumentError(
            f"the model's context of {most} is too short to measure on: {LEAST} positions are needed; load it with "
            "a longer one"
        )
    return min(_CHUNK, most) if n is None else n


def _log_probs(engine: Engine, ids: Sequence[int], first: int) -> NDArray[np.float64]:
    """log p(ids[i + 1] | ids[:i + 1]) for i from first to len(ids) - 2."""
    found = []

    def use(at: int, rows: NDArray[np.float32]) -> None:
        logits = rows.astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        norm = np.log(np.exp(logits).sum(axis=1))
        found.append(logits[np.arange(len(logits)), ids[at + 1 : at + 1 + len(logits)]] - norm)

    engine.read(ids[:-1], use, first, _PIECE)
    return np.concatenate(found)


def score(engine: Engine, ids: Sequence[int]) -> NDArray[np.float32]:
    """log p of every id but the first: (n - 1,)."""
    if len(ids) < 2:
        return np.zeros(0, np.float32)
    return _log_probs(engine, ids, 0).astype(np.float32)


def perplexity(engine: Engine, ids: Sequence[int], n_ctx: int, progress: Callable[[int, int], None] | None) -> float:
    """exp of the mean negative log-probability over the second halves of chunks of n_ctx ids, of which there is one."""
    tok = engine.loaded.tokenizer
    n_chunk = len(ids) // n_ctx
    total, count = 0.0, 0
    for i in range(n_chunk):
        chunk = list(ids[i * n_ctx : (i + 1) * n_ctx])
        if tok.add_bos and tok.bos_id is not None:
            chunk[0] = tok.bos_id
        part = _log_probs(engine, chunk, n_ctx // 2)
        total -= float(part.sum())
        count += part.size
        if progress is not None:
            progress(i + 1, n_chunk)
    return math.exp(total / count)
