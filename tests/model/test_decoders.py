"""The rows of arch/decoders.py against random models of transformers: whole, token by token, and on every level.

Needs torch and transformers; the conformance models cover Llama, Qwen, Gemma 2 and 3 and Phi-3 everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model.published import POST, Family, agrees

import pyggml

IDS = [1, *np.random.default_rng(3).integers(0, 260, 60).tolist()]
LAYER_NORM = {"attention.layer_norm_epsilon": 1e-5, "attention.layer_norm_rms_epsilon": None}
FOURTH = ["sliding_attention"] * 3 + ["full_attention", "sliding_attention"]
BEHIND = {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}
NEOX = {
    "embed_in": "token_embd", "final_layer_norm": "output_norm", "attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output", "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down",
}  # fmt: skip


def oss(told: dict[str, Any], meta: dict[str, Any]) -> Family:
    """gpt-oss; its experts' matrices lie as (in, out), gates and ups in turns."""
    names = {"self_attn.sinks": "attn_sinks", "mlp.router": "ffn_gate_inp"}
    for part, to in (("gate_up_proj", "both"), ("down_proj", "ffn_down_exps")):
        names |= {f"mlp.experts.{part}": to, f"mlp.experts.{part}_bias": f"{to}_bias"}
    names["post_attention_layernorm"] = "post_attention_norm"
    sizes = dict(head_dim=16, num_local_experts=6, num_experts_per_tok=2, sliding_window=9, rms_norm_eps=1e-6)
    meta = {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 96,
            "attention.sliding_window": 9, **meta}  # fmt: skip
    return Family("gpt-oss", "GptOssConfig", {**sizes, **told}, names, meta, change=oss_experts)


