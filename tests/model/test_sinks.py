"""Attention with sinks, a score of nothing for each head, against numpy: every level, cache and form, in any pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyggml import _native
from pyggml.arch.layers import attend
from pyggml.config.parts import Heads
from pyggml.engine.cache_type import CACHE_TYPES
from pyggml.engine.weights import Block, Weights
from pyggml.errors import NumericError, PyggmlError, ShapeError
from pyggml.graph import Graph, Node, Rope, Weight
from pyggml.quant.types import QuantType

HEADS, HEADS_KV, K, V, SCALE = 8, 2, 32, 64, 0.3
COLS = HEADS * K + HEADS_KV * (K + V)
RNG = np.random.default_rng(3)
SINKS = RNG.normal(0, 3, (1, HEADS)).astype(np.float32)
BOUNDS = {"f32": 1e-5, "f16": 4e-3, "bf16": 2e-2, "q8_0": 3e-2, "q5_1": 0.15, "q5_0": 0.2, "q4_1": 0.3, "q4_0": 0.4,
          "iq4_nl": 0.4}  # fmt: skip
CACHES = {name: (QuantType.parse(name).id, BOUNDS[name]) for name in CACHE_TYPES}


def sinks_of(values: NDArray[Any] = SINKS) -> Weight:
    return Weight("blk.0.attn_sinks.weight", 0, 1, values.shape[-1], np.ascontiguousarray(values))


def plan_of(window: int = 0, softcap: float = 0.0, causal: bool = True, n_batch: int = 512, within: bool = False,
            sinks: Weight | None = None) -> _native.Plan:  # fmt: skip
    """q, k and v lie side by side in the rows that are fed; within: values are the first columns of keys."""
    g = Graph()
    x = g.input(COLS)
    q, k = g.cols(x, 0, HEADS * K), g.cols(x, HEADS * K, HEADS_KV * K)
    v: Node | None = None if within else g.cols(x, (HEADS + HEADS_KV) * K, HEADS_KV * V)
    y = g.attention(q, k, v, layer=0, n_head=HEADS, n_head_kv=HEADS_KV, scale=SCALE, window=window, softcap=softcap,
                    causal=causal, v_dim=K if within else None, sinks=sinks)  # fmt: skip
    return g.finish(y, n_batch, 2048)


def truth(x: NDArray[Any], sinks: NDArray[Any], window: int = 0, softcap: float = 0.0, causal: bool = True,
          within: bool = False) -> NDArray[Any]:  # fmt: skip
    """softmax([scores, sink]) without the sink's column, times values."""
    n = len(x)
    q, k, v = np.split(x.astype(np.float64), [HEADS * K, (HEADS + HEADS_KV) * K], axis=1)
    v = k if within else v
    keys, values = (np.repeat(each.reshape(n, HEADS_KV, -1), HEADS // HEADS_KV, 1) for each in (k, v))
    scores = SCALE * np.einsum("thd,shd->hts", q.reshape(n, HEADS, K), keys)
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    far = np.arange(n)[:, None] - np.arange(n)
    if causal:
        scores[:, (far < 0) | ((far >= window) & (window > 0))] = -np.inf
    elif window:
        scores[:, np.abs(far) > window // 2] = -np.inf
    scores = np.concatenate([scores, np.broadcast_to(sinks.reshape(-1, 1, 1), (HEADS, n, 1))], axis=2)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    made: NDArray[Any] = np.einsum("hts,shd->thd", (scores / scores.sum(-1, keepdims=True))[..., :-1], values)
    return made.reshape(n, -1)


def rows(n: int) -> NDArray[np.float32]:
    return RNG.normal(0, 1, (n, COLS)).astype(np.float32)


def fed(
    plan: _native.Plan, x: NDArray[Any], sizes: tuple[int, ...], cache: int = 0, n_threads: int = 2
) -> NDArray[Any]:
    session, at, made = _native.Session(plan, 2048, cache), 0, []
    for n in sizes:
        made.append(session.step(None, n, n_threads, rows=x[at : at + n]))
        at += n
    session.close()
    return np.concatenate(made)


def off(got: NDArray[Any], want: NDArray[Any]) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


FORMS: list[dict[str, Any]] = [{}, {"window": 9}, {"softcap": 2.0}, {"window": 40, "softcap": 1.5}, {"within": True}]


@pytest.mark.parametrize("how", FORMS, ids=str)
def test_against_numpy(isa: str, how: dict[str, Any]) -> None:
    x = rows(70)
    want = truth(x, SINKS, **how)
    assert off(truth(x, SINKS - 1e9, **how), want) > 0.1  # the sinks matter
    for n_batch in (512, 7):
        plan = plan_of(**how, n_batch=n_batch, sinks=sinks_of())
        for name, (cache, bound) in CACHES.items():
            for sizes in ((70,), (60, 1, 9), (1,) * 70):
                assert off(fed(plan, x, sizes, cache), want) < bound, (name, n_batch, sizes)


@pytest.mark.parametrize("window", [0, 20])
def test_without_causality(isa: str, window: int) -> None:
    x = rows(50)
    got = fed(plan_of(window=window, causal=False, sinks=sinks_of()), x, (50,))
    assert off(got, truth(x, SINKS, window, causal=False)) < 1e-5


@pytest.mark.parametrize("cache", ["f32", "f16", "q8_0"])
def test_a_sink_counts_once_however_keys_are_cut(isa: str, cache: str) -> None:
    """From 512 keys on they are cut into spans, which threads take and merge; scores are low, so that sinks weigh."""
    x = rows(700) * np.float32(0.3)
    number, bound = CACHES[cache]
    for window in (0, 600):
        plan, want = plan_of(window, sinks=sinks_of()), truth(x, SINKS, window)
        first, *more = [fed(plan, x, (690, 1, 8, 1), number, n_threads) for n_threads in (1, 3)]
        assert all(np.array_equal(first, each) for each in more)
        assert off(first[690:], want[690:]) < bound


def test_a_sink_far_away_and_none_at_all(isa: str) -> None:
    x = rows(40)
    without = fed(plan_of(), x, (30, 10))
    far = np.full((1, HEADS), -1e30, np.float32)
    assert np.array_equal(fed(plan_of(sinks=sinks_of(far)), x, (30, 10)), without)
    assert np.array_equal(fed(plan_of(sinks=sinks_of(-far)), x, (30, 10)), 0 * without)  # all weight, no value
    one = far.copy()
    one[0, 5] = 2.0  # of query head 5 alone, though three more share its keys
    got = fed(plan_of(sinks=sinks_of(one)), x, (30, 10)).reshape(40, HEADS, V)
    others = [h for h in range(HEADS) if h != 5]
    assert np.array_equal(got[:, others], without.reshape(40, HEADS, V)[:, others])
    assert off(got[:, 5], truth(x, one).reshape(40, HEADS, V)[:, 5]) < 1e-5


def test_what_is_no_sink_is_refused_by_name() -> None:
    with pytest.raises(ShapeError, match=r"blk\.0\.attn_sinks\.weight is \(1, 7\), expected \(1, 8\)"):
        plan_of(sinks=sinks_of(SINKS[:, :7]))
    with pytest.raises(ShapeError, match=r"blk\.0\.attn_sinks\.weight is \(8, 1\), expected \(1, 8\)"):
        plan_of(sinks=Weight("blk.0.attn_sinks.weight", 0, 8, 1, SINKS))
    wide = Weight("blk.0.attn_sinks.weight", 8, 1, 32, np.zeros(34, np.uint8))
    g = Graph()
    x = g.input(32 * 4)
    with pytest.raises(PyggmlError, match=r"^blk\.0\.attention: weight .*attn_sinks\.weight is q8_0, expected f32"):
        g.attention(x, x, x, layer=0, n_head=32, n_head_kv=32, scale=1.0, sinks=wide)
    for value in (np.nan, np.inf, -np.inf):
        bad = SINKS.copy()
        bad[0, 3] = value
        with pytest.raises(NumericError, match=r"value 3 of .*attn_sinks\.weight is .*(nan|inf), expected a finite"):
            plan_of(sinks=sinks_of(bad))


@pytest.mark.slow
@pytest.mark.parametrize("window", [0, 12])
def test_against_transformers(window: int) -> None:
    """GptOssAttention with random weights: its rope, its biases, its sinks, its window."""
    torch = pytest.importorskip("torch")
    gpt_oss = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")
    config = gpt_oss.GptOssConfig(
        num_hidden_layers=1, hidden_size=96, num_attention_heads=HEADS, num_key_value_heads=HEADS_KV, head_dim=K,
        layer_types=["sliding_attention" if window else "full_attention"], sliding_window=window or 128,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(1)
    n, module = 60, gpt_oss.GptOssAttention(config, 0).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=1.0 if parameter.shape == (HEADS,) else 0.15)
    x = RNG.normal(0, 1, (n, 96)).astype(np.float32)
    far = torch.arange(n)[:, None] - torch.arange(n)
    mask = torch.zeros(1, 1, n, n).masked_fill((far < 0) | ((far >= window) & (window > 0)), -torch.inf)
    with torch.no_grad():
        turns = gpt_oss.GptOssRotaryEmbedding(config)(torch.from_numpy(x[None]), torch.arange(n)[None])
        want = module(torch.from_numpy(x[None]), turns, mask)[0][0].numpy()

    def kept(name: str) -> Weight:
        values = np.atleast_2d(module.state_dict()[name].numpy())
        return Weight(name, 0, *values.shape, values)

    g = Graph()
    fed_in, how = g.input(96), Rope("neox", K)
    q, k, v = (g.matmul(kept(f"{name}_proj.weight"), fed_in, kept(f"{name}_proj.bias")) for name in "qkv")
    q, k = g.rope(q, how, HEADS, K), g.rope(k, how, HEADS_KV, K)
    y = attend(g, Block(Weights({}, 1), 0), q, k, v, Heads(HEADS, HEADS_KV, K, K), window=window, sinks=kept("sinks"))
    plan = g.finish(g.matmul(kept("o_proj.weight"), y, kept("o_proj.bias")), 64, 2048)
    for sizes in ((n,), (50, *(1,) * 10)):
        assert off(fed(plan, x, sizes), want) < 1e-5
