"""The forward pass of every architecture against the numpy oracle; whole, by token, in pieces; threads; cache types."""

import itertools

import numpy as np
import pytest
from model import tiny
from oracle import transformer

import pyggml
from pyggml import _native
from pyggml.engine.cache_type import CACHE_TYPES

MODELS = {
    "llama": dict(arch="llama"),
    "llama-tied-gqa": dict(arch="llama", tied=True, n_head=6, n_head_kv=2, head_dim=20, n_embd=48),
    "llama-one-kv-head": dict(arch="llama", n_head=8, n_head_kv=1, head_dim=8),
    "llama3-factors": dict(arch="llama", freq_factors=True),
    "llama-linear": dict(arch="llama", scaling=("linear", 4.0, 32)),
    "llama-windows": dict(arch="llama", window=9, scaling=("linear", 2.0, 32), attn_factor=1.25),
    "llama-caps": dict(arch="llama", softcap=1.5, attn_scale=0.4, attn_factor=0.75),
    "qwen2": dict(arch="qwen2", bias=True, tied=True),
    "qwen2-yarn": dict(arch="qwen2", bias=True, scaling=("yarn", 4.0, 32)),
    "qwen3": dict(arch="qwen3", qk_norm=True, head_dim=32),
    "mixtral": dict(arch="llama", n_expert=6, n_expert_used=2),
    "qwen2moe": dict(arch="qwen2moe", bias=True, n_expert=5, n_expert_used=3, n_ff_shared=128),
    "qwen3moe": dict(arch="qwen3moe", qk_norm=True, head_dim=32, n_expert=16, n_expert_used=4, n_ff=48),
}
IDS = [256, *np.random.default_rng(7).integers(0, 256, 46).tolist()]


@pytest.fixture(scope="module", params=MODELS)
def made(request, tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("tiny") / "x.gguf", **MODELS[request.param])


def relative(got, want):
    return float(np.abs(got - want).max() / np.abs(want).max())


def pieces(ids, sizes):
    at = iter(ids)
    for n in itertools.cycle(sizes):
        part = list(itertools.islice(at, n))
        if not part:
            return
        yield part


def test_logits_equal_the_oracle(made):
    want = transformer.forward(made.weights, IDS, **made.oracle)
    with pyggml.load(made.path, kv_type="f32") as m:
        got = m.logits(IDS)
        assert got.shape == want.shape
        assert got.dtype == np.float32
        assert relative(got, want) < 5e-6


@pytest.mark.parametrize("sizes", [(1,), (7, 1, 3), (40, 2), (5, 16)])
def test_pieces_agree_with_the_whole(made, sizes):
    with pyggml.load(made.path, kv_type="f32") as m:
        whole = m.logits(IDS)
        s = m.session()
        parts = [s.step(part, len(part)).reshape(len(part), -1) for part in pieces(IDS, sizes)]
        assert s.n_past == len(IDS)
        assert relative(np.concatenate(parts), whole) < 1e-5


def test_truncated_session_continues_as_if_never_fed(made):
    with pyggml.load(made.path, kv_type="f32") as m:
        s = m.session()
        s.step(IDS[:30])
        s.truncate(11)
        again = s.step(IDS[11:20])
        assert relative(again, m.logits(IDS[:20])[-1]) < 1e-5


# f16: up to 3.2e-3 where weights and values are multiplied as bf16 pairs (docs/adr/0011), below 2e-3 in floats
@pytest.mark.parametrize(
    ("kv_type", "bound"),
    [
        ("f16", 5e-3),
        ("bf16", 2e-2),
        ("q8_0", 3e-2),
        ("q5_1", 0.25),
        ("q5_0", 0.25),
        ("q4_1", 0.5),
        ("q4_0", 0.5),
        ("iq4_nl", 0.5),
    ],
)
def test_cache_types_stay_near_f32(made, kv_type, bound):
    if pyggml.QuantType.parse(kv_type).is_block and made.oracle["head_dim"] % 32:
        with pytest.raises(pyggml.PyggmlError, match=kv_type):
            pyggml.load(made.path, kv_type=kv_type)
        return
    want = transformer.forward(made.weights, IDS, **made.oracle)
    with pyggml.load(made.path, kv_type=kv_type) as m:
        got = m.logits(IDS)
    if made.oracle["n_expert_used"]:  # rounding may choose another expert here and there: half the rows must be near
        error = float(np.median(np.abs(got - want).max(axis=1))) / np.abs(want).max()
    else:
        error = relative(got, want)
    assert 0 < error < bound


