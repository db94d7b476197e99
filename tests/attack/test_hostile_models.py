"""Files whose header is sound but whose model is not: every one a PyggmlError that names the problem, at load."""

import os
import subprocess
import sys

import numpy as np
import pytest
from attack import build as b
from model import tiny

import pyggml


def rewrite(src, dst, drop=(), change=None, add=None, meta=None):
    """A copy of src without some tensors, with others replaced or added, and with other metadata (None removes)."""
    with pyggml.gguf.open(src) as file, pyggml.gguf.Writer(dst) as out:
        meta = meta or {}
        out.add_metadata(file.metadata, skip=tuple(meta))
        for key, value in meta.items():
            if isinstance(value, tuple):
                out.add(key, *value)
            elif value is not None:
                out.add(key, value)
        for name, info in file.tensors.items():
            if name in drop:
                continue
            made = (change or {}).get(name)
            if made is None:
                out.add_tensor(name, info.shape, info.type, info.data.copy())
            else:
                out.add_tensor(name, made.shape, made.type, made.raw)
        for name, made in (add or {}).items():
            out.add_tensor(name, made.shape, made.type, made.raw)
    return dst


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("good") / "x.gguf").path


def f32(*shape):
    return pyggml.quantize(np.ones(shape, np.float32), "f32")


