"""Qwen3.5 (dense and with experts) and Qwen3-Next: matrices of the gated delta rule, attention behind a gate.

Norm weights are stored minus one, but for those of the rule. The value heads of one key head are neighbours in a
checkpoint; in a GGUF of Qwen3.5 they lie as many apart as there are key heads. Layers that predict further tokens and
the towers of images stay behind. Sources: transformers/models/qwen3_5 and qwen3_next; the names of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.families.qwen import EXPERTS
from pyggml.converters.family import (
    DECAY,
    ONE_MORE,
    SPLIT_EXPERTS,
    TAPS,
    Change,
    Config,
    Family,
    Meta,
    decoder,
    log_of_minus,
    minus_exp,
)
from pyggml.converters.meaning import SILU, activation
from pyggml.converters.ropes import part_of_head, rope
from pyggml.errors import GGUFError

_RULE, _FULL = "linear_attention", "full_attention"
_COMMON: dict[str, str | tuple[str, ...]] = {
    **EXPERTS,
    "layers.#.post_attention_layernorm": "blk.#.post_attention_norm",
    "layers.#.linear_attn.conv1d": "blk.#.ssm_conv1d",
    "layers.#.linear_attn.A_log": "blk.#.ssm_a",
    "layers.#.linear_attn.dt_bias": "blk.#.ssm_dt.bias",
    "layers.#.linear_attn.norm": "blk.#.ssm_norm",
    "layers.#.linear_attn.out_proj": "blk.#.ssm_out",
}
_MOE: dict[str, str | tuple[str, ...]] = {
    **_COMMON,
    "layers.#.linear_attn.in_proj_qkv": "blk.#.attn_qkv",
    "layers.#.linear_attn.in_proj_z": "blk.#.attn_gate",
    "layers.#.linear_attn.in_proj_b": "blk.#.ssm_beta",
    "layers.#.linear_attn.in_proj_a": "blk.#.ssm_alpha",
}
_DENSE = {name: to for name, to in _MOE.items() if "expert" not in name and name != "layers.#.mlp.gate"}
_NEXT: dict[str, str | tuple[str, ...]] = {
    **_COMMON,
    "layers.#.linear_attn.in_proj_qkvz": ("blk.#.attn_qkv", "blk.#.attn_gate"),
    "layers.#.linear_attn.in_proj_ba": "blk.#.ssm_ba",
}


# ---- sizes ---------------------------------------------------------------------------------------------------------


def _heads(c: Config) -> tuple[int, int]:
    """Key heads and value heads. Raises GGUFError where a key head serves no whole number of them."""
    n_k, n = c.count("linear_num_key_heads"), c.count("linear_num_value_heads")
    if n % n_k:
        raise GGUFError(f"{c.where}: linear_num_value_heads is {n}, no multiple of linear_num_key_heads, {n_k}")
    return n_k, n


def _keys(c: Config) -> int:
    """Rows of queries and keys together."""
    return 2 * _heads(c)[0] * c.count("linear_key_head_dim")


def _layers(c: Config) -> list[bool]:
    """Which layers keep matrices."""
    told = c.get("layer_types")
    interval = c.count("full_attention_interval", default=4)
    if told is None:
        return [bool((i + 1) % interval) for i in range(c.n_layer)]
    if not isinstance(told, list) or len(told) != c.n_layer or any(each not in (_RULE, _FULL) for each in told):
        raise c.refused("layer_types", told, f"expected {_RULE} or {_FULL} for each of {c.n_layer} layers")
    return [each == _RULE for each in told]


# ---- changes -------------------------------------------------------------------------------------------------------


def _tiled(w: NDArray[Any], c: Config, width: int) -> NDArray[Any]:
    """Rows of value heads of `width`: from neighbours to as many apart as there are key heads."""
    n_k, n = _heads(c)
    return np.ascontiguousarray(w.reshape(n_k, n // n_k, width, *w.shape[1:]).swapaxes(0, 1)).reshape(w.shape)


def _grouped(w: NDArray[Any], c: Config, width: int) -> NDArray[Any]:
    """The inverse of _tiled."""
    n_k, n = _heads(c)
    return np.ascontiguousarray(w.reshape(n // n_k, n_k, width, *w.shape[1:]).swapaxes(0, 1)).reshape(w.shape)


def _wide(c: Config) -> int:
    return c.count("linear_value_head_dim")


def _behind_keys(w: NDArray[Any], c: Config, order: Any) -> NDArray[Any]:
    """The rows of values in another order; those of queries and keys stay."""
    n = _keys(c)
    return np.concatenate([w[:n], order(w[n:], c, _wide(c))])


_NORMS = dict.fromkeys(("output_norm", "attn_norm", "post_attention_norm", "attn_q_norm", "attn_k_norm"), ONE_MORE)
_CHANGES: dict[str, Change] = {
    **_NORMS,
    **SPLIT_EXPERTS,
    "attn_qkv": Change(lambda w, c: _behind_keys(w, c, _tiled), lambda w, c: _behind_keys(w, c, _grouped)),
    "attn_gate": Change(lambda w, c: _tiled(w, c, _wide(c)), lambda w, c: _grouped(w, c, _wide(c))),
    "ssm_a": Change(lambda w, c: minus_exp(_tiled(w, c, 1)), lambda w, c: log_of_minus(_grouped(w, c, 1)), floats=True),
    "ssm_conv1d": Change(
        lambda w, c: _behind_keys(TAPS.there(w, c), c, _tiled), lambda w, c: _behind_keys(w, c, _grouped)[:, None]
    ),
    "ssm_out": Change(
        lambda w, c: np.ascontiguousarray(_tiled(w.T, c, _wide(c)).T),
        lambda w, c: np.ascontiguousarray(_grouped(w.T, c, _wide(c)).T),
    ),
    **dict.fromkeys(
        ("ssm_alpha", "ssm_beta", "ssm_dt.bias"),
        Change(lambda w, c: _tiled(w, c, 1), lambda w, c: _grouped(w, c, 1)),
    ),
}


def _joined(w: NDArray[Any], c: Config) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """Rows of queries, keys, values, and those of gates, out of a matrix that has them key head by key head."""
    n_k, n = _heads(c)
    k, values = c.count("linear_key_head_dim"), n // n_k * _wide(c)
    by_head = w.reshape(n_k, 2 * k + 2 * values, *w.shape[1:])
    parts = np.split(by_head, [k, 2 * k, 2 * k + values], axis=1)
    *mixed, gate = (np.ascontiguousarray(part).reshape(-1, *w.shape[1:]) for part in parts)
    return mixed, gate


_NEXT_CHANGES: dict[str, Change] = {
    **_NORMS,
    **SPLIT_EXPERTS,
    "attn_qkv": Change(lambda w, c: np.concatenate(_joined(w, c)[0])),
    "attn_gate": Change(lambda w, c: _joined(w, c)[1]),
    "ssm_a": DECAY,
    "ssm_conv1d": TAPS,
}


# ---- metadata ------------------------------------------------------------------------------------------------------


def _rope(c: Config, arch: str) -> Meta:
    meta = rope(c, arch, carried=("default", "linear", "yarn"), whole=False)
    r, n_rot = c.rope(), part_of_head(c)
    meta[f"{arch}.rope.dimension_count"] = (n_rot, "u32")
    if arch != "qwen3next":
        pairs = n_rot // 2  # positions of time, height and width in turns: in a text all are one
        told = r.numbers("mrope_section") if r.get("mrope_section") is not None else None
        sections = [int(each) for each in told] if told else [(pairs + 2 - i) // 3 for i in range(3)]
        if r.get("mrope_interleaved") is False or len(sections) != 3:
            raise r.refused("mrope_section", told, "the three positions of these models take turns")
        meta[f"{arch}.rope.dimension_sections"] = ([*sections, 0], "i32")
    return meta


def said_back(metadata: Mapping[str, Any], arch: str, head_dim: int) -> dict[str, Any]:
    """What a config.json says beside the keys of every decoder, but for the rope's scaling."""
    layers = metadata.get(f"{arch}.attention.recurrent_layers")
    value = {key: metadata.get(f"{arch}.{key}") for key in _BACK}
    n, inner, n_rot = (
        value["ssm.time_step_rank"],
        metadata.get(f"{arch}.ssm.inner_size"),
        metadata.get(f"{arch}.rope.dimension_count"),
    )
    said: dict[str, Any] = {name: value[key] for key, name in _BACK.items() if value[key] is not None}
    if n and inner is not None:
        said["linear_value_head_dim"] = inner // n
    if layers is not None:
        said["layer_types"] = [_RULE if each else _FULL for each in layers]
    said["rope_parameters"] = {"rope_type": "default", "partial_rotary_factor": (n_rot or head_dim) / head_dim}
    sections = metadata.get(f"{arch}.rope.dimension_sections")
    if sections is not None:
        said["rope_parameters"] |= {"mrope_interleaved": True, "mrope_section": [int(each) for each in sections[:3]]}
    return said


