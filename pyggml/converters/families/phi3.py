"""Phi-3 and Phi-4-mini: fused QKV and gate-up, LongRoPE factors as tensors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pyggml.converters import windows
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import Config, Family, Meta, decoder
from pyggml.converters.ropes import base, part_of_head, rope_type
from pyggml.errors import GGUFError

_FUSED: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if "_proj" not in name},
    "layers.#.self_attn.qkv_proj": "blk.#.attn_qkv",
    "layers.#.self_attn.o_proj": "blk.#.attn_output",
    "layers.#.mlp.gate_up_proj": "blk.#.ffn_up",
    "layers.#.mlp.down_proj": "blk.#.ffn_down",
}


def _long(c: Config) -> bool:
    """Whether positions are rotated by LongRoPE, which older files call su or yarn."""
    return rope_type(c.rope(), "phi3", ("default", "longrope", "su", "yarn")) != "default"


def _metadata(c: Config) -> Meta:
    r, longest = c.rope(), c.n_ctx
    first = r.count("original_max_position_embeddings", default=longest)
    meta = decoder(c, "phi3", head_dim=False)
    meta["phi3.rope.freq_base"] = (base(r), "f32")
    meta["phi3.rope.dimension_count"] = (part_of_head(c), "u32")
    meta["phi3.rope.scaling.original_context_length"] = (first, "u32")
    if c.get("sliding_window") is not None:  # read even where no position lies before it: runtimes want the key
        windows.every_layer(c, "phi3")
        meta["phi3.attention.sliding_window"] = (c.count("sliding_window"), "u32")
    if _long(c):
        ratio = r.positive("factor", default=longest / first)
        own = math.sqrt(1 + math.log(ratio) / math.log(first)) if ratio > 1 and first > 1 else 1.0
        factor = r.positive("attention_factor", default=own)
        if factor != 1.0:
            meta["phi3.rope.scaling.attn_factor"] = (factor, "f32")
    return meta


def _factors(c: Config) -> dict[str, NDArray[np.float32]]:
    if not _long(c):
        return {}
    r = c.rope()
    found = {}
    for name in ("long", "short"):
        values = r.numbers(f"{name}_factor")
        if len(values) != part_of_head(c) // 2:
            raise GGUFError(f"{r.where}: {name}_factor has {len(values)} values, expected {part_of_head(c) // 2}")
        found[f"rope_factors_{name}.weight"] = np.array(values, np.float32)
    return found


_DEFAULTS = {"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096}
FAMILIES = {"phi3": Family("phi3", _FUSED, _metadata, extra=_factors, defaults=_DEFAULTS)}