def oss_experts(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    stem = name.removesuffix(".weight")
    if stem.endswith("_bias"):
        name = f"{stem.removesuffix('_bias')}.bias"
    elif "both" in name or "_exps" in name:
        values = values.swapaxes(1, 2)
    if "both" in name:
        return {name.replace("both", f"ffn_{part}_exps"): values[:, i::2] for i, part in enumerate(("gate", "up"))}
    return {name: values}


def apart(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Experts' gates and ups, and what GPT-NeoX mixes by heads."""
    if ".both." in name:
        gate, up = np.split(values, 2, axis=1)
        return {name.replace("both", "ffn_gate_exps"): gate, name.replace("both", "ffn_up_exps"): up}
    if "attn_qkv" in name:
        return {name: values.reshape(4, 3, 16, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)}
    if "shortconv.conv" in name:
        return {name: values[:, 0]}
    return {name: values}


LFM2 = {
    "embedding_norm": "token_embd_norm", "operator_norm": "attn_norm", "ffn_norm": "ffn_norm",
    "self_attn.out_proj": "attn_output", "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm", "conv.conv": "shortconv.conv", "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj", "feed_forward.w1": "ffn_gate", "feed_forward.w3": "ffn_up",
    "feed_forward.w2": "ffn_down",
}  # fmt: skip
FAMILIES = {
    "gemma": Family(
        "gemma", "GemmaConfig", dict(head_dim=24, hidden_activation="gelu_pytorch_tanh"), one_more=True
    ),
    "gemma2": Family(
        "gemma2", "Gemma2Config",
        dict(head_dim=24, query_pre_attn_scalar=24, sliding_window=9, attn_logit_softcapping=2.0,
             final_logit_softcapping=3.0),
        POST, {"attention.sliding_window": 9, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        one_more=True,
    ),
    "gemma3": Family(
        "gemma3", "Gemma3TextConfig",
        dict(num_hidden_layers=7, head_dim=24, query_pre_attn_scalar=24, sliding_window=9, rope_theta=1e6,
             rope_local_base_freq=1e4),
        POST, {"attention.sliding_window": 9, "rope.freq_base": 1e6}, one_more=True,
    ),
    "granite": Family(
        "granite", "GraniteConfig",
        dict(embedding_multiplier=12.0, attention_multiplier=0.1, residual_multiplier=0.22, logits_scaling=8.0),
        meta={"embedding_scale": 12.0, "attention.scale": 0.1, "residual_scale": 0.22, "logit_scale": 8.0},
        turned=True,
    ),
    "olmo2": Family(
        "olmo2", "Olmo2Config", dict(rms_norm_eps=1e-6),
        {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"},
    ),
    "starcoder2": Family(
        "starcoder2", "Starcoder2Config", dict(norm_epsilon=1e-5, use_bias=True, sliding_window=None),
        {"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"},
        {"attention.layer_norm_epsilon": 1e-5, "attention.layer_norm_rms_epsilon": None},
    ),
    "phi3": Family(
        "phi3", "Phi3Config", dict(sliding_window=7, rms_norm_eps=1e-6),
        {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}, {"attention.sliding_window": 7},
    ),
    "smollm3": Family("smollm3", "SmolLM3Config", dict(rope_theta=1e4), turned=True),
    "command-r": Family(
        "command-r", "CohereConfig", dict(rope_theta=1e4, logit_scale=0.0625),
        meta={**LAYER_NORM, "logit_scale": 0.0625},
    ),
    "cohere2": Family(
        "cohere2", "Cohere2Config", dict(logit_scale=0.25, sliding_window=9, layer_types=FOURTH),
        meta={**LAYER_NORM, "logit_scale": 0.25, "attention.sliding_window": 9},
    ),
    "exaone4": Family(
        "exaone4", "Exaone4Config", dict(rms_norm_eps=1e-6, sliding_window=9, layer_types=FOURTH), BEHIND,
        {"attention.sliding_window": 9},
    ),
    "exaone4, no windows": Family(
        "exaone4", "Exaone4Config", dict(rms_norm_eps=1e-6, sliding_window=None, layer_types=["full_attention"] * 5),
        BEHIND,
    ),
    "glm4": Family(
        "glm4", "Glm4Config", dict(head_dim=16, rms_norm_eps=1e-6),
        {"post_self_attn_layernorm": "post_attention_norm", "post_mlp_layernorm": "post_ffw_norm",
         "mlp.gate_up_proj": "ffn_up"}, {"rope.dimension_count": 8},
    ),
    "ernie4_5": Family("ernie4_5", "Ernie4_5Config", dict(head_dim=16, rms_norm_eps=1e-6, rope_theta=1e4)),
    "seed_oss": Family(
        "seed_oss", "SeedOssConfig", dict(head_dim=16), {"post_attention_layernorm": "post_attention_norm"}
    ),
    "hunyuan-dense": Family(
        "hunyuan-dense", "HunYuanDenseV1Config", dict(head_dim=16, rms_norm_eps=1e-6),
        {"self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm"},
    ),
    "phi2": Family(
        "phi2", "PhiConfig", dict(partial_rotary_factor=0.5),
        {"self_attn.dense": "attn_output", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"},
        {**LAYER_NORM, "rope.dimension_count": 8},
    ),
    **{
        f"gptneox, {how}": Family(
            "gptneox", "GPTNeoXConfig", dict(use_parallel_residual=how == "parallel"), NEOX,
            {**LAYER_NORM, "rope.dimension_count": 4, "attention.head_count_kv": 4,
             "use_parallel_residual": how == "parallel"}, change=apart,
        )
        for how in ("parallel", "in turn")
    },
    "stablelm": Family("stablelm", "StableLmConfig", meta={**LAYER_NORM, "rope.dimension_count": 4}),
    "olmo3": Family(
        "olmo2", "Olmo3Config",
        dict(rms_norm_eps=1e-6, sliding_window=9, layer_types=FOURTH), BEHIND,
        {"attention.sliding_window": 9, "rope.freq_base": 5e5},
    ),
    "olmoe": Family(
        "olmoe", "OlmoeConfig", dict(rms_norm_eps=1e-6, num_experts=6, num_experts_per_tok=2),
        {"mlp.gate": "ffn_gate_inp", "mlp.experts.gate_up_proj": "both", "mlp.experts.down_proj": "ffn_down_exps"},
        {"expert_count": 6, "expert_used_count": 2}, change=apart,
    ),
    "granitemoe": Family(
        "granitemoe", "GraniteMoeConfig",
        dict(num_local_experts=6, num_experts_per_tok=2, embedding_multiplier=12.0, attention_multiplier=0.1,
             residual_multiplier=0.22, logits_scaling=8.0),
        {"block_sparse_moe.router": "ffn_gate_inp", "block_sparse_moe.experts.gate_up_proj": "both",
         "block_sparse_moe.experts.down_proj": "ffn_down_exps"},
        {"expert_count": 6, "expert_used_count": 2, "embedding_scale": 12.0, "attention.scale": 0.1,
         "residual_scale": 0.22, "logit_scale": 8.0}, turned=True, change=apart,
    ),
    "gpt-oss": oss(
        dict(rope_parameters={"rope_type": "yarn", "rope_theta": 15000.0, "factor": 8.0, "beta_fast": 32.0,
                              "beta_slow": 1.0, "truncate": False, "original_max_position_embeddings": 16}),
        {"rope.freq_base": 15000.0, "rope.scaling.type": "yarn", "rope.scaling.factor": 8.0,
         "rope.scaling.original_context_length": 16},
    ),
    "gpt-oss, not scaled, four of many": oss(
        dict(rope_parameters={"rope_type": "default", "rope_theta": 1e4}, num_local_experts=12, num_experts_per_tok=4,
             sliding_window=70),
        {"expert_count": 12, "expert_used_count": 4, "attention.sliding_window": 70},
    ),
    "gpt-oss, one expert, tied": oss(
        dict(rope_parameters={"rope_type": "default", "rope_theta": 1e4}, num_local_experts=3, num_experts_per_tok=1,
             tie_word_embeddings=True),
        {"expert_count": 3, "expert_used_count": 1},
    ),
    "lfm2": Family(
        "lfm2", "Lfm2Config",
        dict(norm_eps=1e-6, rope_theta=1e4, conv_L_cache=3, block_auto_adjust_ff_dim=False,
             layer_types=["conv", "conv", "full_attention", "conv", "full_attention"]), LFM2,
        {"attention.head_count_kv": [0, 0, 2, 0, 2], "shortconv.l_cache": 3}, change=apart,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_equals_transformers(tmp_path: Path, name: str) -> None:
    def ask(m: pyggml.Model) -> list[np.ndarray]:
        s = m.session()
        return [m.logits(IDS), np.stack([s.step([each]) for each in IDS])]

    agrees(FAMILIES[name], tmp_path / "x.gguf", IDS, ask)
