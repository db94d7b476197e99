"""DeepSeek-V2 and V3, GLM-4.7-Flash: latent attention.

kv_b is kept as two stacks of heads, keys turned, as the absorbed form needs them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import JOINED_EXPERTS, SPLIT_EXPERTS, Change, Config, Family, Meta, decoder
from pyggml.converters.meaning import SILU, Values, activation
from pyggml.converters.ropes import base, rope, rope_type, yarn
from pyggml.shown import clip

_NAMES: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if "k_proj" not in name and "v_proj" not in name},
    "layers.#.self_attn.q_a_proj": "blk.#.attn_q_a",
    "layers.#.self_attn.q_a_layernorm": "blk.#.attn_q_a_norm",
    "layers.#.self_attn.q_b_proj": "blk.#.attn_q_b",
    "layers.#.self_attn.kv_a_proj_with_mqa": "blk.#.attn_kv_a_mqa",
    "layers.#.self_attn.kv_a_layernorm": "blk.#.attn_kv_a_norm",
    "layers.#.self_attn.kv_b_proj": ("blk.#.attn_k_b", "blk.#.attn_v_b"),
    "layers.#.mlp.gate": "blk.#.ffn_gate_inp",
    "layers.#.mlp.gate.e_score_correction_bias": "blk.#.exp_probs_b.bias",
    "layers.#.mlp.experts.#.gate_proj": "blk.#.ffn_gate_exps",
    "layers.#.mlp.experts.#.up_proj": "blk.#.ffn_up_exps",
    "layers.#.mlp.experts.#.down_proj": "blk.#.ffn_down_exps",
    "layers.#.mlp.shared_experts.gate_proj": "blk.#.ffn_gate_shexp",
    "layers.#.mlp.shared_experts.up_proj": "blk.#.ffn_up_shexp",
    "layers.#.mlp.shared_experts.down_proj": "blk.#.ffn_down_shexp",
    **JOINED_EXPERTS,
}


def _heads(w: NDArray[Any], c: Config) -> NDArray[Any]:
    return w.reshape(c.n_head, c.count("qk_nope_head_dim") + c.count("v_head_dim"), -1)


def _k_b(w: NDArray[Any], c: Config) -> NDArray[Any]:
    return np.ascontiguousarray(_heads(w, c)[:, : c.count("qk_nope_head_dim")].swapaxes(1, 2))


def _v_b(w: NDArray[Any], c: Config) -> NDArray[Any]:
    return np.ascontiguousarray(_heads(w, c)[:, c.count("qk_nope_head_dim") :])


def _metadata(c: Config) -> Meta:
    arch = "deepseek2"
    rank, n_rot = c.count("kv_lora_rank"), c.count("qk_rope_head_dim")
    meta = decoder(c, arch) | _rope(c, arch)
    meta |= {
        f"{arch}.attention.head_count_kv": (1, "u32"),
        f"{arch}.vocab_size": (c.count("vocab_size"), "u32"),
        f"{arch}.attention.key_length": (rank + n_rot, "u32"),
        f"{arch}.attention.value_length": (rank, "u32"),
        f"{arch}.attention.key_length_mla": (c.count("qk_nope_head_dim") + n_rot, "u32"),
        f"{arch}.attention.value_length_mla": (c.count("v_head_dim"), "u32"),
        f"{arch}.attention.kv_lora_rank": (rank, "u32"),
        f"{arch}.rope.dimension_count": (n_rot, "u32"),
        f"{arch}.leading_dense_block_count": (_dense(c), "u32"),
        f"{arch}.expert_count": (c.count("num_experts"), "u32"),
        f"{arch}.expert_used_count": (c.count("num_experts_per_tok"), "u32"),
        f"{arch}.expert_feed_forward_length": (c.count("moe_intermediate_size"), "u32"),
        f"{arch}.expert_shared_count": (c.count("n_shared_experts"), "u32"),
        f"{arch}.expert_weights_scale": (c.number("routed_scaling_factor", default=1.0), "f32"),
    }
    if c.get("q_lora_rank") is not None:
        meta[f"{arch}.attention.q_lora_rank"] = (c.count("q_lora_rank"), "u32")
    if c.flag("norm_topk_prob"):
        meta[f"{arch}.expert_weights_norm"] = (True, None)
    if c.get("n_group") is not None and c.get("topk_group") is not None:
        meta[f"{arch}.expert_group_count"] = (c.count("n_group"), "u32")
        meta[f"{arch}.expert_group_used_count"] = (c.count("topk_group"), "u32")
    return meta


def _dense(c: Config) -> int:
    """How many layers at the beginning have no experts."""
    first, kinds = c.index("first_k_dense_replace"), c.get("mlp_layer_types")
    if kinds is None:
        return first
    n = kinds.count("dense") if isinstance(kinds, list) else 0
    if kinds != ["dense"] * n + ["sparse"] * (c.n_layer - n):
        raise c.refused("mlp_layer_types", kinds, "a GGUF says how many layers at the beginning are dense")
    return n


def _sigmoid(c: Config) -> Meta:
    """V3's router. Layers that predict further tokens are stored behind the others, and are left out."""
    c.index("num_nextn_predict_layers", default=0)
    return _metadata(c) | {"deepseek2.expert_gating_func": (2, "u32")}


