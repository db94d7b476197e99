"""Phi 1 to 2 and StableLM: layer norms, heads rotated in part. Sources: transformers/models/phi, stablelm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, MLP, Config, Family, Meta, decoder
from pyggml.converters.meaning import GELU_TANH, activation
from pyggml.converters.ropes import PART_WORDS, part_back, part_rope

_KEPT = ("input_layernorm", "q_proj", "k_proj", "v_proj")
_PHI: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if name in ("embed_tokens", "lm_head") or name.endswith(_KEPT)},
    "final_layernorm": "output_norm",
    "layers.#.self_attn.dense": "blk.#.attn_output",
    "layers.#.mlp.fc1": "blk.#.ffn_up",
    "layers.#.mlp.fc2": "blk.#.ffn_down",
}


def _metadata(arch: str) -> Callable[[Config], Meta]:
    def metadata(c: Config) -> Meta:
        meta = decoder(c, arch, layer_norm=True) | part_rope(c, arch)
        return meta | {f"{arch}.vocab_size": (c.count("vocab_size"), "u32")}

    return metadata


_BACK: dict[str, Any] = {"words": PART_WORDS, "back": part_back}
_NORMS = ("attn_norm", "ffn_norm", "output_norm")
FAMILIES = {
    "phi": Family(
        "phi2", _PHI, _metadata("phi2"), computes=activation(*GELU_TANH),
        defaults={"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5}, named="PhiForCausalLM",
        biases={"": (*ATTENTION, *MLP, *_NORMS, "output")}, **_BACK,
    ),
    "stablelm": Family(
        "stablelm", NAMES, _metadata("stablelm"),
        defaults={"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25, "num_key_value_heads": 32},
        named="StableLmForCausalLM", biases={"use_qkv_bias": ATTENTION[:3], "": _NORMS}, **_BACK,
    ),
}  # fmt: skip
