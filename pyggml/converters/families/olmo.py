"""OLMo 2 and 3, whose norms stand behind attention and feed-forward, and OLMoE: queries and keys normed as a whole.

Sources: transformers/models/olmo2, olmo3 and olmoe; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters import windows
from pyggml.converters.families.qwen import EXPERTS
from pyggml.converters.family import ATTENTION, SPLIT_EXPERTS, Config, Family, Meta, decoder
from pyggml.converters.ropes import base, llama3_factors, rope, rope_type, whole_head

BEHIND: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in EXPERTS.items() if "expert" not in name and "gate" not in name},
    "layers.#.mlp.gate_proj": "blk.#.ffn_gate",
    "layers.#.post_attention_layernorm": "blk.#.post_attention_norm",
    "layers.#.post_feedforward_layernorm": "blk.#.post_ffw_norm",
}
"""Llama's names with norms of queries and keys, and with those of a layer behind its parts."""
del BEHIND["layers.#.input_layernorm"]
_MIXED = {name: to for name, to in EXPERTS.items() if "shared" not in name}


def _olmo2(c: Config) -> Meta:
    return decoder(c, "olmo2") | rope(c, "olmo2")


def _inside(c: Config) -> list[bool]:
    return windows.of_each_layer(c, windows.every_fourth_full(c))


def _kind(c: Config) -> str:
    """The layers whose rope is that of the model: those without a window, where there are any."""
    return windows.SLIDING if all(_inside(c)) else windows.FULL


def _olmo3(c: Config) -> Meta:
    inside = _inside(c)
    meta = decoder(c, "olmo2")
    window = c.get("sliding_window")
    if window is None or not any(inside):
        if window is None and any(inside):
            raise c.refused("layer_types", c.get("layer_types"), "layers with a window, and sliding_window is null")
        return meta | rope(c, "olmo2", windows.FULL)
    local = c.rope(windows.SLIDING)
    rope_type(local, "olmo2", ("default",))
    whole_head(local)
    meta |= rope(c, "olmo2", _kind(c))
    if meta["olmo2.rope.freq_base"][0] != base(local):
        meta["olmo2.rope.freq_base_swa"] = (base(local), "f32")
    return meta | {
        "olmo2.attention.sliding_window": (c.count("sliding_window"), "u32"),
        "olmo2.attention.sliding_window_pattern": (inside, None),
    }


def _by_kind(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Layers with windows turn by a rope of their own, which nothing scales."""
    found = {key: value for key, value in config.items() if key not in ("rope_scaling", "rope_local_base_freq")}
    theta = found.pop("rope_theta")
    ropes = {
        windows.SLIDING: {"rope_type": "default", "rope_theta": config.get("rope_local_base_freq", theta)},
        windows.FULL: {"rope_type": "default", "rope_theta": theta, **config.get("rope_scaling", {})},
    }
    layers = windows.kinds(said, Config(config, "the file's metadata").n_layer)
    return found | {"layer_types": layers, "rope_parameters": ropes}


def _olmoe(c: Config) -> Meta:
    norm: Meta = {"olmoe.expert_weights_norm": (True, None)} if c.flag("norm_topk_prob") else {}
    return decoder(c, "olmoe") | rope(c, "olmoe") | norm | {
        "olmoe.expert_count": (c.count("num_experts"), "u32"),
        "olmoe.expert_used_count": (c.count("num_experts_per_tok"), "u32"),
    }  # fmt: skip


def _sum_of_weights(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    return config | {"norm_topk_prob": bool(said.get("expert_weights_norm", False))}


_BIASES = {"attention_bias": ATTENTION}
_DEFAULTS = {"rms_norm_eps": 1e-5, "max_position_embeddings": 2048}
FAMILIES = {
    "olmo2": Family("olmo2", BEHIND, _olmo2, extra=llama3_factors, defaults=_DEFAULTS, biases=_BIASES),
    "olmo3": Family(
        "olmo2", BEHIND, _olmo3, model_type="olmo2", back=_by_kind, biases=_BIASES,
        extra=lambda c: llama3_factors(c, _kind(c)),
        defaults={**_DEFAULTS, "rope_theta": 5e5, "sliding_window": 4096},
    ),
    "olmoe": Family(
        "olmoe", _MIXED, _olmoe, SPLIT_EXPERTS, extra=llama3_factors, biases=_BIASES, back=_sum_of_weights,
        defaults={"rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "num_experts": 64, "num_experts_per_tok": 8},
    ),
}  # fmt: skip
