"""The keys of config.json that Gemma 3n and 4 have beyond those of export_config.py: layers and ropes by kind."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from pyggml.converters.windows import FULL, SLIDING
from pyggml.errors import UnsupportedError
from pyggml.gguf import GGUFFile
from pyggml.shown import clip

ARCHS = ("gemma3n", "gemma4")


def config_of(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    """config with what the file says of its layers. Raises UnsupportedError where a config.json has no word for it."""
    inside = _items(file, "attention.sliding_window_pattern", int(config["num_hidden_layers"]))
    other_words = ("rope_local_base_freq", "num_experts_per_tok")
    told = {key: value for key, value in config.items() if key not in other_words} | {
        "layer_types": [SLIDING if each else FULL for each in inside],
        "num_kv_shared_layers": _said(file, "attention.shared_kv_layers"),
        "hidden_size_per_layer_input": _said(file, "embedding_length_per_layer_input"),
        "final_logit_softcapping": config.get("final_logit_softcapping"),
    }
    ropes: dict[str, dict[str, Any]] = {
        SLIDING: {"rope_type": "default", "rope_theta": config.get("rope_local_base_freq", 10000.0)},
        FULL: {"rope_type": "default", "rope_theta": told.pop("rope_theta", 10000.0)},
    }
    table = file.tensors.get("per_layer_token_embd.weight")
    if table is not None:
        told["vocab_size_per_layer_input"] = table.shape[0]
    if file.arch == "gemma3n":
        told |= _gemma3n(file, len(inside))
    else:
        told |= _gemma4(file, config, inside)
        ropes[FULL] |= _turning(file)
    return told | {"rope_parameters": ropes}


def _gemma3n(file: GGUFFile, n_layer: int) -> dict[str, Any]:
    shares = [_share(float(each)) for each in _items(file, "activation_sparsity_scale", n_layer)]
    return {
        "intermediate_size": _items(file, "feed_forward_length", n_layer),
        "activation_sparsity_pattern": shares,
        "altup_num_inputs": _said(file, "altup.num_inputs", 4),
        "altup_active_idx": _said(file, "altup.active_idx"),
        "laurel_rank": file.tensors["blk.0.laurel_l.weight"].shape[0],
    }


def _share(deviations: float) -> float:
    """What makes them again: the rounder number, where it does."""
    if deviations == -math.inf:
        return 0.0
    exact = NormalDist().cdf(deviations)
    plain = round(exact, 6)
    return plain if np.float32(NormalDist().inv_cdf(float(np.float32(plain)))) == np.float32(deviations) else exact


def _gemma4(file: GGUFFile, config: dict[str, Any], inside: list[Any]) -> dict[str, Any]:
    n_layer, n_shared = len(inside), _said(file, "attention.shared_kv_layers")
    widths = _items(file, "feed_forward_length", n_layer)
    wide = [widths[0] * (2 if i >= n_layer - n_shared else 1) for i in range(n_layer)]
    if widths not in (wide, [widths[0]] * n_layer):
        raise _no_word(file, "feed_forward_length", widths)
    kv = _items(file, "attention.head_count_kv", n_layer)
    form: dict[str, Any] = {"head_dim": _said(file, "attention.key_length")}
    apart = {kind: {n for n, each in zip(kv, inside, strict=True) if bool(each) == kind} for kind in (True, False)}
    if any(len(found) > 1 for found in apart.values()):
        raise _no_word(file, "attention.head_count_kv", kv)
    n_kv = next(iter(apart[True] or apart[False]))
    if apart[False] and apart[False] != {n_kv}:
        form["num_key_value_heads"] = next(iter(apart[False]))
    full = [i for i, each in enumerate(inside) if not each]
    experts = _said(file, "expert_count")
    return {
        "head_dim": _said(file, "attention.key_length_swa", form["head_dim"]),
        "intermediate_size": widths[0],
        "use_double_wide_mlp": widths == wide and n_shared > 0,
        "num_key_value_heads": n_kv,
        "per_layer_config": {str(i): form for i in full},
        "attention_k_eq_v": any(f"blk.{i}.attn_v.weight" not in file.tensors for i in full if i < n_layer - n_shared),
        "enable_moe_block": experts > 0,
        "num_experts": experts or None,
        "top_k_experts": _said(file, "expert_used_count") or None,
        "moe_intermediate_size": _said(file, "expert_feed_forward_length") or None,
    }


def _turning(file: GGUFFile) -> dict[str, Any]:
    """The share of pairs that turn: the others have divisors that make them stand."""
    info = file.tensors.get("rope_freqs.weight")
    if info is None:
        return {}
    factors = np.asarray(info.data).view("<f4").tolist()
    n = sum(each == 1.0 for each in factors)
    if factors != [1.0] * n + [factors[-1]] * (len(factors) - n) or (n < len(factors) and factors[-1] < 1e20):
        raise _no_word(file, "rope_freqs.weight", factors)
    return {"rope_type": "proportional", "partial_rotary_factor": n / len(factors)}


def _said(file: GGUFFile, ending: str, default: int = 0) -> int:
    value = file.metadata.get(f"{file.arch}.{ending}", default)
    if not isinstance(value, int):
        raise _no_word(file, ending, value)
    return int(value)


def _items(file: GGUFFile, ending: str, n: int) -> list[Any]:
    """A value for each layer, whether one holds for all or not."""
    value = file.metadata.get(f"{file.arch}.{ending}")
    items = value.tolist() if isinstance(value, np.ndarray) else value if isinstance(value, list) else [value] * n
    if value is None or len(items) != n:
        raise _no_word(file, ending, value)
    return list(items)


def _no_word(file: GGUFFile, what: str, value: Any) -> UnsupportedError:
    return UnsupportedError(f"{file.arch}.{what} is {clip(value)}: the config.json of such a model has no word for it")
