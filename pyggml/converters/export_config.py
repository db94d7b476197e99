"""The config.json of an exported file: metadata in the words of Hugging Face, so that converting back gives it again.

Weights and names of tensors are export.py's. What a GGUF does not hold (dropout, the initializer ...) is left to the
defaults of the model_type.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.converters.families.bert import POOLING
from pyggml.converters.family import Config
from pyggml.converters.ropes import llama3_factors
from pyggml.gguf import GGUFFile

log = logging.getLogger("pyggml")

# Keys of a config.json by the ending of their GGUF key.
_CONFIG = {
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps", "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta", "expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size", "attention.sliding_window": "sliding_window",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base_swa": "rope_local_base_freq",
}  # fmt: skip
_GPT2 = {
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "intermediate_size":
    "n_inner", "layer_norm_eps": "layer_norm_epsilon", "max_position_embeddings": "n_positions",
}  # fmt: skip
_SCALING = {
    "factor": "factor", "original_context_length": "original_max_position_embeddings", "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow", "attn_factor": "attention_factor",
}  # fmt: skip


def config_of(file: GGUFFile, model_type: str) -> dict[str, Any]:
    """The config.json of a file. A rope that config.json has no words for is warned of."""
    config: dict[str, Any] = {"model_type": model_type}
    for ending, name in _CONFIG.items():
        value = _number(file, ending)
        if value is not None:
            config[name] = value
    if "num_local_experts" in config and model_type != "mixtral":
        config["num_experts"] = config.pop("num_local_experts")
    if model_type == "gpt2":
        config = {_GPT2.get(key, key): value for key, value in config.items()}
    embedding = file.tensors.get("token_embd.weight")
    if embedding is not None:
        config["vocab_size"] = embedding.shape[0]
    if model_type == "llama" and "blk.0.attn_q.bias" in file.tensors:
        config["attention_bias"] = True
    if file.arch in ("gemma2", "gemma3"):
        config["query_pre_attn_scalar"] = _gemma_scalar(config)
    for key in ("bos", "eos", "pad"):  # a default of the model_type may lie outside of this vocabulary
        config[f"{key}_token_id"] = file.metadata.get(f"tokenizer.ggml.{'padding' if key == 'pad' else key}_token_id")
    pooling = _number(file, "pooling_type")
    config |= {key: True for key, value in POOLING.items() if value == pooling}
    if file.arch == "phi3":
        config |= _phi3(file, config)
    else:
        scaling = _scaling(file, config)
        config |= {"rope_scaling": scaling} if scaling else {}
    return config


def _gemma_scalar(config: dict[str, Any]) -> int | None:
    """What queries are scaled by the root of. No key of a GGUF says it: heads, but for the 27B models their share."""
    if config.get("num_hidden_layers") in (46, 62):
        return int(config["hidden_size"]) // int(config["num_attention_heads"])
    head = config.get("head_dim")
    return None if head is None else int(head)


def _number(file: GGUFFile, ending: str) -> int | float | None:
    value = file.metadata.get(f"{file.arch}.{ending}")
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _scaling(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    kind = file.metadata.get(f"{file.arch}.rope.scaling.type")
    if kind in ("linear", "yarn"):
        told = {name: _number(file, f"rope.scaling.{ending}") for ending, name in _SCALING.items()}
        return {"rope_type": kind, **{name: value for name, value in told.items() if value is not None}}
    factors = _values(file, "rope_freqs.weight")
    return {} if factors is None else _llama3(factors, config)


def _llama3(factors: NDArray[np.float32], config: dict[str, Any]) -> dict[str, Any]:
    """Llama 3.1's rule, found by trying: the file holds what it makes, not what it was told."""
    for power in range(5, 21):
        rule: dict[str, Any] = {
            "rope_type": "llama3", "factor": float(factors.max()), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 1 << power,
        }  # fmt: skip
        tried = llama3_factors(Config({**config, "rope_scaling": rule}, "rope_freqs.weight"))["rope_freqs.weight"]
        if np.array_equal(tried, factors):
            return rule
    log.warning("rope_freqs.weight follows no known rule: config.json cannot say how the rope is scaled")
    return {}


def _phi3(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    context, n_rot = _number(file, "rope.scaling.original_context_length"), _number(file, "rope.dimension_count")
    head = config.get("head_dim", config.get("hidden_size", 0) // max(config.get("num_attention_heads", 1), 1))
    if context is not None:
        made["original_max_position_embeddings"] = context
    if n_rot is not None and n_rot != head > 0:
        made["partial_rotary_factor"] = n_rot / head
    long, short = (_values(file, f"rope_factors_{name}.weight") for name in ("long", "short"))
    if long is not None and short is not None:
        made["rope_scaling"] = {"rope_type": "longrope", "long_factor": long.tolist(), "short_factor": short.tolist()}
    return made


def _values(file: GGUFFile, name: str) -> NDArray[np.float32] | None:
    info = file.tensors.get(name)
    return None if info is None else _native.dequantize(info.type.id, info.data, 1, info.n_elements).reshape(-1)
