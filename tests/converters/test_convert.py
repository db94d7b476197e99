"""Conversion of a tiny model from every layout, types, tokenizers, and the way back."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from converters import checkpoint

import pyggml
from pyggml import gguf
from pyggml.converters import families, safetensors
from pyggml.tokenizer import from_metadata


def decoded(path) -> dict[str, np.ndarray]:
    with gguf.open(path) as file:
        return {
            name: np.asarray(pyggml.dequantize(np.array(t.data), t.type, t.shape)).reshape(t.shape)
            for name, t in file.tensors.items()
        }


def expected() -> dict[str, np.ndarray]:
    """The GGUF form, computed apart from the converter's tables."""
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    found = {}
    for name, w in checkpoint.tensors().items():
        if "layers" not in name:
            top = {"embed_tokens": "token_embd", "lm_head": "output", "norm": "output_norm"}
            found[top[name.removeprefix("model.").removesuffix(".weight")] + ".weight"] = w
            continue
        _, _, layer, rest = name.split(".", 3)
        to = names[rest.removesuffix(".weight")]
        if to in ("attn_q", "attn_k"):
            order = [h * 16 + i + 8 * half for h in range(len(w) // 16) for i in range(8) for half in (0, 1)]
            w = w[order]
        found[f"blk.{layer}.{to}.weight"] = w
    return found


def shards(path, weights):
    names = list(weights)
    parts = {"model-00001-of-00002.safetensors": names[:7], "model-00002-of-00002.safetensors": names[7:]}
    for file, part in parts.items():
        checkpoint.safetensors(path / file, {name: weights[name] for name in part})
    table = {name: file for file, part in parts.items() for name in part}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))


