"""Decoders with state spaces: converted, they give what transformers gives, and come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from converters.test_other_families import TIED, Case, checked, close, made, no_key_is_unknown, says_no
from converters.test_transformers import BASE, LLAMA3, YARN, keys_of

import pyggml

pytestmark = pytest.mark.slow
ROPE = {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}
GRANITE = {
    "num_hidden_layers": 4, "mamba_n_heads": 8, "mamba_n_groups": 2, "mamba_d_state": 16, "mamba_d_head": 16,
    "mamba_chunk_size": 16, "shared_intermediate_size": 48, "num_local_experts": 6, "num_experts_per_tok": 2,
    "embedding_multiplier": 12.0, "attention_multiplier": 0.1, "residual_multiplier": 0.22, "logits_scaling": 8.0,
    "layer_types": ["mamba", "mamba", "attention", "mamba"],
}  # fmt: skip
DENSE = {"num_local_experts": 0, "num_experts_per_tok": 0}
NEMOTRON = {
    "num_hidden_layers": None, "mamba_num_heads": 8, "mamba_head_dim": 12, "n_groups": 2, "ssm_state_size": 16,
    "chunk_size": 16, "head_dim": 16,
    "layers_block_type": ["linear_attention", "mlp", "full_attention", "linear_attention", "mlp"],
}  # fmt: skip
NANO = {
    "n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "routed_scaling_factor": 2.5,
    "moe_shared_expert_intermediate_size": 40,
    "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "moe"],
}  # fmt: skip
FACTORS = {
    "embedding_multiplier": 5.6, "lm_head_multiplier": 0.04, "key_multiplier": 0.6, "attention_in_multiplier": 1.2,
    "attention_out_multiplier": 0.9, "ssm_in_multiplier": 1.3, "ssm_out_multiplier": 0.3,
    "mlp_multipliers": [0.9, 0.2], "ssm_multipliers": [0.5, 0.7, 0.3, 0.4, 1.5],
}  # fmt: skip
HYBRIDS = {
    "mamba": Case(
        {"state_size": 16, "intermediate_size": 128},
        [{"use_bias": True, "use_conv_bias": False, "tie_word_embeddings": False}, {"layer_norm_epsilon": 1e-2},
         {"state_size": 9, "conv_kernel": 3, "time_step_rank": 7, "expand": 3,
          "intermediate_size": 192}, {"intermediate_size": 96}],
        {"hidden_act": "gelu"},
    ),
    "falcon_mamba": Case(
        {"state_size": 16, "intermediate_size": 128, "mixer_rms_eps": 1e-3},
        [{"mixer_rms_eps": 1e-5, "use_bias": True}], {"hidden_act": "gelu"}
    ),
    "mamba2": Case(
        {"num_heads": 8, "head_dim": 16, "n_groups": 2, "state_size": 24, "chunk_size": 16},
        [{"n_groups": 1, "use_bias": True, **TIED}, {"use_conv_bias": False, "layer_norm_epsilon": 1e-2},
         {"expand": 3, "head_dim": 24, "conv_kernel": 2}],
        {"hidden_act": "gelu", "time_step_limit": [0.01, 0.1]},
    ),
    "granitemoehybrid": Case(
        GRANITE,
        [TIED, {**DENSE, **TIED}, {"position_embedding_type": "rope", **ROPE}, {"mamba_n_groups": 1, **DENSE},
         {"mamba_conv_bias": False, "mamba_proj_bias": True, "attention_bias": True, "rms_norm_eps": 1e-2},
         {"position_embedding_type": "rope", "rope_parameters": {"rope_theta": 1e4, **YARN}}],
        {"hidden_act": "gelu", "position_embedding_type": "alibi", "layer_types": ["mamba", "conv"] * 2,
         "time_step_limit": [0.0, 1.0], "mamba_d_head": 8},
    ),
    "nemotron_h": Case(
        NEMOTRON,
        [NANO, {**NANO, "moe_latent_size": 20, "norm_topk_prob": False}, {"attention_bias": True, "mlp_bias": True},
         {"use_bias": True, "use_conv_bias": False, "layer_norm_epsilon": 1e-2, "n_groups": 1}],
        {"mlp_hidden_act": "silu", "time_step_limit": [0.0, 1.0], "hybrid_override_pattern": "MM*MM"},
    ),
    "jamba": Case(
        {"num_hidden_layers": 4, "mamba_d_state": 16, "num_experts": 4, "expert_layer_period": 2,
         "expert_layer_offset": 1, "attn_layer_period": 3, "attn_layer_offset": 1, "mamba_dt_rank": 5},
        [{"num_experts": 1}, {"mamba_conv_bias": False, "mamba_proj_bias": True, **TIED},
         {"attn_layer_period": 8, "attn_layer_offset": 3, "mamba_dt_rank": "auto", "expert_layer_offset": 0}],
        {"hidden_act": "gelu"},
    ),
    "falcon_h1": Case(
        {"mamba_d_ssm": 96, "mamba_n_heads": 8, "mamba_d_head": 12, "mamba_n_groups": 2, "mamba_d_state": 16,
         "mamba_chunk_size": 16, "mamba_norm_before_gate": False, "mamba_rms_norm": True, **ROPE},
        [FACTORS, {**FACTORS, "mamba_rms_norm": False, "mamba_norm_before_gate": True},
         {"attention_bias": True, "mlp_bias": True, "projectors_bias": True, "mamba_proj_bias": False},
         {**TIED, "embedding_multiplier": 2.0, "lm_head_multiplier": 2.0, "mamba_conv_bias": False},
         {"rope_parameters": {"rope_theta": 1e4, **LLAMA3}, "rms_norm_eps": 1e-2}],
        {"mamba_norm_before_gate": True, "hidden_act": "gelu", "rope_type": "dynamic", "ssm_multipliers": [1.0],
         "time_step_limit": [0.0, 1.0], "mamba_d_head": 8},
    ),
}  # fmt: skip


@pytest.mark.parametrize("model_type", HYBRIDS)
def test_the_same_logits_and_the_same_keys_again(model_type: str, tmp_path: Path) -> None:
    case = HYBRIDS[model_type]
    checked(case, model_type, tmp_path)
    says_no(case, tmp_path)
    no_key_is_unknown(model_type, case.told)


@pytest.mark.parametrize(("dense", "arch"), [(False, "granitemoe"), (True, "granite")])
def test_granite_without_state_spaces_is_an_older_one(dense: bool, arch: str, tmp_path: Path) -> None:
    """As Granite 4 Micro is published, and as llama.cpp converts it."""
    told = {**GRANITE, "layer_types": ["attention"] * 4, "position_embedding_type": "rope", **ROPE}
    want = made(tmp_path / "hf", "granitemoehybrid", {**BASE, **told, **(DENSE if dense else {})})
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    with pyggml.load(tmp_path / "x.gguf", kv_type="f32", n_ctx=128) as model:
        assert model.config.arch == arch
        from converters.test_transformers import IDS

        assert close(model.logits(IDS), want)
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"position_embedding_type": "nope"}))
    with pytest.raises(pyggml.UnsupportedError, match="position_embedding_type"):
        pyggml.convert(tmp_path / "hf", tmp_path / "y.gguf")


def test_nemotron_as_it_is_published(tmp_path: Path) -> None:
    """By the letters of its pattern, and names behind backbone."""
    numpy = pytest.importorskip("safetensors.numpy")
    made(tmp_path / "hf", "nemotron_h", {**BASE, **NEMOTRON})
    pyggml.convert(tmp_path / "hf", tmp_path / "x.gguf", dtype="f32")
    config, weights = tmp_path / "hf" / "config.json", tmp_path / "hf" / "model.safetensors"
    told: dict[str, Any] = json.loads(config.read_text())
    for key in ("layers_block_type", "layer_types"):
        told.pop(key, None)
    config.write_text(json.dumps(told | {"hybrid_override_pattern": "M-*M-", "num_hidden_layers": 5}))
    tensors = {
        f"backbone.{name.removeprefix('model.')}" if name.startswith("model.") else name: values
        for name, values in numpy.load_file(weights).items()
    }
    numpy.save_file(tensors, weights, {"format": "pt"})
    pyggml.convert(tmp_path / "hf", tmp_path / "y.gguf", dtype="f32")
    assert keys_of(tmp_path / "y.gguf") == keys_of(tmp_path / "x.gguf")
    for change in ({"hybrid_override_pattern": "M-*Mx"}, {"num_hidden_layers": 6}):
        config.write_text(json.dumps(told | {"hybrid_override_pattern": "M-*M-", **change}))
        with pytest.raises(pyggml.UnsupportedError, match=next(iter(change))):
            pyggml.convert(tmp_path / "hf", tmp_path / "z.gguf")
