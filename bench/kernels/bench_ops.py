"""Small ops, each as a plan of its own fed with rows: `pytest bench/kernels`. The cost of a step is included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pyggml import _native
from pyggml.graph import Graph, Node, Rope, Weight

COLS, HEADS, HEADS_KV, DIM = 2048, 32, 8, 64
IDS = {name: type_id for type_id, name, *_ in _native.type_table()}
NORM = Weight("norm", IDS["f32"], 1, COLS, np.ones(COLS, np.float32))
ROPE = Rope("norm", DIM, 500000.0)

OPS: dict[str, Callable[[Graph, Node], Node]] = {
    "rms_norm": lambda g, x: g.rms_norm(x, NORM, 1e-5),
    "add": lambda g, x: g.add(x, x),
    "silu": lambda g, x: g.silu(x),
    "gelu": lambda g, x: g.gelu(x),
    "softmax": lambda g, x: g.softmax(x),
    "glu": lambda g, x: g.glu(x, x),
    "rope": lambda g, x: g.rope(x, ROPE, HEADS, DIM),
}


def session_of(build: Callable[[Graph, Node], Node], cols: int, n: int, n_ctx: int) -> _native.Session:
    """A session of the plan input -> build."""
    graph = Graph()
    out = build(graph, graph.input(cols))
    return _native.Session(graph.finish(out, n, n_ctx), n_ctx, IDS["f16"])


def step(session: _native.Session, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Feeds rows at position 0 and returns the rows of the output."""
    session.truncate(0)
    return session.step(None, len(rows), 0, rows)


@pytest.mark.parametrize("n", [1, 512])
@pytest.mark.parametrize("op", OPS)
def bench_op(benchmark: Any, op: str, n: int) -> None:
    session = session_of(OPS[op], COLS, n, 512)
    rows = np.random.default_rng(0).standard_normal((n, COLS), dtype=np.float32)
    y = benchmark(step, session, rows)
    assert np.isfinite(y).all()
    benchmark.extra_info.update(isa=_native.isa(), us_row=benchmark.stats["median"] / n * 1e6)


def attention_weight(name: str, rows: int) -> Weight:
    """A small projection, so that q, k and v differ."""
    x = np.random.default_rng(len(name)).standard_normal((rows, 64), dtype=np.float32)
    return Weight(name, IDS["f32"], rows, 64, x)


@pytest.mark.parametrize("past", [0, 512, 4096])
@pytest.mark.parametrize("n", [1, 512])
def bench_attention(benchmark: Any, n: int, past: int) -> None:
    """32 heads over 8, f16 cache; the projections of 64 values in front are a small part."""
    if n == 1 and past == 0:
        pytest.skip("nothing to attend to")

    def build(g: Graph, x: Node) -> Node:
        q = g.matmul(attention_weight("q", HEADS * DIM), x)
        k = g.matmul(attention_weight("key", HEADS_KV * DIM), x)
        v = g.matmul(attention_weight("value", HEADS_KV * DIM), x)
        return g.attention(q, k, v, layer=0, n_head=HEADS, n_head_kv=HEADS_KV, scale=DIM**-0.5)

    session = session_of(build, 64, 512, past + n)
    rng = np.random.default_rng(0)
    for start in range(0, past, 512):
        session.step(None, 0, 0, rng.standard_normal((min(512, past - start), 64), dtype=np.float32))
    rows = rng.standard_normal((n, 64), dtype=np.float32)

    def one() -> None:
        session.truncate(past)
        session.step(None, n, 0, rows)

    benchmark(one)
    benchmark.extra_info.update(isa=_native.isa(), past=past, us_row=benchmark.stats["median"] / n * 1e6)
