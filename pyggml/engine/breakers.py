"""Where a repeated stretch of text ends for the sampler DRY: texts, as the sequences of tokens that may write them."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyggml.tokenizer import Tokenizer

_MOST_BYTES, _MOST_IDS = 40, 20


def breakers(tokenizer: Tokenizer, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Sequences of ids: a token that a text lies in, or one that ends as the text begins, and those of its rest."""
    return [each for text in texts for each in _of_text(weakref.ref(tokenizer), text)]


@functools.lru_cache(maxsize=64)
def _of_text(held: weakref.ref[Tokenizer], text: str) -> tuple[tuple[int, ...], ...]:
    tokenizer = held()
    data = text.encode()[:_MOST_BYTES]
    if tokenizer is None or not data:
        return ()
    found: dict[tuple[int, ...], None] = {}
    lead = len(tokenizer.encode("\n", add_special=False, parse_special=False))
    for token in range(tokenizer.n_vocab):
        piece = tokenizer.piece_bytes(token)
        if data in piece:
            found[(token,)] = None
            continue
        for n in range(1, min(len(piece), len(data) - 1) + 1):
            if piece.endswith(data[:n]):
                rest = "\n" + data[n:].decode("utf-8", "replace")
                sequence = (token, *tokenizer.encode(rest, add_special=False, parse_special=False)[lead:][:_MOST_IDS])
                found[sequence] = None
    return tuple(found)
