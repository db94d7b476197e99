"""transformers as the judge: for every key that changes what it computes, a conversion gives its logits or says no.

Tiny random models of every family that runs here, saved by transformers, one change of the config at a time.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from converters import checkpoint

import pyggml
from pyggml import gguf

pytestmark = pytest.mark.slow

BASE: dict[str, Any] = {
    "vocab_size": 262, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 259, "eos_token_id": 260,
    "pad_token_id": None,
}  # fmt: skip
EXPERTS = {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {}, "mistral": {"sliding_window": None}, "mixtral": {"num_local_experts": 3, "head_dim": 16}, "qwen2": {},
    "qwen3": {"head_dim": 16}, "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 48}, "qwen3_moe": EXPERTS,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
ROPES: list[dict[str, Any]] = [
    YARN, {**YARN, "attention_factor": 1.3}, {**YARN, "attention_factor": 1.0}, {**YARN, "mscale": 0.7},
    {**YARN, "mscale": 0.7, "mscale_all_dim": 0.9}, {**YARN, "truncate": False}, {**YARN, "beta_fast": 16},
    {**YARN, "beta_fast": 8, "beta_slow": 2}, {"rope_type": "yarn", "factor": 4.0}, LLAMA3,
    {"rope_type": "linear", "factor": 2.0}, {"rope_type": "dynamic", "factor": 2.0}, {"rope_theta": 5e5},
    {"rope_type": "longrope", "short_factor": [1.1] * 8, "long_factor": [2.0] * 8,
     "original_max_position_embeddings": 32},
    {"rope_type": "proportional", "partial_rotary_factor": 0.5},
]  # fmt: skip
CHANGES: list[dict[str, Any]] = [
    {}, *({"rope_parameters": {"rope_theta": 1e4, **rope}} for rope in ROPES),
    {"hidden_act": "relu"}, {"hidden_act": "gelu"}, {"hidden_act": "gelu_pytorch_tanh"}, {"attention_bias": True},
    {"mlp_bias": True}, {"sliding_window": 8},
    {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
    {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, {"norm_topk_prob": True},
    {"norm_topk_prob": False}, {"mlp_only_layers": [0]}, {"decoder_sparse_step": 2}, {"num_experts_per_tok": 1},
    {"tie_word_embeddings": True}, {"rms_norm_eps": 1e-2}, {"head_dim": 32}, {"head_dim": None}, {"qkv_bias": False},
    {"num_key_value_heads": 4}, {"attention_dropout": 0.5}, {"router_jitter_noise": 0.5}, {"pretraining_tp": 2},
    {"partial_rotary_factor": 0.5},
]  # fmt: skip
IDS = [int(i) for i in np.random.default_rng(0).integers(0, 250, 120)]


def saved(path, model_type: str, settings: dict[str, Any], norms: float = 0.0, **saving: Any) -> np.ndarray:
    """A random model as transformers saves it, and its logits of IDS. norms: how much their weights differ."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    path.mkdir(exist_ok=True)
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.copy_(torch.randn_like(weight) * 0.08)
            elif norms:
                weight.add_(torch.randn_like(weight) * norms)
        logits: np.ndarray = model(torch.tensor([IDS])).logits[0].numpy()
    model.save_pretrained(str(path), **saving)
    (path / "tokenizer.json").write_text(json.dumps(checkpoint.tokenizer_json()))
    return logits


def keys_of(path) -> dict[str, Any]:
    """What the architecture computes with, but for the last bits of factors that went through both files."""
    with gguf.open(path) as file:
        found = {key: file.metadata[key] for key in file.metadata if key.startswith(f"{file.arch}.")}
    found = {key: getattr(value, "tolist", lambda value=value: value)() for key, value in found.items()}
    return {
        key: round(value, 6) if isinstance(value, float) and value > 1e-3 else value for key, value in found.items()
    }


