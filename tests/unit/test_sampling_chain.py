"""The cuts and temperatures that few ask for: each, and some together, choose the ids of the chain's definition."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle.sampling import Chain

import pyggml
from pyggml.engine.sampling import Sampling

OFF: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
SETTINGS: list[dict[str, Any]] = [
    {"top_n_sigma": 1.0}, {"top_n_sigma": 0.3, "top_k": 30}, {"top_n_sigma": 3.0, "top_p": 0.9},
    {"typical_p": 0.9}, {"typical_p": 0.2}, {"typical_p": 0.5, "top_k": 40, "min_p": 0.02},
    {"typical_p": 0.05, "min_keep": 7}, {"top_p": 0.1, "min_keep": 3}, {"min_p": 0.9, "min_keep": 5, "top_k": 100},
    {"xtc_probability": 1.0, "xtc_threshold": 0.01}, {"xtc_probability": 0.5, "xtc_threshold": 0.05, "top_k": 40},
    {"xtc_probability": 1.0, "xtc_threshold": 0.6}, {"xtc_probability": 1.0, "xtc_threshold": 0.02, "min_keep": 995},
    {"dynatemp_range": 0.5}, {"dynatemp_range": 2.0, "dynatemp_exponent": 0.5, "top_k": 20},
    {"dynatemp_range": 0.7, "temperature": 0.5, "top_p": 0.8, "typical_p": 0.7},
    {"mirostat": 1, "mirostat_tau": 3.0}, {"mirostat": 1, "mirostat_tau": 1.0, "mirostat_eta": 0.5},
    {"mirostat": 2}, {"mirostat": 2, "mirostat_tau": 2.0, "mirostat_eta": 0.3, "temperature": 0.7},
    {"logit_bias": {3: 5.0, 900: -2.0, 7: -math.inf}, "top_k": 500}, {"logit_bias": {0: -math.inf}, "typical_p": 0.8},
]  # fmt: skip


def rows(n_vocab: int) -> Iterator[NDArray[np.float32]]:
    """Spread out, nearly equal, one far above the others, most forbidden."""
    rng = np.random.default_rng(5)
    for _ in range(6):
        spread = rng.normal(0, 3, n_vocab).astype(np.float32)
        peaked = spread.copy()
        peaked[rng.integers(n_vocab)] += 9
        few = np.where(rng.random(n_vocab) < 0.02, spread, -np.inf).astype(np.float32)
        few[0] = 1
        few[3] = 2
        yield from (spread, spread * np.float32(0.05), peaked, few)


@pytest.mark.parametrize("given", SETTINGS, ids=lambda given: " ".join(f"{k}={v}" for k, v in given.items()))
def test_the_ids_are_those_of_the_definition(given: dict[str, Any]) -> None:
    n_vocab = 1000
    how = OFF | given
    sampler, oracle = Sampling(**how, seed=11).sampler(n_vocab), Chain(seed=11, **how)
    for number, row in enumerate(rows(n_vocab)):
        assert sampler.next(row) == oracle.next(row), number


def words(allowed: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """The mask as the sampler takes it: bit id & 31 of word id >> 5."""
    padded = np.zeros(-(-len(allowed) // 32) * 32, bool)
    padded[: len(allowed)] = allowed
    return np.packbits(padded, bitorder="little").view("<u4").astype(np.uint32)


@pytest.mark.parametrize("given", SETTINGS, ids=lambda given: " ".join(f"{k}={v}" for k, v in given.items()))
@pytest.mark.parametrize("share", [0.002, 0.5])
def test_masks_go_before_all_cuts(given: dict[str, Any], share: float) -> None:
    n_vocab, rng = 1001, np.random.default_rng(3)
    how = OFF | given
    sampler, oracle = Sampling(**how, seed=12).sampler(n_vocab), Chain(seed=12, **how)
    for number, row in enumerate(rows(n_vocab)):
        oracle.allowed = rng.random(n_vocab) < share
        oracle.allowed[3] = oracle.allowed[1000] = True
        row[1000] = 0.5
        sampler.allow(words(oracle.allowed))
        chosen = sampler.next(row)
        assert chosen == oracle.next(row), number
        assert oracle.allowed[chosen], number
    sampler.allow(None)
    oracle.allowed = None
    assert sampler.next(row) == oracle.next(row)


def test_log_probabilities_are_those_of_the_model_under_a_mask_too() -> None:
    row = np.arange(40, dtype=np.float32)
    sampler = Sampling(temperature=0).sampler(40)
    before = sampler.logprobs(row, 3, 2)
    allowed = np.zeros(40, bool)
    allowed[[3, 35]] = True
    sampler.allow(words(allowed))
    assert sampler.next(row) == 35
    assert sampler.logprobs(row, 3, 2) == before


def test_masks_that_are_refused() -> None:
    row = np.zeros(40, np.float32)
    sampler = Sampling(temperature=0).sampler(40)
    allowed = np.zeros(40, bool)
    allowed[7] = True
    sampler.allow(words(allowed))
    with pytest.raises(pyggml.ArgumentError, match="the mask forbids all of the 40 tokens"):
        sampler.allow(np.array([0, 1 << 8], np.uint32))  # bit 40 is no token's
    with pytest.raises(pyggml.ShapeError, match="40 tokens has 2 words, got 3"):
        sampler.allow(np.zeros(3, np.uint32))
    assert sampler.next(row) == 7  # the mask before it holds


def test_biases() -> None:
    row = np.zeros(10, np.float32)
    row[4] = 3
    assert Sampling(temperature=0, logit_bias={"4": False, 2: 1}).sampler(10).next(row) == 2
    assert Sampling(temperature=0, logit_bias={5: 3.5}).sampler(10).next(row) == 5
    every = Sampling(temperature=0, logit_bias=dict.fromkeys(range(10), -math.inf)).sampler(10)
    with pytest.raises(pyggml.NumericError, match="none of the 10 logits is finite, with its bias"):
        every.next(row)
    with pytest.raises(pyggml.ArgumentError, match="logit_bias has token 10, which is outside the vocabulary of 10"):
        Sampling(logit_bias={10: 1.0}).sampler(10)
    penalised = Sampling(temperature=0, repeat_penalty=2.0, logit_bias={4: -math.inf, 1: 2.0}).sampler(10)
    penalised.accept(np.array([4, 1], np.int32))
    assert penalised.next(row) == 1  # halved to 1, above the rest; the forbidden one stays so without a complaint


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"logit_bias": [(1, 2)]}, "logit_bias must map token ids"), ({"logit_bias": {"a": 1}}, "a key of logit_bias"),
        ({"logit_bias": {1: "x"}}, r"logit_bias\[1\]"), ({"logit_bias": {1: math.nan}}, r"logit_bias\[1\]"),
        ({"logit_bias": {-1: 1}}, "a key of logit_bias"), ({"mirostat": 3}, "mirostat must be"),
        ({"mirostat": 1, "typical_p": 0.5}, "mirostat takes the place of typical_p"), ({"typical_p": 2}, "typical_p"),
        ({"min_keep": -1}, "min_keep"), ({"dynatemp_range": -1}, "dynatemp_range"), ({"xtc_threshold": "a"}, "xtc"),
    ],
)  # fmt: skip
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(pyggml.ArgumentError, match=message):
        Sampling(**given)


def test_a_generation_takes_them() -> None:
    with pyggml.load(n_ctx=128) as m:
        plain = m.generate("Once upon a time", max_tokens=6, temperature=0)
        first = plain.tokens[0]
        other = m.generate("Once upon a time", max_tokens=6, temperature=0, logit_bias={first: False})
        assert first not in other.tokens
        c = m.generate("Once", max_tokens=6, mirostat=2, mirostat_tau=3, seed=4)
        assert c.tokens == m.generate("Once", max_tokens=6, mirostat=2, mirostat_tau=3, seed=4).tokens
        m.generate(["a", "b"], max_tokens=3, typical_p=0.9, xtc_probability=0.5, dynatemp_range=0.2, top_n_sigma=2)
        with pytest.raises(pyggml.ArgumentError, match="logit_bias has token 1000000, which is outside"):
            m.generate("Once", logit_bias={10**6: 1})