LAYOUTS = {
    "safetensors": lambda path, w: checkpoint.safetensors(path / "model.safetensors", w),
    "shards": shards,
    "torch": lambda path, w: checkpoint.torch_zip(path / "pytorch_model.bin", w),
    "legacy torch": lambda path, w: checkpoint.torch_legacy(path / "pytorch_model.bin", w),
    "onnx": lambda path, w: checkpoint.onnx(path / "model.onnx", w),
    "onnx with constants": lambda path, w: checkpoint.onnx(path / "model.onnx", w, checkpoint.onnx_constants()),
    "npz": lambda path, w: np.savez(path / "model.npz", **w),
    "npz, large end first": lambda path, w: np.savez(
        path / "m.npz", **{name: x.astype(">f4") for name, x in w.items()}
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_tensors(layout, tmp_path):
    src = checkpoint.folder(tmp_path / "src")
    LAYOUTS[layout](src, checkpoint.tensors())
    made = pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    assert (made.arch, made.n_tensors, made.tokenizer) == ("llama", 21, "gpt2")
    got, want = decoded(tmp_path / "x.gguf"), expected()
    assert got.keys() == want.keys()
    for name, w in want.items():
        assert np.array_equal(got[name], w), name


@pytest.mark.parametrize("parts", [1, 2])
def test_the_original_layout_joins_its_parts(parts, tmp_path):
    checkpoint.original(tmp_path / "src", checkpoint.tensors(), parts)
    made = pyggml.convert(tmp_path / "src", tmp_path / "x.gguf", dtype="f32")
    assert made.tokenizer is None
    got = decoded(tmp_path / "x.gguf")
    for name, w in expected().items():
        assert np.array_equal(got[name], w), name
    with gguf.open(tmp_path / "x.gguf") as file:
        assert file.metadata["llama.feed_forward_length"] == 96
        assert file.metadata["llama.context_length"] == 4096


def test_a_strided_tensor_of_a_pickle(tmp_path):
    weights = checkpoint.tensors()
    name = "model.layers.0.mlp.up_proj.weight"
    turned = dict(weights)
    turned[name] = np.ascontiguousarray(weights[name].T).T
    src = checkpoint.folder(tmp_path / "src")
    checkpoint.torch_zip(src / "pytorch_model.bin", turned)
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    assert np.array_equal(decoded(tmp_path / "x.gguf")["blk.0.ffn_up.weight"], weights[name])


@pytest.fixture
def src(tmp_path):
    path = checkpoint.folder(tmp_path / "src")
    checkpoint.safetensors(path / "model.safetensors", checkpoint.tensors())
    return path


@pytest.mark.parametrize(("dtype", "kind", "code"), [("f16", "f16", 1), ("BF16", "bf16", 32), ("q8_0", "q8_0", 7)])
def test_types(src, tmp_path, dtype, kind, code):
    pyggml.convert(src, tmp_path / "x.gguf", dtype=dtype)
    with gguf.open(tmp_path / "x.gguf") as file:
        assert file.tensors["blk.0.ffn_up.weight"].type.name == kind
        assert file.tensors["blk.0.ffn_norm.weight"].type.name == "f32"
        assert file.metadata["general.file_type"] == code
        raw = bytes(file.tensors["blk.0.ffn_up.weight"].data)
    want = pyggml.quantize(expected()["blk.0.ffn_up.weight"], kind)
    assert raw == bytes(np.asarray(want.raw).tobytes())


def test_auto_keeps_sixteen_bits(src, tmp_path):
    bits = {name: (w.view(np.uint32) >> 16).astype(np.uint16) for name, w in checkpoint.tensors().items()}
    rows = [(name, w.shape, "bf16", lambda w=w: w) for name, w in bits.items()]
    safetensors.write(str(src / "model.safetensors"), rows)
    pyggml.convert(src, tmp_path / "x.gguf")
    with gguf.open(tmp_path / "x.gguf") as file:
        up = file.tensors["blk.0.ffn_up.weight"]
        assert up.type.name == "bf16"
        assert np.array_equal(np.array(up.data).view("<u2"), bits["model.layers.0.mlp.up_proj.weight"].ravel())
        assert file.tensors["output_norm.weight"].type.name == "f32"


def test_quantize_in_one_go(src, tmp_path):
    pyggml.convert(src, tmp_path / "x.gguf", quantize="pure:q8_0")
    with gguf.open(tmp_path / "x.gguf") as file:
        assert file.tensors["blk.1.ffn_down.weight"].type.name == "q8_0"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["src", "x.gguf"]


def test_the_model_runs_and_progress_is_told(src, tmp_path):
    seen = []
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 0
    with pyggml.load(tmp_path / "x.gguf") as m:
        assert len(m.generate("the", max_tokens=4, temperature=0).tokens) <= 4
        assert m.tokenize("the[word]") == [259, 257, 261]
        assert m.config.n_ctx_train == 128


def test_metadata(src, tmp_path):
    pyggml.convert(src, tmp_path / "x.gguf", name="Small one")
    with gguf.open(tmp_path / "x.gguf") as file:
        meta = file.metadata
        assert meta["general.name"] == "Small one"
        assert meta["tokenizer.ggml.pre"] == "llama-bpe"
        assert meta["tokenizer.ggml.add_bos_token"] is True
        assert meta["tokenizer.ggml.add_eos_token"] is False
        assert meta["tokenizer.ggml.eos_token_id"] == 260
        assert meta["tokenizer.chat_template"] == "{{ messages }}"
        assert meta["llama.rope.dimension_count"] == 16
        assert re.fullmatch(r"\d+K", meta["general.size_label"])


def test_llama3_rope_factors(src, tmp_path):
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}  # fmt: skip
    (src / "config.json").write_text(json.dumps({**checkpoint.CONFIG, "rope_scaling": scaling}))
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    factors = decoded(tmp_path / "x.gguf")["rope_freqs.weight"]
    assert factors.shape == (8,)
    assert factors[0] == 1.0
    assert factors[-1] == 8.0
    assert (np.diff(factors) >= 0).all()


def test_an_unknown_pre_tokenizer_is_kept_whole(tmp_path):
    """Words of two letters at most: no table has that."""
    import tokenizers

    src = checkpoint.folder(tmp_path / "src", regex=r"\p{L}{1,2}|[^\p{L}]+")
    checkpoint.safetensors(src / "model.safetensors", checkpoint.tensors())
    pyggml.convert(src, tmp_path / "x.gguf")
    with gguf.open(tmp_path / "x.gguf") as file:
        assert file.metadata["tokenizer.ggml.pre"] == "huggingface"
        tok = from_metadata(file.metadata)
    theirs = tokenizers.Tokenizer.from_file(str(src / "tokenizer.json"))
    for text in ("the ant, then", "<|eos|>[word] the", "caf\u00e9 \U0001f600"):
        assert tok.encode(text, add_special=False) == theirs.encode(text, add_special_tokens=False).ids
        assert tok.decode(tok.encode(text, add_special=False)) == text
    assert 260 not in tok.encode("<|eos|>", add_special=False, parse_special=False)


def test_back_to_safetensors(src, tmp_path):
    pyggml.convert(src, tmp_path / "x.gguf", dtype="f32")
    pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")
    stored = safetensors.read(str(tmp_path / "back" / "model.safetensors"))
    weights = checkpoint.tensors()
    assert stored.keys() == weights.keys()
    for name, w in weights.items():
        assert np.array_equal(stored[name].read(), w), name
    again = pyggml.convert(tmp_path / "back", tmp_path / "again.gguf", dtype="f32")
    assert again.n_tensors == 21
    for name, w in expected().items():
        assert np.array_equal(decoded(tmp_path / "again.gguf")[name], w), name


def test_a_gguf_takes_no_options(src, tmp_path):
    pyggml.convert(src, tmp_path / "x.gguf")
    for options in ({"dtype": "f16"}, {"quantize": "q4_0"}, {"name": "x"}, {"metadata": {"a.b": 1}}):
        with pytest.raises(pyggml.ArgumentError, match="use quantize"):
            pyggml.convert(tmp_path / "x.gguf", tmp_path / "back", **options)
    assert not (tmp_path / "back").exists()
    with pytest.raises(pyggml.ArgumentError, match="unknown recipe"):
        pyggml.convert(src, tmp_path / "y.gguf", quantize="q4")


def test_an_unknown_rope_is_warned_of(tmp_path, caplog):
    config = {**checkpoint.CONFIG, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.5, "high_freq_factor": 3.0,
        "original_max_position_embeddings": 32,
    }}  # fmt: skip
    src = checkpoint.folder(tmp_path / "src", config)
    checkpoint.safetensors(src / "model.safetensors", checkpoint.tensors())
    pyggml.convert(src, tmp_path / "x.gguf")
    pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")
    assert "rope_freqs" in caplog.text


