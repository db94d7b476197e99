"""States of rows in f32, f16 and bf16: what a convolution keeps, against numpy, on every level and in any pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyggml import _native
from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.graph import Graph, Weight
from pyggml.quant.tensor import quantize

N, COLS, TAPS = 40, 200, 4
RNG = np.random.default_rng(8)
X = RNG.normal(0, 1, (N, COLS)).astype(np.float32)
W = RNG.normal(0, 1, (COLS, TAPS)).astype(np.float32)


def plan_of(type: str, n_batch: int = 512) -> _native.Plan:
    g = Graph()
    return g.finish(g.conv(g.input(COLS), Weight("w", 0, COLS, TAPS, W), layer=3, type=type), n_batch, 600)


def fed(plan: _native.Plan, sizes: tuple[int, ...], n_threads: int = 2) -> NDArray[Any]:
    session, at, made = _native.Session(plan, 600, 0), 0, []
    for n in sizes:
        made.append(session.step(None, n, n_threads, rows=X[at : at + n]))
        at += n
    session.close()
    return np.concatenate(made)


@pytest.mark.parametrize("type", ["f32", "f16", "bf16"])
def test_against_numpy(isa: str, type: str) -> None:
    kept = quantize(X, type).dequantize().astype(np.float64)
    before = np.concatenate([np.zeros((TAPS - 1, COLS)), kept])
    want = sum(before[j : j + N] * W[:, j] for j in range(TAPS))
    whole = fed(plan_of(type), (N,))
    assert np.abs(whole - want).max() < 1e-6 * np.abs(want).max()
    for n_batch, sizes, n_threads in ((512, (1,) * N, 1), (3, (N,), 2), (512, (2, 1, 30, 7), 3)):
        assert np.array_equal(fed(plan_of(type, n_batch), sizes, n_threads), whole)


def test_a_state_takes_what_its_type_says() -> None:
    marks = {name: plan_of(name).memory(0, 600)["mark"] for name in ("f32", "F16", "bf16")}
    assert marks == {"f32": 3 * COLS * 4 + 32, "F16": 3 * COLS * 2 + 16, "bf16": 3 * COLS * 2 + 16}  # in whole lines
    plan = plan_of("f16")
    half, whole = _native.Session(plan, 600, 0), _native.Session(plan_of("f32"), 600, 0)
    for session in (half, whole):
        session.step(None, 0, 1, rows=X[:9])
    fork, saved = half.fork(), half.save()
    assert len(whole.save()) - len(saved) == 3 * COLS * 2
    loaded = _native.Session(plan, 600, 0)
    loaded.load(saved)
    want = half.step(None, 1, 1, rows=X[9:10])
    assert np.array_equal(fork.step(None, 1, 1, rows=X[9:10]), want)
    assert np.array_equal(loaded.step(None, 1, 1, rows=X[9:10]), want)
    with pytest.raises(ArgumentError, match="of another model"):
        whole.load(saved)


def test_other_types_are_refused_by_name() -> None:
    with pytest.raises((ArgumentError, UnsupportedError), match="w: a state of rows cannot be q8_0; f32, f16 and bf16"):
        plan_of("q8_0")
    with pytest.raises(ArgumentError, match="type"):
        plan_of("f17")
