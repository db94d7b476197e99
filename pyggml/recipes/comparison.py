"""compare: how far one model's predictions are from another's on a text. Numbers only; printing is the CLI's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import function
from pyggml.errors import ArgumentError
from pyggml.keywords import known_only
from pyggml.model import Model
from pyggml.recipes.opened import ModelOrPath, opened
from pyggml.recipes.watch import TextOrIds, Trial, chunking, chunks_of, log_softmax, words_of


@dataclass(frozen=True, slots=True)
class Comparison:
    """Model a is the reference. kl_*: of KL(a || b) in nats over positions; same_top: share of positions where both
    find the same token likeliest; logit_change: the largest difference of two logits; n: positions."""

    perplexity_a: float
    perplexity_b: float
    kl_mean: float
    kl_median: float
    kl_99: float
    kl_max: float
    same_top: float
    logit_change: float
    n: int


@known_only
def compare(
    a: ModelOrPath,
    b: ModelOrPath,
    text: TextOrIds,
    *,
    n_ctx: int | None = None,
    n_chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Both models read text in chunks of n_ctx tokens; the second half of each chunk is scored, as perplexity does.

    a, b: models, or paths of GGUF files. text: a str is the text, a pathlib.Path a file of it; or ids. n_ctx None: 512,
    or the shorter of their contexts where that is less; a text that is shorter is one chunk. n_chunk: at most so many
    chunks. Caches are f32. Raises ArgumentError where the models cut text into different tokens, where the text is too
    short, and for an n_ctx beyond a context.

    >>> import pyggml
    >>> with pyggml.load() as m:
    ...     c = pyggml.compare(m, m, "Once upon a time there was a king who had three sons.")
    >>> c.kl_mean, c.same_top, c.logit_change
    (0.0, 1.0, 0.0)
    """
    n_ctx, n_chunk = chunking(n_ctx, n_chunk)
    words, progress = words_of("compare: text", text), function("progress", progress)
    with opened("compare: a", a) as first, opened("compare: b", b) as second:
        return _compare(first, second, words, n_ctx, n_chunk, progress)


def _compare(
    a: Model,
    b: Model,
    text: str | list[int],
    n_ctx: int | None,
    n_chunk: int | None,
    progress: Callable[[int, int], None] | None,
) -> Comparison:
    if a.n_vocab != b.n_vocab:
        raise ArgumentError(f"models of {a.n_vocab} and {b.n_vocab} tokens cannot be compared")
    most = min(a.n_ctx, b.n_ctx)
    chunks = chunks_of(a, text, n_ctx, n_chunk, most)
    if isinstance(text, str) and b is not a and chunks_of(b, text, n_ctx, n_chunk, most) != chunks:
        raise ArgumentError("the models cut text into different tokens; they cannot be compared")
    kls, tops, change, score_a, score_b = [], 0, 0.0, 0.0, 0.0
    half = len(chunks[0]) // 2
    with Trial(a, len(chunks[0])) as ta, Trial(b, len(chunks[0])) as tb:
        for number, chunk in enumerate(chunks):
            fed, at = chunk[:-1], 0
            n_wanted = len(fed) - half
            next_ids = np.array(chunk[half + 1 :])
            for la, lb in zip(ta.steps(fed, n_wanted), tb.steps(fed, n_wanted), strict=True):
                if not len(la):
                    continue
                pa, pb = log_softmax(la), log_softmax(lb)
                kls.append(kl(pa, pb))
                tops += int((la.argmax(axis=1) == lb.argmax(axis=1)).sum())
                change = max(change, float(np.abs(la - lb).max()))
                rows = np.arange(len(la))
                ids = next_ids[at : at + len(la)]
                score_a, score_b = score_a + float(pa[rows, ids].sum()), score_b + float(pb[rows, ids].sum())
                at += len(la)
            if progress is not None:
                progress(number + 1, len(chunks))
    every = np.concatenate(kls)
    n = len(every)
    median, high = np.quantile(every, [0.5, 0.99])
    return Comparison(
        math.exp(-score_a / n), math.exp(-score_b / n), float(every.mean()), float(median), float(high),
        float(every.max()), tops / n, change, n,
    )  # fmt: skip


def kl(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(a || b) of rows of log-probabilities, not below 0."""
    found: NDArray[np.float64] = np.maximum((np.exp(a) * (a - b)).sum(axis=1), 0.0)
    return found