def test_known_families():
    assert {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "gemma2", "phi3", "bert"} <= set(
        families.names()
    )
    with pytest.raises(pyggml.UnsupportedError, match="qwen2"):
        families.find("qwen22")


SHARED = [
    "bert", "bert__cls", "deepseek_v2", "deepseek_v2__yarn", "deepseek_v3", "gemma2", "gemma3", "gemma4", "gpt2",
    "llama", "llama__tied", "mistral", "mixtral", "phi3", "phi3__longrope", "qwen2", "qwen2__yarn", "qwen2_moe",
    "qwen3", "qwen3_5", "nemotron_h",
]  # fmt: skip
COSMETIC = {"general.name", "general.size_label", "tokenizer.ggml.add_sep_token"}
RETYPED = {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}
"""Special pieces: the reference takes all of them as control tokens without a score, we keep the model's own."""


def same(name, got, want):
    """Bytes; exp is rounded otherwise in floats than here."""
    if name.endswith("ssm_a"):
        return np.allclose(got.view("<f4"), want.view("<f4"), rtol=2e-7, atol=0)
    return np.array_equal(got, want)


@pytest.mark.parametrize("name", [name for name in SHARED if not name.startswith("deepseek")])
def test_there_and_back(name, shared, tmp_path):
    """A GGUF survives the way through safetensors and config.json: tensors, and what the model computes with."""
    src = shared / "conformance" / name / "model-f32.gguf"
    pyggml.convert(src, tmp_path / "back")
    pyggml.convert(tmp_path / "back", tmp_path / "x.gguf", dtype="f32")
    with gguf.open(src) as want, gguf.open(tmp_path / "x.gguf") as got:
        assert want.tensors.keys() == got.tensors.keys()
        for key, info in want.tensors.items():
            assert same(key, info.data, got.tensors[key].data), key
        for key in want.metadata:
            if key.startswith(f"{want.arch}."):
                assert key in got.metadata, key
                assert np.array_equal(got.metadata[key], want.metadata[key]), key


@pytest.mark.parametrize("name", SHARED)
def test_conformance(name, shared, tmp_path):
    folder = shared / "conformance" / name
    pyggml.convert(folder / "hf", tmp_path / "x.gguf", dtype="f32")
    with gguf.open(tmp_path / "x.gguf") as ours, gguf.open(folder / "model-f32.gguf") as theirs:
        assert ours.tensors.keys() == theirs.tensors.keys()
        for key, want in theirs.tensors.items():
            got = ours.tensors[key]
            assert (got.shape, got.type) == (want.shape, want.type), key
            assert same(key, got.data, want.data), key
        for key in theirs.metadata:
            if key not in COSMETIC and not (key in RETYPED and theirs.metadata["tokenizer.ggml.model"] == "llama"):
                assert key in ours.metadata, key
                assert np.array_equal(ours.metadata[key], theirs.metadata[key]), key
        tok = from_metadata(ours.metadata)
    for entry in json.loads((folder / "tokenization.json").read_text(encoding="utf-8"))["strings"]:
        assert tok.encode(entry["text"]) in (entry["ids"], entry.get("llamacpp_ids")), entry["text"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_key_value_heads": 4}, "blk.0.attn_k.weight is (32, 64), expected (64, 64); blk.0.attn_k.weight is made "
                                     "of 'model.layers.0.self_attn.k_proj.weight'"),
        ({"num_hidden_layers": 4}, "tensor blk.2.attn_norm.weight is missing from the file"),
        ({"rms_norm_eps": 0}, "llama.attention.layer_norm_rms_epsilon is 0.0, expected a finite number above 0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("quantize", [None, "Q8_0"])
def test_what_does_not_fit_is_said_of_the_source(changes, said, quantize, tmp_path):
    """The file that is looked at has no name yet: messages speak of config.json and of the checkpoint's tensors."""
    path = checkpoint.folder(tmp_path / "src")
    checkpoint.safetensors(path / "model.safetensors", checkpoint.tensors())
    (path / "config.json").write_text(json.dumps({**checkpoint.CONFIG, **changes}))
    with pytest.raises(pyggml.GGUFError, match=re.escape(said)) as caught:
        pyggml.convert(path, tmp_path / "x.gguf", quantize=quantize)
    assert f"{path}/config.json' and the weights do not fit together: " in str(caught.value)
    assert ".part" not in str(caught.value)
    assert ".pyggml-" not in str(caught.value)
