"""Experts with biases and the capped activation of gpt-oss, against numpy: every level, types of weights, any rows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pyggml import _native
from pyggml.errors import NumericError, PyggmlError, ShapeError
from pyggml.graph import Graph, Weight
from pyggml.quant.tensor import quantize
from pyggml.quant.types import QuantType

N_EXPERT, N_USED, WIDE, N_FF = 7, 3, 288, 320  # neither a multiple of 256, as in gpt-oss
RNG = np.random.default_rng(6)
X, LOGITS = RNG.normal(0, 1, (70, WIDE)).astype(np.float32), RNG.normal(0, 2, (70, N_EXPERT)).astype(np.float32)
BIASES = [RNG.normal(0, 2, (N_EXPERT, n)).astype(np.float32) for n in (N_FF, N_FF, WIDE)]
SHAPES = {"gate": (N_FF, WIDE), "up": (N_FF, WIDE), "down": (WIDE, N_FF)}
F64 = NDArray[np.float64]


def stacks(type: str) -> tuple[dict[str, Weight], dict[str, F64]]:
    """The matrices as the op takes them, and what they say."""
    weights, values = {}, {}
    for name, (rows, cols) in SHAPES.items():
        said = RNG.normal(0, 3.0 / np.sqrt(cols), (N_EXPERT * rows, cols)).astype(np.float32)
        kept = quantize(said, type)
        weights[name] = Weight(name, QuantType.parse(type).id, rows, cols, kept.raw, N_EXPERT)
        values[name] = kept.dequantize().astype(np.float64).reshape(N_EXPERT, rows, cols)
    return weights, values


def row_of(name: str, values: NDArray[np.float32]) -> Weight:
    return Weight(name, 0, 1, values.size, np.ascontiguousarray(values))


def want_of(w: dict[str, F64], biased: tuple[bool, bool, bool]) -> F64:
    gate_bias, up_bias, down_bias = (b if has else np.zeros_like(b) for b, has in zip(BIASES, biased, strict=True))
    y = np.zeros((len(X), WIDE))
    for t, logits in enumerate(LOGITS.astype(np.float64)):
        chosen = np.argsort(-logits)[:N_USED]
        shares = np.exp(logits[chosen] - logits[chosen].max())
        for e, share in zip(chosen, shares / shares.sum(), strict=True):
            gate = np.minimum(w["gate"][e] @ X[t] + gate_bias[e], 7)
            up = np.clip(w["up"][e] @ X[t] + up_bias[e], -7, 7)
            hidden = (up + 1) * gate / (1 + np.exp(-1.702 * gate))
            y[t] += share * (w["down"][e] @ hidden + down_bias[e])
    return y


def made(w: dict[str, Weight], biased: tuple[bool, bool, bool], n_threads: int, rows: slice) -> NDArray[np.float32]:
    g = Graph()
    x = g.input(WIDE + N_EXPERT)
    routing = g.route(g.cols(x, WIDE, N_EXPERT), N_USED, gating="softmax_chosen")
    kept = tuple(row_of(f"bias.{i}", b) if has else None for i, (b, has) in enumerate(zip(BIASES, biased, strict=True)))
    y = g.experts(g.cols(x, 0, WIDE), routing, w["gate"], w["up"], w["down"], "silu_capped", biases=kept)
    session = _native.Session(g.finish(y, 128, 128), 128, 0)
    fed = np.concatenate([X, LOGITS], 1)[rows]
    return session.step(None, len(fed), n_threads, rows=np.ascontiguousarray(fed))


@pytest.mark.parametrize(("type", "bound"), [("f32", 3e-6), ("f16", 3e-6), ("mxfp4", 2e-2), ("q8_0", 2e-2)])
def test_against_numpy(isa: str, type: str, bound: float) -> None:
    w, values = stacks(type)
    for biased in ((True, True, True), (False, True, False)):
        want = want_of(values, biased)
        whole = made(w, biased, 2, slice(None))
        assert np.abs(whole - want).max() < bound * np.abs(want).max()
        assert np.array_equal(made(w, biased, 1, slice(None)), whole)
        for t in (0, 33):
            one = made(w, biased, 2, slice(t, t + 1))
            assert np.abs(one - want[t]).max() < bound * np.abs(want).max()
            assert np.array_equal(made(w, biased, 1, slice(t, t + 1)), one)


def test_the_activation_and_its_other_row(isa: str) -> None:
    gate = np.array([[-1e30, -50, -1, 0, 3, 6.9, 7.1, 1e30, np.nan] * 2], np.float32)
    up = np.array([[1, -8, 0, 2, 9, -6.5, 1e30, -1e30, 1, np.nan, -1, *range(7)]], np.float32)
    g = Graph()
    x = g.input(36)
    a, b = g.cols(x, 0, 18), g.cols(x, 18, 18)
    session = _native.Session(g.finish(g.concat(g.activate(a, "silu_capped"), g.glu(a, b, "silu_capped")), 4, 4), 4, 0)
    with pytest.raises(NumericError):
        session.step(None, 1, 1, rows=np.concatenate([gate, up], 1))
    gate[np.isnan(gate)], up[np.isnan(up)] = 2, 3
    got = session.step(None, 1, 1, rows=np.concatenate([gate, up], 1))
    y = np.minimum(gate.astype(np.float64), 7)
    with np.errstate(over="ignore"):
        act = y / (1 + np.exp(-1.702 * y))
    assert np.allclose(got, np.concatenate([act, act * (1 + np.clip(up, -7, 7))], 1), rtol=2e-6, atol=1e-30)


def test_biases_that_do_not_fit_are_refused() -> None:
    w, _ = stacks("f32")
    bad = np.array(BIASES[0])
    bad[3, 5] = np.inf
    for name, bias, error, match in (
        ("short", BIASES[0][:, 1:], ShapeError, r"weight short is \(1, 2233\), expected \(1, 2240\)"),
        ("infinite", bad, PyggmlError, "value 965 of infinite is inf, expected a finite number"),
    ):
        g = Graph()
        x = g.input(WIDE)
        routing = g.route(g.cols(x, 0, N_EXPERT), N_USED)
        with pytest.raises(error, match=match):
            g.experts(x, routing, w["gate"], w["up"], w["down"], biases=(row_of(name, bias), None, None))


@pytest.mark.parametrize("type", ["f32", "q8_0"])
def test_gate_and_up_in_one_tensor(isa: str, type: str) -> None:
    """Expert by expert the rows of gate, then those of up: the same bits as from two tensors, also with biases."""
    w, _ = stacks(type)
    parts = [np.asarray(w[name].data).reshape(N_EXPERT, -1) for name in ("gate", "up")]
    both = np.ascontiguousarray(np.concatenate(parts, 1)).reshape(-1)
    one = Weight("both", w["gate"].type_id, 2 * N_FF, WIDE, both, N_EXPERT)
    for rows in (slice(None), slice(3, 4)):
        for biased in ((False, False, False), (True, True, True)):
            apart = made(w, biased, 2, rows)
            assert np.array_equal(made({**w, "gate": one, "up": None}, biased, 2, rows), apart)
    odd = Weight("odd", 0, 5, WIDE, np.zeros((N_EXPERT * 5, WIDE), np.float32), N_EXPERT)
    g = Graph()
    x = g.input(WIDE)
    routing = g.route(g.cols(x, 0, N_EXPERT), N_USED)
    with pytest.raises(ShapeError):
        g.experts(x, routing, odd, None, w["down"])


def test_scales_of_experts() -> None:
    """Behind the norm each expert's weight is multiplied by a number of its own."""
    scales = RNG.normal(1, 0.5, N_EXPERT).astype(np.float32)
    found = []
    for given in (None, row_of("scales", scales)):
        g = Graph()
        plan = g.finish(g.route(g.input(N_EXPERT), N_USED, norm=True, scale=2.0, scales=given), 128, 128)
        session = _native.Session(plan, 128, 0)
        found.append(session.step(None, len(LOGITS), 1, rows=LOGITS))
    ids, weights = np.split(found[0], 2, axis=1)
    np.testing.assert_array_equal(found[1][:, :N_USED], ids)
    np.testing.assert_array_equal(found[1][:, N_USED:], weights * scales[ids.astype(int)])
    g = Graph()
    with pytest.raises(ShapeError, match=r"scales is \(1, 7\), expected \(1, 6\)"):
        g.route(g.input(N_EXPERT - 1), N_USED, scales=row_of("scales", scales))
