"""LFM2 and LFM2-MoE: layers that are gated short convolutions, and some that attend.

Sources: transformers/models/lfm2 and lfm2_moe; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import SPLIT_EXPERTS, TAPS, Config, Family, Meta, decoder
from pyggml.converters.ropes import llama3_factors, rope
from pyggml.converters.windows import FULL
from pyggml.errors import UnsupportedError

_CONV = "conv"
_NAMES: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if ".mlp." not in name and "norm" not in name and "o_proj" not in name},
    "embedding_norm": "token_embd_norm",
    "layers.#.operator_norm": "blk.#.attn_norm",
    "layers.#.ffn_norm": "blk.#.ffn_norm",
    "layers.#.self_attn.out_proj": "blk.#.attn_output",
    "layers.#.self_attn.q_layernorm": "blk.#.attn_q_norm",
    "layers.#.self_attn.k_layernorm": "blk.#.attn_k_norm",
    "layers.#.conv.conv": "blk.#.shortconv.conv",
    "layers.#.conv.in_proj": "blk.#.shortconv.in_proj",
    "layers.#.conv.out_proj": "blk.#.shortconv.out_proj",
    "layers.#.feed_forward.w1": "blk.#.ffn_gate",
    "layers.#.feed_forward.w2": "blk.#.ffn_down",
    "layers.#.feed_forward.w3": "blk.#.ffn_up",
}


def _width(c: Config) -> int:
    """Of the feed-forwards: what config.json says is changed, unless it says that it is not."""
    n = c.count("block_ff_dim", "intermediate_size")
    c.get("intermediate_size")
    multiplier, multiple = c.get("block_ffn_dim_multiplier"), c.count("block_multiple_of")
    if not c.flag("block_auto_adjust_ff_dim"):
        return n
    n = int(2 * n / 3)
    if multiplier is None:
        return n
    n = int(c.positive("block_ffn_dim_multiplier") * n)
    return multiple * ((n + multiple - 1) // multiple)


def _attends(c: Config) -> list[bool]:
    """Which layers attend."""
    told, indices = c.get("layer_types"), c.get("full_attn_idxs")
    if told is None:
        return [indices is None or i in indices for i in range(c.n_layer)]
    if not isinstance(told, list) or len(told) != c.n_layer or any(each not in (_CONV, FULL) for each in told):
        raise c.refused("layer_types", told, f"expected {_CONV} or {FULL} for each of {c.n_layer} layers")
    return [each == FULL for each in told]


def _metadata(c: Config) -> Meta:
    return decoder(c, "lfm2", n_ff=_width(c)) | rope(c, "lfm2") | {
        "lfm2.vocab_size": (c.count("vocab_size"), "u32"),
        "lfm2.attention.head_count_kv": ([c.n_head_kv if each else 0 for each in _attends(c)], "i32"),
        "lfm2.shortconv.l_cache": (c.count("conv_L_cache"), "u32"),
    }  # fmt: skip


_AT = "layers.#.feed_forward"
_MIXED: dict[str, str | tuple[str, ...]] = {
    **_NAMES,
    f"{_AT}.gate": "blk.#.ffn_gate_inp",
    f"{_AT}.expert_bias": "blk.#.exp_probs_b.bias",
    **{f"{_AT}.experts.#.{w}": f"blk.#.ffn_{part}_exps" for w, part in (("w1", "gate"), ("w2", "down"), ("w3", "up"))},
    f"{_AT}.experts.gate_up_proj": ("blk.#.ffn_gate_exps", "blk.#.ffn_up_exps"),
    f"{_AT}.experts.down_proj": "blk.#.ffn_down_exps",
}
_EXPERT_WORDS = {
    "expert_count": "num_experts", "leading_dense_block_count": "num_dense_layers",
    "expert_weights_scale": "routed_scaling_factor", "expert_gating_func": "scoring_func",
}  # fmt: skip


def _experts(c: Config) -> Meta:
    c.flag("use_expert_bias")  # it is stored or not
    return {key.replace("lfm2.", "lfm2moe.", 1): value for key, value in _metadata(c).items()} | {
        "lfm2moe.expert_count": (c.count("num_experts"), "u32"),
        "lfm2moe.expert_used_count": (c.count("num_experts_per_tok"), "u32"),
        "lfm2moe.expert_feed_forward_length": (c.count("moe_intermediate_size"), "u32"),
        "lfm2moe.leading_dense_block_count": (c.index("num_dense_layers"), "u32"),
        "lfm2moe.expert_gating_func": (2, "u32"),
        "lfm2moe.expert_weights_norm": (c.flag("norm_topk_prob"), None),
        "lfm2moe.expert_weights_scale": (c.positive("routed_scaling_factor"), "f32"),
    }


def _experts_back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    if said.get("expert_gating_func", 2) != 2:
        raise UnsupportedError("lfm2moe.expert_gating_func is no sigmoid: an lfm2_moe model has no other router")
    told = {key: value for key, value in _back(said, config).items() if key != "scoring_func"}
    found = {key: value for key, value in told.items() if not key.startswith("block_")}
    return found | {
        "use_expert_bias": any(name.endswith("exp_probs_b.bias") for name in said[""]),
        "norm_topk_prob": bool(said.get("expert_weights_norm", True)),
        "num_dense_layers": said.get("leading_dense_block_count", 0),
    }


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    n_layer, told = config["num_hidden_layers"], said["attention.head_count_kv"]
    heads = told if isinstance(told, list) else [told] * n_layer
    return config | {
        "num_key_value_heads": max(heads),
        "layer_types": [FULL if each else _CONV for each in heads],
        "block_auto_adjust_ff_dim": False,
    }


_DEFAULTS = {
    "rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_key_value_heads": 8, "conv_L_cache": 3, "tie_word_embeddings": True,
}  # fmt: skip
_HOW: dict[str, Any] = {
    "extra": llama3_factors,
    "biases": {},
    "spelled": {"rms_norm_eps": "norm_eps", "tie_word_embeddings": "tie_embedding"},
}
_TAPS = {"shortconv.conv": TAPS}
FAMILIES = {
    "lfm2": Family(
        "lfm2", _NAMES, _metadata, _TAPS, computes={"conv_bias": (False,), "block_use_swiglu": (True,)},
        defaults={**_DEFAULTS, "block_auto_adjust_ff_dim": True, "block_multiple_of": 256,
                  "block_ffn_dim_multiplier": 1.0},
        named="Lfm2ForCausalLM", words={"shortconv.l_cache": "conv_L_cache"}, back=_back, **_HOW,
    ),
    "lfm2_moe": Family(
        "lfm2moe", _MIXED, _experts, {**_TAPS, **SPLIT_EXPERTS}, computes={"conv_bias": (False,)},
        defaults={**_DEFAULTS, "block_auto_adjust_ff_dim": False, "block_multiple_of": 1, "num_dense_layers": 2,
                  "num_experts": 32, "num_experts_per_tok": 4, "norm_topk_prob": True, "routed_scaling_factor": 1.0,
                  "use_expert_bias": True},
        named="Lfm2MoeForCausalLM", words={"shortconv.l_cache": "conv_L_cache", **_EXPERT_WORDS},
        back=_experts_back, **(_HOW | {"biases": {"": ("exp_probs_b",)}}),
    ),
}  # fmt: skip
