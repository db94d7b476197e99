"""The rows of arch/decoders.py against random models of transformers: whole, token by token, and on every level.

Needs torch and transformers; the conformance models cover Llama, Qwen, Gemma 2 and 3 and Phi-3 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
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
    if "exp_probs_b" in name:
        return {name.replace(".weight", ".bias"): values.reshape(-1)}
    return {name: values}


def ahead(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """One layer more, as those that predict further tokens are kept."""
    made = apart(name, values)
    more = {key.replace("blk.4.", "blk.5."): value for key, value in made.items() if key.startswith("blk.4.")}
    return {**made, **more, **({"blk.5.nextn.enorm.weight": values} if more and "attn_norm" in name else {})}


def scout(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Llama 4's experts lie as (in, out)."""
    return apart(name, values.swapaxes(1, 2) if ".both." in name or "_exps" in name else values)


def falcon(n_kv: int) -> Callable[[str, np.ndarray], dict[str, np.ndarray]]:
    """Queries, keys and values lie group by group."""

    def change(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
        if "attn_qkv" not in name:
            return {name: values}
        groups = values.reshape(n_kv, 4 // n_kv + 2, 16, -1)
        parts = (groups[:, :-2], groups[:, -2], groups[:, -1])
        return {name: np.concatenate([each.reshape(-1, values.shape[1]) for each in parts])}

    return change


def xielu(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    return {} if "xielu" in name else {name: values}


def xielu_keys(state: dict[str, np.ndarray]) -> dict[str, Any]:
    found: dict[str, Any] = {"xielu.eps": [-1e-6] * 5}
    for key in ("alpha_p", "alpha_n"):
        found[f"xielu.{key}"] = [float(state[f"model.layers.{i}.mlp.act_fn.{key}"].item()) for i in range(5)]
    return found | {"xielu.beta": [0.5] * 5}


def latent(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """kv_b by heads, keys turned, as it is absorbed."""
    if "attn_kv_b" not in name:
        return apart(name, values)
    by = values.reshape(4, 16 + 12, -1)
    return {name.replace("kv_b", "k_b"): by[:, :16].swapaxes(1, 2), name.replace("kv_b", "v_b"): by[:, 16:]}


MIXTURE = {
    "mlp.gate": "ffn_gate_inp", "mlp.gate.e_score_correction_bias": "exp_probs_b", "mlp.router": "ffn_gate_inp",
    "mlp.e_score_correction_bias": "exp_probs_b", "mlp.gate.moe_statics.e_score_correction_bias": "exp_probs_b",
    "mlp.gate.wg": "ffn_gate_inp", "mlp.experts.gate_up_proj": "both", "mlp.experts.down_proj": "ffn_down_exps",
    **{f"mlp.{at}.{part}_proj": f"ffn_{part}_shexp" for at in ("shared_experts", "shared_mlp")
       for part in ("gate", "up", "down")},
}  # fmt: skip
LATENT = {
    **MIXTURE, "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b", "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.kv_b_proj": "attn_kv_b",
}  # fmt: skip
LATENT_SIZES = dict(kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12, moe_intermediate_size=32,
                    n_routed_experts=12, num_experts_per_tok=3, first_k_dense_replace=1, rms_norm_eps=1e-6,
                    num_key_value_heads=4, rope_theta=1e4)  # fmt: skip
LATENT_META = {
    "attention.kv_lora_rank": 32, "rope.dimension_count": 8, "expert_count": 12, "expert_used_count": 3,
    "expert_feed_forward_length": 32, "leading_dense_block_count": 1,
}  # fmt: skip
ABSORBED = {"attention.head_count_kv": 1, "attention.key_length": 40, "attention.value_length": 32,
            "attention.key_length_mla": 24, "attention.value_length_mla": 12}  # fmt: skip
FALCON = {
    "word_embeddings": "token_embd", "ln_f": "output_norm", "self_attention.query_key_value": "attn_qkv",
    "self_attention.dense": "attn_output", "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down",
    "ln_attn": "attn_norm_2", "ln_mlp": "attn_norm",
}  # fmt: skip
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
    **{
        f"falcon, {n_kv}": Family(
            "falcon", "FalconConfig",
            dict(new_decoder_architecture=n_kv > 1, num_kv_heads=n_kv, ffn_hidden_size=96, bias=False,
                 tie_word_embeddings=True, alibi=False), FALCON, {**LAYER_NORM, "attention.head_count_kv": n_kv},
            change=falcon(n_kv),
        )
        for n_kv in (1, 2)
    },
    **{
        f"mistral3, {kind}": Family(
            "mistral3", "Ministral3Config",
            dict(head_dim=16, rope_parameters={
                "rope_type": "yarn", "rope_theta": 1e6, "factor": 8.0, "original_max_position_embeddings": 16,
                "beta_fast": 4.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": all_dims,
                "llama_4_scaling_beta": 0.3}),
            meta={"rope.freq_base": 1e6, "rope.scaling.type": "yarn", "rope.scaling.factor": 8.0,
                  "rope.scaling.original_context_length": 16, "rope.scaling.yarn_beta_fast": 4.0,
                  "rope.scaling.yarn_beta_slow": 1.0, "rope.scaling.yarn_log_multiplier": all_dims,
                  "attention.temperature_scale": 0.3, "attention.layer_norm_rms_epsilon": 1e-5},
            turned=True,
        )
        for kind, all_dims in (("as published", 1.0), ("another magnitude", 0.6))
    },
    "llama4": Family(
        "llama4", "Llama4TextConfig",
        dict(head_dim=16, rms_norm_eps=1e-6, intermediate_size=32, intermediate_size_mlp=96, num_local_experts=6,
             num_experts_per_tok=1, interleave_moe_layer_step=2, attention_chunk_size=9, floor_scale=8, attn_scale=0.3,
             rope_parameters={"rope_type": "default", "rope_theta": 1e4}),
        {**{f"feed_forward.{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")},
         **{f"feed_forward.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")},
         "feed_forward.router": "ffn_gate_inp", "feed_forward.experts.gate_up_proj": "both",
         "feed_forward.experts.down_proj": "ffn_down_exps"},
        {"feed_forward_length": 96, "expert_feed_forward_length": 32, "expert_count": 6, "expert_used_count": 1,
         "interleave_moe_layer_step": 2, "attention.chunk_size": 9, "attention.temperature_length": 8,
         "attention.temperature_scale": 0.3}, change=scout,
    ),
    "nemotron": Family(
        "nemotron", "NemotronConfig", dict(head_dim=16, norm_eps=1e-5, partial_rotary_factor=0.5),
        meta={**LAYER_NORM, "rope.dimension_count": 8}, one_more=True,
    ),
    "arcee": Family("arcee", "ArceeConfig", dict(rms_norm_eps=1e-6), turned=True),
    "apertus": Family(
        "apertus", "ApertusConfig",
        dict(rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 1e4}),
        {"attention_layernorm": "attn_norm", "feedforward_layernorm": "ffn_norm",
         **{f"mlp.act_fn.{each}": "xielu" for each in ("alpha_p", "alpha_n", "beta", "eps")}},
        change=xielu, read=xielu_keys,
    ),
    "glm4moe": Family(
        "glm4moe", "Glm4MoeConfig",
        dict(head_dim=16, rms_norm_eps=1e-6, attention_bias=True, use_qk_norm=True, n_routed_experts=6,
             num_experts_per_tok=2, moe_intermediate_size=32, routed_scaling_factor=1.5, first_k_dense_replace=2),
        {**MIXTURE, "post_attention_layernorm": "post_attention_norm"},
        {"rope.dimension_count": 8, "expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 32,
         "expert_shared_count": 1, "expert_weights_norm": True, "expert_weights_scale": 1.5, "expert_gating_func": 2,
         "leading_dense_block_count": 2, "block_count": 6, "nextn_predict_layers": 1}, change=ahead,
    ),
    "dots1": Family(
        "dots1", "Dots1Config",
        dict(head_dim=16, rms_norm_eps=1e-6, n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=32,
             n_shared_experts=2, first_k_dense_replace=1, n_group=4, topk_group=2, sliding_window=None), MIXTURE,
        {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 32, "expert_shared_count": 2,
         "expert_gating_func": 2, "leading_dense_block_count": 1, "expert_group_count": 4,
         "expert_group_used_count": 2}, change=apart,
    ),
    "minimax-m2": Family(
        "minimax-m2", "MiniMaxM2Config",
        dict(head_dim=16, rms_norm_eps=1e-6, num_local_experts=6, num_experts_per_tok=2,
             rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}), MIXTURE,
        {"rope.dimension_count": 8, "expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 96,
         "expert_gating_func": 2}, change=apart,
    ),
    "ernie4_5-moe": Family(
        "ernie4_5-moe", "Ernie4_5_MoeConfig",
        dict(rms_norm_eps=1e-6, moe_num_experts=6, moe_k=2, moe_intermediate_size=32, moe_num_shared_experts=2,
             moe_layer_start_index=1, moe_layer_interval=2,
             rope_parameters={"rope_type": "default", "rope_theta": 1e4}), MIXTURE,
        {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 32, "expert_shared_count": 2,
         "expert_shared_feed_forward_length": 64, "leading_dense_block_count": 1, "interleave_moe_layer_step": 2},
        change=apart,
    ),
    "hunyuan-moe": Family(
        "hunyuan-moe", "HunYuanMoEV1Config",
        dict(head_dim=16, rms_norm_eps=1e-6, num_experts=6, moe_topk=2),
        {**MIXTURE, "self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm"},
        {"expert_count": 6, "expert_used_count": 2, "expert_feed_forward_length": 96,
         "expert_shared_feed_forward_length": 96}, change=apart,
    ),
    "deepseek2, V2 by groups": Family(
        "deepseek2", "DeepseekV2Config",
        {**LATENT_SIZES, "q_lora_rank": None, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2,
         "n_shared_experts": 2, "routed_scaling_factor": 3.0}, LATENT,
        {**LATENT_META, **ABSORBED, "expert_shared_count": 2, "expert_weights_scale": 3.0, "expert_group_count": 4,
         "expert_group_used_count": 2}, change=latent,
    ),
    "deepseek2, V3 with one more layer": Family(
        "deepseek2", "DeepseekV3Config",
        {**LATENT_SIZES, "q_lora_rank": 24, "n_group": 3, "topk_group": 2, "n_shared_experts": 1,
         "routed_scaling_factor": 2.5, "norm_topk_prob": True}, LATENT,
        {**LATENT_META, "attention.head_count_kv": 4, "attention.key_length": 24, "attention.value_length": 12,
         "attention.q_lora_rank": 24, "expert_shared_count": 1, "expert_weights_scale": 2.5,
         "expert_weights_norm": True, "expert_gating_func": 2, "expert_group_count": 3, "expert_group_used_count": 2,
         "block_count": 6, "nextn_predict_layers": 1}, change=ahead,
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