def again(tmp_path, i: int) -> dict[str, Any]:
    """The keys after the way back through safetensors and config.json."""
    pyggml.convert(tmp_path / f"{i}.gguf", tmp_path / f"back{i}")
    pyggml.convert(tmp_path / f"back{i}", tmp_path / f"again{i}.gguf", dtype="f32")
    return keys_of(tmp_path / f"again{i}.gguf")


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_same_logits_or_a_refusal(model_type, tmp_path):
    agreed, refused = [], []
    for i, change in enumerate(CHANGES):
        path = tmp_path / str(i)
        path.mkdir()
        try:
            want = saved(path, model_type, {**BASE, **FAMILIES[model_type], **change})
        except Exception as e:
            assert "pyggml" not in type(e).__module__  # noqa: PT017
            continue  # transformers itself does not take it
        try:
            pyggml.convert(path, tmp_path / f"{i}.gguf", dtype="f32")
            with pyggml.load(tmp_path / f"{i}.gguf", kv_type="f32", n_ctx=128) as model:
                got = model.logits(IDS)
        except pyggml.UnsupportedError as e:
            named = any(key in str(e) for key in (*change, "rope_type", "truncate", "partial_rotary_factor"))
            refused.append(change if named else str(e))
            continue
        assert np.abs(got - want).max() < 3e-6 * np.abs(want).max(), f"{model_type} with {change}"
        agreed.append(change)
        assert again(tmp_path, i) == keys_of(tmp_path / f"{i}.gguf"), f"{model_type} with {change}, exported"
    assert {} in agreed
    assert [each for each in refused if isinstance(each, str)] == []
    assert {"hidden_act": "relu"} in refused
    assert len(agreed) > 15


LATENT = {"kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12, "q_lora_rank": 24,
          "num_key_value_heads": 4}  # fmt: skip
