"""MPT: Llama's forerunner without positions, whose scores sink with distance.

Sources: transformers/models/mpt, arXiv 2108.12409; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters.family import Config, Family, Meta, decoder

_NAMES: dict[str, str | tuple[str, ...]] = {
    "wte": "token_embd", "norm_f": "output_norm", "lm_head": "output",
    "blocks.#.norm_1": "blk.#.attn_norm", "blocks.#.attn.Wqkv": "blk.#.attn_qkv",
    "blocks.#.attn.out_proj": "blk.#.attn_output", "blocks.#.norm_2": "blk.#.ffn_norm",
    "blocks.#.ffn.up_proj": "blk.#.ffn_up", "blocks.#.ffn.down_proj": "blk.#.ffn_down",
}  # fmt: skip
_COMPUTED: dict[str, tuple[Any, ...]] = {
    "alibi": (True,), "attn_type": ("multihead_attention",), "clip_qkv": (None,), "softmax_scale": (None,),
    "prefix_lm": (False,), "qk_ln": (False,), "attn_uses_sequence_id": (False,),
}  # fmt: skip
"""Keys of attn_config -> what the architecture computes."""


def _metadata(c: Config) -> Meta:
    told = c.get("attn_config")
    attn = Config(told if isinstance(told, dict) else {}, f"{c.where}: attn_config", {"alibi": True})
    for key, values in _COMPUTED.items():
        if not attn.silent(key) and attn.get(key) not in values:
            raise attn.refused(key, attn.get(key), f"a GGUF of mpt computes as with {values[0]}")
    for key in ("learned_pos_emb", "intermediate_size", "init_device", "embedding_fraction", "no_bias"):
        c.get(key)  # of no effect on a loaded model that alibi positions
    return decoder(c, "mpt", n_ff=c.count("expansion_ratio") * c.n_embd, layer_norm=True) | {
        "mpt.attention.head_count_kv": (c.n_head, "u32"),
        "mpt.attention.max_alibi_bias": (attn.positive("alibi_bias_max", default=8.0), "f32"),
    }


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    gone = ("intermediate_size", "num_key_value_heads", "rope_theta", "alibi_bias_max")
    return {key: value for key, value in config.items() if key not in gone} | {
        "expansion_ratio": config["intermediate_size"] // config["hidden_size"],
        "attn_config": {"alibi": True, "alibi_bias_max": int(said.get("attention.max_alibi_bias", 8))},
        "learned_pos_emb": False,
    }


FAMILIES = {
    "mpt": Family(
        "mpt", _NAMES, _metadata, prefix="transformer.", named="MptForCausalLM", back=_back, biases={},
        computes={"norm_type": ("low_precision_layernorm", "layernorm")},
        defaults={"layer_norm_eps": 1e-5, "tie_word_embeddings": True, "expansion_ratio": 4, "max_seq_len": 2048},
        spelled={"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers",
                 "max_position_embeddings": "max_seq_len", "layer_norm_eps": "layer_norm_epsilon"},
        words={"attention.max_alibi_bias": "alibi_bias_max"},
    ),
}  # fmt: skip
