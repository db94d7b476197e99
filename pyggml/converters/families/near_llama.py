"""Decoders with one or two differences to Llama: SmolLM3, Seed-OSS, EXAONE 4, and those of a squared ReLU.

Sources: transformers/models/smollm3, seed_oss, exaone4, arcee and nemotron; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters import windows
from pyggml.converters.families.llama import NAMES
from pyggml.converters.families.olmo import BEHIND
from pyggml.converters.family import ATTENTION, MLP, ONE_MORE, ROPE_PAIRS, Config, Family, Meta, decoder
from pyggml.converters.meaning import activation
from pyggml.converters.ropes import PART_WORDS, llama3_factors, part_back, part_rope, rope

_PLAIN = {name: to for name, to in NAMES.items() if "gate_proj" not in name}
_BOTH = {"attention_bias": ATTENTION, "mlp_bias": MLP}


def _smollm3(c: Config) -> Meta:
    windows.when_used(c, "smollm3", lambda c: [windows.FULL] * c.n_layer)
    interval, told = c.count("no_rope_layer_interval", default=4), c.get("no_rope_layers")
    turned = told if told is not None else [int((i + 1) % interval != 0) for i in range(c.n_layer)]
    if turned != [int((i + 1) % 4 != 0) for i in range(c.n_layer)]:
        name = "no_rope_layer_interval" if told is None else "no_rope_layers"
        raise c.refused(name, c.get(name), "a smollm3 GGUF has no key for it, its runtimes rotate no fourth layer")
    return decoder(c, "smollm3") | rope(c, "smollm3")


def _seed_oss(c: Config) -> Meta:
    return decoder(c, "seed_oss") | rope(c, "seed_oss")


def _exaone4(c: Config) -> Meta:
    """Where there are windows only their layers are rotated."""
    meta, pattern = decoder(c, "exaone4") | rope(c, "exaone4"), c.get("sliding_window_pattern")
    if c.get("sliding_window") is None:
        windows.as_built(c, [windows.FULL] * c.n_layer)
        return meta
    habit = windows.every_fourth_full(c)
    if c.get("layer_types") is None:
        if isinstance(pattern, bool) or not isinstance(pattern, int) or pattern < 1:
            raise c.refused("sliding_window_pattern", pattern, "expected a whole number from 1, or layer_types")
        habit = [windows.SLIDING if (i + 1) % pattern else windows.FULL for i in range(c.n_layer)]
    inside = windows.of_each_layer(c, habit)
    if not any(inside):
        raise c.refused("layer_types", c.get("layer_types"),
                        "no layer has the window, so that none is rotated; set sliding_window to null")  # fmt: skip
    return meta | {
        "exaone4.attention.sliding_window": (c.count("sliding_window"), "u32"),
        "exaone4.attention.sliding_window_pattern": (inside, None),
    }


def _layers(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    n_layer = Config(config, "the file's metadata").n_layer
    if not config.get("sliding_window"):
        return config | {"sliding_window": None, "layer_types": [windows.FULL] * n_layer}
    return config | {"layer_types": windows.kinds(said, n_layer)}


def _arcee(c: Config) -> Meta:
    return decoder(c, "arcee") | rope(c, "arcee")


def _nemotron(c: Config) -> Meta:
    meta = decoder(c, "nemotron") | part_rope(c, "nemotron")
    del meta["nemotron.attention.layer_norm_rms_epsilon"]
    return meta | {"nemotron.attention.layer_norm_epsilon": (c.number("norm_eps"), "f32")}


_NORMS = ("attn_norm", "ffn_norm", "output_norm")
_SQUARED = activation("relu2", "relu_squared")
FAMILIES = {
    "smollm3": Family(
        "smollm3", NAMES, _smollm3, ROPE_PAIRS, extra=llama3_factors, biases=_BOTH,
        defaults={"rope_theta": 2e6, "num_key_value_heads": 4, "tie_word_embeddings": True,
                  "max_position_embeddings": 32768},
    ),
    "seed_oss": Family(
        "seed_oss", {**NAMES, "layers.#.post_attention_layernorm": "blk.#.post_attention_norm"}, _seed_oss,
        extra=llama3_factors, defaults={"head_dim": 128, "num_key_value_heads": 8, "max_position_embeddings": 524288},
        biases={"attention_bias": ATTENTION[:3], "attention_out_bias": ATTENTION[3:], "mlp_bias": MLP},
    ),
    "exaone4": Family(
        "exaone4", BEHIND, _exaone4, extra=llama3_factors, back=_layers, biases={},
        defaults={"rms_norm_eps": 1e-5, "num_key_value_heads": 32, "sliding_window": 4096, "sliding_window_pattern": 4,
                  "max_position_embeddings": 2048},
    ),
    "arcee": Family(
        "arcee", _PLAIN, _arcee, ROPE_PAIRS, extra=llama3_factors, computes=_SQUARED, biases=_BOTH,
        defaults={"rms_norm_eps": 1e-5, "max_position_embeddings": 4096},
    ),
    "nemotron": Family(
        "nemotron", _PLAIN, _nemotron, {f"{name}.weight": ONE_MORE for name in _NORMS}, computes=_SQUARED,
        biases={**_BOTH, "": _NORMS}, back=part_back,
        words={**PART_WORDS, "attention.layer_norm_epsilon": "norm_eps"},
        defaults={"norm_eps": 1e-5, "partial_rotary_factor": 0.5, "max_position_embeddings": 4096},
    ),
}  # fmt: skip
