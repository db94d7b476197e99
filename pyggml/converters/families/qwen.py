"""Qwen2 / 2.5 and Qwen3, dense and with experts."""

from __future__ import annotations

from collections.abc import Callable

from pyggml.converters import windows
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import JOINED_EXPERTS, SPLIT_EXPERTS, Config, Family, Meta, decoder
from pyggml.converters.ropes import llama3_factors, rope

EXPERTS: dict[str, str | tuple[str, ...]] = {
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
    **JOINED_EXPERTS,
}
_DENSE = {name: to for name, to in EXPERTS.items() if "expert" not in name and name != "layers.#.mlp.gate"}


EXPERT_NORM = {"qwen2moe": False, "qwen3moe": True}
"""Whether the weights of a token's experts sum to 1 where a file does not say."""


def _last_layers(c: Config) -> list[str]:
    first = c.index("max_window_layers")
    return [windows.SLIDING if i >= first else windows.FULL for i in range(c.n_layer)]


def _first_odd_layers(c: Config) -> list[str]:
    last = c.index("max_window_layers")
    return [windows.SLIDING if i % 2 == 0 and i < last else windows.FULL for i in range(c.n_layer)]


def _all_layers(c: Config) -> list[str]:
    return [windows.SLIDING] * c.n_layer


def _metadata(arch: str, habit: Callable[[Config], list[str]]) -> Callable[[Config], Meta]:
    def metadata(c: Config) -> Meta:
        windows.when_used(c, arch, habit)
        meta = decoder(c, arch) | rope(c, arch)
        if arch in EXPERT_NORM:
            meta[f"{arch}.expert_count"] = (c.count("num_experts"), "u32")
            meta[f"{arch}.expert_used_count"] = (c.count("num_experts_per_tok"), "u32")
            meta[f"{arch}.expert_feed_forward_length"] = (c.count("moe_intermediate_size"), "u32")
            if c.flag("norm_topk_prob") != EXPERT_NORM[arch]:
                meta[f"{arch}.expert_weights_norm"] = (c.flag("norm_topk_prob"), None)
        if arch == "qwen2moe":
            shared = c.count("shared_expert_intermediate_size")
            meta["qwen2moe.expert_shared_feed_forward_length"] = (shared, "u32")
        return meta

    return metadata


_DEFAULTS = {"rms_norm_eps": 1e-6, "sliding_window": 4096, "max_window_layers": 28}


def _family(
    arch: str, names: dict[str, str | tuple[str, ...]], habit: Callable[[Config], list[str]], **defaults: int
) -> Family:
    return Family(
        arch, names, _metadata(arch, habit), SPLIT_EXPERTS, extra=llama3_factors, defaults={**_DEFAULTS, **defaults}
    )  # fmt: skip


FAMILIES = {
    "qwen2": _family("qwen2", _DENSE, _last_layers, num_key_value_heads=32),
    "qwen3": _family("qwen3", _DENSE, _last_layers, num_key_value_heads=32, head_dim=128),
    "qwen2_moe": _family("qwen2moe", EXPERTS, _first_odd_layers, num_key_value_heads=16),
    "qwen3_moe": _family("qwen3moe", EXPERTS, _all_layers, num_key_value_heads=4),
}
