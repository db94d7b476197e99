"""What would pass for something else: it is refused, and the message says what to give; nothing is dropped silently."""

from __future__ import annotations

import array
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pyggml
from pyggml.errors import ArgumentError, ArgumentTypeError


@pytest.fixture(scope="module")
def m() -> Iterator[Any]:
    with pyggml.load(n_ctx=64) as model:
        yield model


@pytest.mark.parametrize(
    "raw", [b"ab", bytearray(b"ab"), memoryview(b"ab"), array.array("B", [1]), array.array("b", [1]), mmap.mmap(-1, 2)]
)
def test_bytes_are_no_ids(m: Any, raw: Any) -> None:
    session = m.session()
    calls = (
        session.step, session.check, m.logits, m.detokenize, m.tokenizer.decode, m.generate, m.stream, m.score,
        m.perplexity, m.tokenize, lambda ids: m.generate(["a", ids]), lambda ids: pyggml.imatrix(m, ids),
        lambda x: pyggml.quantize(x, "q8_0"),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ArgumentTypeError, match="must be"):
            call(raw)
    for ids in (np.array([1, 2], np.uint8), array.array("i", [1, 2]), memoryview(array.array("q", [1, 2]))):
        assert m.detokenize(ids) == m.detokenize([1, 2])


def test_a_chunk_that_the_context_cannot_hold_is_refused(m: Any) -> None:
    ids = [1, 2, 3, 4] * 40
    for n_ctx in (65, 2**40):
        with pytest.raises(ArgumentError, match=rf"n_ctx is {n_ctx}: .* the model's context of 64"):
            m.perplexity(ids, n_ctx)
    assert m.perplexity(ids) == m.perplexity(ids, 64)
