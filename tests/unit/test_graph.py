"""Ops of Graph that rearrange or norm rows, against numpy: every level, one thread and two, one row and many."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from pyggml import _native
from pyggml.errors import ArgumentError, ShapeError
from pyggml.graph import Graph, Node, Weight

F32 = NDArray[np.float32]
RNG = np.random.default_rng(11)


@pytest.fixture(params=_native.isa_levels())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    _native.isa_force(request.param)
    yield request.param
    _native.isa_force(None)


def weight(name: str, values: F32) -> Weight:
    return Weight(name, 0, 1, values.shape[-1], np.ascontiguousarray(values))


def run(make: Callable[[Graph, Node], Node], rows: F32, n_threads: int) -> F32:
    """The rows that a graph over an input makes of rows."""
    g = Graph()
    plan = g.finish(make(g, g.input(rows.shape[1])), len(rows), 4096)
    session = _native.Session(plan, 4096, 0)
    made = session.step(None, len(rows), n_threads, rows=rows)
    session.close()
    return made


def expect(make: Callable[[Graph, Node], Node], truth: Callable[[F32], F32], cols: int, bound: float = 0.0) -> None:
    for n in (1, 3, 900):
        rows = RNG.normal(0.5, 2.0, (n, cols)).astype(np.float32)
        want = truth(rows.astype(np.float64))
        first = run(make, rows, 1)
        assert first.shape == want.shape
        assert np.abs(first - want).max() <= bound * np.abs(want).max()
        assert np.array_equal(first, run(make, rows, 2))


@pytest.mark.parametrize(
    ("cols", "seg", "start", "n"), [(96, None, 5, 11), (96, 24, 3, 20), (96, 24, 0, 24), (7, 1, 0, 1)]
)
def test_cols(isa: str, cols: int, seg: int | None, start: int, n: int) -> None:
    def truth(x: F32) -> F32:
        return x.reshape(len(x), -1, seg or cols)[..., start : start + n].reshape(len(x), -1).astype(np.float32)

    expect(lambda g, x: g.cols(x, start, n, seg), truth, cols)


@pytest.mark.parametrize(
    ("a", "b", "a_seg", "b_seg"), [(40, 24, None, None), (40, 24, 5, 3), (40, 24, 5, 24), (1, 7, 1, 7)]
)
def test_concat(isa: str, a: int, b: int, a_seg: int | None, b_seg: int | None) -> None:
    def make(g: Graph, x: Node) -> Node:
        return g.concat(g.cols(x, 0, a), g.cols(x, a, b), a_seg, b_seg)

    def truth(x: F32) -> F32:
        left, right = x[:, :a].reshape(len(x), -1, a_seg or a), x[:, a:].reshape(len(x), -1, b_seg or b)
        right = np.repeat(right, left.shape[1] // right.shape[1], axis=1)
        return np.concatenate([left, right], axis=2).reshape(len(x), -1).astype(np.float32)

    expect(make, truth, a + b)


@pytest.mark.parametrize("seg", [None, 33])
@pytest.mark.parametrize("given", [(), ("w",), ("bias",), ("w", "bias")], ids=str)
def test_layer_norm(isa: str, seg: int | None, given: tuple[str, ...]) -> None:
    values = {name: RNG.normal(0, 1, (1, seg or 99)).astype(np.float32) for name in given}

    def make(g: Graph, x: Node) -> Node:
        w, bias = (weight(name, values[name]) if name in values else None for name in ("w", "bias"))
        return g.layer_norm(x, w, bias, 1e-5, seg)

    def truth(x: F32) -> F32:
        runs = x.reshape(len(x), -1, seg or 99)
        runs = (runs - runs.mean(-1, keepdims=True)) / np.sqrt(runs.var(-1, keepdims=True) + 1e-5)
        made: F32 = (runs * values.get("w", 1.0) + values.get("bias", 0.0)).reshape(len(x), -1)
        return made

    expect(make, truth, 99, 1e-6)


def test_softcap(isa: str) -> None:
    expect(lambda g, x: g.softcap(x, 3.0), lambda x: 3.0 * np.tanh(x / 3.0), 9000, 1e-6)


@pytest.mark.parametrize("what", ["softcap", "scale"])
def test_logits_are_capped_where_they_are_returned(isa: str, what: str) -> None:
    """A batch of rows of the vocabulary is hundreds of MiB: no second one is held beside what the caller gave."""
    n_vocab, n_batch = 2053, 64
    table = Weight("w", 0, n_vocab, 32, RNG.normal(0, 1, (n_vocab, 32)).astype(np.float32))

    def plan(keep_all: bool) -> _native.Plan:
        g = Graph()
        logits = g.matmul(table, g.wanted(g.input(32)))
        capped = g.softcap(logits, 3.0) if what == "softcap" else g.scale(logits, 0.5)
        return g.finish(capped, n_batch, 256, keep_all)

    made, whole = plan(False), plan(True)
    assert made.arena_bytes < n_batch * n_vocab * 4 < whole.arena_bytes
    rows = RNG.normal(0, 1, (200, 32)).astype(np.float32)
    for n in (1, 3, 200):
        for n_threads in (1, 2):
            got = [_native.Session(p, 256, 0).step(None, n, n_threads, rows=rows[:n]) for p in (made, whole)]
            assert np.array_equal(*got)


def test_what_does_not_fit_is_refused() -> None:
    g = Graph()
    x = g.input(96)
    with pytest.raises(ShapeError, match="runs of 7 values do not divide the 96 columns of input input"):
        g.cols(x, 0, 3, 7)
    with pytest.raises(ArgumentError, match="start is 5, expected 0 to 4"):
        g.cols(x, 5, 20, 24)
    with pytest.raises(ArgumentError, match="n is 25, expected 1 to 24"):
        g.cols(x, 0, 25, 24)
    with pytest.raises(ShapeError, match=r"inputs differ: input is \(tokens, 4 \* 24\), input is \(tokens, 2 \* 48\)"):
        g.concat(x, x, 24, 48)
    with pytest.raises(ShapeError, match=r"inputs differ: input is \(tokens, 1 \* 96\), wanted is \(wanted, 1 \* 96\)"):
        g.concat(x, g.wanted(x))
    with pytest.raises(ShapeError, match=r"w is \(1, 5\), expected \(1, 96\)"):
        g.layer_norm(x, weight("w", np.ones((1, 5), np.float32)), None, 1e-5)
    with pytest.raises(ArgumentError, match="cap is 0, expected a finite number > 0"):
        g.softcap(x, 0.0)
