"""An encoder and a decoder that attends to what it read, against numpy: every level, cache and cut; its source is kept
or carried by whatever is done with a session."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pyggml
from pyggml import _native
from pyggml.arch.layers import attend, qkv
from pyggml.config.parts import Heads
from pyggml.engine.weights import Block, Weights
from pyggml.errors import ArgumentError, GGUFError, PyggmlError, ShapeError, UnsupportedError
from pyggml.graph import Graph, Node, Rope, Weight
from pyggml.quant.types import QuantType

VOCAB, WIDE, N_LAYER = 50, 64, 2
HEADS = Heads(4, 2, 16, 16)
RNG = np.random.default_rng(12)
IDS, SOURCE, OTHER, LONG = (RNG.integers(0, VOCAB, n).astype(np.int32) for n in (30, 23, 300, 1100))
ROPE = Rope("neox", 16)
BOUNDS = {"f32": (0, 5e-6), "f16": (1, 1e-2), "bf16": (30, 2e-2)}
F64 = NDArray[np.float64]


class Floats:
    """An array where Weights expects a tensor of a file."""

    type = QuantType.parse("f32")

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.shape = values.shape
        self.data = values.view(np.uint8).reshape(-1)

    def _mapped(self) -> NDArray[np.uint8]:
        return self.data


def made() -> dict[str, NDArray[np.float32]]:
    """Weights of the encoder in layers 0 and 1, of the decoder in 2 and 3; both are one table of ids."""
    kv = HEADS.n_kv * HEADS.k
    rows = {"attn_q": WIDE, "attn_k": kv, "attn_v": kv, "attn_output": WIDE, "up": WIDE}
    rows |= {"cross_q": WIDE, "cross_attn_k": kv, "cross_attn_v": kv, "cross_output": WIDE}
    names = [f"blk.{i}.{name}.weight" for i in range(2 * N_LAYER) for name in rows]
    shapes = {name: (rows[name.split(".")[2]], WIDE) for name in names} | {"table.weight": (VOCAB, WIDE)}
    return {name: RNG.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}


ARRAYS = made()
ONES = np.ones((1, WIDE), np.float32)


def plan_of(n_batch: int = 512, n_ctx: int = 64, by_rows: bool = False, keep_all: bool = False) -> _native.Plan:
    g, w = Graph(), Weights({name: Floats(each) for name, each in ARRAYS.items()}, 2 * N_LAYER)
    table = w["table.weight"]

    def norm(x: Node) -> Node:
        return g.rms_norm(x, Weight("ones", 0, 1, WIDE, ONES), 1e-6)

    def layer(blk: Block, x: Node, read: Node | None) -> Node:
        q, k, v = qkv(g, blk, norm(x), HEADS)
        q, k = g.rope(q, ROPE, HEADS.n, HEADS.k), g.rope(k, ROPE, HEADS.n_kv, HEADS.k)
        x = x + g.matmul(blk["attn_output.weight"], attend(g, blk, q, k, v, HEADS, causal=read is not None))
        if read is not None:
            q = g.matmul(blk["cross_q.weight"], norm(x))
            x = x + g.matmul(blk["cross_output.weight"], attend(g, blk, q, None, None, HEADS, source=read))
        return x + g.activate(g.matmul(blk["up.weight"], norm(x)), "silu")

    read = g.input(WIDE, source=True) if by_rows else g.embed(table, WIDE, "embed.source", source=True)
    for i in range(N_LAYER):
        read = layer(Block(w, i), read, None)
    read, x = norm(read), g.embed(table, WIDE)
    for i in range(N_LAYER, 2 * N_LAYER):
        x = layer(Block(w, i), x, read)
    return g.finish(g.matmul(table, g.wanted(norm(x))), n_batch, n_ctx, keep_all)


def array(name: str) -> F64:
    return ARRAYS[name].astype(np.float64)


def normed(x: F64) -> F64:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def turned(x: F64, heads: int) -> F64:
    x = x.reshape(len(x), heads, 16)
    angle = np.arange(len(x))[:, None, None] * 10000.0 ** (-np.arange(8) / 8)
    a, b = x[..., :8], x[..., 8:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], -1)


def attended(q: F64, k: F64, v: F64, causal: bool) -> F64:
    """(n, heads, 16) to (m, heads_kv, 16) -> (n, heads * 16)."""
    k, v = (np.repeat(each, HEADS.n // HEADS.n_kv, 1) for each in (k, v))
    scores = np.einsum("thd,shd->hts", q, k) / 4
    if causal:
        scores[:, np.triu(np.ones(scores.shape[1:], bool), 1)] = -np.inf
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hts,shd->thd", scores / scores.sum(-1, keepdims=True), v).reshape(len(q), -1)


def layer_of(i: int, x: F64, read: F64 | None) -> F64:
    w = {name: array(f"blk.{i}.{name}.weight").T for name in ("attn_q", "attn_k", "attn_v", "attn_output", "up")}
    h = normed(x)
    q, k = turned(h @ w["attn_q"], 4), turned(h @ w["attn_k"], 2)
    x = x + attended(q, k, (h @ w["attn_v"]).reshape(-1, 2, 16), read is not None) @ w["attn_output"]
    if read is not None:
        w |= {name: array(f"blk.{i}.{name}.weight").T for name in ("cross_q", "cross_attn_k", "cross_attn_v")}
        q, k, v = normed(x) @ w["cross_q"], read @ w["cross_attn_k"], read @ w["cross_attn_v"]
        y = attended(q.reshape(-1, 4, 16), k.reshape(-1, 2, 16), v.reshape(-1, 2, 16), False)
        x = x + y @ array(f"blk.{i}.cross_output.weight").T
    up = normed(x) @ w["up"]
    return x + up / (1 + np.exp(-up))


def logits_of(source: NDArray[np.int32], ids: NDArray[np.int32] = IDS) -> F64:
    table = array("table.weight")
    read, x = table[source], table[ids]
    for i in range(N_LAYER):
        read = layer_of(i, read, None)
    read = normed(read)
    for i in range(N_LAYER, 2 * N_LAYER):
        x = layer_of(i, x, read)
    return normed(x) @ table.T


WANT, WANT_OTHER, WANT_LONG = (logits_of(each) for each in (SOURCE, OTHER, LONG))


def near(got: NDArray[np.float32], want: F64, bound: float = 5e-6) -> bool:
    return got.shape == want.shape and bool(np.abs(got - want).max() < bound * np.abs(want).max())


def session_of(plan: _native.Plan, source: NDArray[np.int32] | None = SOURCE, kv_type: int = 0) -> _native.Session:
    session = _native.Session(plan, 64, kv_type)
    if source is not None:
        session.encode(source, 2)
    return session


def fed(session: _native.Session, sizes: tuple[int, ...] = (30,), n_threads: int = 2) -> NDArray[np.float32]:
    parts, at = [], session.n_past
    for n in sizes:
        parts.append(session.step(IDS[at : at + n], n, n_threads))
        at += n
    return np.concatenate(parts)


@pytest.mark.parametrize("cache", BOUNDS)
def test_against_numpy(isa: str, cache: str) -> None:
    kv_type, bound = BOUNDS[cache]
    plan = plan_of()
    for source, want in ((SOURCE, WANT), (OTHER, WANT_OTHER)):
        whole = fed(session_of(plan, source, kv_type))
        assert near(whole, want, bound)
        one = session_of(plan, None, kv_type)
        one.encode(source, 1)
        assert np.array_equal(fed(one, n_threads=1), whole)
        for sizes in ((1,) * 30, (3, 20, 7)):
            assert near(fed(session_of(plan, source, kv_type), sizes), want, bound)
    assert near(fed(session_of(plan_of(n_batch=23), SOURCE, kv_type), (30,)), WANT, bound)


def test_a_source_longer_than_the_text_may_be_is_cut_among_threads_alike(isa: str) -> None:
    plan = plan_of(n_batch=1200, n_ctx=64)
    one, two = (session_of(plan, None) for _ in range(2))
    one.encode(LONG, 1)
    two.encode(LONG, 2)
    got = fed(two, (1,) * 30)
    assert np.array_equal(fed(one, (1,) * 30, 1), got)
    assert near(got, WANT_LONG)


def test_rows_can_be_encoded() -> None:
    session = session_of(plan_of(by_rows=True), None)
    session.encode(None, 2, rows=ARRAYS["table.weight"][SOURCE])
    assert near(fed(session), WANT)
    with pytest.raises(ShapeError, match="encode: rows have 63 columns, the plan's input has 64"):
        session.encode(None, 2, rows=np.zeros((2, 63), np.float32))


def test_tables_of_positions_and_rows_can_be_the_source_s() -> None:
    tables = {name: RNG.normal(0, 1, (n, 32)).astype(np.float32) for name, n in (("p", 20), ("r", 2))}
    p, r = (Weight(name, 0, len(each), 32, each) for name, each in tables.items())
    g = Graph()
    x, s = g.input(32), g.input(32, "rows", source=True)
    s = s + g.positions(p, 32, source=True) + g.row(r, 1, 32, source=True)
    seen = g.attention(x, s, s, layer=0, n_head=2, n_head_kv=2, scale=0.25, causal=False)
    session = _native.Session(g.finish(seen, 64, 40), 40, 0)
    rows, text = (RNG.normal(0, 1, (n, 32)).astype(np.float32) for n in (20, 5))
    session.encode(None, rows=rows)
    kept = (rows + tables["p"] + tables["r"][1]).astype(np.float64).reshape(-1, 2, 16)
    scores = np.exp(np.einsum("thd,shd->hts", text.reshape(-1, 2, 16), kept) / 4)
    want = np.einsum("hts,shd->thd", scores / scores.sum(-1, keepdims=True), kept).reshape(-1, 32)
    assert near(session.step(None, 5, rows=text), want)
    session.reset()
    with pytest.raises(ArgumentError, match="encode: 21 rows given, the plan has positions of a source for 20"):
        session.encode(None, rows=np.zeros((21, 32), np.float32))


def test_several_at_once_attend_each_to_its_own() -> None:
    plan = plan_of()
    sessions = [session_of(plan, each) for each in (SOURCE, OTHER, SOURCE)]
    rows = plan.step(sessions, [IDS, IDS, IDS[:1]], [30, 30, 1], 2)
    for got, want in zip(rows, (WANT, WANT_OTHER, WANT[:1]), strict=True):
        assert near(got, want)


def test_truncating_keeps_the_source_and_resetting_does_not() -> None:
    session = session_of(plan_of())
    fed(session)
    for n in (20, 1, 0):
        session.truncate(n)
        assert session.n_source == len(SOURCE)
        assert near(fed(session, (30 - n,)), WANT[n:])
    with pytest.raises(ArgumentError, match="encode: the 30 positions of the session have attended to what"):
        session.encode(OTHER)
    session.reset()
    assert (session.n_past, session.n_source) == (0, 0)
    with pytest.raises(ArgumentError, match="step: this plan attends to a source, and none was encoded: encode one"):
        fed(session)
    session.encode(OTHER)
    assert near(fed(session), WANT_OTHER)
    session.truncate(0)
    session.encode(SOURCE)
    assert near(fed(session), WANT)


def test_forks_and_saved_states_have_the_source() -> None:
    plan = plan_of()
    session = session_of(plan)
    start = fed(session, (12,))
    fork, loaded = session.fork(), session_of(plan, OTHER)
    held = plan.cache_bytes
    session.fork().close()
    assert plan.cache_bytes == held
    state = session.save()
    session.close()
    loaded.load(state)
    for each in (fork, loaded):
        assert each.n_source == len(SOURCE)
        assert near(np.concatenate([start, fed(each, (18,))]), WANT)
        each.truncate(0)
        assert near(fed(each), WANT)
    fresh = session_of(plan_of())
    early = fresh.save()
    fresh.reset()
    fresh.load(early)
    assert near(fed(fresh), WANT)


def test_shifting_keeps_the_source() -> None:
    session = session_of(plan_of())
    fed(session)
    session.shift(0, 30)
    assert near(fed(session), WANT)
    session.shift(3, 5)
    assert (session.n_past, session.n_source) == (28, len(SOURCE))


def test_a_state_that_was_altered_is_refused() -> None:
    session = session_of(plan_of())
    fed(session, (5,))
    state = session.save()
    short = _native.Session(plan_of(n_batch=20), 64, 0)
    with pytest.raises(ArgumentError, match="load: the source of the state has 23 rows, the plan reads at most 20"):
        short.load(state)
    for at in (8, 40, 48, 56, len(state) - 1):
        bad = state.copy()
        bad[at] ^= 1
        with pytest.raises((GGUFError, PyggmlError)):
            session.load(bad)
    assert near(fed(session, (25,)), WANT[5:])


def test_only_what_steps_read_is_kept() -> None:
    """Keys and values of the encoder's own layers go when it has read; an encoding that fails changes nothing."""
    plan = plan_of()
    session = session_of(plan)
    one = plan.cache_bytes
    span = 256 * HEADS.n_kv * (HEADS.k + HEADS.v) * 4
    assert N_LAYER * span <= one < (N_LAYER + 1) * span
    session.cancel()
    with pytest.raises(PyggmlError, match="cancelled"):
        session.encode(OTHER)
    assert (session.n_source, plan.cache_bytes) == (len(SOURCE), one)
    with pytest.raises(ArgumentError, match="encode: id at position 1 is 50, expected 0 to 49"):
        session.encode(np.array([1, VOCAB], np.int32))
    with pytest.raises(ArgumentError, match="encode: 0 rows given, expected at least 1"):
        session.encode(np.array([], np.int32))
    with pytest.raises(ArgumentError, match=r"encode: 513 rows attend to each other .* n_batch is 512"):
        session.encode(np.zeros(513, np.int32))
    assert near(fed(session), WANT)
    assert plan.memory(0, 64)["position"] == N_LAYER * span // 256


