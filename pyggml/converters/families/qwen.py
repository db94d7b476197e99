"""Qwen2 / 2.5 and Qwen3, dense and with experts."""

from __future__ import annotations

from collections.abc import Callable

from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import Config, Family, Meta, decoder, rope

_EXPERTS: dict[str, str | tuple[str, ...]] = {
    **NAMES,
    "layers.#.self_attn.q_norm": "blk.#.attn_q_norm",
    "layers.#.self_attn.k_norm": "blk.#.attn_k_norm",
    "layers.#.mlp.gate": "blk.#.ffn_gate_inp",
    "layers.#.mlp.experts.#.gate_proj": "blk.#.ffn_gate_exps",
    "layers.#.mlp.experts.#.up_proj": "blk.#.ffn_up_exps",
    "layers.#.mlp.experts.#.down_proj": "blk.#.ffn_down_exps",
    "layers.#.mlp.shared_expert.gate_proj": "blk.#.ffn_gate_shexp",
    "layers.#.mlp.shared_expert.up_proj": "blk.#.ffn_up_shexp",
    "layers.#.mlp.shared_expert.down_proj": "blk.#.ffn_down_shexp",
    "layers.#.mlp.shared_expert_gate": "blk.#.ffn_gate_inp_shexp",
}
_DENSE = {name: to for name, to in _EXPERTS.items() if "expert" not in name and name != "layers.#.mlp.gate"}


def _metadata(arch: str) -> Callable[[Config], Meta]:
    def metadata(c: Config) -> Meta:
        meta = decoder(c, arch) | rope(c, arch)
        if arch.endswith("moe"):
            meta[f"{arch}.expert_count"] = (c.count("num_experts"), "u32")
            meta[f"{arch}.expert_used_count"] = (c.count("num_experts_per_tok"), "u32")
            meta[f"{arch}.expert_feed_forward_length"] = (c.count("moe_intermediate_size"), "u32")
        if arch == "qwen2moe":
            shared = c.count("shared_expert_intermediate_size")
            meta["qwen2moe.expert_shared_feed_forward_length"] = (shared, "u32")
        return meta

    return metadata


FAMILIES = {
    "qwen2": Family("qwen2", _DENSE, _metadata("qwen2")),
    "qwen3": Family("qwen3", _DENSE, _metadata("qwen3")),
    "qwen2_moe": Family("qwen2moe", _EXPERTS, _metadata("qwen2moe")),
    "qwen3_moe": Family("qwen3moe", _EXPERTS, _metadata("qwen3moe")),
}
