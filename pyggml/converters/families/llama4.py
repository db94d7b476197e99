"""Llama 4: chunks of attention, layers that know no positions, one expert and a shared one.

Sources: transformers/models/llama4. Towers of images stay behind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters import windows
from pyggml.converters.families.gpt_oss import turned
from pyggml.converters.families.llama import NAMES, TOWERS
from pyggml.converters.family import Change, Config, Family, Meta, decoder
from pyggml.converters.ropes import llama3_factors, rope

_ARCH, _PERIOD, _BARE = "llama4", 4, 128
_PARTS = ("gate", "up", "down")
_NAMES: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if ".mlp." not in name},
    **{f"layers.#.feed_forward.{part}_proj": f"blk.#.ffn_{part}" for part in _PARTS},
    **{f"layers.#.feed_forward.shared_expert.{part}_proj": f"blk.#.ffn_{part}_shexp" for part in _PARTS},
    "layers.#.feed_forward.router": "blk.#.ffn_gate_inp",
    "layers.#.feed_forward.experts.gate_up_proj": ("blk.#.ffn_gate_exps", "blk.#.ffn_up_exps"),
    "layers.#.feed_forward.experts.down_proj": "blk.#.ffn_down_exps",
}


def _half(second: int) -> Change:
    """Experts' matrices lie as (in, out), gates and ups side by side."""

    def there(w: NDArray[Any], c: Config) -> NDArray[Any]:
        return turned(np.split(w, 2, axis=-1)[second])

    return Change(there)


def _check_layers(c: Config) -> None:
    """Each fourth layer sees all tokens and knows no positions."""
    turns = [int((i + 1) % _PERIOD != 0) for i in range(c.n_layer)]
    for key, right in (("no_rope_layers", turns), ("no_rope_layer_interval", _PERIOD)):
        told = c.get(key)
        if told not in (None, [], right):
            raise c.refused(key, told, f"in a {_ARCH} GGUF each fourth layer knows no positions, the others do")
    windows.as_built(c, ["chunked_attention" if each else windows.FULL for each in turns])


def _check_mixture(c: Config, step: int) -> None:
    told = c.get("moe_layers")
    if told is not None and told != list(range(step - 1, c.n_layer, step)):
        raise c.refused("moe_layers", told, f"a {_ARCH} GGUF says that each {step}. layer has experts")
    normed = c.count("num_experts") != _BARE
    if c.flag("use_qk_norm", True) != normed:
        raise c.refused("use_qk_norm", not normed, f"runtimes norm queries and keys but in models of {_BARE} experts")


def _metadata(c: Config) -> Meta:
    step = c.count("interleave_moe_layer_step")
    _check_layers(c)
    _check_mixture(c, step)
    tuned = bool(c.get("attn_temperature_tuning"))
    scale, length = c.number("attn_scale"), c.number("floor_scale")
    if length != int(length) or not 0 < length < 1 << 31:
        raise c.refused("floor_scale", length, "expected a whole number from 1")
    return decoder(c, _ARCH, n_ff=c.count("intermediate_size_mlp")) | rope(c, _ARCH) | {
        f"{_ARCH}.vocab_size": (c.count("vocab_size"), "u32"),
        f"{_ARCH}.expert_count": (c.count("num_experts"), "u32"),
        f"{_ARCH}.expert_used_count": (c.count("num_experts_per_tok"), "u32"),
        f"{_ARCH}.expert_feed_forward_length": (c.count("intermediate_size"), "u32"),
        f"{_ARCH}.interleave_moe_layer_step": (step, "u32"),
        f"{_ARCH}.attention.chunk_size": (c.count("attention_chunk_size"), "u32"),
        f"{_ARCH}.attention.temperature_scale": (scale if tuned else 0.0, "f32"),
        f"{_ARCH}.attention.temperature_length": (int(length), "u32"),
    }  # fmt: skip


_LLAMA4 = Family(
    _ARCH, _NAMES, _metadata,
    {"ffn_gate_exps": _half(0), "ffn_up_exps": _half(1), "ffn_down_exps": Change(lambda w, c: turned(w))},
    extra=llama3_factors, skip=Family.skip + TOWERS + r"|(^|\.)vision_model\.", model_type="llama4_text",
    defaults={
        "rms_norm_eps": 1e-5, "num_key_value_heads": 8, "head_dim": 128, "rope_theta": 5e5, "num_experts": 16,
        "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "intermediate_size_mlp": 16384,
        "intermediate_size": 8192, "attention_chunk_size": 8192, "attn_temperature_tuning": True, "attn_scale": 0.1,
        "floor_scale": 8192,
    },
)  # fmt: skip
FAMILIES = {"llama4_text": _LLAMA4, "llama4": _LLAMA4}
