"""Granite 4: Mamba-2 in most layers, attention in some, and experts, or one feed-forward, behind either.

Models of this type without state spaces are Granite 3 by another name, and become files of its architectures.
Sources: transformers/models/granitemoehybrid; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyggml.converters.families.granite import EXPERTS, SCALES, scales_back
from pyggml.converters.families.mamba import HEADS, PLAIN, SECOND, Names, expanded, heads, names, times, without_rope
from pyggml.converters.family import ATTENTION, ROPE_PAIRS, SPLIT_EXPERTS, Config, Family, Meta, decoder, split
from pyggml.converters.ropes import llama3_factors, rope
from pyggml.converters.windows import FULL

_RULES = ("mamba", "linear_attention")
_ATTENDS = ("attention", FULL)


def _named(mixed: bool, spaces: bool) -> Names:
    """mixed: with experts, so that the feed-forward is one that every token passes."""
    end = "_shexp" if mixed else ""
    found: Names = {name: to for name, to in EXPERTS.items() if mixed or "block_sparse_moe" not in name}
    found["layers.#.shared_mlp.input_linear"] = (f"blk.#.ffn_gate{end}", f"blk.#.ffn_up{end}")
    found["layers.#.shared_mlp.output_linear"] = f"blk.#.ffn_down{end}"
    return found | (names("mamba") if spaces else {})


def _attends(c: Config) -> list[bool]:
    """Which layers attend."""
    told, known = c.get("layer_types"), _RULES + _ATTENDS
    layers = [_RULES[0]] * c.n_layer if told is None else told
    if not isinstance(layers, list) or len(layers) != c.n_layer or any(each not in known for each in layers):
        raise c.refused("layer_types", told, f"expected mamba or attention for each of {c.n_layer} layers")
    return [each in _ATTENDS for each in layers]


def _turns(c: Config) -> bool:
    told = c.get("position_embedding_type")
    if told not in (None, "nope", "rope"):
        raise c.refused("position_embedding_type", told, "a GGUF says rope or nothing")
    return bool(told == "rope")


def _metadata(arch: str, mixed: bool) -> Callable[[Config], Meta]:
    def metadata(c: Config) -> Meta:
        meta = decoder(c, arch, n_ff=c.count("intermediate_size" if mixed else "shared_intermediate_size"))
        c.get("intermediate_size"), c.get("num_experts_per_tok"), c.get("num_experts")
        meta |= {f"{arch}.{ending}": (c.positive(name, default=1.0), "f32") for ending, name in SCALES.items()}
        meta |= rope(c, arch) | {f"{arch}.rope.scaling.finetuned": (True, None)}
        meta |= {} if _turns(c) else without_rope(c, arch)
        if mixed:
            meta[f"{arch}.expert_count"] = (c.count("num_experts"), "u32")
            meta[f"{arch}.expert_used_count"] = (c.count("num_experts_per_tok"), "u32")
            meta[f"{arch}.expert_shared_feed_forward_length"] = (c.count("shared_intermediate_size"), "u32")
        spaces = heads(c, "granitehybrid", expanded(c))
        if c.get("mamba_d_head") not in (None, "auto", expanded(c) // c.count("num_heads")):
            raise c.refused("mamba_d_head", c.get("mamba_d_head"), "heads must make up the width of state spaces")
        if arch == "granitehybrid":
            meta[f"{arch}.attention.head_count_kv"] = ([c.n_head_kv if each else 0 for each in _attends(c)], "i32")
            meta |= spaces
        return meta

    return metadata


def _instead(c: Config) -> str:
    """Of the four kinds of models of this type, the one that a config.json describes."""
    kinds = ["granitemoehybrid"]
    kinds += ["attention"] if all(_attends(c)) else []
    kinds += ["dense"] if c.get("num_experts") == 0 else []
    if "attention" in kinds and not _turns(c):
        raise c.refused("position_embedding_type", None, "layers that attend must know positions where all do")
    return " ".join(kinds) if len(kinds) > 1 else ""


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    told = said["attention.head_count_kv"]
    n_kv = told if isinstance(told, list) else [told] * config["num_hidden_layers"]
    width = said.get("expert_shared_feed_forward_length") or config["intermediate_size"]
    return scales_back(said, config) | {
        "num_key_value_heads": max(n_kv),
        "layer_types": [_ATTENDS[0] if each else _RULES[0] for each in n_kv],
        "position_embedding_type": "rope" if said.get("rope.scaling.finetuned", True) else "nope",
        "shared_intermediate_size": width,
        "num_local_experts": config.get("num_local_experts", 0),
        "num_experts_per_tok": config.get("num_experts_per_tok", 0),
        "mamba_expand": times(said, config),
        "mamba_d_head": said["ssm.inner_size"] // said["ssm.time_step_rank"],
    }


_SPELLED = {"conv_kernel": "mamba_d_conv", "state_size": "mamba_d_state", "num_heads": "mamba_n_heads",
            "n_groups": "mamba_n_groups", "expand": "mamba_expand"}  # fmt: skip
_WORDS = {**SCALES, **HEADS, "expert_count": "num_local_experts",
          "expert_shared_feed_forward_length": "shared_intermediate_size"}  # fmt: skip
_BIASES = {"attention_bias": ATTENTION, "mamba_conv_bias": ("ssm_conv1d",), "mamba_proj_bias": ("ssm_in", "ssm_out"),
           "": ("ssm_dt",)}  # fmt: skip


def _family(arch: str, mixed: bool, **more: Any) -> Family:
    spaces = arch == "granitehybrid"
    halves = SPLIT_EXPERTS | split("_shexp") if mixed else split()
    changes = {**ROPE_PAIRS, **halves, **(SECOND if spaces else {})}
    return Family(
        arch, _named(mixed, spaces), _metadata(arch, mixed), changes, extra=llama3_factors, computes=PLAIN,
        defaults={"rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "num_local_experts": 8, "mamba_n_heads": 128,
                  "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_expand": 2,
                  "num_experts_per_tok": 2, "shared_intermediate_size": 1024, "mamba_conv_bias": True},
        spelled=_SPELLED, named="GraniteMoeHybridForCausalLM", biases=_BIASES, words=_WORDS,
        back=_back, instead=_instead, **more,
    )  # fmt: skip


FAMILIES = {
    "granitemoehybrid": _family("granitehybrid", True),
    "granitemoehybrid dense": _family("granitehybrid", False, model_type="granitemoehybrid"),
    "granitemoehybrid attention": _family("granitemoe", True, model_type="granitemoe"),
    "granitemoehybrid attention dense": _family("granite", False, model_type="granite"),
}