SIGMOID = {"n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "rms_norm_eps": 1e-6}
BEHIND_DENSE: list[tuple[str, dict[str, Any]]] = [
    ("deepseek_v3", {**LATENT, "n_group": 4, "topk_group": 2, "first_k_dense_replace": 1}),
    ("deepseek_v3", {**LATENT, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 0, "norm_topk_prob": False,
                     "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "mscale": 1.0,
                                         "mscale_all_dim": 1.0, "original_max_position_embeddings": 16}}),
    ("deepseek_v3", {**LATENT, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": None}),
    ("glm4_moe_lite", {**LATENT, "mlp_layer_types": ["dense", "sparse"]}),
    ("glm4_moe", {"head_dim": 16, "use_qk_norm": True, "attention_bias": True, "first_k_dense_replace": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "settings"), BEHIND_DENSE)
def test_experts_behind_dense_layers(model_type, settings, tmp_path):
    want = saved(tmp_path / "hf", model_type, {**BASE, **SIGMOID, **settings})
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32") as model:
        assert np.abs(model.logits(IDS) - want).max() < 5e-6 * np.abs(want).max()


OSS = {
    "head_dim": 16, "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 9,
    "rope_parameters": {"rope_type": "yarn", "rope_theta": 15e4, "factor": 4.0, "truncate": False,
                        "original_max_position_embeddings": 32, "beta_fast": 32.0, "beta_slow": 1.0},
}  # fmt: skip
OSS_CHANGES: list[dict[str, Any]] = [
    {}, {"num_hidden_layers": 3, "num_local_experts": 9, "num_experts_per_tok": 4}, {"tie_word_embeddings": True},
    {"num_experts_per_tok": 1, "sliding_window": 40}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    {"attention_bias": False}, {"rms_norm_eps": 1e-2},
]  # fmt: skip
OSS_REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("truncate", {"rope_parameters": {**OSS["rope_parameters"], "truncate": True}}),
    ("layer_types", {"layer_types": ["full_attention", "sliding_attention"]}),
    ("swiglu_limit", {"swiglu_limit": 5.0}), ("swiglu_alpha", {"swiglu_alpha": 1.5}),
    ("hidden_act", {"hidden_act": "relu"}),
]  # fmt: skip


def test_gpt_oss(tmp_path):
    for i, change in enumerate(OSS_CHANGES):
        want = saved(tmp_path / f"{i}", "gpt_oss", {**BASE, **OSS, **change})
        pyggml.convert(tmp_path / f"{i}", tmp_path / f"{i}.gguf", dtype="f32")
        with pyggml.load(tmp_path / f"{i}.gguf", kv_type="f32", n_ctx=128) as model:
            session = model.session()
            ways = [model.logits(IDS), np.concatenate([session.step(IDS[:7], 7), session.step(IDS[7:], len(IDS) - 7)])]
            assert model.generate(IDS[:5], max_tokens=3).tokens
        for got in ways:
            assert np.abs(got - want).max() < 1e-5 * np.abs(want).max(), change
    with pytest.raises(pyggml.UnsupportedError, match="of a gpt-oss file has no way back to safetensors"):
        pyggml.convert(tmp_path / "0.gguf", tmp_path / "back")
    pyggml.quantize_file(tmp_path / "0.gguf", tmp_path / "q.gguf", "pure:mxfp4")
    with pyggml.load(tmp_path / "q.gguf") as model:
        assert model.generate(IDS[:5], max_tokens=3).tokens


def packed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Random blocks and scales of a matrix (experts, in, out), as a checkpoint holds it: (.., out, in / 32, 16)."""
    rng, shape = np.random.default_rng(values.size), (values.shape[0], values.shape[2], values.shape[1] // 32)
    return rng.integers(0, 256, (*shape, 16), np.uint8), rng.integers(119, 124, shape, np.uint8)


def test_gpt_oss_in_mxfp4(tmp_path):
    """The experts of a checkpoint packed as published ones are, against transformers over what transformers unpacks."""
    torch = pytest.importorskip("torch")
    numpy = pytest.importorskip("safetensors.numpy")
    transformers = pytest.importorskip("transformers")
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    saved(tmp_path / "hf", "gpt_oss", {**BASE, **OSS})
    path = tmp_path / "hf" / "model.safetensors"
    plain, kept = numpy.load_file(path), {}
    for name, values in plain.items():
        if name.endswith(("gate_up_proj", "down_proj")):
            blocks, scales = packed(values)
            kept |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
            floats = convert_moe_packed_tensors(torch.from_numpy(blocks), torch.from_numpy(scales), dtype=torch.float32)
            assert tuple(floats.shape) == values.shape
            plain[name] = floats.numpy()
        else:
            kept[name] = values
    numpy.save_file(plain, path, {"format": "pt"})
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", attn_implementation="eager").float()
    with torch.no_grad():
        want = model(torch.tensor([IDS])).logits[0].numpy()
    numpy.save_file(kept, path, {"format": "pt"})
    told = json.loads((tmp_path / "hf" / "config.json").read_text())
    told["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(told))
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32", n_ctx=128) as model:
        assert np.abs(model.logits(IDS) - want).max() < 1e-5 * np.abs(want).max()
    kept.pop("model.layers.0.mlp.experts.down_proj_scales")
    numpy.save_file(kept, path, {"format": "pt"})
    with pytest.raises(pyggml.GGUFError, match="down_proj_scales' is missing"):
        pyggml.convert(tmp_path / "hf", tmp_path / "y.gguf")


@pytest.mark.parametrize(("named", "change"), OSS_REFUSED, ids=[named for named, _ in OSS_REFUSED])
def test_a_gpt_oss_that_computes_something_else_is_refused(named, change, tmp_path):
    saved(tmp_path / "hf", "gpt_oss", {**BASE, **OSS})
    told = json.loads((tmp_path / "hf" / "config.json").read_text())
    (tmp_path / "hf" / "config.json").write_text(json.dumps(told | change))
    with pytest.raises(pyggml.UnsupportedError, match=named):
        pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf")


RULE, FULL = "linear_attention", "full_attention"
DELTA: dict[str, Any] = {
    "num_hidden_layers": 4, "head_dim": 24, "linear_num_key_heads": 2, "linear_num_value_heads": 6,
    "linear_key_head_dim": 10, "linear_value_head_dim": 12, "linear_conv_kernel_dim": 3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5},
}  # fmt: skip
DELTA_EXPERTS = {
    "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 48
}  # fmt: skip
DELTA_FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_5_text": {}, "qwen3_5_moe_text": DELTA_EXPERTS, "qwen3_next": DELTA_EXPERTS
}  # fmt: skip
DELTA_CHANGES: list[dict[str, Any]] = [
    {}, {"layer_types": [FULL, RULE, FULL, RULE], "tie_word_embeddings": True},
    {"linear_num_key_heads": 3, "linear_num_value_heads": 3, "linear_value_head_dim": 7, "linear_conv_kernel_dim": 2},
    {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "partial_rotary_factor": 0.25,
                         "original_max_position_embeddings": 32}, "head_dim": 48, "rms_norm_eps": 1e-3},
]  # fmt: skip
DELTA_REFUSED: list[dict[str, Any]] = [
    {"hidden_act": "relu"}, {"layer_types": [FULL, "sliding_attention", FULL, FULL]}, {"attn_output_gate": False},
    {"rope_parameters": {**DELTA["rope_parameters"], "mrope_section": [3, 3], "mrope_interleaved": True}},
]  # fmt: skip


@pytest.mark.parametrize("model_type", DELTA_FAMILIES)
def test_gated_delta_nets(model_type, tmp_path):
    told = {**BASE, **DELTA, **DELTA_FAMILIES[model_type]}
    for i, change in enumerate(DELTA_CHANGES):
        want = saved(tmp_path / str(i), model_type, {**told, **change})
        pyggml.convert(tmp_path / str(i), tmp_path / f"{i}.gguf", dtype="f32")
        with pyggml.load(tmp_path / f"{i}.gguf", kv_type="f32", n_ctx=128) as model:
            assert np.abs(model.logits(IDS) - want).max() < 1e-5 * np.abs(want).max(), f"{model_type} with {change}"
        if model_type != "qwen3_next":
            assert again(tmp_path, i) == keys_of(tmp_path / f"{i}.gguf"), f"{model_type} with {change}, exported"
    path = tmp_path / "0" / "config.json"
    config = json.loads(path.read_text())
    for change in DELTA_REFUSED:
        path.write_text(json.dumps({**config, **change}))
        with pytest.raises(pyggml.UnsupportedError, match="|".join((*change, "mrope_section"))):
            pyggml.convert(tmp_path / "0", tmp_path / "x.gguf")


def test_an_exported_delta_net(tmp_path):
    """transformers computes with what comes back."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    want = saved(tmp_path / "hf", "qwen3_5_text", {**BASE, **DELTA})
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back", dtype=torch.float32).eval()
    with torch.no_grad():
        got = model(torch.tensor([IDS])).logits[0].numpy()
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("model_type", ["mixtral", "qwen2_moe", "qwen3_moe"])
def test_experts_in_one_tensor(model_type, tmp_path):
    """As transformers 5 writes them when it is not asked for the older names."""
    (tmp_path / "hf").mkdir()
    want = saved(tmp_path / "hf", model_type, {**BASE, **FAMILIES[model_type]}, save_original_format=False)
    with open(tmp_path / "hf" / "model.safetensors", "rb") as stream:
        assert b"experts.gate_up_proj" in stream.read(1 << 16)
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32", n_ctx=128) as model:
        assert np.abs(model.logits(IDS) - want).max() < 3e-6 * np.abs(want).max()


@pytest.mark.parametrize("model_type", [*FAMILIES, *DELTA_FAMILIES, "gemma3n_text", "gemma4_text"])
def test_every_key_of_transformers_is_known(model_type):
    """A key of its configurations is read, has a meaning here, or is known to have none: new ones show up here."""
    transformers = pytest.importorskip("transformers")
    from pyggml.converters import families
    from pyggml.converters.config_json import Config
    from pyggml.converters.meaning import MEANING, PLAIN

    delta = {name: DELTA | told for name, told in DELTA_FAMILIES.items()}
    told = (FAMILIES | delta).get(model_type, {"num_kv_shared_layers": 0})
    values = transformers.AutoConfig.for_model(model_type, **{**BASE, **told}).to_dict()
    family = families.find(model_type)
    c = Config(values, "config.json", family.defaults)
    family.metadata(c)
    left = {key for key, _ in c.left()} - MEANING.keys() - PLAIN - family.computes.keys()
    assert {key for key in left if "dropout" not in key} == set()


@pytest.mark.parametrize(
    "name",
    ["bert", "gemma2", "gemma4", "gpt2", "llama", "llama__tied", "mixtral", "phi3", "qwen2", "qwen2_moe", "qwen3"],
)
def test_an_exported_tokenizer(name, shared, tmp_path):
    """AutoTokenizer over the exported files gives the ids of the published tokenizer, or those of llama.cpp where a
    GGUF cannot say the difference (NFC; U+2581 that is written in the text)."""
    transformers = pytest.importorskip("transformers")
    pyggml.convert(shared / "conformance" / name / "model-f32.gguf", tmp_path / "hf")
    tok = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "hf"))
    entries = json.loads((shared / "conformance" / name / "tokenization.json").read_text(encoding="utf-8"))["strings"]
    assert len(entries) > 50
    for entry in entries:
        assert tok.encode(entry["text"]) in (entry["ids"], entry.get("llamacpp_ids")), entry["text"]
    settings = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert settings["torch_dtype"] == "float32"
    assert hasattr(transformers, settings["architectures"][0])


