"""Ops of later decoders against numpy: heads, temper, chunks of attention, groups of experts, activations."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pyggml import _native
from pyggml.errors import ArgumentError, PyggmlError, ShapeError
from pyggml.graph import Graph, Node, Rope, Weight

N, COLS, F32 = 45, 64, 0
RNG = np.random.default_rng(5)
X = RNG.normal(0, 1, (N, COLS)).astype(np.float32)


def weight(name: str, values: NDArray) -> Weight:
    values = np.ascontiguousarray(values, np.float32)
    shape = values.shape if values.ndim > 1 else (1, *values.shape)
    return Weight(name, 0, shape[-2], shape[-1], values, shape[0] if len(shape) == 3 else 1)


def agree(build, want: NDArray, bound: float = 2e-6, n_ctx: int = 64) -> None:
    """Whole, in pieces and one by one, on every level."""
    g = Graph()
    plan = g.finish(build(g, g.input(COLS)), 64, n_ctx)
    for isa in _native.isa_levels():
        _native.isa_force(isa)
        try:
            for piece in (N, 7, 1):
                s = _native.Session(plan, n_ctx, F32)
                rows = [s.step(None, len(x), 2, rows=x) for x in (X[i : i + piece] for i in range(0, N, piece))]
                assert np.abs(np.concatenate(rows) - want).max() < bound * np.abs(want).max(), (isa, piece)
        finally:
            _native.isa_force(None)


def test_heads() -> None:
    w = RNG.normal(0, 1, (4, 24, 16)).astype(np.float32)
    want = np.einsum("thk,hmk->thm", X.reshape(N, 4, 16).astype(float), w).reshape(N, -1)
    agree(lambda g, x: g.heads(weight("w", w), x), want)
    g = Graph()
    with pytest.raises(ShapeError, match=r"w is \(4, 24, 16\), expected \(n, m, k\) with n \* k = 60"):
        g.heads(weight("w", w), g.input(60))


@pytest.mark.parametrize("ahead", [False, True])
def test_temper(ahead: bool) -> None:
    pos = np.arange(N) + ahead
    want = X * (1 + 0.4 * np.log(1 + np.floor(pos / 8)))[:, None]
    agree(lambda g, x: g.temper(x, 0.4, 8, ahead), want)


def attend(g: Graph, x: Node, chunked: bool = True, window: int = 8, causal: bool = True) -> Node:
    return g.attention(x, x, x, layer=0, n_head=4, n_head_kv=4, scale=0.3, window=window, chunked=chunked,
                       causal=causal)  # fmt: skip


def test_chunks_of_attention() -> None:
    h = X.reshape(N, 4, 16).astype(float)
    at = np.arange(N)
    seen = (at[None] <= at[:, None]) & (at[None] // 8 == at[:, None] // 8)
    scores = np.where(seen, 0.3 * np.einsum("qhd,khd->hqk", h, h), -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    g = Graph()
    plan = g.finish(attend(g, g.input(COLS)), 64, 64)
    want = np.einsum("hqk,khd->qhd", p, h).reshape(N, -1)
    for piece in (N, 7, 1):
        s = _native.Session(plan, 64, F32)
        rows = [s.step(None, len(x), 2, rows=x) for x in (X[i : i + piece] for i in range(0, N, piece))]
        assert np.abs(np.concatenate(rows) - want).max() < 1e-5
    for wrong in (dict(window=0), dict(causal=False)):
        g = Graph()
        with pytest.raises(ArgumentError, match="chunks need causal 1 and window > 0"):
            attend(g, g.input(COLS), **wrong)


def routed(logits: NDArray, bias: NDArray, n_used: int, gating: str, groups: tuple[int, int, int]) -> NDArray:
    """Ids of the chosen of a row, best first."""
    score = 1 / (1 + np.exp(-logits)) if gating == "sigmoid" else np.exp(logits) / np.exp(logits).sum()
    key = score + bias
    n, used, best = groups
    if n:
        by = key.reshape(n, -1)
        sums = np.sort(by, 1)[:, -best:].sum(1)
        shut = np.argsort(-sums, kind="stable")[used:]
        by[shut] = -np.inf
        key = by.reshape(-1)
    return np.argsort(-key, kind="stable")[:n_used]


@pytest.mark.parametrize(
    ("gating", "groups"),
    [("sigmoid", (8, 3, 2)), ("sigmoid", (0, 0, 0)), ("softmax", (8, 3, 1)), ("softmax", (0, 0, 0))],
)
def test_groups_of_experts(gating: str, groups: tuple[int, int, int]) -> None:
    bias = RNG.normal(0, 0.3, COLS).astype(np.float32)
    g = Graph()
    route = g.route(g.input(COLS), 6, gating=gating, bias=weight("bias", bias), groups=groups)
    got = _native.Session(g.finish(route, 64, 64), 64, F32).step(None, N, 2, rows=X)
    for row, logits in zip(got, X.astype(float), strict=True):
        ids = routed(logits, bias.astype(float), 6, gating, groups)
        assert row[:6].tolist() == ids.tolist()
        score = 1 / (1 + np.exp(-logits)) if gating == "sigmoid" else np.exp(logits) / np.exp(logits).sum()
        assert np.allclose(row[6:], score[ids], rtol=1e-5)


def test_activations() -> None:
    x = X.astype(float)
    for act, want in (("relu", np.maximum(x, 0)), ("relu_squared", np.maximum(x, 0) ** 2),
                      ("elu", np.where(x < 0, np.expm1(x), x))):  # fmt: skip
        agree(lambda g, x, act=act: g.activate(x, act), want, 1e-6)


@pytest.mark.parametrize("n_ctx", [48, 64])
def test_far_factors_of_a_rope(n_ctx: int) -> None:
    near, far = (RNG.uniform(1, 4, 8).astype(np.float32) for _ in range(2))
    how = Rope("neox", 16, n_ctx_orig=48, factors=weight("near", near), far=weight("far", far))
    speed = 10000.0 ** (-np.arange(8) / 8) / (far if n_ctx > 48 else near)
    angle = np.arange(N)[:, None, None] * speed
    h = X.reshape(N, 4, 16).astype(float)
    a, b = h[..., :8], h[..., 8:]
    want = np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], -1)
    agree(lambda g, x: g.rope(x, how, 4, 16), want.reshape(N, -1), n_ctx=n_ctx)


def test_far_factors_fit() -> None:
    g = Graph()
    with pytest.raises(PyggmlError, match=r"far is \(1, 4\), expected \(1, 8\)"):
        g.rope(g.input(COLS), Rope("neox", 16, far=weight("far", np.ones(4))), 4, 16)