def _rope(c: Config, arch: str) -> Meta:
    """YaRN's magnitude is that of the scores here: mscale_all_dim, with an mscale that leaves cosine and sine alone."""
    r = c.rope()
    rope_type(r, arch, _ROPES)
    one, all_dims = r.get("mscale"), r.get("mscale_all_dim")
    if not all_dims:
        return rope(c, arch, carried=_ROPES)
    if r.get("attention_factor") is not None:
        raise r.refused("attention_factor", r.get("attention_factor"), "beside mscale_all_dim a GGUF cannot say it")
    if one != all_dims:
        raise r.refused("mscale", one, f"a {arch} GGUF says one number for it and mscale_all_dim, {clip(all_dims)}")
    return {
        f"{arch}.rope.freq_base": (base(r), "f32"),
        **yarn(c, r, arch),
        f"{arch}.rope.scaling.yarn_log_multiplier": (0.1 * r.positive("mscale_all_dim"), "f32"),
    }


_ROPES = ("default", "yarn")
_COMPUTES: dict[str, Values] = {
    **activation(*SILU),
    "topk_method": ("greedy", "group_limited_greedy"),
    "scoring_func": ("softmax",),
    "rope_interleave": (True,),
}
_DEFAULTS = {"rms_norm_eps": 1e-6, "q_lora_rank": 1536, "norm_topk_prob": False, "routed_scaling_factor": 1.0}
_CHANGE = {"attn_k_b": Change(_k_b), "attn_v_b": Change(_v_b), **SPLIT_EXPERTS}
_SIGMOID: dict[str, Values] = {**_COMPUTES, "topk_method": ("noaux_tc",), "scoring_func": ("sigmoid",)}
_V3 = {
    "rms_norm_eps": 1e-6, "q_lora_rank": 1536, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "n_group": 8,
    "topk_group": 4, "n_shared_experts": 1, "first_k_dense_replace": 3, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
    "v_head_dim": 128, "qk_nope_head_dim": 128,
}  # fmt: skip
_FLASH = {
    **_V3, "rms_norm_eps": 1e-5, "q_lora_rank": 768, "routed_scaling_factor": 1.8, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "v_head_dim": 256, "qk_nope_head_dim": 192,
}  # fmt: skip
FAMILIES = {
    "deepseek_v2": Family("deepseek2", _NAMES, _metadata, _CHANGE, computes=_COMPUTES, defaults=_DEFAULTS),
    **{
        model_type: Family("deepseek2", _NAMES, _sigmoid, _CHANGE, computes=_SIGMOID, defaults=defaults, ahead=True)
        for model_type, defaults in (("deepseek_v3", _V3), ("glm4_moe_lite", _FLASH))
    },
}
