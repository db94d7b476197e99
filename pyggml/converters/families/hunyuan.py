"""Hunyuan 1, dense and with experts: norms of queries and keys behind the rope, whose base alpha may stretch.

Sources: transformers/models/hunyuan_v1_dense and hunyuan_v1_moe; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyggml.converters.families.glm import EXPERTS
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, SPLIT_EXPERTS, Config, Family, Meta, decoder
from pyggml.converters.meaning import SILU, Values, activation
from pyggml.converters.ropes import base, llama3_factors, rope, whole_head

_NAMES: dict[str, str | tuple[str, ...]] = {
    **NAMES,
    "layers.#.self_attn.query_layernorm": "blk.#.attn_q_norm",
    "layers.#.self_attn.key_layernorm": "blk.#.attn_k_norm",
}
_MIXED: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in _NAMES.items() if ".mlp." not in name},
    "layers.#.mlp.gate.wg": "blk.#.ffn_gate_inp",
    **{name.replace("shared_experts", "shared_mlp"): to for name, to in EXPERTS.items() if name != "layers.#.mlp.gate"},
}


def _rope(c: Config, arch: str) -> Meta:
    """A fixed alpha changes the base only, whatever stands beside it."""
    r = c.rope()
    if r.get("rope_type") != "dynamic" or not r.get("alpha"):
        return rope(c, arch)
    whole_head(r)
    for each in ("beta_fast", "beta_slow", "factor", "mscale", "mscale_all_dim", "original_max_position_embeddings"):
        r.get(each)
    width = c.head_dim
    return {f"{arch}.rope.freq_base": (base(r) * r.positive("alpha") ** (width / (width - 2)), "f32")}


def _same(c: Config, name: str, default: int) -> int:
    """A number that may be told for each layer."""
    told = c.get(name)
    values = told if isinstance(told, list) and told else [default if told is None else told]
    if any(each != values[0] for each in values):
        raise c.refused(name, told, "layers of different experts, which a GGUF of hunyuan-moe cannot say")
    return Config({name: values[0]}, c.where).count(name)


def _mixture(c: Config) -> Meta:
    n_ff = c.count("intermediate_size")
    for name, right in (("moe_intermediate_size", n_ff), ("num_shared_expert", 1)):
        if _same(c, name, right) != right:
            raise c.refused(name, c.get(name), f"models of this type compute with {right}")
    return {
        "hunyuan-moe.expert_count": (_same(c, "num_experts", 1), "u32"),
        "hunyuan-moe.expert_used_count": (_same(c, "moe_topk", 1), "u32"),
        "hunyuan-moe.expert_feed_forward_length": (n_ff, "u32"),
        "hunyuan-moe.expert_shared_feed_forward_length": (n_ff, "u32"),
    }


def _metadata(arch: str) -> Callable[[Config], Meta]:
    return lambda c: decoder(c, arch) | _rope(c, arch) | (_mixture(c) if arch == "hunyuan-moe" else {})


def _one_width(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    widths = ("moe_intermediate_size", "shared_expert_intermediate_size")
    return {key: value for key, value in config.items() if key not in widths}


_COMPUTES: dict[str, Values] = {
    **activation(*SILU), "use_qk_norm": (True,), "norm_type": ("rms", "hf_rms", "rmsnorm", "rms_norm"),
    "cla_share_factor": (1, 2), "num_experts": (1,), "num_shared_expert": (1,), "moe_topk": (1,),
}  # fmt: skip
"""Published files of dense models have keys of experts, and of shared layers that use_cla turns off."""
_DEFAULTS = {"rms_norm_eps": 1e-5, "max_position_embeddings": 2048}
_BIASES = {"attention_bias": ATTENTION}
FAMILIES = {
    "hunyuan_v1_dense": Family(
        "hunyuan-dense", _NAMES, _metadata("hunyuan-dense"), extra=llama3_factors, computes=_COMPUTES,
        defaults=_DEFAULTS, biases=_BIASES,
    ),
    "hunyuan_v1_moe": Family(
        "hunyuan-moe", _MIXED, _metadata("hunyuan-moe"), SPLIT_EXPERTS, extra=llama3_factors, computes=_COMPUTES,
        defaults=_DEFAULTS, biases=_BIASES, words={"expert_used_count": "moe_topk"}, back=_one_width,
    ),
}  # fmt: skip
