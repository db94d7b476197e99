"""GLM-4 (0414), with norms before and behind the parts of a layer; of GLM-4.1V the decoder only."""

from __future__ import annotations

from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, Config, Family, Meta, decoder
from pyggml.converters.ropes import PART_WORDS, part_back, part_of_head, part_rope

_DENSE: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if "gate_proj" not in name and "up_proj" not in name},
    "layers.#.mlp.gate_up_proj": "blk.#.ffn_up",
    "layers.#.post_self_attn_layernorm": "blk.#.post_attention_norm",
    "layers.#.post_mlp_layernorm": "blk.#.post_ffw_norm",
}


def _dense(c: Config) -> Meta:
    axes(c)
    return decoder(c, "glm4") | part_rope(c, "glm4")


def axes(c: Config) -> None:
    """Which pairs turn by which axis of a position: no matter in a text, but all pairs must have one."""
    r = c.rope()
    if r.get("mrope_section") is not None and sum(r.numbers("mrope_section")) != part_of_head(c) // 2:
        raise r.refused("mrope_section", r.get("mrope_section"), f"expected a sum of {part_of_head(c) // 2} pairs")


SEEING = Family.skip + r"|(^|\.)visual\."
"""What a model that sees has beside its decoder is left out."""
FAMILIES = {
    "glm4": Family(
        "glm4", _DENSE, _dense, biases={"attention_bias": ATTENTION[:3]}, back=part_back,
        words=PART_WORDS,
        defaults={"rms_norm_eps": 1.5625e-07, "num_key_value_heads": 2, "head_dim": 128, "partial_rotary_factor": 0.5,
                  "max_position_embeddings": 131072},
    ),
    **dict.fromkeys(("glm4v", "glm4v_text"), Family(
        "glm4", _DENSE, _dense, model_type="glm4", skip=SEEING,
        defaults={"rms_norm_eps": 1e-5, "num_key_value_heads": 2, "max_position_embeddings": 32768},
    )),
}  # fmt: skip
