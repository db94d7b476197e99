"""Decoders beside Llama's kin and encoders beside BERT: converted, they give what transformers gives, and come back.

Tiny random models, norms and biases too, saved by transformers; one change of the config at a time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from converters import checkpoint
from converters.test_transformers import BASE, FAMILIES, IDS, LLAMA3, YARN, again, keys_of

import pyggml

pytestmark = pytest.mark.slow
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
PART = {"rope_theta": 1e4, "partial_rotary_factor": 0.5}
TIED = {"tie_word_embeddings": True}


class Case(NamedTuple):
    """told: the config; changes: what is computed; refused: key -> a value that no file can say. back: tables turn."""

    told: dict[str, Any]
    changes: list[dict[str, Any]]
    refused: dict[str, Any]
    back: bool = True


DECODERS = {
    "lfm2": Case(
        {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention", "conv", "full_attention"],
         "tie_word_embeddings": False},
        [TIED, {"block_auto_adjust_ff_dim": False, "conv_L_cache": 4, "norm_eps": 1e-3},
         {"layer_types": ["full_attention", "conv", "conv", "conv"], "block_multiple_of": 48,
          "block_ffn_dim_multiplier": 1.3}, {"rope_parameters": {"rope_theta": 1e5, **YARN}}],
        {"conv_bias": True, "layer_types": ["conv", "sliding_attention"] * 2, "rope_type": "dynamic"},
    ),
    "starcoder2": Case(
        {"tie_word_embeddings": False},
        [TIED, {"use_bias": False}, {"norm_epsilon": 1e-2}, {"rope_parameters": {"rope_theta": 1e4, **LLAMA3}},
         {"sliding_window": 4096}],
        {"hidden_act": "silu", "partial_rotary_factor": 0.5},
    ),
    "ministral3": Case(
        {"head_dim": 32},
        [{"rope_parameters": {"rope_theta": 1e6, **YARN, "mscale": 1.0, "mscale_all_dim": 1.0,
                              "llama_4_scaling_beta": 0.3}},
         {"rope_parameters": {"rope_theta": 1e6, **YARN, "mscale": 0.7, "mscale_all_dim": 0.9, "beta_fast": 4.0,
                              "llama_4_scaling_beta": 0.1}, **TIED},
         {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default", "llama_4_scaling_beta": 0.2,
                              "original_max_position_embeddings": 16}, "head_dim": 16}],
        {"hidden_act": "gelu", "truncate": False},
    ),
    "cohere": Case(
        {},
        [{"tie_word_embeddings": False}, {"logit_scale": 0.5, "attention_bias": True}, {"layer_norm_eps": 1e-2},
         {"rope_parameters": LINEAR}],
        {"use_qk_norm": True, "hidden_act": "relu"},
    ),
    "cohere2": Case(
        {"num_hidden_layers": 5, "sliding_window": 9},
        [{"tie_word_embeddings": False}, {"sliding_window": 4096, "logit_scale": 2.0}, {"attention_bias": True}],
        {"layer_types": ["full_attention"] * 5, "sliding_window_pattern": 3, "hidden_act": "relu"},
    ),
    "phi": Case(
        {},
        [{"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}}, {"layer_norm_eps": 1e-2},
         {"rope_parameters": {**LINEAR, **PART}, "num_key_value_heads": 4}],
        {"qk_layernorm": True, "hidden_act": "relu", "rope_type": "dynamic"},
    ),
    "gpt_neox": Case(
        {},
        [{"use_parallel_residual": False}, {"attention_bias": False, **TIED},
         {"rope_parameters": {"rope_theta": 1e5, "partial_rotary_factor": 1.0}, "layer_norm_eps": 1e-3}],
        {"hidden_act": "gelu_new", "rope_type": "llama3"},
    ),
    "stablelm": Case(
        {},
        [{"use_qkv_bias": True}, {"rope_parameters": PART, **TIED}, {"layer_norm_eps": 1e-2}],
        {"use_parallel_residual": True, "qk_layernorm": True, "hidden_act": "gelu"},
    ),
    "falcon": Case(
        {"ffn_hidden_size": 96, "num_key_value_heads": None},
        [{"tie_word_embeddings": False, "bias": True}, {"ffn_hidden_size": None, "intermediate_size": None},
         {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
         {"multi_query": False, "bias": True}, {"rope_parameters": LINEAR}],
        {"alibi": True, "activation": "relu", "parallel_attn": False},
    ),
    "llama4_text": Case(
        {"num_hidden_layers": 5, "head_dim": 16, "intermediate_size": 32, "intermediate_size_mlp": 96,
         "num_local_experts": 6, "interleave_moe_layer_step": 2, "attention_chunk_size": 9, "floor_scale": 8,
         "attn_scale": 0.3},
        [{"interleave_moe_layer_step": 1, **TIED}, {"attn_temperature_tuning": False},
         {"rope_parameters": {"rope_theta": 1e4, **LLAMA3}, "attention_chunk_size": 200}],
        {"no_rope_layers": [1, 1, 0, 1, 1], "layer_types": ["full_attention"] * 5, "moe_layers": [0],
         "use_qk_norm": False, "hidden_act": "gelu"}, back=False,
    ),
    "dots1": Case(
        {"num_hidden_layers": 3, "head_dim": 16, "n_routed_experts": 8, "num_experts_per_tok": 2,
         "moe_intermediate_size": 32, "n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 4, "topk_group": 2,
         "sliding_window": None},
        [{"norm_topk_prob": True, "routed_scaling_factor": 2.5, "n_group": 1, "topk_group": 1},
         {"first_k_dense_replace": 0, "n_shared_experts": 1, "attention_bias": True, **TIED},
         {"sliding_window": 4096, "max_window_layers": 1}],
        {"layer_types": ["full_attention", "full_attention", "sliding_attention"], "scoring_func": "softmax",
         "hidden_act": "relu"},
    ),
    "minimax_m2": Case(
        {"head_dim": 32, "num_local_experts": 6, "num_experts_per_tok": 2, "rope_parameters": PART},
        [{"rope_parameters": {"rope_theta": 1e4}, **TIED}, {"num_experts_per_tok": 1, "rms_norm_eps": 1e-2},
         {"rope_parameters": {**LINEAR, **PART}}],
        {"attn_type_list": [1, 0], "scoring_func": "softmax", "use_qk_norm": False, "shared_intermediate_size": 8},
    ),
}  # fmt: skip
DECODERS["lfm2_moe"] = Case(
    {
        "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "num_dense_layers": 1,
        "tie_word_embeddings": False,
    },
    [
        TIED,
        {"use_expert_bias": False, "norm_topk_prob": False, "num_dense_layers": 0},
        {"routed_scaling_factor": 2.0, "conv_L_cache": 4, "norm_eps": 1e-3},
    ],
    {"conv_bias": True, "layer_types": ["conv", "sliding_attention"] * 2, "rope_type": "dynamic"},
)
DECODERS["mpt"] = Case(
    {"max_seq_len": 128},
    [{"tie_word_embeddings": False}, {"num_attention_heads": 2, "layer_norm_epsilon": 1e-2}],
    {"attn_config": {"qk_ln": True}, "logit_scale": 0.5, "norm_type": "rmsnorm"},
)
MARKS = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
ENCODERS = {
    "modernbert": Case(
        {**MARKS, "num_hidden_layers": 4, "local_attention": 8, "num_key_value_heads": 4},
        [{"norm_bias": True, "attention_bias": True, "mlp_bias": True}, {"norm_eps": 1e-2, "local_attention": 128},
         {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 5e4},
                              "sliding_attention": {"rope_type": "default", "rope_theta": 7e3}}}],
        {"hidden_activation": "relu", "layer_types": ["full_attention"] * 4, "global_attn_every_n_layers": 2},
    ),
    "eurobert": Case(
        {**MARKS, "mask_token_id": 3},
        [{"attention_bias": True}, {"rms_norm_eps": 1e-2, "num_key_value_heads": 4}, {"rope_parameters": LINEAR}],
        {"hidden_act": "relu", "rope_type": "dynamic"},
    ),
    "gemma3_text": Case(
        {"use_bidirectional_attention": True, "num_hidden_layers": 7, "head_dim": 24, "query_pre_attn_scalar": 24,
         "sliding_window": 8, "rope_parameters": {
             "full_attention": {"rope_type": "default", "rope_theta": 1e6},
             "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}},
        [{"sliding_window": 512}, {"rms_norm_eps": 1e-2, "num_key_value_heads": 4}],
        {"query_pre_attn_scalar": 16, "layer_types": ["full_attention"] * 7},
    ),
    "nomic_bert": Case(
        {**MARKS, "num_key_value_heads": 4, "pad_token_id": 0},
        [{"layer_norm_eps": 1e-3}, {"rope_parameters": {"rope_theta": 1e4}}],
        {"hidden_act": "relu", "rope_type": "dynamic"},
    ),
}  # fmt: skip


def made(path: Path, model_type: str, settings: dict[str, Any], encoder: bool = False) -> np.ndarray:
    """A random model as transformers saves it, and its logits of IDS, or an encoder's rows."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    path.mkdir(exist_ok=True)
    config = transformers.AutoConfig.for_model(model_type, **settings)
    kind = transformers.AutoModel if encoder else transformers.AutoModelForCausalLM
    model = kind.from_config(config, attn_implementation="eager").eval().float()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if "inv_freq" not in name and "mup_vector" not in name and value.is_floating_point() and value.ndim:
                scale = 0.1 if value.ndim > 1 else 0.2
                one = value.ndim == 1 and name.endswith("weight") and not model_type.startswith("gemma")
                around = 1.0 if one else 0.0  # Gemma stores norms minus one
                value.copy_(torch.from_numpy(rng.normal(around, scale, value.shape)))
        rows = rows_of(model)
    model.save_pretrained(str(path))
    (path / "tokenizer.json").write_text(json.dumps(checkpoint.tokenizer_json()))
    return rows