@pytest.mark.parametrize("labels", [0, 1])
def test_xlm_roberta(labels, tmp_path):
    """A directory as its encoders and rerankers are published: vectors and scores of transformers."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from converters.test_tokenizers import unigram

    table = unigram(True)
    n = len(table["model"]["vocab"])
    torch.manual_seed(1)
    config = transformers.XLMRobertaConfig(
        vocab_size=n, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, num_labels=max(labels, 2) if not labels else 1,
    )  # fmt: skip
    kind = transformers.XLMRobertaForSequenceClassification if labels else transformers.XLMRobertaModel
    model = kind(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0, 0.15)
    model.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").write_text(json.dumps(table))
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32") as m:
        assert m.n_ctx == 64
        ids = m.tokenize("the quick brown fox, 42 \u00e4pfel")
        with torch.no_grad():
            if labels:
                pair = [0, *m.tokenize("a cat", add_special=False), 2, 2, *m.tokenize("a dog", add_special=False), 2]
                want = float(model(torch.tensor([pair])).logits[0, 0])
                assert abs(m.rerank("a cat", ["a dog"])[0] - want) < 1e-4
            else:
                want = model(torch.tensor([ids])).last_hidden_state[0].numpy()
                got = m.embed(ids, pooling="none", normalize=False)
                assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()


def test_a_cross_encoder_of_bert(tmp_path):
    """As the MiniLM rerankers are published: a pooler, a score, tokens of the second text of a kind of their own."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "cat", "dog", "##s", "the", "?"]
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=66, num_labels=1,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0, 0.15)
    model.save_pretrained(tmp_path / "hf")
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path / "hf")
    docs = ["dogs", "the cat ?", "a b c d e f g h"]
    with torch.no_grad():
        want = [float(model(**tokenizer("the dog", doc, return_tensors="pt")).logits[0, 0]) for doc in docs]
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32") as m:
        assert np.abs(m.rerank("the dog", docs) - want).max() < 1e-5
        assert m.config.pooling_type == 4
    pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")
    again, told = transformers.BertForSequenceClassification.from_pretrained(
        tmp_path / "back", output_loading_info=True
    )
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    with torch.no_grad():
        got = [float(again.eval()(**tokenizer("the dog", doc, return_tensors="pt")).logits[0, 0]) for doc in docs]
    assert np.abs(np.array(got) - want).max() < 1e-5
