"""Nemotron-H and Nemotron 3: a layer is one of Mamba-2, attention without positions, a squared ReLU, or experts.

Layers that predict further tokens stay behind. Sources: transformers/models/nemotron_h; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyggml.converters.families.glm import SIGMOID_WORDS
from pyggml.converters.families.mamba import HEADS, PLAIN, SECOND, Names, heads, names, without_rope
from pyggml.converters.family import ATTENTION, ROPE_PAIRS, Config, Family, Meta, decoder
from pyggml.converters.meaning import Values

_KINDS = {"linear_attention": "M", "mamba": "M", "full_attention": "*", "attention": "*", "mlp": "-", "moe": "E"}
_WRITTEN = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
_AT = "layers.#.mixer"
_NAMES: Names = {
    "embeddings": "token_embd", "norm_f": "output_norm", "lm_head": "output", "layers.#.norm": "blk.#.attn_norm",
    **{f"{_AT}.{part}_proj": f"blk.#.attn_{to}" for part, to in zip("qkvo", ("q", "k", "v", "output"), strict=True)},
    **{f"{_AT}.{part}_proj": f"blk.#.ffn_{part}" for part in ("up", "down")},
    **names("mixer"),
}  # fmt: skip
_EXPERTS: Names = {
    f"{_AT}.gate": "blk.#.ffn_gate_inp", f"{_AT}.gate.e_score_correction_bias": "blk.#.exp_probs_b.bias",
    **{f"{_AT}.experts.#.{part}_proj": f"blk.#.ffn_{part}_exps" for part in ("up", "down")},
    **{f"{_AT}.experts.{part}_proj": f"blk.#.ffn_{part}_exps" for part in ("up", "down")},
    **{f"{_AT}.shared_experts.{part}_proj": f"blk.#.ffn_{part}_shexp" for part in ("up", "down")},
    f"{_AT}.fc1_latent_proj": "blk.#.ffn_latent_down", f"{_AT}.fc2_latent_proj": "blk.#.ffn_latent_up",
}  # fmt: skip


def _layers(c: Config) -> str:
    """What each layer is, a letter each."""
    told, listed = c.get("hybrid_override_pattern"), c.get("layers_block_type", "layer_types")
    if isinstance(listed, list) and all(each in _KINDS for each in listed):
        listed = "".join(_KINDS[each] for each in listed)
    found = told if listed is None else listed
    if not isinstance(found, str) or not found or set(found) - set(_WRITTEN):
        raise c.refused("hybrid_override_pattern", found, f"expected {', '.join(_WRITTEN)} for each layer")
    if told not in (None, found):
        raise c.refused("hybrid_override_pattern", told, "layers_block_type says others")
    if c.count("num_hidden_layers", default=len(found)) != len(found):
        raise c.refused("num_hidden_layers", c.get("num_hidden_layers"), f"{len(found)} layers are described")
    return str(found)


def _metadata(arch: str) -> Callable[[Config], Meta]:
    def metadata(c: Config) -> Meta:
        kinds, n_head, width = _layers(c), c.count("num_heads"), c.count("mamba_head_dim")
        widths = {"-": c.index("intermediate_size"), "E": c.index("moe_intermediate_size")}
        meta = decoder(c, arch, n_ff=1, n_layer=len(kinds)) | heads(c, arch, n_head * width)
        del meta[f"{arch}.attention.layer_norm_rms_epsilon"]
        c.get("expand"), c.index("num_nextn_predict_layers", default=0)
        meta |= {
            f"{arch}.attention.layer_norm_epsilon": (c.number("layer_norm_eps"), "f32"),
            f"{arch}.attention.head_count_kv": ([c.n_head_kv if each == "*" else 0 for each in kinds], "i32"),
            f"{arch}.feed_forward_length": ([widths.get(each, 0) for each in kinds], "i32"),
            **without_rope(c, arch),
        }
        told = _experts(c, arch)  # by a model without them too
        return meta | (told if arch == "nemotron_h_moe" else {})

    return metadata


def _experts(c: Config, arch: str) -> Meta:
    n_latent = c.index("moe_latent_size")
    if c.count("n_group") > 1 and c.count("topk_group") != c.count("n_group"):
        raise c.refused("topk_group", c.get("topk_group"), "a GGUF of these models says no chosen groups")
    return ({f"{arch}.moe_latent_size": (n_latent, "u32")} if n_latent else {}) | {
        f"{arch}.expert_count": (c.index("num_experts"), "u32"),
        f"{arch}.expert_used_count": (c.index("num_experts_per_tok"), "u32"),
        f"{arch}.expert_feed_forward_length": (c.index("moe_intermediate_size"), "u32"),
        f"{arch}.expert_shared_feed_forward_length": (c.index("moe_shared_expert_intermediate_size"), "u32"),
        f"{arch}.expert_shared_count": (c.index("n_shared_experts"), "u32"),
        f"{arch}.expert_weights_norm": (c.flag("norm_topk_prob"), None),
        f"{arch}.expert_weights_scale": (c.positive("routed_scaling_factor", default=1.0), "f32"),
        f"{arch}.expert_group_count": (c.count("n_group"), "u32"),
    }


def _instead(c: Config) -> str:
    return "nemotron_h moe" if "E" in _layers(c) else ""


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    n = config["num_hidden_layers"] - said.get("nextn_predict_layers", 0)
    n_kv, widths = (
        (told if isinstance(told, list) else [told] * n)
        for told in (said["attention.head_count_kv"], said["feed_forward_length"])
    )
    mixed = {int(name.split(".")[1]) for name in said[""] if name.endswith("ffn_gate_inp.weight")}
    kinds = ["M" if not width else "E" if i in mixed else "-" for i, width in enumerate(widths[:n])]
    kinds = ["*" if each else kind for each, kind in zip(n_kv, kinds, strict=False)]
    dense = [width for width, kind in zip(widths, kinds, strict=False) if kind == "-"]
    if mixed:
        config = config | {"norm_topk_prob": bool(said.get("expert_weights_norm", False))}
    found = {key: value for key, value in config.items() if key not in ("rope_theta", "num_hidden_layers")}
    return found | {
        "layers_block_type": [_WRITTEN[each] for each in kinds],
        "num_key_value_heads": max(*n_kv, 1),
        "intermediate_size": max(dense, default=1),
        "mamba_head_dim": said["ssm.inner_size"] // said["ssm.time_step_rank"],
    }


_COMPUTES: dict[str, Values] = {**PLAIN, "mlp_hidden_act": ("relu2", "relu_squared")}
_SPELLED = {"num_heads": "mamba_num_heads", "state_size": "ssm_state_size", "layer_norm_eps": "layer_norm_epsilon"}
_WORDS = {
    **HEADS, **{key: name for key, name in SIGMOID_WORDS.items() if key.startswith("expert_") and "used" not in key},
    "attention.layer_norm_epsilon": "layer_norm_eps", "moe_latent_size": "moe_latent_size",
    "expert_shared_feed_forward_length": "moe_shared_expert_intermediate_size",
}  # fmt: skip


def _family(arch: str, more: Names, **how: Any) -> Family:
    return Family(
        arch, {**_NAMES, **more}, _metadata(arch), {**SECOND, **ROPE_PAIRS}, skip=r"^mtp\.|^backbone\.mtp\.",
        computes=_COMPUTES,
        defaults={"layer_norm_epsilon": 1e-5, "conv_kernel": 4, "n_groups": 8, "ssm_state_size": 128, "head_dim": 128,
                  "num_key_value_heads": 8, "mamba_num_heads": 128, "mamba_head_dim": 64, "n_group": 1, "topk_group": 1,
                  "norm_topk_prob": True, "n_shared_experts": 1, "max_position_embeddings": 4096},
        spelled=_SPELLED, prefix="backbone.", named="NemotronHForCausalLM", words=_WORDS, back=_back, instead=_instead,
        biases={"attention_bias": ATTENTION, "mlp_bias": ("ffn_up", "ffn_down"), "use_conv_bias": ("ssm_conv1d",),
                "use_bias": ("ssm_in", "ssm_out"), "": ("ssm_dt", "exp_probs_b")}, **how,
    )  # fmt: skip


FAMILIES = {
    "nemotron_h": _family("nemotron_h", {}),
    "nemotron_h moe": _family("nemotron_h_moe", _EXPERTS),
}
