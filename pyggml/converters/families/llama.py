"""Llama 1-3, Mistral 7B, Mixtral, SmolLM2 and Yi; and Meta's own layout (params.json, consolidated.*.pth)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters import windows
from pyggml.converters.family import JOINED_EXPERTS, ROPE_PAIRS, SPLIT_EXPERTS, Config, Family, Meta, decoder
from pyggml.converters.meaning import SILU, Values, activation
from pyggml.converters.ropes import llama3_factors, rope

NAMES: dict[str, str | tuple[str, ...]] = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
    "layers.#.input_layernorm": "blk.#.attn_norm",
    "layers.#.self_attn.q_proj": "blk.#.attn_q",
    "layers.#.self_attn.k_proj": "blk.#.attn_k",
    "layers.#.self_attn.v_proj": "blk.#.attn_v",
    "layers.#.self_attn.o_proj": "blk.#.attn_output",
    "layers.#.post_attention_layernorm": "blk.#.ffn_norm",
    "layers.#.mlp.gate_proj": "blk.#.ffn_gate",
    "layers.#.mlp.up_proj": "blk.#.ffn_up",
    "layers.#.mlp.down_proj": "blk.#.ffn_down",
}
MIXTRAL: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if ".mlp." not in name},
    "layers.#.block_sparse_moe.gate": "blk.#.ffn_gate_inp",
    "layers.#.block_sparse_moe.experts.#.w1": "blk.#.ffn_gate_exps",
    "layers.#.block_sparse_moe.experts.#.w2": "blk.#.ffn_down_exps",
    "layers.#.block_sparse_moe.experts.#.w3": "blk.#.ffn_up_exps",
    "layers.#.mlp.gate": "blk.#.ffn_gate_inp",
    **JOINED_EXPERTS,
}
ORIGINAL: dict[str, str | tuple[str, ...]] = {
    "tok_embeddings": "token_embd",
    "norm": "output_norm",
    "output": "output",
    "layers.#.attention_norm": "blk.#.attn_norm",
    "layers.#.attention.wq": "blk.#.attn_q",
    "layers.#.attention.wk": "blk.#.attn_k",
    "layers.#.attention.wv": "blk.#.attn_v",
    "layers.#.attention.wo": "blk.#.attn_output",
    "layers.#.ffn_norm": "blk.#.ffn_norm",
    "layers.#.feed_forward.w1": "blk.#.ffn_gate",
    "layers.#.feed_forward.w2": "blk.#.ffn_down",
    "layers.#.feed_forward.w3": "blk.#.ffn_up",
}
JOINED_BY_COLUMNS = ("attention.wo", "feed_forward.w2")
"""Matrices of the original layout whose parts lie side by side; all others lie one under another."""


def _llama(c: Config) -> Meta:
    """Keys of general.architecture llama, dense."""
    meta = decoder(c, "llama") | rope(c, "llama")
    meta["llama.vocab_size"] = (c.count("vocab_size"), "u32")
    meta["llama.rope.dimension_count"] = (c.head_dim, "u32")
    return meta


def _mistral(c: Config) -> Meta:
    return _llama(c) | windows.every_layer(c, "llama")


def _mixtral(c: Config) -> Meta:
    return _mistral(c) | {
        "llama.expert_count": (c.count("num_experts"), "u32"),
        "llama.expert_used_count": (c.count("num_experts_per_tok"), "u32"),
    }


def from_params(params: Mapping[str, Any], n_ff: int, n_vocab: int) -> dict[str, Any]:
    """Meta's params.json in the words of a config.json. The context is known by the generation: it is not written."""
    theta = params.get("rope_theta", 10000.0)
    context = 2048 if params.get("norm_eps") == 1e-6 else 4096
    if theta == 500000.0:
        context = 131072 if params.get("use_scaled_rope") else 8192
    config = {
        "model_type": "llama-original",
        "hidden_size": params.get("dim"),
        "num_hidden_layers": params.get("n_layers"),
        "num_attention_heads": params.get("n_heads"),
        "num_key_value_heads": params.get("n_kv_heads") or params.get("n_heads"),
        "head_dim": params.get("head_dim"),
        "intermediate_size": n_ff,
        "vocab_size": n_vocab,
        "rms_norm_eps": params.get("norm_eps"),
        "rope_theta": theta,
        "max_position_embeddings": params.get("max_seq_len") or context,
    }
    if params.get("use_scaled_rope"):
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": params.get("rope_scale_factor", 8.0),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    return config


TOWERS = r"|(^|\.)(vision_tower|multi_modal_projector)\."
"""More to skip: what makes rows of images."""
_MIXTRAL_COMPUTES: dict[str, Values] = {**activation(*SILU), "norm_topk_prob": (True,)}
_MISTRAL_DEFAULTS = {"num_key_value_heads": 8, "rms_norm_eps": 1e-6}
_MIXTRAL_DEFAULTS = {
    "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
FAMILIES = {
    "llama": Family("llama", NAMES, _llama, ROPE_PAIRS, extra=llama3_factors),
    "mistral": Family(
        "llama", NAMES, _mistral, ROPE_PAIRS, extra=llama3_factors, model_type="llama",
        defaults={**_MISTRAL_DEFAULTS, "sliding_window": 4096}, skip=Family.skip + TOWERS,
    ),
    "mixtral": Family(
        "llama", MIXTRAL, _mixtral, {**ROPE_PAIRS, **SPLIT_EXPERTS}, extra=llama3_factors, model_type="llama",
        computes=_MIXTRAL_COMPUTES, defaults=_MIXTRAL_DEFAULTS,
    ),
    "llama-original": Family(
        "llama", ORIGINAL, _llama, skip=r"rope\.freqs$", extra=llama3_factors, model_type="llama"
    ),
}  # fmt: skip
