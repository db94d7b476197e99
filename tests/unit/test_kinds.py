"""Kinds of tokens, which an id says beside the token; and scores that sink with distance: the ops alone."""

from __future__ import annotations

import numpy as np
import pytest
from oracle.encoder import slopes

from pyggml import _native
from pyggml.errors import ArgumentError, PyggmlError
from pyggml.graph import Graph, Weight

RNG = np.random.default_rng(2)
TABLE, KINDS = RNG.normal(0, 1, (5, 8)).astype(np.float32), RNG.normal(0, 1, (3, 8)).astype(np.float32)


def plan_of() -> _native.Plan:
    g = Graph()
    x = g.embed(Weight("table", 0, 5, 8, TABLE), 8)
    return g.finish(x + g.kinds(Weight("kinds", 0, 3, 8, KINDS), 8), 16, 32)


def test_an_id_says_token_and_kind(isa: str) -> None:
    ids = np.array([0, 4, 5, 7, 14, 10], np.int32)
    for sizes in ((6,), (1,) * 6, (4, 2)):
        session, at, rows = _native.Session(plan_of(), 32, 0), 0, []
        for n in sizes:
            rows.append(session.step(ids[at : at + n], n, 2))
            at += n
        np.testing.assert_array_equal(np.concatenate(rows), TABLE[ids % 5] + KINDS[ids // 5])


@pytest.mark.parametrize("bad", [15, -1, 2**31 - 1])
def test_an_id_beyond_all_kinds(bad: int) -> None:
    session = _native.Session(plan_of(), 32, 0)
    with pytest.raises(ArgumentError, match=f"id at position 1 is {bad}, expected 0 to 14"):
        session.step(np.array([0, bad], np.int32), 2, 1)
    g = Graph()
    with pytest.raises(PyggmlError, match="kinds is"):
        g.kinds(Weight("kinds", 0, 3, 8, KINDS), 9)


@pytest.mark.parametrize(("n_head", "n_head_kv"), [(4, 4), (6, 2), (1, 1), (12, 3)])
@pytest.mark.parametrize("causal", [True, False])
def test_scores_sink_with_distance(n_head: int, n_head_kv: int, causal: bool, isa: str) -> None:
    n, dim, most = 150, 8, 6.0
    rows = RNG.normal(0, 1, (n, (n_head + 2 * n_head_kv) * dim)).astype(np.float32)
    g = Graph()
    x = g.input(rows.shape[1])
    q = g.cols(x, 0, n_head * dim)
    k, v = (g.cols(x, (n_head + i * n_head_kv) * dim, n_head_kv * dim) for i in (0, 1))
    y = g.attention(
        q, k, v, layer=0, n_head=n_head, n_head_kv=n_head_kv, scale=0.3, causal=causal, alibi=most
    )  # fmt: skip
    session = _native.Session(g.finish(y, 256, 256), 256, 0)
    got = session.step(None, n, 2, rows=rows)
    q, k, v = (
        each.reshape(n, -1, dim).astype(np.float64)
        for each in np.split(rows, [n_head * dim, (n_head + n_head_kv) * dim], axis=1)
    )
    k, v = np.repeat(k, n_head // n_head_kv, 1), np.repeat(v, n_head // n_head_kv, 1)
    far = np.abs(np.arange(n)[:, None] - np.arange(n))
    s = np.einsum("qhd,khd->hqk", q, k) * 0.3 - slopes(n_head, most)[:, None, None] * far
    if causal:
        s += np.triu(np.full((n, n), -np.inf), 1)
    p = np.exp(s - s.max(-1, keepdims=True))
    want = np.einsum("hqk,khd->qhd", p / p.sum(-1, keepdims=True), v).reshape(n, -1)
    assert np.abs(got - want).max() < 1e-5
    if causal:
        session.truncate(0)
        pieces = [session.step(None, m, 1, rows=rows[at : at + m]) for at, m in ((0, 70), (70, 1), (71, 79))]
        np.testing.assert_array_equal(np.concatenate(pieces), got)


def test_distance_from_another_text_is_refused() -> None:
    g = Graph()
    x, source = g.input(8), g.input(8, "source", source=True)
    with pytest.raises(ArgumentError, match="so and so far: alibi is 8, expected 0"):
        g.attention(x, source, source, layer=0, n_head=1, n_head_kv=1, scale=1.0, causal=False, alibi=8.0)