def test_nodes_of_both_texts_can_be_read() -> None:
    plan = plan_of(keep_all=True)
    session = session_of(plan)
    assert np.array_equal(session.node(0, len(SOURCE)), ARRAYS["table.weight"][SOURCE])
    assert near(fed(session), WANT)
    assert np.array_equal(session.node(0, len(SOURCE)), ARRAYS["table.weight"][SOURCE])


def test_a_model_without_an_encoder_says_so() -> None:
    with pyggml.load() as model:
        session = model.session()
        assert session.n_source == 0
        with pytest.raises(UnsupportedError, match="encode: this plan attends to no other text than its own"):
            session.encode([1, 2])
        for bad in (-1, 2**31, 2**40):
            with pytest.raises(ArgumentError, match=f"encode: {bad} is no token id"):
                session.encode([1, bad])
        session.step([1, 2])
        session.reset()
        assert session.n_past == 0
        session.close()
        with pytest.raises(ArgumentError, match="closed"):
            session.reset()
        with pytest.raises(ArgumentError, match="closed"):
            session.encode([1])


def test_what_does_not_fit_together_is_refused() -> None:
    g = Graph()
    x, s = g.input(32), g.input(32, source=True)
    how: dict[str, Any] = {"n_head": 2, "n_head_kv": 2, "scale": 0.25}
    with pytest.raises(ArgumentError, match="input: the source is fed by rows already"):
        g.input(8, source=True)
    with pytest.raises(ArgumentError, match="attends to the source, whose positions are not those of the text: causal"):
        g.attention(x, s, s, layer=0, **how)
    with pytest.raises(ArgumentError, match="expected 0 and 0"):
        g.attention(x, s, s, layer=0, window=4, causal=False, **how)
    with pytest.raises(ArgumentError, match="keys are those of the source, values those of the text"):
        g.attention(x, s, x, layer=0, causal=False, **how)
    with pytest.raises(ArgumentError, match="the source is read before the text and cannot attend to it"):
        g.attention(s, x, x, layer=0, **how)
    with pytest.raises(ShapeError, match=r"inputs differ: input is \(tokens, 32\), input is \(source, 32\)"):
        _ = x + s
    with pytest.raises(ShapeError, match="has the rows of the source, rows needs those of all tokens"):
        g.wanted(s)
    with pytest.raises(ShapeError, match="has the rows of the source, conv needs those of all tokens"):
        g.conv(s, Weight("w", 0, 32, 3, np.ones((32, 3), np.float32)), layer=1)
    with pytest.raises(ShapeError, match="output: input has the rows of the source, steps return those of the text"):
        g.finish(s, 8, 8)
    first = g.attention(x, s, s, layer=0, causal=False, **how)
    again = g.attention(x, None, None, layer=1, keys=0, values=0, causal=False, **how)
    session = _native.Session(g.finish(first + again, 8, 8), 8, 0)
    rows = np.ones((3, 32), np.float32)
    session.encode(None, rows=rows)
    assert np.allclose(session.step(None, 2, rows=rows[:2]), 2.0)
    g = Graph()
    session = _native.Session(g.finish(g.input(32), 8, 8), 8, 0)
    with pytest.raises(UnsupportedError, match="encode: this plan attends to no other text than its own"):
        session.encode(IDS)
    blk = Block(Weights({}, 1), 0)
    with pytest.raises(ArgumentError, match=r"blk\.0: keys and values are those of source"):
        attend(Graph(), blk, x, x, x, HEADS, source=s)