TENSORS = {
    "missing embedding": (dict(drop=["token_embd.weight"]), "token_embd.weight"),
    "missing norm": (dict(drop=["blk.1.ffn_norm.weight"]), "blk.1.ffn_norm.weight"),
    "missing matrix": (dict(drop=["blk.0.attn_k.weight"]), "blk.0.attn_k.weight"),
    "wrong rows": (dict(change={"blk.0.attn_q.weight": f32(32, 64)}), "blk.0.attn_q"),
    "wrong columns": (dict(change={"blk.0.ffn_up.weight": f32(96, 32)}), "blk.0.ffn_up"),
    "wrong norm length": (dict(change={"blk.0.attn_norm.weight": f32(63)}), "blk.0.attn_norm"),
    "norm is a matrix": (dict(change={"output_norm.weight": f32(64, 64)}), "output_norm"),
    "matrix is a vector": (dict(change={"blk.1.attn_v.weight": f32(64)}), "blk.1.attn_v"),
    "cube": (dict(change={"blk.1.attn_v.weight": f32(2, 16, 64)}), "blk.1.attn_v"),
    "wrong bias": (dict(add={"blk.0.attn_q.bias": f32(5)}), "blk.0.attn_q"),
    "layer that is not there": (dict(add={"blk.7.attn_norm.weight": f32(64)}), "blk.7.attn_norm.weight"),
    "tensor nobody reads": (dict(add={"blk.0.attn_sinks.weight": f32(4)}), "attn_sinks"),
    "experts": (dict(add={"blk.0.ffn_gate_inp.weight": f32(4, 64)}), "ffn_gate_inp"),
    "fewer rows than tokens": (
        dict(change={"token_embd.weight": f32(100, 64), "output.weight": f32(100, 64)}), "tokens"),
    "fewer rows of the embedding": (dict(change={"token_embd.weight": f32(259, 64)}), r"output.*260.*259"),
    "fewer rows of the output": (dict(change={"output.weight": f32(259, 64)}), r"output.*259.*260"),
    "more rows of the output": (dict(change={"output.weight": f32(261, 64)}), r"output.*261.*260"),
    "output of one row": (dict(change={"output.weight": f32(64)}), r"output.*\(1, 64\).*260"),
    "bias of the output": (dict(add={"output.bias": f32(64)}), r"output.*output\.bias"),
    "far more rows than tokens": (
        dict(change={"token_embd.weight": f32(70000, 64), "output.weight": f32(70000, 64)}), "70000 rows.*260 tokens"),
    "last norm of half a row": (dict(change={"output_norm.weight": f32(32)}), r"output_norm.*\(1, 32\).*\(1, 64\)"),
    "last norm of one value": (dict(change={"output_norm.weight": f32(1)}), r"output_norm.*\(1, 1\).*\(1, 64\)"),
    "norm of half a row": (dict(change={"blk.1.ffn_norm.weight": f32(32)}), r"blk\.1\.ffn_norm.*\(1, 32\)"),
    "norm of two rows": (dict(change={"blk.1.attn_norm.weight": f32(2, 32)}), r"blk\.1\.attn_norm.*\(2, 32\)"),
    "norm of a column": (dict(change={"blk.1.attn_norm.weight": f32(64, 1)}), r"blk\.1\.attn_norm.*\(64, 1\)"),
    "biases in one layer": (dict(add={"blk.1.attn_q.bias": f32(64)}), r"blk\.0\.attn_q\.bias is missing.*blk\.1"),
    "norm of q, not k": (dict(add={f"blk.{i}.attn_q_norm.weight": f32(16) for i in range(2)}), "attn_k_norm.*missing"),
    "norm of k, not q": (dict(add={f"blk.{i}.attn_k_norm.weight": f32(16) for i in range(2)}), "no use.*attn_k_norm"),
    "factors of half the pairs": (dict(add={"rope_freqs.weight": f32(4)}), "rope_freqs"),
    "factors for long contexts": (dict(add={"rope_factors_long.weight": f32(8)}), "rope_factors_short"),
    "factors for short contexts alone": (dict(add={"rope_factors_short.weight": f32(8)}), "no use.*rope_factors_short"),
    "bias of one value": (dict(add={f"blk.{i}.ffn_up.bias": f32(1) for i in range(2)}), r"ffn_up.*ffn_up\.bias"),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(good, tmp_path, case):
    how, text = TENSORS[case]
    with pytest.raises(pyggml.PyggmlError, match=text) as caught:
        pyggml.load(rewrite(good, tmp_path / "bad.gguf", **how))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("kind", ["i8", "i16", "i32", "i64", "f64"])
def test_types_that_are_no_weight_types(good, tmp_path, kind):
    dtype = {"i8": "i1", "i16": "i2", "i32": "i4", "i64": "i8", "f64": "f8"}[kind]
    made = pyggml.Tensor(np.zeros((64, 64), dtype), kind, (64, 64))
    path = rewrite(good, tmp_path / "bad.gguf", change={"blk.0.attn_q.weight": made})
    if kind == "f64":
        pyggml.load(path).close()
        return
    with pytest.raises(pyggml.PyggmlError, match=r"blk\.0\.attn_q\.weight"):
        pyggml.load(path)


QK_NORMS = {
    "of half a head": f32(8), "of one value": f32(1), "of all heads": f32(64), "of two rows": f32(2, 8),
    "missing": None,
}  # fmt: skip


@pytest.mark.parametrize("name", ["attn_q_norm", "attn_k_norm"])
@pytest.mark.parametrize("case", QK_NORMS)
def test_norms_of_heads(tmp_path, name, case):
    good = tiny.write(tmp_path / "x.gguf", "qwen3", qk_norm=True).path
    name, made = f"blk.1.{name}.weight", QK_NORMS[case]
    how = dict(drop=[name]) if made is None else dict(change={name: made})
    with pytest.raises(pyggml.PyggmlError, match=name.removesuffix(".weight").replace(".", r"\.")):
        pyggml.load(rewrite(good, tmp_path / "bad.gguf", **how))


def test_qwen3_without_norms_of_heads_is_another_model(tmp_path):
    with pytest.raises(pyggml.GGUFError, match=r"blk\.0\.attn_q_norm\.weight is missing"):
        pyggml.load(tiny.write(tmp_path / "x.gguf", "qwen3").path)


SPARSE = """
import resource, sys, time
import pyggml
begun = time.process_time()
try:
    pyggml.load(sys.argv[1], mmap=sys.argv[2] == "map").logits([1, 2, 3])
    outcome = "ran"
except pyggml.PyggmlError as error:
    outcome = str(error)
assert time.process_time() - begun < 5
with open("/proc/self/status") as status:
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1])
assert peak < 400 * 1024, f"{peak} kB"
print(outcome)
"""


@pytest.mark.parametrize("how", ["map", "copy"])
@pytest.mark.parametrize("names", [["output.weight"], ["token_embd.weight"], ["token_embd.weight", "output.weight"]])
def test_a_vocabulary_of_256_million_rows_for_8_tokens(tmp_path, names, how):
    records, end = [], 0
    for name, dims in b.LAYOUT:
        records.append(b.tensor(name, (dims[0], 1 << 28) if name in names else dims, 0, end))
        end += 4 * dims[0] * ((1 << 28) if name in names else dims[1] if len(dims) > 1 else 1)
    head = b.gguf([b.pair(*each) for each in b.LLAMA.items()], records)
    path = tmp_path / "sparse.gguf"
    path.write_bytes(head)
    os.truncate(path, len(head) + end)
    done = subprocess.run(
        [sys.executable, "-c", SPARSE, str(path), how],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "268435456" in done.stdout
    assert "token_embd.weight" in done.stdout or "output.weight" in done.stdout


@pytest.mark.parametrize(
    "key", ["block_count", "attention.head_count", "attention.head_count_kv", "feed_forward_length"]
)
def test_arrays_of_one_for_two_layers(good, tmp_path, key):
    path = rewrite(good, tmp_path / "bad.gguf", meta={f"llama.{key}": ([2], "u32")})
    with pytest.raises(pyggml.GGUFError, match=rf"llama\.{key} is an array of 1 elements, expected an integer"):
        pyggml.load(path)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """4 experts, 2 used, width 32, beside one that is shared."""
    path = tmp_path_factory.mktemp("mixture") / "x.gguf"
    return tiny.write(path, "qwen2moe", n_expert=4, n_expert_used=2, n_ff=32, n_ff_shared=48).path


def told(**values):
    return {"meta": {f"qwen2moe.{key}": value for key, value in values.items()}}


EXPERTS = {
    "no router": (dict(drop=["blk.1.ffn_gate_inp.weight"]), "ffn_gate_inp"),
    "router of fewer": (dict(change={"blk.1.ffn_gate_inp.weight": f32(3, 64)}), r"ffn_gate_inp.*\(3, 64\)"),
    "router of other columns": (dict(change={"blk.1.ffn_gate_inp.weight": f32(4, 32)}), "ffn_gate_inp"),
    "no gates": (dict(drop=["blk.0.ffn_gate_exps.weight"]), "ffn_gate_exps.*4 experts"),
    "no ups": (dict(drop=["blk.0.ffn_up_exps.weight"]), "ffn_up_exps"),
    "no downs": (dict(drop=["blk.0.ffn_down_exps.weight"]), "ffn_down_exps"),
    "one matrix for all": (dict(change={"blk.0.ffn_up_exps.weight": f32(128, 64)}), "ffn_up_exps"),
    "fewer experts": (dict(change={"blk.0.ffn_up_exps.weight": f32(3, 32, 64)}), r"ffn_up_exps.*\(4, 32, 64\)"),
    "more experts": (dict(change={"blk.0.ffn_gate_exps.weight": f32(5, 32, 64)}), "ffn_gate_exps"),
    "other width": (dict(change={"blk.0.ffn_gate_exps.weight": f32(4, 16, 64)}), "ffn_gate_exps"),
    "down the wrong way round": (dict(change={"blk.1.ffn_down_exps.weight": f32(4, 32, 64)}), "ffn_down_exps"),
    "four dimensions": (dict(change={"blk.1.ffn_down_exps.weight": f32(4, 1, 64, 32)}), "ffn_down_exps"),
    "no shared gate": (dict(drop=["blk.1.ffn_gate_shexp.weight"]), "ffn_gate_shexp"),
    "shared gate without its router": (dict(drop=["blk.1.ffn_gate_inp_shexp.weight"]), "ffn_gate_shexp|shexp"),
    "shared router of two": (dict(change={"blk.1.ffn_gate_inp_shexp.weight": f32(2, 64)}), "ffn_gate_inp_shexp"),
    "biases of experts": (dict(add={"blk.0.ffn_up_exps.bias": f32(4, 32)}), "ffn_up_exps.bias"),
    "experts used: none": (told(expert_used_count=0), "expert_used_count is 0"),
    "experts used: too many": (told(expert_used_count=5), "expert_used_count is 5"),
    "experts used: huge": (told(expert_used_count=(2**32 - 1, "u32")), "expert_used_count"),
    "experts used: not told": (told(expert_used_count=None), "expert_used_count is missing"),
    "experts used: negative": (told(expert_used_count=(-1, "i32")), "expert_used_count is -1"),
    "experts: none": (told(expert_count=0), "ffn_gate.weight is missing"),
    "experts: huge": (told(expert_count=(2**32 - 1, "u32")), "expert_count"),
    "experts: many": (told(expert_count=16384, expert_used_count=16384), "ffn_gate_inp"),
    "experts: text": (told(expert_count="four"), "expert_count"),
    "width: other": (told(expert_feed_forward_length=64), "ffn_gate_exps.*64"),
    "width: huge": (told(expert_feed_forward_length=(2**31, "u32")), "expert_feed_forward_length"),
    "shared width: other": (told(expert_shared_feed_forward_length=64), "ffn_(gate|up)_shexp"),
    "gating: unknown": (told(expert_gating_func=4), "expert_gating_func is 4"),
    "gating: absurd": (told(expert_gating_func=77), "expert_gating_func is 77"),
    "norm: a number": (told(expert_weights_norm=1), "expert_weights_norm is 1"),
    "scale: NaN": (told(expert_weights_scale=float("nan")), "expert_weights_scale"),
    "scale: negative": (told(expert_weights_scale=-2.0), "expert_weights_scale"),
}  # fmt: skip


@pytest.mark.parametrize("case", EXPERTS)
def test_experts(mixture, tmp_path, case):
    how, text = EXPERTS[case]
    with pytest.raises(pyggml.PyggmlError, match=text) as caught:
        pyggml.load(rewrite(mixture, tmp_path / "bad.gguf", **how))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["ffn_gate_inp", "ffn_up_exps", "ffn_down_exps", "ffn_gate_inp_shexp"])
def test_non_finite_experts_never_make_a_token(mixture, tmp_path, name, value):
    name = f"blk.0.{name}.weight"
    with pyggml.gguf.open(mixture) as file:
        info = file.tensors[name]
        values = info.data.copy().view(np.float32).reshape(info.shape)
    values[..., ::3] = value
    path = rewrite(mixture, tmp_path / "bad.gguf", change={name: pyggml.Tensor(values, "f32", values.shape)})
    for ids in ([5], [5, 6, 7, 8]):
        with pytest.raises(pyggml.PyggmlError, match=name.replace(".", r"\.")), pyggml.load(path) as m:
            m.generate(ids, max_tokens=3, temperature=0)


META = {
    "unknown architecture": ({"general.architecture": "lamma"}, "lamma.*llama"),
    "known but unsupported": ({"general.architecture": "t5"}, "t5.*relative position bias"),
    "architecture of the wrong type": ({"general.architecture": 5}, "general.architecture"),
    "very long architecture": ({"general.architecture": "x" * 100000}, "unknown model architecture"),
    "no architecture": ({"general.architecture": None}, "general.architecture"),
    "no layers": ({"llama.block_count": 0}, "block_count"),
    "negative layers": ({"llama.block_count": (-3, "i32")}, "block_count"),
    "a million layers": ({"llama.block_count": 1 << 20}, "block_count|missing"),
    "layers as text": ({"llama.block_count": "two"}, "block_count"),
    "layers missing": ({"llama.block_count": None}, "block_count"),
    "fewer layers than tensors": ({"llama.block_count": 1}, "blk.1"),
    "no heads": ({"llama.attention.head_count": 0}, "head_count"),
    "heads that do not divide": ({"llama.attention.head_count": 3}, "head_count|attn_q"),
    "more heads": ({"llama.attention.head_count": 8}, "head_count|attn_q"),
    "infinite epsilon": ({"llama.attention.layer_norm_rms_epsilon": float("inf")}, "epsilon"),
    "negative epsilon": ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "epsilon"),
    "NaN rope base": ({"llama.rope.freq_base": float("nan")}, "freq_base"),
    "zero rope base": ({"llama.rope.freq_base": 0.0}, "freq_base"),
    "odd rope dimensions": ({"llama.rope.dimension_count": 7}, "dimension_count"),
    "more rope dimensions than the head has": ({"llama.rope.dimension_count": 64}, "dimension_count"),
    "zero context": ({"llama.context_length": 0}, "context_length"),
    "embedding length that is not the table's": (
        {"llama.embedding_length": 128},
        "token_embd|attn_norm|embedding_length",
    ),
    "scaling factor negative": ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": -2.0}, "factor"),
    "scaling factor NaN": ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": float("nan")}, "factor"),
    "unknown scaling": ({"llama.rope.scaling.type": "spiral"}, "spiral"),
    "experts said": ({"llama.expert_count": 8, "llama.expert_used_count": 2}, "ffn_gate_inp"),
}


