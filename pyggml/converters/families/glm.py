"""GLM-4 (0414), with norms before and behind, and GLM-4.5 to 4.7: experts chosen by a sigmoid and a bias behind dense
layers, one or more shared.

Layers behind the last one predict further tokens; they are left out.
"""

from __future__ import annotations

from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, JOINED_EXPERTS, SPLIT_EXPERTS, Config, Family, Meta, decoder
from pyggml.converters.meaning import SILU, Values, activation
from pyggml.converters.ropes import PART_WORDS, base, part_back, part_rope, rope_type
from pyggml.errors import GGUFError

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
_DENSE: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if "gate_proj" not in name and "up_proj" not in name},
    "layers.#.mlp.gate_up_proj": "blk.#.ffn_up",
    "layers.#.post_self_attn_layernorm": "blk.#.post_attention_norm",
    "layers.#.post_mlp_layernorm": "blk.#.post_ffw_norm",
}
SIGMOID: dict[str, Values] = {
    **activation(*SILU),
    "scoring_func": ("sigmoid",),
    "topk_method": ("noaux_tc",),
    "use_qk_norm": (True, False),  # the norms are stored or not
}


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
    r = c.rope()
    rope_type(r, "glm4moe", ("default",))
    part = r.number("partial_rotary_factor", default=0.5)
    if not 0 < part <= 1:
        raise GGUFError(f"{c.where}: partial_rotary_factor is {part:g}, expected a share of the head")
    return (
        decoder(c, "glm4moe")
        | sigmoid(c, "glm4moe")
        | {
            "glm4moe.rope.freq_base": (base(r), "f32"),
            "glm4moe.rope.dimension_count": (int(part * c.head_dim), "u32"),
        }
    )


def _dense(c: Config) -> Meta:
    return decoder(c, "glm4") | part_rope(c, "glm4")


_DEFAULTS = {"n_group": 1, "topk_group": 1, "n_shared_experts": 1, "routed_scaling_factor": 1.0}
FAMILIES = {
    "glm4": Family(
        "glm4", _DENSE, _dense, biases={"attention_bias": ATTENTION[:3]}, back=part_back,
        words=PART_WORDS,
        defaults={"rms_norm_eps": 1.5625e-07, "num_key_value_heads": 2, "head_dim": 128, "partial_rotary_factor": 0.5,
                  "max_position_embeddings": 131072},
    ),
    "glm4_moe": Family(
        "glm4moe", _GLM, _glm, SPLIT_EXPERTS, computes=SIGMOID, ahead=True,
        defaults={**_DEFAULTS, "rms_norm_eps": 1e-5, "norm_topk_prob": True, "first_k_dense_replace": 1,
                  "num_key_value_heads": 8},
    ),
}  # fmt: skip
