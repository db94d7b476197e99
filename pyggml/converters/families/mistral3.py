"""Ministral 3: Llama with YaRN, and queries that grow with their position. Sources: transformers/models/ministral3.

Mistral Small 3.1 is a Mistral behind a tower of images: its text_config says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pyggml.converters import windows
from pyggml.converters.families.llama import FAMILIES as LLAMA
from pyggml.converters.families.llama import NAMES, TOWERS
from pyggml.converters.family import ROPE_PAIRS, Config, Family, Meta, decoder
from pyggml.converters.ropes import base, llama3_factors, own_magnitude, rope, rope_type, yarn, yarn_factor

_ARCH = "mistral3"


def _rope(c: Config) -> Meta:
    """YaRN's magnitude is that of mscale over that of mscale_all_dim, which has a key of its own."""
    r = c.rope()
    r.get("max_position_embeddings")
    one, all_dims = r.get("mscale"), r.get("mscale_all_dim")
    if rope_type(r, _ARCH, _TYPES) != "yarn" or not one or not all_dims or r.get("attention_factor") is not None:
        return rope(c, _ARCH, carried=_TYPES)
    factor = yarn_factor(c, r)
    ratio = own_magnitude(factor, r.positive("mscale")) / own_magnitude(factor)
    meta = {f"{_ARCH}.rope.freq_base": (base(r), "f32"), **yarn(c, r, _ARCH)}
    meta[f"{_ARCH}.rope.scaling.yarn_log_multiplier"] = (r.positive("mscale_all_dim"), "f32")
    return meta | ({} if abs(ratio - 1) < 1e-7 else {f"{_ARCH}.rope.scaling.attn_factor": (ratio, "f32")})


def _metadata(c: Config) -> Meta:
    meta = decoder(c, _ARCH) | _rope(c) | windows.every_layer(c, _ARCH)
    meta[f"{_ARCH}.vocab_size"] = (c.count("vocab_size"), "u32")
    r = c.rope()
    if r.get("llama_4_scaling_beta"):
        meta[f"{_ARCH}.attention.temperature_scale"] = (r.positive("llama_4_scaling_beta"), "f32")
        if f"{_ARCH}.rope.scaling.original_context_length" not in meta:
            length = r.count("original_max_position_embeddings")
            meta[f"{_ARCH}.attention.temperature_length"] = (length, "u32")
    return meta


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """All that turns lies together, as transformers reads it for this model type."""
    moved = ("rope_theta", "mscale_all_dim", "llama_4_scaling_beta", "original_max_position_embeddings")
    r = {"rope_type": "default", **config.get("rope_scaling", {})}
    r |= {key: config[key] for key in moved if key in config}
    r.setdefault("llama_4_scaling_beta", 0.0)
    r.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
    if "mscale_all_dim" in r:
        factor = r["factor"]
        r.pop("attention_factor", None)
        magnitude = said.get("rope.scaling.attn_factor", 1.0) * own_magnitude(factor)
        r["mscale"] = (magnitude - 1) / (0.1 * math.log(factor)) if factor > 1 else 1.0
    kept = {key: value for key, value in config.items() if key not in (*moved, "rope_scaling")}
    return {"sliding_window": None, **kept, "rope_parameters": r}


_TYPES = ("default", "linear", "yarn", "llama3")
FAMILIES = {
    "ministral3": Family(
        _ARCH, NAMES, _metadata, ROPE_PAIRS, extra=llama3_factors,
        skip=Family.skip + TOWERS,
        defaults={"rms_norm_eps": 1e-5, "num_key_value_heads": 8, "head_dim": 128},
        named="Ministral3ForCausalLM", biases={}, back=_back,
        words={"rope.scaling.yarn_log_multiplier": "mscale_all_dim",
               "attention.temperature_scale": "llama_4_scaling_beta",
               "attention.temperature_length": "original_max_position_embeddings"},
    ),
    "mistral3": LLAMA["mistral"],
}  # fmt: skip
