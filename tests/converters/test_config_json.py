"""Keys of config.json that change the mathematics: carried, or refused by name; both spellings; values that make no
sense. What transformers computes from the same keys is in test_transformers.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from converters import checkpoint

import pyggml
from pyggml import gguf
from pyggml.converters import families
from pyggml.converters.config_json import Config
from pyggml.converters.meaning import MEANING, PLAIN, check_all_taken

LLAMA = checkpoint.CONFIG
QWEN = {**LLAMA, "model_type": "qwen2"}
EXPERTS = {**LLAMA, "model_type": "qwen3_moe", "num_experts_per_tok": 2, "moe_intermediate_size": 32,
           "num_local_experts": 4}  # fmt: skip
GEMMA3 = {**LLAMA, "model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 16,
          "sliding_window": 16}  # fmt: skip


def meta(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The metadata of a config.json alone, judged as a conversion does."""
    values = {key: value for key, value in {**config, **changes}.items() if value != "absent"}
    family = families.find(values["model_type"])
    c = Config(values, "config.json", family.defaults)
    found = {key: value for key, (value, _) in family.of_config(c)[1].items()}
    c.flag("tie_word_embeddings")
    check_all_taken(c, family.computes, family.arch)
    return found


REFUSED = [
    (LLAMA, {"hidden_act": "relu"}, "hidden_act"),
    (LLAMA, {"hidden_act": "gelu"}, "hidden_act"),
    (LLAMA, {"hidden_activation": "gelu_pytorch_tanh"}, "hidden_activation"),
    (LLAMA, {"sliding_window": 8}, "sliding_window"),
    (LLAMA, {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
    (LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    (LLAMA, {"embedding_multiplier": 12.0}, "embedding_multiplier"),
    (LLAMA, {"residual_multiplier": 0.22}, "residual_multiplier"),
    (LLAMA, {"logits_scaling": 8.0}, "logits_scaling"),
    (LLAMA, {"attention_multiplier": 0.015625}, "attention_multiplier"),
    (LLAMA, {"query_pre_attn_scalar": 256}, "query_pre_attn_scalar"),
    (LLAMA, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    (LLAMA, {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    (LLAMA, {"clip_qkv": 8.0}, "clip_qkv"),
    (LLAMA, {"use_qk_norm": True}, "use_qk_norm"),
    (LLAMA, {"alibi": True}, "alibi"),
    (LLAMA, {"use_parallel_residual": True}, "use_parallel_residual"),
    (LLAMA, {"num_local_experts": 4}, "num_local_experts"),
    (LLAMA, {"no_rope_layers": [1, 0]}, "no_rope_layers"),
    (LLAMA, {"per_layer_config": {"1": {"head_dim": 8}}}, "per_layer_config"),
    (LLAMA, {"layer_norm_eps": 1e-3}, "layer_norm_eps"),
    (LLAMA, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type is 'dynamic'"),
    (LLAMA, {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}},
     "rope_type is 'longrope'"),
    (LLAMA, {"rope_parameters": {"rope_type": "mrope", "mrope_section": [2, 3, 3]}}, "rope_type is 'mrope'"),
    (LLAMA, {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}}, "mrope_section"),
    (LLAMA, {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "truncate": False}}, "truncate"),
    (LLAMA, {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "truncate": False}}, "truncate"),
    (QWEN, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
     "use_sliding_window is True: 1 of 2 layers"),
    (QWEN, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "2 of 2 layers"),
    (EXPERTS, {"use_sliding_window": True, "sliding_window": 8}, "2 of 2 layers"),
    (QWEN, {"use_sliding_window": True, "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"]}, "1 of 2 layers"),
    (QWEN, {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
    (EXPERTS, {"mlp_only_layers": [0]}, "mlp_only_layers"),
    (EXPERTS, {"decoder_sparse_step": 2}, "decoder_sparse_step"),
    (EXPERTS, {"scoring_func": "sigmoid"}, "scoring_func"),
    (EXPERTS, {"routed_scaling_factor": 2.5}, "routed_scaling_factor"),
    (EXPERTS, {"n_group": 4, "topk_group": 2}, "n_group"),
    ({**LLAMA, "model_type": "mixtral"}, {"norm_topk_prob": False}, "norm_topk_prob"),
    ({**LLAMA, "model_type": "mistral"}, {"layer_types": ["full_attention"] * 2, "sliding_window": 8}, "layer_types"),
    (GEMMA3, {"query_pre_attn_scalar": 8}, "query_pre_attn_scalar"),
    (GEMMA3, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    (GEMMA3, {"layer_types": ["full_attention"] * 2}, "layer_types"),
    (GEMMA3, {"sliding_window_pattern": 4}, "sliding_window_pattern"),
    (GEMMA3, {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    (GEMMA3, {"hidden_activation": "gelu"}, "hidden_activation"),
    ({**LLAMA, "model_type": "gpt2"}, {"rope_theta": "absent", "rms_norm_eps": "absent",
                                       "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ({**LLAMA, "model_type": "bert"}, {"rope_theta": "absent", "rms_norm_eps": "absent",
                                       "position_embedding_type": "relative_key"}, "position_embedding_type"),
    ({**LLAMA, "model_type": "bert"}, {"rope_theta": "absent", "rms_norm_eps": "absent", "hidden_act": "relu"},
     "hidden_act"),
    ({**LLAMA, "model_type": "bert"}, {"rope_theta": "absent", "rms_norm_eps": "absent",
                                       "pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
    ({**LLAMA, "model_type": "bert"}, {"rope_theta": "absent", "rms_norm_eps": "absent",
                                       "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "poolings"),
    *(({**LLAMA, "model_type": "bert"}, {"rope_theta": "absent", "rms_norm_eps": "absent", "pooling_mode": mode}, why)
      for mode, why in (("max", "pooling_mode"), (["cls", "mean"], "poolings"), ([], "pooling"), (1, "pooling_mode"))),
    ({**LLAMA, "model_type": "bert"}, {"rope_theta": "absent", "rms_norm_eps": "absent",
                                       "pooling_mode_mean_tokens": False}, "no pooling"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "changes", "named"), REFUSED, ids=[f"{c['model_type']} {n}" for c, _, n in REFUSED])
def test_what_a_file_cannot_say_is_refused_by_name(config, changes, named):
    with pytest.raises(pyggml.UnsupportedError, match=named.replace("(", r"\(")):
        meta(config, **changes)


NEUTRAL = {
    "hidden_act": "silu", "hidden_activation": None, "sliding_window": None, "layer_types": ["full_attention"] * 2,
    "attention_bias": False, "mlp_bias": False, "clip_qkv": None, "partial_rotary_factor": 1.0,
    "embedding_multiplier": 1.0, "logits_scaling": 1, "attn_logit_softcapping": None, "mlp_only_layers": [],
    "num_local_experts": 0, "decoder_sparse_step": 1, "alibi": False, "attention_dropout": 0.1, "use_cache": True,
    "pretraining_tp": 2, "rope_scaling": None, "rope_parameters": {}, "a_key_of_nobody": 7, "torch_dtype": "bfloat16",
    "initializer_range": 0.02, "bos_token_id": 1, "architectures": ["LlamaForCausalLM"], "auto_map": {"a": "b"},
}  # fmt: skip


def test_neutral_and_unknown_keys_change_nothing():
    assert meta(LLAMA, **NEUTRAL) == meta(LLAMA)
    assert meta(LLAMA, hidden_act="swish") == meta(LLAMA)


def test_a_key_is_either_meaningful_or_plain():
    assert not MEANING.keys() & PLAIN
    assert len(MEANING) > 150


def test_windows_of_all_layers_are_carried():
    key = "llama.attention.sliding_window"
    mistral = {**LLAMA, "model_type": "mistral"}
    assert meta(mistral, sliding_window=8)[key] == 8
    assert key not in meta(mistral, sliding_window=None)
    assert key not in meta(mistral, sliding_window=128)  # as far as the context
    assert key not in meta(mistral)  # transformers' default, 4096, lies beyond the context
    assert meta(mistral, max_position_embeddings=32768)[key] == 4096
    used = {"use_sliding_window": True, "sliding_window": 8}
    assert meta(QWEN, **used, max_window_layers=28) == meta(QWEN)
    assert meta(QWEN, **{**used, "sliding_window": 128}, max_window_layers=0) == meta(QWEN)
    assert meta(QWEN, sliding_window=8, max_window_layers=0) == meta(QWEN)


@pytest.mark.parametrize(
    ("model_type", "said", "kept"),
    [("qwen3_moe", True, None), ("qwen3_moe", False, False), ("qwen3_moe", "absent", False), ("qwen2_moe", True, True),
     ("qwen2_moe", False, None), ("qwen2_moe", "absent", None)],
)  # fmt: skip
def test_the_sum_of_the_experts_weights(model_type, said, kept):
    """The key is written where config.json differs from what the architecture does without it."""
    config = {**EXPERTS, "model_type": model_type, "shared_expert_intermediate_size": 16, "norm_topk_prob": said}
    found = meta({key: value for key, value in config.items() if model_type != "qwen3_moe" or "shared" not in key})
    assert found.get(f"{model_type.replace('_', '')}.expert_weights_norm") is kept


def test_both_spellings_of_a_key():
    for name in ("num_experts", "num_local_experts", "n_routed_experts"):
        config = {key: value for key, value in EXPERTS.items() if key != "num_local_experts"}
        assert meta({**config, name: 4})["qwen3moe.expert_count"] == 4
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}
    old = {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}
    new = {"rope_theta": "absent", "rope_parameters": rope}
    assert meta(LLAMA, **old) == meta(LLAMA, **new)
    assert meta(LLAMA, **new)["llama.rope.freq_base"] == 5e5
    by_layer = {"rope_theta": "absent", "layer_types": ["full_attention"] * 2,
                "rope_parameters": {"full_attention": rope, "sliding_attention": {}}}  # fmt: skip
    assert meta(QWEN, **by_layer)["qwen2.rope.freq_base"] == 5e5
    sizes = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
             "max_position_embeddings": "n_positions"}  # fmt: skip
    gpt2 = {**{k: v for k, v in LLAMA.items() if k not in ("rope_theta", "rms_norm_eps")}, "model_type": "gpt2"}
    assert meta({sizes.get(key, key): value for key, value in gpt2.items()}) == meta(gpt2)


def test_ropes_by_kind_of_layer():
    full, local = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, {"rope_type": "default", "rope_theta": 2e4}
    new = meta(GEMMA3, rope_theta="absent", rope_parameters={"full_attention": full, "sliding_attention": local})
    old = meta(GEMMA3, rope_theta=1e6, rope_local_base_freq=2e4, rope_scaling={"rope_type": "linear", "factor": 8.0})
    assert new == old
    assert (new["gemma3.rope.freq_base"], new["gemma3.rope.freq_base_swa"]) == (1e6, 2e4)
    assert new["gemma3.rope.scaling.factor"] == 8.0
    with pytest.raises(pyggml.UnsupportedError, match="ropes of their own"):
        meta(LLAMA, rope_parameters={"full_attention": full, "sliding_attention": local})


def test_two_names_that_contradict_each_other():
    with pytest.raises(pyggml.GGUFError, match="num_experts is 8 and num_local_experts is 4"):
        meta(EXPERTS, num_experts=8)
    with pytest.raises(pyggml.GGUFError, match="contradict"):
        meta(LLAMA, rope_scaling={"type": "linear", "factor": 2.0}, rope_parameters={"rope_type": "yarn", "factor": 2})


BAD_ROPES = [
    *({"rope_type": kind, "factor": f} for kind in ("linear", "yarn") for f in (-1, 0, 1e-300, 1e308, "4", True, [2])),
    {"rope_type": "linear", "factor": float("inf")}, {"rope_type": "linear", "factor": float("nan")},
    {"rope_type": "linear"}, {"rope_type": "linear", "factor": 10**400}, "x", ["yarn"], 3,
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32.5},
    {"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.0},
    {"rope_type": "yarn", "factor": 4.0, "attention_factor": "1"},
    {"rope_type": "yarn", "factor": 4.0, "beta_fast": -32}, {"rope_type": "yarn", "factor": 4.0, "beta_slow": "1"},
    {"rope_type": "llama3", "factor": 8.0}, {"rope_type": "default", "rope_theta": 0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0},
    {"rope_type": "llama3", "factor": 0.5, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"rope_type": "default", "rope_theta": -1.0}, {"rope_type": "default", "rope_theta": "1e4"},
]  # fmt: skip


@pytest.mark.parametrize("rope", BAD_ROPES, ids=[str(r)[:60] for r in BAD_ROPES])
def test_a_rope_that_makes_no_sense(rope):
    with pytest.raises(pyggml.GGUFError):
        meta({k: v for k, v in LLAMA.items() if k != "rope_theta"}, rope_scaling=rope)


KIN = {
    model_type: {**LLAMA, "model_type": model_type, **told} for model_type, told in {
        "olmo3": {"sliding_window": 8, "layer_types": None, "num_hidden_layers": 5},
        "olmoe": {"num_experts": 4, "norm_topk_prob": True},
        "granite": {"embedding_multiplier": 12.0, "attention_multiplier": 0.1, "logits_scaling": 8.0},
        "smollm3": {"no_rope_layers": [1, 1], "no_rope_layer_interval": 4, "use_sliding_window": False},
        "exaone4": {"sliding_window": 8, "sliding_window_pattern": 4, "layer_types": None},
        "nemotron": {"norm_eps": 1e-5, "hidden_act": "relu2", "partial_rotary_factor": 0.5},
        "glm4": {"partial_rotary_factor": 0.5},
        "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16, "moe_layer_end_index": -1,
                         "moe_layer_interval": 1, "moe_num_shared_experts": 2, "num_nextn_predict_layers": 1},
        "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": [2, 2], "moe_intermediate_size": [96, 96],
                           "num_shared_expert": [1, 1], "rope_scaling": {"type": "dynamic", "alpha": 1000.0,
                                                                         "factor": 1.0, "beta_fast": 32}},
    }.items()
}  # fmt: skip


def test_what_kin_of_llama_say():
    """Windows of each layer, ropes of those, a base that alpha stretches, and keys that a published file has."""
    windows = meta(KIN["olmo3"], rope_scaling={"type": "yarn", "factor": 4.0}, rope_theta=2e4)
    assert windows["olmo2.attention.sliding_window_pattern"] == [True, True, True, False, True]
    assert windows["olmo2.rope.scaling.type"] == "yarn"
    assert "olmo2.rope.freq_base_swa" not in windows
    ropes = {"sliding_attention": {"rope_theta": 1e4}, "full_attention": {"rope_theta": 2e4}}
    apart = meta(KIN["olmo3"], rope_parameters=ropes, rope_theta="absent")
    assert (apart["olmo2.rope.freq_base"], apart["olmo2.rope.freq_base_swa"]) == (2e4, 1e4)
    assert "olmo2.attention.sliding_window" not in meta(KIN["olmo3"], layer_types=["full_attention"] * 5)
    told = meta(KIN["exaone4"], num_hidden_layers=4, sliding_window_pattern=2)
    assert told["exaone4.attention.sliding_window_pattern"] == [True, False, True, False]
    lettered = meta(KIN["exaone4"], sliding_window_pattern="LG", layer_types=["sliding_attention", "full_attention"])
    assert lettered["exaone4.attention.sliding_window_pattern"] == [True, False]
    said = meta(KIN["hunyuan_v1_moe"])
    assert said["hunyuan-moe.rope.freq_base"] == pytest.approx(1e4 * 1000 ** (16 / 14))
    assert (said["hunyuan-moe.expert_count"], said["hunyuan-moe.expert_used_count"]) == (4, 2)
    dense = {"model_type": "hunyuan_v1_dense", "use_cla": False, "cla_share_factor": 2, "num_experts": 1}
    assert meta(LLAMA, **dense)["hunyuan-dense.rope.freq_base"] == 1e4
    assert meta(KIN["ernie4_5_moe"])["ernie4_5-moe.expert_shared_feed_forward_length"] == 32
    norm = meta(KIN["nemotron"])
    assert norm["nemotron.attention.layer_norm_epsilon"] == 1e-5
    assert "nemotron.attention.layer_norm_rms_epsilon" not in norm
    assert "granite.attention.scale" in meta(KIN["granite"], attention_multiplier="absent")


ODD = (
    "x",
    "",
    [],
    {},
    -1,
    0,
    1,
    2.5,
    1e308,
    float("nan"),
    True,
    [1],
    ["full_attention", None],
    {"a": {}},
    10**30,
    4097,
)
WHOLE = {
    "llama": LLAMA, "qwen2": {**QWEN, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1,
                              "layer_types": None},
    "qwen3_moe": EXPERTS, "gemma3": GEMMA3, "mistral": {**LLAMA, "model_type": "mistral", "sliding_window": 8},
    "phi3": {**LLAMA, "model_type": "phi3", "original_max_position_embeddings": 32, "rope_scaling": {
        "type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}},
    "gemma2": {**LLAMA, "model_type": "gemma2", "sliding_window": 8, "query_pre_attn_scalar": 16},
    "bert": {**{k: v for k, v in LLAMA.items() if k not in ("rope_theta", "rms_norm_eps")}, "model_type": "bert"},
    "gpt2": {**{k: v for k, v in LLAMA.items() if k not in ("rope_theta", "rms_norm_eps")}, "model_type": "gpt2"},
    "deepseek_v2": {**LLAMA, "model_type": "deepseek_v2", "kv_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 8,
                    "qk_nope_head_dim": 8, "q_lora_rank": None, "n_routed_experts": 4, "num_experts_per_tok": 2,
                    "moe_intermediate_size": 16, "n_shared_experts": 1, "first_k_dense_replace": 1},
    **KIN,
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_odd_values_are_errors_of_the_package(name):
    """Every key of a config with every kind of JSON value, and each key of a rope: an answer or a PyggmlError."""
    config = WHOLE[name]
    if name not in ("gemma2", "gemma3", "qwen2"):
        meta(config)
    cases = [(key, odd) for key in config if key != "model_type" for odd in ODD]
    cases += [("rope_parameters", {"rope_type": kind, **YARN_KEYS, key: odd})
              for kind in ("yarn", "llama3") for key in YARN_KEYS for odd in ODD]  # fmt: skip
    refused = 0
    for key, odd in cases:
        try:
            meta(config, **{key: odd})
        except pyggml.PyggmlError as e:
            refused += 1
            assert len(str(e)) < 1000  # noqa: PT017
    assert refused > len(cases) // 3


YARN_KEYS = {
    "factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": None, "beta_fast": 32, "beta_slow": 1,
    "mscale": None, "mscale_all_dim": None, "truncate": True, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "rope_theta": 1e4, "partial_rotary_factor": 1.0,
}  # fmt: skip


def test_a_conversion_asks(tmp_path):
    """The judgement is part of convert(), and nothing is written where it fails."""
    src = checkpoint.folder(tmp_path / "src", {**LLAMA, "hidden_act": "relu"})
    checkpoint.safetensors(src / "model.safetensors", checkpoint.tensors())
    with pytest.raises(pyggml.UnsupportedError, match=r"hidden_act is 'relu'.*silu"):
        pyggml.convert(src, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()
    (src / "config.json").write_text(json.dumps({**LLAMA, "model_type": "mistral", "sliding_window": 100}))
    pyggml.convert(src, tmp_path / "x.gguf")
    with gguf.open(tmp_path / "x.gguf") as file:
        assert file.metadata["llama.attention.sliding_window"] == 100


def test_the_model_type_is_named(tmp_path):
    for said, message in (
        ({"model_type": "rwkv"}, "rwkv.*Known: .*qwen3_moe"),
        ({"model_type": None}, "no model_type"),
    ):
        src = checkpoint.folder(tmp_path / "src", {**LLAMA, **said})
        checkpoint.safetensors(src / "model.safetensors", checkpoint.tensors())
        with pytest.raises(pyggml.UnsupportedError, match=message):
            pyggml.convert(src, tmp_path / "x.gguf")