_BACK = {
    "ssm.conv_kernel": "linear_conv_kernel_dim", "ssm.state_size": "linear_key_head_dim",
    "ssm.group_count": "linear_num_key_heads", "ssm.time_step_rank": "linear_num_value_heads",
    "full_attention_interval": "full_attention_interval",
}  # fmt: skip


def _mixture(c: Config, arch: str) -> Meta:
    if not c.flag("norm_topk_prob", True):
        raise c.refused("norm_topk_prob", False, f"the weights of a token's experts sum to 1 in a GGUF of {arch}")
    return {
        f"{arch}.expert_count": (c.count("num_experts"), "u32"),
        f"{arch}.expert_used_count": (c.count("num_experts_per_tok"), "u32"),
        f"{arch}.expert_feed_forward_length": (c.count("moe_intermediate_size"), "u32"),
        f"{arch}.expert_shared_feed_forward_length": (c.count("shared_expert_intermediate_size"), "u32"),
    }


def _family(
    arch: str, names: dict[str, str | tuple[str, ...]], changes: dict[str, Change], model_type: str, **more: Any
) -> Family:
    def metadata(c: Config) -> Meta:
        n_k, n = _heads(c)
        if c.get("head_dim") is None:
            raise GGUFError(f"{c.where}: head_dim is null, expected the width of a head")
        return decoder(c, arch) | _rope(c, arch) | (_mixture(c, arch) if arch != "qwen35" else {}) | {
            f"{arch}.ssm.conv_kernel": (c.count("linear_conv_kernel_dim"), "u32"),
            f"{arch}.ssm.state_size": (c.count("linear_key_head_dim"), "u32"),
            f"{arch}.ssm.group_count": (n_k, "u32"),
            f"{arch}.ssm.time_step_rank": (n, "u32"),
            f"{arch}.ssm.inner_size": (n * _wide(c), "u32"),
            f"{arch}.attention.recurrent_layers": (_layers(c), None),
            f"{arch}.full_attention_interval": (c.count("full_attention_interval", default=4), "u32"),
        }  # fmt: skip

    return Family(
        arch, names, metadata, changes, model_type=model_type, skip=Family.skip + r"|^mtp\.|(^|\.)visual\.",
        computes={**activation(*SILU), "attn_output_gate": (True,)}, defaults={**_DEFAULTS, **more},
    )  # fmt: skip


_DEFAULTS = {
    "rms_norm_eps": 1e-6, "head_dim": 256, "partial_rotary_factor": 0.25, "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
}  # fmt: skip
_MIXTURE = {"shared_expert_intermediate_size": 512, "moe_intermediate_size": 512, "num_key_value_heads": 2}
_QWEN35 = _family("qwen35", _DENSE, _CHANGES, "qwen3_5_text", num_key_value_heads=4)
_QWEN35_MOE = _family(
    "qwen35moe", _MOE, _CHANGES, "qwen3_5_moe_text", num_experts=256, num_experts_per_tok=8, **_MIXTURE
)

FAMILIES = {
    "qwen3_5_text": _QWEN35,
    "qwen3_5": _QWEN35,
    "qwen3_5_moe_text": _QWEN35_MOE,
    "qwen3_5_moe": _QWEN35_MOE,
    "qwen3_next": _family(
        "qwen3next", _NEXT, _NEXT_CHANGES, "qwen3_next", num_experts=512, num_experts_per_tok=10, **_MIXTURE
    ),
}
