"""Plans with several outputs, of which a session returns one, and plans that are fed by ids and rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model import tiny

from pyggml import _native, arch, gguf
from pyggml.engine.sampling import Sampling
from pyggml.engine.weights import Weights
from pyggml.errors import ArgumentError, ShapeError
from pyggml.graph import Graph, Node, Weight

IDS = np.array([256, *range(40)], np.int32)
LOGITS, EMBEDDING = 0, 1
F32 = 0  # as a type of caches


def planned(path: Path, several: bool, n_batch: int = 64, keep_all: bool = False) -> _native.Plan:
    with gguf.open(path) as file:
        g, c = Graph(), arch.config(file.metadata)
        built = arch.build(g, c, Weights(file.tensors, c.n_layer, copy=True))
        assert built.outputs.names == ("logits", "embedding")
        return g.finish(built.outputs.nodes[: None if several else 1], n_batch, 64, keep_all)


def fed(plan: _native.Plan, output: int, sizes: tuple[int, ...], n_threads: int = 2) -> np.ndarray:
    """The rows of IDS, fed in pieces."""
    session, at, rows = _native.Session(plan, 64, F32, output), 0, []
    for n in sizes:
        rows.append(session.step(IDS[at : at + n], n, n_threads))
        at += n
    session.close()
    return np.concatenate(rows)


@pytest.mark.parametrize("type", ["f32", "q8_0"])
def test_logits_and_embedding_of_one_plan(tmp_path: Path, isa: str, type: str) -> None:
    made = tiny.write(tmp_path / "x.gguf", type=type, n_embd=256, n_head=8, head_dim=32, n_ff=512)
    alone, both = planned(made.path, False), planned(made.path, True)
    for sizes in ((41,), (30, 1, 10), (1,) * 41):
        logits = fed(alone, LOGITS, sizes)
        embedding = fed(both, EMBEDDING, sizes)
        assert np.array_equal(fed(both, LOGITS, sizes), logits)
        assert embedding.shape == (41, 256)
        assert np.array_equal(embedding, fed(both, EMBEDDING, sizes, 1))
        want = embedding @ made.weights["output.weight"].T
        assert np.abs(want - logits).max() < (1e-5 if type == "f32" else 0.02) * np.abs(want).max()


def test_sessions_of_both_outputs_share_a_plan(tmp_path: Path) -> None:
    made = tiny.write(tmp_path / "x.gguf")
    plan = planned(made.path, True)
    a, b, c = (_native.Session(plan, 64, F32, output) for output in (LOGITS, EMBEDDING, EMBEDDING))
    a.step(IDS[:5], 0)
    pair = plan.step((b, c), (IDS[:5], IDS[:7]), (1, 7))
    assert [rows.shape for rows in pair] == [(1, 64), (7, 64)]
    assert np.allclose(pair[0][0], pair[1][4], atol=1e-5)
    with pytest.raises(ArgumentError, match="session 1 returns output 1, session 0 output 0: step them apart"):
        plan.step((a, b), (IDS[5:6], IDS[5:6]), (1, 1))
    with pytest.raises(ArgumentError, match="tokens are chosen of output 0"):
        b.next(Sampling(temperature=0.0).sampler(260), IDS[5:6])
    with pytest.raises(ArgumentError, match=r"there is no output 2 \(the plan has 2\)"):
        _native.Session(plan, 64, F32, 2)
    assert (a.n_past, b.n_past, c.n_past) == (5, 5, 7)
    fork = c.fork()
    assert np.array_equal(fork.step(IDS[7:9], 2), c.step(IDS[7:9], 2))
    fork.close()
    for session in (a, b, c):
        session.close()


def test_kept_nodes_are_those_of_all_outputs(tmp_path: Path) -> None:
    made = tiny.write(tmp_path / "x.gguf")
    plan = planned(made.path, True, keep_all=True)
    session = _native.Session(plan, 64, F32, EMBEDDING)
    embedding = session.step(IDS[:9], 9)
    node = next(i for i in range(999) if plan.node_shape(i)[1] == 260)
    assert np.allclose(session.node(node, 9), embedding @ made.weights["output.weight"].T, atol=1e-4)
    session.close()


TABLE = np.random.default_rng(5).normal(0, 1, (12, 64)).astype(np.float32)


def mixed(ids: bool, rows: bool) -> _native.Plan:
    """Attention over what ids and rows say of each token."""
    g = Graph()
    parts: list[Node] = []
    if ids:
        parts.append(g.embed(Weight("table", 0, 12, 64, TABLE), 64))
    if rows:
        parts.append(g.input(64))
    x = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    y = g.attention(x, x, x, layer=0, n_head=2, n_head_kv=2, scale=0.2)
    return g.finish(g.wanted(y + x), 16, 32)


def test_a_token_has_an_id_or_a_row(isa: str) -> None:
    both = mixed(True, True)
    ids = np.array([3, -1, -1, 7, -1], np.int32)
    rows = np.random.default_rng(6).normal(0, 1, (5, 64)).astype(np.float32)
    rows[ids >= 0] = 0
    said = np.where((ids >= 0)[:, None], TABLE[ids], rows)

    def first(plan: _native.Plan, *args: object, **more: object) -> np.ndarray:
        session = _native.Session(plan, 32, F32)
        made = session.step(*args, **more)  # type: ignore[arg-type]
        session.close()
        return made

    want = first(mixed(False, True), None, 5, 1, rows=said)
    assert np.array_equal(first(both, ids, 5, 1, rows=rows), want)
    assert np.array_equal(first(both, None, 5, 2, rows=said), want)
    text = np.array([3, 4, 5], np.int32)
    assert np.array_equal(first(both, text, 3, 1), first(mixed(True, False), text, 3, 1))
    summed = first(both, text, 3, 1, rows=rows[:3])
    assert np.array_equal(summed, first(mixed(False, True), None, 3, 1, rows=TABLE[text] + rows[:3]))


def test_what_a_plan_is_fed_with_is_judged() -> None:
    session = _native.Session(mixed(True, True), 32, F32)
    rows = np.zeros((2, 64), np.float32)
    with pytest.raises(ShapeError, match="3 ids, but 2 rows"):
        session.step(np.array([1, 2, 3], np.int32), 0, rows=rows)
    with pytest.raises(ArgumentError, match="id at position 1 is -2, expected -1 to 11"):
        session.step(np.array([1, -2], np.int32), 0, rows=rows)
    with pytest.raises(ArgumentError, match="id at position 0 is 12, expected -1 to 11"):
        session.step(np.array([12], np.int32), 0)
    session.close()
    session = _native.Session(mixed(True, False), 32, F32)
    with pytest.raises(ArgumentError, match="id at position 0 is -1, expected 0 to 11"):
        session.step(np.array([-1], np.int32), 0)
    session.close()
