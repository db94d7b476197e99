"""GLM-4.5 to 4.7: experts chosen by a sigmoid and a bias behind dense layers, one or more shared. Of 4.5V the decoder.

Layers behind the last one predict further tokens; they are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters.families.glm4 import SEEING, axes
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, JOINED_EXPERTS, SPLIT_EXPERTS, Config, Family, Meta, decoder
from pyggml.converters.meaning import SILU, Values, activation
from pyggml.converters.ropes import PART_WORDS, base, part_back, part_of_head, rope_type
from pyggml.errors import UnsupportedError

EXPERTS: dict[str, str | tuple[str, ...]] = {
    "layers.#.mlp.gate": "blk.#.ffn_gate_inp",
    **{
        f"layers.#.mlp.{at}.{part}_proj": f"blk.#.ffn_{part}_{to}"
        for at, to in (("experts.#", "exps"), ("shared_experts", "shexp"))
        for part in ("gate", "up", "down")
    },
    **JOINED_EXPERTS,
}
"""A router and experts, with some that every token passes."""
_GLM: dict[str, str | tuple[str, ...]] = {
    **NAMES,
    "layers.#.post_attention_layernorm": "blk.#.post_attention_norm",
    "layers.#.self_attn.q_norm": "blk.#.attn_q_norm",
    "layers.#.self_attn.k_norm": "blk.#.attn_k_norm",
    "layers.#.mlp.gate.e_score_correction_bias": "blk.#.exp_probs_b.bias",
    **EXPERTS,
}
SIGMOID: dict[str, Values] = {
    **activation(*SILU),
    "scoring_func": ("sigmoid",),
    "topk_method": ("noaux_tc",),
    "use_qk_norm": (True, False),  # the norms are stored or not
}


SIGMOID_WORDS = {
    "expert_gating_func": "scoring_func", "expert_count": "n_routed_experts",
    "expert_shared_count": "n_shared_experts", "expert_weights_scale": "routed_scaling_factor",
    "expert_group_count": "n_group", "expert_group_used_count": "topk_group",
    "leading_dense_block_count": "first_k_dense_replace",
}  # fmt: skip
"""The way back of what sigmoid() says."""


def sigmoid(c: Config, arch: str) -> Meta:
    """Experts chosen by a sigmoid and a bias, in groups, behind dense layers."""
    c.index("num_nextn_predict_layers", default=0)
    return {
        f"{arch}.expert_count": (c.count("num_experts"), "u32"),
        f"{arch}.expert_used_count": (c.count("num_experts_per_tok"), "u32"),
        f"{arch}.expert_feed_forward_length": (c.count("moe_intermediate_size"), "u32"),
        f"{arch}.expert_shared_count": (c.count("n_shared_experts"), "u32"),
        f"{arch}.expert_weights_scale": (c.number("routed_scaling_factor", default=1.0), "f32"),
        f"{arch}.expert_weights_norm": (c.flag("norm_topk_prob"), None),
        f"{arch}.expert_gating_func": (2, "u32"),
        f"{arch}.expert_group_count": (c.count("n_group"), "u32"),
        f"{arch}.expert_group_used_count": (c.count("topk_group"), "u32"),
        f"{arch}.leading_dense_block_count": (c.index("first_k_dense_replace"), "u32"),
    }


def _glm(c: Config) -> Meta:
    axes(c)
    r = c.rope()
    rope_type(r, "glm4moe", ("default",))
    return (
        decoder(c, "glm4moe")
        | sigmoid(c, "glm4moe")
        | {
            "glm4moe.rope.freq_base": (base(r), "f32"),
            "glm4moe.rope.dimension_count": (part_of_head(c), "u32"),
        }
    )


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """What a file does not say is none of it, but for a config.json often one."""
    if said.get("expert_gating_func", 0) not in (0, 2):
        raise UnsupportedError("glm4moe.expert_gating_func is no sigmoid: a glm4_moe model has no other router")
    none = {"n_shared_experts": 0, "first_k_dense_replace": 0}
    told = {key: value for key, value in part_back(said, config).items() if key != "scoring_func"}
    return none | told | {"norm_topk_prob": bool(said.get("expert_weights_norm", False))}


_DEFAULTS = {
    "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "routed_scaling_factor": 1.0, "rms_norm_eps": 1e-5,
    "norm_topk_prob": True, "first_k_dense_replace": 1, "num_key_value_heads": 8, "partial_rotary_factor": 0.5,
}  # fmt: skip
FAMILIES = {
    **dict.fromkeys(("glm4v_moe", "glm4v_moe_text"), Family(
        "glm4moe", _GLM, _glm, SPLIT_EXPERTS, computes=SIGMOID, ahead=True, model_type="glm4_moe", skip=SEEING,
        defaults=_DEFAULTS,
    )),
    "glm4_moe": Family(
        "glm4moe", _GLM, _glm, SPLIT_EXPERTS, computes=SIGMOID, ahead=True,
        defaults=_DEFAULTS, stored={"use_qk_norm": "attn_q_norm"},
        biases={"attention_bias": ATTENTION[:3], "": ("exp_probs_b",)},
        words={**PART_WORDS, **SIGMOID_WORDS}, back=_back, named="Glm4MoeForCausalLM",
    ),
}  # fmt: skip