@pytest.mark.parametrize("case", META)
def test_metadata(good, tmp_path, case):
    meta, text = META[case]
    with pytest.raises(pyggml.PyggmlError, match=text) as caught:
        pyggml.load(rewrite(good, tmp_path / "bad.gguf", meta=meta))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "name", ["token_embd.weight", "blk.0.attn_norm.weight", "blk.1.ffn_down.weight", "output.weight"]
)
def test_non_finite_weights_never_make_a_token(good, tmp_path, name, value):
    with pyggml.gguf.open(good) as file:
        info = file.tensors[name]
        values = info.data.copy().view(np.float32).reshape(info.shape)
    values[..., ::3] = value
    path = rewrite(good, tmp_path / "bad.gguf", change={name: pyggml.Tensor(values, "f32", values.shape)})
    with pytest.raises(pyggml.PyggmlError, match=name.replace(".", r"\.")), pyggml.load(path) as m:
        m.generate([5, 6, 7], max_tokens=3, temperature=0)


@pytest.mark.parametrize("kind", ["q4_0", "q8_0"])
def test_non_finite_scales_never_make_a_token(tmp_path, kind):
    made = tiny.write(tmp_path / "q.gguf", type=kind, n_embd=64)
    with pyggml.gguf.open(made.path) as file:
        info = file.tensors["blk.0.ffn_up.weight"]
        raw = info.data.copy()
        raw[: info.type.bytes * 64 : info.type.bytes] = 0x00
        raw[1 : info.type.bytes * 64 : info.type.bytes] = 0x7E  # f16 NaN
        bad = pyggml.Tensor(raw, info.type, info.shape)
    path = rewrite(made.path, tmp_path / "bad.gguf", change={"blk.0.ffn_up.weight": bad})
    with pytest.raises(pyggml.PyggmlError, match=r"blk\.0\.ffn_up\.weight"), pyggml.load(path) as m:
        m.generate([5, 6, 7], max_tokens=3)


@pytest.mark.parametrize("token", [4096, 1 << 31, 0xFFFFFFFE])
def test_bos_out_of_range(good, tmp_path, token):
    path = rewrite(good, tmp_path / "bad.gguf", meta={"tokenizer.ggml.bos_token_id": (token, "u32")})
    with pytest.raises(pyggml.PyggmlError, match="bos"), pyggml.load(path) as m:
        m.generate("a", max_tokens=1)


def test_bos_of_all_ones_means_none(good, tmp_path):
    path = rewrite(good, tmp_path / "ok.gguf", meta={"tokenizer.ggml.bos_token_id": (0xFFFFFFFF, "u32")})
    with pyggml.load(path) as m:
        assert m.tokenizer.bos_id is None
        assert m.generate("", max_tokens=1, temperature=0).usage.prompt_tokens == 1
