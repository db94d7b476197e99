"""ERNIE 4.5, dense and with experts behind dense layers, chosen by their probability and a bias.

Parts that predict further tokens (mtp_block and its kin) are left out.

Sources: transformers/models/ernie4_5 and ernie4_5_moe; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters.families.glm import EXPERTS
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, MLP, SPLIT_EXPERTS, Change, Config, Family, Meta, decoder
from pyggml.converters.meaning import SILU, Values, activation
from pyggml.converters.ropes import llama3_factors, rope

_BIAS = "e_score_correction_bias"
_EXPERTS: dict[str, str | tuple[str, ...]] = {
    **NAMES,
    **EXPERTS,
    f"layers.#.mlp.moe_statics.{_BIAS}": "blk.#.exp_probs_b.bias",
    f"layers.#.mlp.gate.moe_statics.{_BIAS}": "blk.#.exp_probs_b.bias",
}


def _dense(c: Config) -> Meta:
    return decoder(c, "ernie4_5") | rope(c, "ernie4_5")


def _mixed(c: Config) -> Meta:
    arch, shared = "ernie4_5-moe", c.index("moe_num_shared_experts")
    c.index("num_nextn_predict_layers")
    last = c.get("moe_layer_end_index")
    if last not in (None, -1) and c.index("moe_layer_end_index") < c.n_layer - 1:
        raise c.refused("moe_layer_end_index", last, "dense layers behind those of experts, which a GGUF cannot say")
    return decoder(c, arch) | rope(c, arch) | {
        f"{arch}.expert_count": (c.count("moe_num_experts"), "u32"),
        f"{arch}.expert_used_count": (c.count("moe_k"), "u32"),
        f"{arch}.expert_feed_forward_length": (c.count("moe_intermediate_size"), "u32"),
        f"{arch}.expert_shared_count": (shared, "u32"),
        f"{arch}.expert_shared_feed_forward_length": (shared * c.count("moe_intermediate_size"), "u32"),
        f"{arch}.leading_dense_block_count": (c.index("moe_layer_start_index"), "u32"),
        f"{arch}.interleave_moe_layer_step": (c.count("moe_layer_interval"), "u32"),
    }  # fmt: skip


def _shared(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in config.items() if key != "shared_expert_intermediate_size"}
    width = said.get("expert_shared_feed_forward_length", 0)
    n_shared = width // Config(config, "the file's metadata").count("moe_intermediate_size")
    return {"moe_num_shared_experts": n_shared, "moe_layer_start_index": 0, "moe_layer_interval": 1, **found}


_DEFAULTS = {
    "rms_norm_eps": 1e-5, "rope_theta": 5e5, "tie_word_embeddings": True, "max_position_embeddings": 131072,
}  # fmt: skip
_COMPUTES: dict[str, Values] = {**activation(*SILU), "use_bias": (False,), "moe_norm_min": (1e-12,)}
FAMILIES = {
    "ernie4_5": Family(
        "ernie4_5", NAMES, _dense, extra=llama3_factors, biases={"use_bias": (*ATTENTION, *MLP)},
        defaults={**_DEFAULTS, "head_dim": 128, "num_key_value_heads": 2},
    ),
    "ernie4_5_moe": Family(
        "ernie4_5-moe", _EXPERTS, _mixed, extra=llama3_factors, computes=_COMPUTES, biases={"": ("exp_probs_b",)},
        change={**SPLIT_EXPERTS, "exp_probs_b.bias": Change(lambda w, c: w.reshape(-1), lambda w, c: w.reshape(1, -1))},
        skip=Family.skip + r"|(^|\.)mtp_",
        words={"expert_count": "moe_num_experts", "expert_used_count": "moe_k",
               "expert_shared_count": "moe_num_shared_experts", "leading_dense_block_count": "moe_layer_start_index",
               "interleave_moe_layer_step": "moe_layer_interval"},
        back=_shared,
        defaults={**_DEFAULTS, "num_key_value_heads": 4, "moe_num_experts": 64, "moe_k": 6,
                  "moe_intermediate_size": 1536, "moe_num_shared_experts": 2, "moe_layer_start_index": 1,
                  "moe_layer_interval": 1},
    ),
}  # fmt: skip