def test_every_level_runs_the_model(made, isa):
    want = transformer.forward(made.weights, IDS, **made.oracle)
    with pyggml.load(made.path, kv_type="f32") as m:
        assert relative(m.logits(IDS), want) < 5e-6


@pytest.mark.parametrize("kv_type", CACHE_TYPES)
def test_thread_count_never_changes_a_bit_of_attention(tmp_path, kv_type):
    made = tiny.write(tmp_path / "x.gguf", n_embd=256, n_head=8, n_head_kv=2, head_dim=32, n_ff=512, n_layer=2)
    ids = IDS * 20
    seen = []
    for n_threads in (1, 2):
        with pyggml.load(made.path, n_threads=n_threads, kv_type=kv_type, n_ctx=len(ids)) as m:
            s = m.session()
            seen.append([s.step(part, 1) for part in pieces(ids, (300, 1, 5, 1, 100))])
    for a, b in zip(*seen, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("experts", [{}, dict(n_expert=7, n_expert_used=2)], ids=["dense", "experts"])
@pytest.mark.parametrize("type", ["f32", "f16", "bf16", "q8_0", "q4_0", "q5_1", "q4_k", "q6_k", "q3_k"])
def test_thread_count_never_changes_a_bit(tmp_path, type, experts):
    made = tiny.write(tmp_path / "x.gguf", type=type, n_embd=256, n_head=8, head_dim=32, n_ff=512, **experts)
    seen = []
    for n_threads in (1, 2, 3):
        with pyggml.load(made.path, n_threads=n_threads) as m:
            s = m.session()
            seen.append([s.step(part, len(part)) for part in pieces(IDS, (20, 1, 5))])
    for other in seen[1:]:
        for a, b in zip(seen[0], other, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("type", "bound"),
    [
        ("f16", 1e-3),
        ("bf16", 0.01),  # activations become bf16 where the CPU multiplies pairs: docs/adr/0008
        ("q8_0", 0.04),
        ("q6_k", 0.04),
        ("q4_k", 0.04),
        ("q4_0", 0.04),
        ("q5_0", 0.04),
        ("q2_k", 0.04),
    ],
)
def test_quantized_weights_give_what_their_values_give(tmp_path, type, bound):
    """Only the activations are rounded on the way: the oracle runs on the decoded weights."""
    made = tiny.write(tmp_path / "x.gguf", type=type, n_embd=256, n_head=8, head_dim=32, n_ff=512, n_layer=2)
    want = transformer.forward(made.weights, IDS, **made.oracle)
    with pyggml.load(made.path, kv_type="f32") as m:
        whole = m.logits(IDS)
        assert relative(whole, want) < bound
        s = m.session()
        parts = np.concatenate([s.step(part, len(part)).reshape(len(part), -1) for part in pieces(IDS, (1, 9, 2))])
    assert relative(parts, whole) < 0.02  # an activation rounds to the other side: docs/adr/0007


def test_copied_weights_give_the_same_bits(made):
    with pyggml.load(made.path) as a, pyggml.load(made.path, mmap=False) as b:
        assert np.array_equal(a.logits(IDS), b.logits(IDS))


def test_kept_nodes_show_every_step_of_the_plan(made):
    """The plan's debugger: with keep_all every node can be read after a step."""
    from pyggml import arch, gguf
    from pyggml.engine.weights import Weights
    from pyggml.graph import Graph

    with gguf.open(made.path) as file:
        c = arch.config(file.metadata)
        g = Graph()
        out = arch.build(g, c, Weights(file.tensors, c.n_layer)).outputs.nodes[0]
        plan = g.finish(out, 64, 64, keep_all=True)
        s = _native.Session(plan, 64, 0)
        logits = s.step(np.asarray(IDS[:9], np.int32), 9)
        assert np.array_equal(s.node(0, 9), made.weights["token_embd.weight"][IDS[:9]])
        assert np.array_equal(s.node(out.index, 9), logits)
        s.close()
        del s, plan, g, out
