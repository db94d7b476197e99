"""Phi-3 and Phi-4-mini: fused QKV and gate-up, LongRoPE factors as tensors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import Config, Family, Meta, decoder
from pyggml.errors import GGUFError

_FUSED: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if "_proj" not in name},
    "layers.#.self_attn.qkv_proj": "blk.#.attn_qkv",
    "layers.#.self_attn.o_proj": "blk.#.attn_output",
    "layers.#.mlp.gate_up_proj": "blk.#.ffn_up",
    "layers.#.mlp.down_proj": "blk.#.ffn_down",
}


def _n_rot(c: Config) -> int:
    partial = c.rope().number("partial_rotary_factor", default=c.number("partial_rotary_factor", default=1.0))
    return int(partial * c.head_dim)


def _contexts(c: Config) -> tuple[int, int]:
    longest = c.count("max_position_embeddings")
    first = c.rope().get("original_max_position_embeddings")
    return longest, first if isinstance(first, int) else c.count("original_max_position_embeddings", default=longest)


def _metadata(c: Config) -> Meta:
    longest, first = _contexts(c)
    meta = decoder(c, "phi3", head_dim=False)
    meta["phi3.rope.freq_base"] = (c.rope().number("rope_theta", default=10000.0), "f32")
    meta["phi3.rope.dimension_count"] = (_n_rot(c), "u32")
    meta["phi3.rope.scaling.original_context_length"] = (first, "u32")
    if c.get("sliding_window") is not None:
        meta["phi3.attention.sliding_window"] = (c.count("sliding_window"), "u32")
    if c.rope().get("rope_type") in ("longrope", "su") and longest > first:
        factor = math.sqrt(1 + math.log(longest / first) / math.log(first))
        meta["phi3.rope.scaling.attn_factor"] = (factor, "f32")
    return meta


def _factors(c: Config) -> dict[str, NDArray[np.float32]]:
    r = c.rope()
    if r.get("rope_type") not in ("longrope", "su"):
        return {}
    found = {}
    for name in ("long", "short"):
        values = c.numbers(r.get(f"{name}_factor"), f"{name}_factor")
        if len(values) != _n_rot(c) // 2:
            raise GGUFError(f"config.json: {name}_factor has {len(values)} values, expected {_n_rot(c) // 2}")
        found[f"rope_factors_{name}.weight"] = np.array(values, np.float32)
    return found


FAMILIES = {"phi3": Family("phi3", _FUSED, _metadata, extra=_factors)}
