"""DRY, adaptive-p and the chain in any order: the ids of their definitions, and draws as the distribution says."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from oracle.sampling import STEPS, Chain, softmax

import pyggml
from pyggml import _native
from pyggml.engine.breakers import breakers
from pyggml.engine.sampling import STEPS as OURS
from pyggml.engine.sampling import Sampling

OFF: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
ALL: dict[str, Any] = {
    "temperature": 0.8, "top_k": 30, "top_p": 0.9, "min_p": 0.01, "top_n_sigma": 2.0, "typical_p": 0.95,
    "xtc_probability": 0.5, "xtc_threshold": 0.1, "repeat_penalty": 1.2,
}  # fmt: skip


def native(n_vocab: int, seed: int, given: dict[str, Any], ends: tuple[tuple[int, ...], ...] = ()) -> _native.Sampler:
    """The sampler of settings, with breakers as ids."""
    made = Sampling(**given, seed=seed, dry_sequence_breakers=[]).sampler(n_vocab)
    if ends:
        ids = np.array([i for each in ends for i in each], np.int32)
        how = [given.get(f"dry_{name}", value) for name, value in DRY.items()]
        made.dry(*how, ids, np.array([len(each) for each in ends], np.int32))
    return made


DRY = {"multiplier": 0.0, "base": 1.75, "allowed_length": 2, "penalty_last_n": 64}


@pytest.mark.parametrize("given", [
    {}, {"dry_base": 1.0}, {"dry_allowed_length": 0}, {"dry_allowed_length": 1, "dry_penalty_last_n": -1},
    {"dry_penalty_last_n": 9}, {"dry_base": 30.0}, {"top_k": 4, "repeat_penalty": 1.3},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("ends", [(), ((2,),), ((1, 2), (3,), (1, 1, 0))], ids=["none", "one", "sequences"])
def test_dry_is_that_of_the_definition(given: dict[str, Any], ends: tuple[tuple[int, ...], ...]) -> None:
    how = OFF | {"min_p": 1e-6, "dry_multiplier": 0.8} | given  # with a cut, ids are drawn by rank
    rng = np.random.default_rng(4)
    for seed in range(6):
        sampler, oracle = native(6, seed, how, ends), Chain(seed=seed, **how, breakers=ends)
        start = rng.integers(0, 6, 30)
        sampler.accept(start.astype(np.int32))
        oracle.seen += start.tolist()
        for number in range(60):
            row = rng.normal(0, 1, 6).astype(np.float32)
            row[5] = -np.inf if number % 7 == 0 else row[5]
            assert sampler.next(row) == oracle.next(row), (seed, number)


def test_dry_ends_a_text_that_repeats_itself() -> None:
    with pyggml.load(n_ctx=512) as m:
        start = m.tokenize("Once upon a time")
        first = m.generate(start, max_tokens=6, temperature=0).tokens
        again = [*start, *first, *start]
        dry = m.generate(again, max_tokens=1, temperature=0, dry_multiplier=1e4, dry_sequence_breakers=[])
        assert dry.tokens[0] != first[0]
        broken = m.generate(again, max_tokens=1, temperature=0, dry_multiplier=1e4, dry_sequence_breakers=["time"])
        assert broken.tokens == m.generate(again, max_tokens=1, temperature=0).tokens
        found = breakers(m.tokenizer, ["\n", "at c"])
        pieces = m.tokenizer.piece_bytes
        assert all(b"\n" in pieces(each[0]) or b"".join(map(pieces, each)).find(b"at c") >= 0 for each in found)
        assert {len(each) for each in found} > {1}


@pytest.mark.parametrize("seed", range(40))
def test_every_order_is_that_of_the_definition(seed: int) -> None:
    choose = random.Random(seed)
    order = choose.sample(STEPS, choose.randint(0, len(STEPS)))
    how = OFF | {name: value for name, value in ALL.items() if choose.random() < 0.7}
    if choose.random() < 0.4:
        how |= {"dry_multiplier": 1.0, "dry_allowed_length": 1}
    if choose.random() < 0.4:
        how |= {"adaptive_target": choose.choice((0.0, 0.3, 1.0)), "adaptive_decay": choose.choice((0.0, 0.9, 0.99))}
    if choose.random() < 0.2:
        how["temperature"] = 0.0
    sampler, oracle = native(60, seed, {**how, "order": order}), Chain(seed=seed, **how, order=tuple(order))
    rng = np.random.default_rng(seed)
    for number in range(25):
        row = rng.normal(0, 2, 60).astype(np.float32)
        row[rng.random(60) < 0.2] = -np.inf
        row[7] = 0.5
        assert sampler.next(row) == oracle.next(row), (number, order, how)


def test_the_usual_order_is_the_usual_chain() -> None:
    assert OURS == STEPS
    rng = np.random.default_rng(2)
    given = {**ALL, "temperature": 1.0, "top_n_sigma": 0.0}
    plain, ordered = (
        Sampling(**given, seed=3).sampler(500),
        Sampling(**given, seed=3, order=";".join(STEPS)).sampler(500),
    )
    letters = Sampling(**given, seed=3, order="edskypmxt").sampler(500)
    for _ in range(30):
        row = rng.normal(0, 3, 500).astype(np.float32)
        assert plain.next(row) == ordered.next(row) == letters.next(row)


def test_an_order_that_matters() -> None:
    """top_p before the temperature keeps what it keeps; behind a high one it keeps more."""
    row = np.array([3.0, 1.0, 0.0, -1.0], np.float32)
    before = Sampling(temperature=100.0, top_p=0.8, top_k=0, min_p=0.0, order=["top_p", "temperature"], seed=1).sampler(
        4
    )
    behind = Sampling(temperature=100.0, top_p=0.8, top_k=0, min_p=0.0, order=["temperature", "top_p"], seed=1).sampler(
        4
    )
    assert {before.next(row) for _ in range(50)} == {0}
    assert len({behind.next(row) for _ in range(50)}) > 2


DRAWS = 200_000


@pytest.mark.parametrize(("given", "expected"), [
    ({}, lambda x: softmax(x)),
    ({"temperature": 0.5, "order": ["temperature"]}, lambda x: softmax(x / 0.5)),
    ({"order": ["top_k"], "top_k": 3}, lambda x: softmax(np.where(x >= np.sort(x)[-3], x, -np.inf))),
    ({"adaptive_target": 0.3, "adaptive_decay": 0.0}, None),
], ids=["plain", "temperature", "top_k", "adaptive"])  # fmt: skip
def test_draws_fit_the_distribution(given: dict[str, Any], expected: Any) -> None:
    """Chi-square over 200,000 draws. Of adaptive-p, which remembers, each draw by the state it was made in."""
    x = np.array([2.0, 1.2, 0.9, 0.0, -0.5, -2.0], np.float32)
    sampler = Sampling(**OFF | given, seed=17).sampler(len(x))
    drawn = [sampler.next(x) for _ in range(DRAWS)]
    counts = np.bincount(drawn, minlength=len(x)).astype(np.float64)
    if expected is not None:
        p = expected(x.astype(np.float64))
    else:  # the last choice alone counts: a chain of states, one a token
        plain = softmax(x.astype(np.float64))
        far = np.abs(plain[None, :] - np.clip(2 * 0.3 - plain, 0, 1)[:, None]) / 0.3
        table = np.array([softmax(each) for each in 5 - 10 * far * far / (1 + far)])
        pairs = np.zeros_like(table)
        np.add.at(pairs, (np.array(drawn[:-1]), np.array(drawn[1:])), 1)
        of_rows = pairs.sum(1, keepdims=True) * table
        assert chi(pairs[of_rows > 5], of_rows[of_rows > 5]) < 80  # 30 degrees of freedom
        return
    assert chi(counts[p > 0], DRAWS * p[p > 0]) < 30  # 5 degrees of freedom
    assert not counts[p == 0].any()


def chi(seen: Any, expected: Any) -> float:
    """Chi-square."""
    return float(((seen - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(("given", "message"), [
    ({"order": ["top_k", "top_k"]}, "no step twice"), ({"order": "top_k;nothing"}, "no 'nothing'"),
    ({"order": "kz"}, "no 'z'"),
    ({"mirostat": 1, "order": ["top_k"]}, "mirostat takes the place of order"), ({"dry_base": 0.5}, "dry_base"),
    ({"mirostat": 2, "adaptive_target": 0.5}, "mirostat takes the place of adaptive_target"),
    ({"adaptive_decay": 1.0}, "0.99"),
    ({"dry_sequence_breakers": "x"}, "dry_sequence_breakers"),
    ({"dry_sequence_breakers": ["a", "b\ud800"]}, "which has half of a character"),
    ({"dry_allowed_length": -1}, "dry_allowed_length"),
])  # fmt: skip
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(pyggml.ArgumentError, match=message):
        Sampling(**given)


def test_the_core_refuses_too() -> None:
    sampler = Sampling().sampler(4)
    none = np.zeros(0, np.int32)
    for call, message in (
        (lambda: sampler.order(np.array([9], np.int32)), "no step 9"), (lambda: sampler.adapt(0.5, 0.9), "no order"),
        (lambda: sampler.order(np.array([1, 1], np.int32)), "twice"),
        (lambda: sampler.dry(1.0, 0.5, 2, 64, none, none), "base 0.5"),
        (lambda: sampler.dry(1.0, 1.5, 2, 64, np.array([1], np.int32), np.array([0, 1], np.int32)), "has 0 ids"),
    ):  # fmt: skip
        with pytest.raises(pyggml.ArgumentError, match=message):
            call()
    with pytest.raises(pyggml.ArgumentError, match="sampler\\(n_vocab, tokenizer\\) cuts them"):
        Sampling(dry_multiplier=1.0).sampler(4)
    assert list(itertools.islice((sampler.next(np.array([9, 0, 0, 0], np.float32)) for _ in range(3)), 3)) == [0, 0, 0]
