"""Granite 3, dense and with experts: Llama with scaled embeddings, scores, residuals and logits.

Sources: transformers/models/granite and granitemoe; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, MLP, ROPE_PAIRS, SPLIT_EXPERTS, Config, Family, Meta, decoder
from pyggml.converters.ropes import llama3_factors, rope

SCALES = {
    "embedding_scale": "embedding_multiplier", "attention.scale": "attention_multiplier",
    "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling",
}  # fmt: skip
_AT = "layers.#.block_sparse_moe"
EXPERTS: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if ".mlp." not in name},
    f"{_AT}.router.layer": "blk.#.ffn_gate_inp",
    f"{_AT}.router": "blk.#.ffn_gate_inp",
    **{f"{_AT}.{name}": ("blk.#.ffn_gate_exps", "blk.#.ffn_up_exps") for name in ("input_linear",
                                                                                   "experts.gate_up_proj")},
    **{f"{_AT}.{name}": "blk.#.ffn_down_exps" for name in ("output_linear", "experts.down_proj")},
}  # fmt: skip


def _metadata(arch: str) -> Callable[[Config], Meta]:
    def metadata(c: Config) -> Meta:
        meta = decoder(c, arch) | rope(c, arch)
        meta |= {f"{arch}.{ending}": (c.positive(name, default=1.0), "f32") for ending, name in SCALES.items()}
        if arch == "granitemoe":
            meta[f"{arch}.expert_count"] = (c.count("num_local_experts"), "u32")
            meta[f"{arch}.expert_used_count"] = (c.count("num_experts_per_tok"), "u32")
        return meta

    return metadata


def scales_back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """A file without a scale of the scores has the usual one, a config.json has 1."""
    return {"attention_multiplier": Config(config, "the file's metadata").head_dim ** -0.5, **config}


FAMILIES = {
    "granite": Family(
        "granite", NAMES, _metadata("granite"), ROPE_PAIRS, extra=llama3_factors, words=SCALES, back=scales_back,
        biases={"attention_bias": ATTENTION, "mlp_bias": MLP}, defaults={"max_position_embeddings": 2048},
    ),
    "granitemoe": Family(
        "granitemoe", EXPERTS, _metadata("granitemoe"), {**ROPE_PAIRS, **SPLIT_EXPERTS}, extra=llama3_factors,
        words={**SCALES, "expert_count": "num_local_experts"}, back=scales_back, biases={"attention_bias": ATTENTION},
        named="GraniteMoeForCausalLM",
        defaults={"max_position_embeddings": 2048, "num_local_experts": 8, "num_experts_per_tok": 2},
    ),
}  # fmt: skip
