"""Jamba: Mamba in most layers, attention without positions in some, and experts behind some of them.

Sources: transformers/models/jamba; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters.families.llama import NAMES
from pyggml.converters.families.mamba import FIRST, PLAIN, WORDS, Names, expanded, names, ranks, times
from pyggml.converters.family import SPLIT_EXPERTS, Config, Family, Meta, decoder
from pyggml.errors import UnsupportedError

_AT = "layers.#.feed_forward"
_NAMES: Names = {
    **{name: to for name, to in NAMES.items() if ".mlp." not in name and "post_attention" not in name},
    "final_layernorm": "output_norm",
    "layers.#.pre_ff_layernorm": "blk.#.ffn_norm",
    f"{_AT}.router": "blk.#.ffn_gate_inp",
    **{f"{_AT}.experts.#.{part}_proj": f"blk.#.ffn_{part}_exps" for part in ("gate", "up", "down")},
    f"{_AT}.experts.gate_up_proj": ("blk.#.ffn_gate_exps", "blk.#.ffn_up_exps"),
    f"{_AT}.experts.down_proj": "blk.#.ffn_down_exps",
    **{f"{_AT}.{part}_proj": f"blk.#.ffn_{part}" for part in ("gate", "up", "down")},
    **names("mamba", True),
    **{f"layers.#.mamba.{part}_layernorm": f"blk.#.ssm_{part}_norm" for part in ("dt", "b", "c")},
}
del _NAMES["norm"]


def _attends(c: Config) -> list[bool]:
    period, offset = c.count("attn_layer_period"), c.index("attn_layer_offset")
    return [i % period == offset for i in range(c.n_layer)]


def _metadata(c: Config) -> Meta:
    c.get("layers_block_type"), c.get("layer_types"), c.get("layers_num_experts")  # what the periods make
    meta = decoder(c, "jamba") | ranks(c, "jamba", expanded(c))
    meta["jamba.attention.head_count_kv"] = ([c.n_head_kv if each else 0 for each in _attends(c)], "i32")
    c.count("expert_layer_period"), c.index("expert_layer_offset")  # layers with a router are seen by it
    n, n_used = c.count("num_experts"), c.count("num_experts_per_tok")
    if n > 1:
        meta |= {"jamba.expert_count": (n, "u32"), "jamba.expert_used_count": (n_used, "u32")}
    return meta


def _every(found: list[int], n: int, what: str) -> tuple[int, int]:
    """Period and offset of layers, of which there may be none."""
    if not found:
        return n + 1, n
    step = found[1] - found[0] if len(found) > 1 else n
    if found[0] >= step or found != list(range(found[0], n, step)):
        raise UnsupportedError(f"layers with {what} follow no period: a jamba model's config.json cannot say which")
    return step, found[0]


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    n = config["num_hidden_layers"]
    told = said["attention.head_count_kv"]
    n_kv = told if isinstance(told, list) else [told] * n
    attends = _every([i for i, each in enumerate(n_kv) if each], n, "attention")
    mixed = sorted(int(name.split(".")[1]) for name in said[""] if name.endswith("ffn_gate_inp.weight"))
    experts = _every(mixed, n, "experts")
    return {key: value for key, value in config.items() if key != "rope_theta"} | {
        "attn_layer_period": attends[0], "attn_layer_offset": attends[1], "num_key_value_heads": max(*n_kv, 1),
        "expert_layer_period": experts[0], "expert_layer_offset": experts[1],
        "mamba_expand": times(said, config), "num_experts": config.get("num_experts", 1),
    }  # fmt: skip


FAMILIES = {
    "jamba": Family(
        "jamba", _NAMES, _metadata, {**FIRST, **SPLIT_EXPERTS}, back=_back, named="JambaForCausalLM",
        computes=PLAIN,
        defaults={"num_experts": 16, "num_experts_per_tok": 2, "expert_layer_period": 2, "expert_layer_offset": 1,
                  "attn_layer_period": 8, "attn_layer_offset": 4, "mamba_d_state": 16, "mamba_d_conv": 4,
                  "mamba_expand": 2, "num_key_value_heads": 8, "max_position_embeddings": 262144},
        spelled={"conv_kernel": "mamba_d_conv", "state_size": "mamba_d_state", "expand": "mamba_expand",
                 "time_step_rank": "mamba_dt_rank"},
        words={**WORDS, "ssm.time_step_rank": "time_step_rank"},
        biases={"mamba_conv_bias": ("ssm_conv1d",), "mamba_proj_bias": ("ssm_in", "ssm_out"), "": ("ssm_dt",)},
    ),
}  # fmt: skip
