"""Vectors as llama_cpp.Llama.embed gives them: lists, of a pooling that the file or the caller names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyggml.arguments import texts
from pyggml.compat.llama_cpp.verdicts import POOLINGS
from pyggml.errors import ContextFull
from pyggml.model import Model

_NUMBERS = {name: number for number, name in POOLINGS.items() if name}


def pooling_number(m: Model, pooling: str | None) -> int:
    """The pooling in use, as llama.h numbers it: the caller's, the file's, or none."""
    said = m.metadata.get(f"{m.config.arch}.pooling_type")
    return _NUMBERS[pooling] if pooling else said if isinstance(said, int) and said in POOLINGS else 0


def embed(
    m: Model, given: str | Sequence[str], pooling: str | None, normalize: bool, truncate: bool
) -> tuple[list[Any], int]:
    """(vectors, tokens). Raises ContextFull for a text that is too long, without truncate."""
    how = POOLINGS[pooling_number(m, pooling)] or "none"
    ids = [m.tokenize(text) for text in texts("input", given, or_one=True)]
    for each in ids:
        if len(each) > m.n_ctx and not truncate:
            raise ContextFull(
                f"Requested tokens ({len(each)}) exceed the context of {m.n_ctx}; truncate=True cuts them"
            )
    found = m.embed([each[: m.n_ctx] for each in ids], pooling=how, normalize=normalize)
    vectors = [each.tolist() for each in found]
    return (vectors[0] if isinstance(given, str) else vectors), sum(min(len(each), m.n_ctx) for each in ids)
