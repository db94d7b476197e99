"""Ops of Graph that rearrange or norm rows, against numpy: every level, one thread and two, one row and many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pyggml import _native
from pyggml.errors import ArgumentError, PyggmlError, ShapeError
from pyggml.graph import Graph, Node, Rope, Weight

F32 = NDArray[np.float32]
RNG = np.random.default_rng(11)


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


def square(values: F32) -> Weight:
    return Weight("a", 0, len(values), len(values), np.ascontiguousarray(values, np.float32))


def test_a_name_is_of_one_weight() -> None:
    eye = np.eye(4, dtype=np.float32)
    g = Graph()
    x = g.input(4)
    first = g.matmul(square(eye), x)
    with pytest.raises(
        ArgumentError, match=r"a is already the name of another weight .*, f32 \(4, 4\); this one is f32"
    ):
        g.matmul(square(2 * eye), x)
    with pytest.raises(ArgumentError, match=r"this one is f32 \(1, 4\)"):
        g.rms_norm(x, weight("a", np.ones((1, 4), np.float32)), 1e-5)
    plan = g.finish(g.add(first, g.matmul(square(eye.copy()), x)), 8, 64)  # the same bytes are the same weight
    session = _native.Session(plan, 64, 0)
    rows = RNG.normal(0, 1, (3, 4)).astype(np.float32)
    assert np.array_equal(session.step(None, 3, 1, rows=rows), 2 * rows)
    session.close()


def test_nodes_are_of_one_graph() -> None:
    g, other = Graph(), Graph()
    x, y = g.input(4), other.input(4)
    for make in (lambda: g.add(x, y), lambda: x + y, lambda: y * x, lambda: g.concat(y, x), lambda: g.finish(y, 8, 64)):
        with pytest.raises(ArgumentError, match="is a node of another Graph"):
            make()


@pytest.mark.parametrize(
    ("make", "say"),
    [
        (lambda g, x, w: g.conv(x, w, layer=1.5), r"a: state must be a whole number.*, got 1\.5"),
        (lambda g, x, w: g.conv(x, w, layer=True), "a: state must be a whole number.*, got True"),
        (lambda g, x, w: g.conv(x, w, layer=2**40), "a: state must be a whole number from 0 to 65535"),
        (lambda g, x, w: g.cols(x, "0", 1), "start must be a whole number"),
        (lambda g, x, w: g.attention(x, x, x, layer=0, n_head=1.0, n_head_kv=1, scale=1.0), "n_head must be a whole"),
        (lambda g, x, w: g.attention(x, x, x, layer=0, n_head=1, n_head_kv=1, scale="1"), "scale must be a number"),
        (lambda g, x, w: g.attention(x, x, x, layer=0, n_head=1, n_head_kv=1, scale=1.0, causal=2), "True or False"),
        (lambda g, x, w: g.scale(x, 10**400), "factor must be a number"),
        (lambda g, x, w: g.matmul(x, x), "must be a Weight"),
        (lambda g, x, w: g.matmul(w, w), "x must be a Node"),
        (lambda g, x, w: g.add(x, 3), "b must be a Node"),
        (lambda g, x, w: g.rope(x, Rope("nonesuch", 4), 1, 4), "no kind of rope 'nonesuch'; known: norm, neox"),
        (lambda g, x, w: g.rope(x, "norm", 1, 4), "how must be a Rope"),
        (lambda g, x, w: g.route(x, 1, gating="x"), "no gating 'x'; known: softmax, sigmoid"),
        (lambda g, x, w: g.activate(x, ["silu"]), "no activation"),
        (lambda g, x, w: g.scale(x, 2.0, name=3), "name must be text"),
        (lambda g, x, w: g.finish(x, 8, 2**40), "n_ctx must be a whole number from 1 to 1073741824"),
        (lambda g, x, w: g.finish(x, 8.0, 64), "n_batch must be a whole number"),
        (lambda g, x, w: g.finish(3, 8, 64), "out must be a Node or a list of them"),
        (lambda g, x, w: g.finish([x, 3], 8, 64), "out must be a Node"),
        (lambda g, x, w: g.finish([], 8, 64), "output"),
    ],
)
def test_what_is_no_number_node_or_word_is_refused(make: Callable[[Graph, Node, Weight], Node], say: str) -> None:
    g = Graph()
    with pytest.raises(PyggmlError, match=say):
        make(g, g.input(4), square(np.eye(4, dtype=np.float32)))


@pytest.mark.parametrize("seg", [None, 33])
def test_rms_norm_without_weights(isa: str, seg: int | None) -> None:
    def truth(x: F32) -> F32:
        runs = x.reshape(len(x), -1, seg or 99)
        made: F32 = (runs / np.sqrt((runs**2).mean(-1, keepdims=True) + 1e-5)).reshape(len(x), -1)
        return made

    expect(lambda g, x: g.rms_norm(x, None, 1e-5, seg), truth, 99, 1e-6)


@pytest.mark.parametrize(("n", "m", "plus"), [(4, 4, 0.0), (1, 3, 1.0), (3, 1, -0.5), (1, 1, 0.0)])
def test_mix(isa: str, n: int, m: int, plus: float) -> None:
    seg = 21

    def make(g: Graph, x: Node) -> Node:
        return g.mix(g.cols(x, 0, n * seg), g.cols(x, n * seg, m * n), seg, plus)

    def truth(x: F32) -> F32:
        runs, by = x[:, : n * seg].reshape(len(x), n, seg), x[:, n * seg :].reshape(len(x), m, n)
        made: F32 = np.einsum("rij,rjc->ric", by + plus, runs).reshape(len(x), -1)
        return made

    expect(make, truth, n * seg + m * n, 1e-6)


@pytest.mark.parametrize("seg", [None, 20])
def test_level(isa: str, seg: int | None) -> None:
    def truth(x: F32) -> F32:
        like, runs = x[:, :7], x[:, 7:].reshape(len(x), -1, seg or 60)
        size = np.sqrt((like**2).mean(-1))[:, None, None]
        made: F32 = (runs * size / np.sqrt(np.maximum((runs**2).mean(-1, keepdims=True), 4.0))).reshape(len(x), -1)
        return made

    expect(lambda g, x: g.level(g.cols(x, 7, 60), g.cols(x, 0, 7), 4.0, seg), truth, 67, 1e-6)


@pytest.mark.parametrize("deviations", [1.6448536, -0.3, 50.0])
def test_excess(isa: str, deviations: float) -> None:
    def truth(x: F32) -> F32:
        bound = x.mean(-1, keepdims=True) + deviations * x.std(-1, keepdims=True)
        return np.maximum(x - bound, 0)

    expect(lambda g, x: g.excess(x, deviations), truth, 301, 1e-5)


def test_what_mixes_must_fit() -> None:
    g = Graph()
    x = g.input(12)
    with pytest.raises(ShapeError, match="runs of 4 values do not divide the 5 columns of input cols"):
        g.mix(x, g.cols(x, 0, 5, name="cols"), 3, name="mixed")
    with pytest.raises(ShapeError, match="runs of 5 values do not divide the 12 columns"):
        g.mix(x, x, 5)
    with pytest.raises(ShapeError, match="has rows of tokens, wanted of wanted"):
        g.mix(x, g.wanted(x), 12)
    with pytest.raises(ShapeError, match="has rows of tokens, wanted of wanted"):
        g.level(x, g.wanted(x), 1e-5)
    with pytest.raises(ShapeError, match="runs of 5 values do not divide"):
        g.level(x, x, 1e-5, 5)
    with pytest.raises(ArgumentError, match="least"):
        g.level(x, x, 0.0)