def rows_of(model: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        said = model(torch.tensor([IDS]))
    rows: np.ndarray = (said.logits if "logits" in said else said.last_hidden_state)[0].numpy()
    return rows


def close(got: np.ndarray, want: np.ndarray) -> bool:
    return bool(np.abs(got - want).max() < 2e-5 * np.abs(want).max())


def checked(case: Case, model_type: str, tmp_path: Path, encoder: bool = False) -> None:
    """Every change there and, where tables turn, back: the same keys, and transformers computes the same again."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    kind = transformers.AutoModel if encoder else transformers.AutoModelForCausalLM
    for i, change in enumerate([{}, *case.changes]):
        want = made(tmp_path / f"{i}", model_type, {**BASE, **case.told, **change}, encoder)
        pyggml.convert(tmp_path / f"{i}", tmp_path / f"{i}.gguf", dtype="f32")
        with pyggml.load(tmp_path / f"{i}.gguf", kv_type="f32", n_ctx=128) as model:
            got = model.embed(IDS, pooling="none", normalize=False) if encoder else model.logits(IDS)
        assert close(got, want), f"{model_type} with {change}"
        if case.back:
            assert again(tmp_path, i) == keys_of(tmp_path / f"{i}.gguf"), f"{model_type} with {change}, exported"
            model = kind.from_pretrained(tmp_path / f"back{i}", dtype=torch.float32, attn_implementation="eager").eval()
            assert close(rows_of(model), want), f"{model_type} with {change}, exported to transformers"


def says_no(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "0" / "config.json"
    told = json.loads(path.read_text())
    for key, value in case.refused.items():
        rope = told.get("rope_parameters", {})
        inside = key in ("rope_type", "truncate", "partial_rotary_factor")
        changed = {"rope_parameters": {**YARN, **rope, key: value}} if inside else {key: value}
        path.write_text(json.dumps(told | changed))
        with pytest.raises(pyggml.UnsupportedError, match=key):
            pyggml.convert(tmp_path / "0", tmp_path / "x.gguf")
    path.write_text(json.dumps(told))


def no_key_is_unknown(model_type: str, told: dict[str, Any]) -> None:
    import transformers

    from pyggml.converters import families
    from pyggml.converters.config_json import Config
    from pyggml.converters.meaning import MEANING, PLAIN

    values = transformers.AutoConfig.for_model(model_type, **{**BASE, **told}).to_dict()
    family = families.of(Config(values, "config.json"))
    c = Config(values, "config.json", family.defaults, family.spelled)
    family.metadata(c)
    left = {key for key, _ in c.left()} - MEANING.keys() - PLAIN - family.computes.keys()
    assert {key for key in left if "drop" not in key} == set()


@pytest.mark.parametrize("model_type", DECODERS)
def test_decoders(model_type, tmp_path):
    checked(DECODERS[model_type], model_type, tmp_path)
    says_no(DECODERS[model_type], tmp_path)
    no_key_is_unknown(model_type, DECODERS[model_type].told)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_encoders(model_type, tmp_path):
    checked(ENCODERS[model_type], model_type, tmp_path, encoder=True)
    says_no(ENCODERS[model_type], tmp_path)
    no_key_is_unknown(model_type, ENCODERS[model_type].told)


def test_falcon_with_two_norms(tmp_path):
    """The larger ones; which of two names a norm had is not known on the way back."""
    told = {**BASE, **DECODERS["falcon"].told, "new_decoder_architecture": True, "num_kv_heads": 2}
    want = made(tmp_path / "hf", "falcon", told)
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32", n_ctx=128) as model:
        assert close(model.logits(IDS), want)
    with pytest.raises(pyggml.UnsupportedError, match=r"attn_norm_2\.bias' of a falcon file has no way back"):
        pyggml.convert(tmp_path / "x.gguf", tmp_path / "back")


@pytest.mark.parametrize("inner", ["mistral", "ministral3"])
def test_a_tower_of_images_stays_behind(inner, tmp_path):
    """As Mistral Small 3.1 and Ministral 3 are published: the text's config and weights inside of others."""
    numpy = pytest.importorskip("safetensors.numpy")
    told = DECODERS[inner].told if inner in DECODERS else FAMILIES[inner]
    want = made(tmp_path / "hf", inner, {**BASE, **told})
    path, config = tmp_path / "hf" / "model.safetensors", tmp_path / "hf" / "config.json"
    tensors = {f"language_model.{name}": values for name, values in numpy.load_file(path).items()}
    tensors["vision_tower.patch_conv.weight"] = np.zeros((4, 3, 2, 2), np.float32)
    tensors["multi_modal_projector.norm.weight"] = np.zeros(4, np.float32)
    numpy.save_file(tensors, path, {"format": "pt"})
    text = json.loads(config.read_text())
    config.write_text(json.dumps({"model_type": "mistral3", "text_config": text, "vision_config": {}}))
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32", n_ctx=128) as model:
        assert close(model.logits(IDS), want)


def test_nomic_by_the_names_of_its_own_files(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    want = made(tmp_path / "hf", "nomic_bert", {**BASE, **ENCODERS["nomic_bert"].told}, encoder=True)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    names = numpy.load_file(tmp_path / "hf" / "model.safetensors").keys()
    assert any(name.endswith("encoder.layers.0.attn.Wqkv.weight") for name in names)
    base = config.pop("rope_parameters")["rope_theta"]
    other = {"rotary_emb_base": base, "rotary_emb_fraction": 1.0, "activation_function": "swiglu", "causal": False}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config | other))
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32", n_ctx=128) as model:
        assert close(model.embed(IDS, pooling="none", normalize=False), want)
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config | other | {"rotary_emb_fraction": 0.5}))
    with pytest.raises(pyggml.UnsupportedError, match="rotary_emb_fraction"):
        pyggml.convert(tmp_path / "hf", tmp_path / "y.gguf")
