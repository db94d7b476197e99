"""The config.json of an exported file: metadata in the words of Hugging Face, so that converting back gives it again.

Weights and names of tensors are export.py's. What a GGUF does not hold (dropout, the initializer ...) is left to the
defaults of the model_type.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.converters import export_gemma, families
from pyggml.converters.families import qwen_delta
from pyggml.converters.families.bert import POOLING
from pyggml.converters.families.gemma import scalar
from pyggml.converters.families.qwen import EXPERT_NORM
from pyggml.converters.family import ATTENTION, MLP, Config
from pyggml.converters.ropes import attention_factor, llama3_factors
from pyggml.errors import UnsupportedError
from pyggml.gguf import GGUFFile
from pyggml.shown import clip

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
_SCALING = {
    "factor": "factor", "original_context_length": "original_max_position_embeddings", "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
}  # fmt: skip
_CLASSES = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM", "gemma": "GemmaForCausalLM", "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM", "phi3": "Phi3ForCausalLM", "gpt2": "GPT2LMHeadModel", "bert": "BertModel",
    "deepseek_v2": "DeepseekV2ForCausalLM", "gemma3n_text": "Gemma3nForCausalLM", "gemma4_text": "Gemma4ForCausalLM",
    "olmo2": "Olmo2ForCausalLM", "olmo3": "Olmo3ForCausalLM", "olmoe": "OlmoeForCausalLM",
    "granite": "GraniteForCausalLM", "smollm3": "SmolLM3ForCausalLM", "seed_oss": "SeedOssForCausalLM",
    "exaone4": "Exaone4ForCausalLM", "glm4": "Glm4ForCausalLM", "ernie4_5": "Ernie4_5ForCausalLM",
    "ernie4_5_moe": "Ernie4_5_MoeForCausalLM", "arcee": "ArceeForCausalLM", "nemotron": "NemotronForCausalLM",
    "hunyuan_v1_dense": "HunYuanDenseV1ForCausalLM", "hunyuan_v1_moe": "HunYuanMoEV1ForCausalLM",
    "apertus": "ApertusForCausalLM",
    "qwen3_5_text": "Qwen3_5ForCausalLM", "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM",
}  # fmt: skip
_WITHOUT_ROPE = ("gpt2", "bert", "mamba", "mamba2")
_PARTS = (*_WITHOUT_ROPE, "gemma4", "phi3", "deepseek2", *(family.arch for family in qwen_delta.FAMILIES.values()))
"""Whose config.json can say that heads are rotated in part, or has its own word for it."""
_UNSAID: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("logit_scale", "embedding_scale", "residual_scale", "rope.scale_linear", "expert_weights_scale",
                     "rope.scaling.yarn_ext_factor"), (0, 1)),
    **dict.fromkeys(("attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias", "use_parallel_residual",
                     "rope.scaling.yarn_log_multiplier", "attention.temperature_scale", "leading_dense_block_count",
                     "attention.shared_kv_layers", "nextn_predict_layers", "expert_shared_count"), (0, False)),
    "expert_gating_func": (0, 1), "expert_group_count": (0, 1), "interleave_moe_layer_step": (0, 1),
}  # fmt: skip
"""Keys that change a model and that no config.json here says, by ending -> the values that change nothing."""
_BIASES: dict[str, dict[str, Sequence[str]]] = {
    "llama": {"attention_bias": ATTENTION, "mlp_bias": MLP},
    **{
        model_type: {"attention_bias": ATTENTION}
        for model_type in ("qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3", "gemma3_text")
    },
    "qwen2_moe": {"qkv_bias": ATTENTION[:3]},
    "qwen2": {"": ATTENTION[:3]}, "mistral": {}, "mixtral": {}, "phi3": {},
}  # fmt: skip
"""Model type -> key of config.json -> the matrices that it gives biases; without a key they have them in any case."""
_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def named(model_type: str, kinds: Collection[str]) -> dict[str, Any]:
    """architectures and torch_dtype of a config.json. kinds: the element types of the matrices."""
    kind = families.find(model_type).named or _CLASSES.get(model_type)
    found: dict[str, Any] = {"architectures": [kind]} if kind else {}
    if kinds:
        found["torch_dtype"] = _DTYPES[Counter(kinds).most_common(1)[0][0]]
    return found


def config_of(file: GGUFFile, model_type: str) -> dict[str, Any]:
    """The config.json of a file. A rope that config.json has no words for is warned of."""
    spelled = families.find(model_type).spelled
    return {spelled.get(key, key): value for key, value in _plain(file, model_type).items()}


def _plain(file: GGUFFile, model_type: str) -> dict[str, Any]:
    """The config.json by the usual names of its keys."""
    config: dict[str, Any] = {"model_type": model_type.partition(" ")[0]}
    family = families.find(model_type)
    for ending, name in {**_CONFIG, **family.words}.items():
        value = _number(file, ending)
        if value is not None:
            config[name] = value
    if "num_local_experts" in config and model_type != "mixtral" and "expert_count" not in family.words:
        config["num_experts"] = config.pop("num_local_experts")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is not None:
        config["vocab_size"] = embedding.shape[0]
    config |= _biases(file, model_type)
    config |= {key: f"blk.0.{stem}.weight" in file.tensors for key, stem in family.stored.items()}
    if file.arch in export_gemma.ARCHS:
        config = export_gemma.config_of(file, config)
        _check_said(file, Config(config, "the file's metadata"))
        return config | _specials(file, config)
    config |= _whole_sizes(Config(config, "the file's metadata"), file.arch, model_type)
    if file.arch in ("gemma2", "gemma3"):
        config["query_pre_attn_scalar"] = scalar(Config(config, "the file's metadata"), file.arch)
    _check_said(file, Config(config, "the file's metadata"))
    config |= _specials(file, config) | _windows(file, config) | _experts(file)
    pooling = _number(file, "pooling_type")
    config |= {key: True for key, value in POOLING.items() if value == pooling}
    if file.arch == "phi3":
        config |= _phi3(file, config)
        return config
    scaling = _scaling(file, config)
    if model_type in qwen_delta.FAMILIES:
        said = qwen_delta.said_back(file.metadata, file.arch, config["head_dim"])
        return config | said | {"rope_parameters": said["rope_parameters"] | scaling}
    config |= {"rope_scaling": scaling} if scaling else {}
    return family.back(said_of(file), config)


def said_of(file: GGUFFile) -> dict[str, Any]:
    """The metadata of the architecture by the ending of its keys; arrays are lists. Under "" the names of tensors."""
    own = {key: file.metadata[key] for key in file.metadata if key.startswith(f"{file.arch}.")}
    return {"": list(file.tensors)} | {
        key.removeprefix(f"{file.arch}."): value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in own.items()
    }


def _specials(file: GGUFFile, config: dict[str, Any]) -> dict[str, int | None]:
    """A default of the model_type may lie outside of this vocabulary."""
    words = {"bos": "bos", "eos": "eos", "pad": "padding"}
    n_vocab = config.get("vocab_size", 0)
    return {f"{key}_token_id": _token(file, word, n_vocab) for key, word in words.items()}


def _token(file: GGUFFile, word: str, n_vocab: int) -> int | None:
    """A special id; None where the file has none, or says so by an id that is no token (-1 as u32)."""
    token = file.metadata.get(f"tokenizer.ggml.{word}_token_id")
    known = isinstance(token, int) and not isinstance(token, bool) and 0 <= token < n_vocab
    return token if known else None  # type: ignore[return-value]


def _biases(file: GGUFFile, model_type: str) -> dict[str, bool]:
    """Which matrices have biases. Raises UnsupportedError for one that a model of this type would not read."""
    keys = _BIASES.get(model_type, families.find(model_type).biases)
    if keys is None:
        return {}
    found = {m[1] for name in file.tensors if (m := re.fullmatch(r"(?:blk\.\d+\.)?(\w+)\.bias", name))}
    lost = sorted(found - {stem for stems in keys.values() for stem in stems})
    if lost:
        raise UnsupportedError(
            f"the file has biases of {', '.join(map(clip, lost))}: the config.json of a {model_type} model has no word "
            "for them, so the export would be another model"
        )
    return {key: not found.isdisjoint(stems) for key, stems in keys.items() if key}


def _whole_sizes(c: Config, arch: str, model_type: str) -> dict[str, Any]:
    """What a GGUF leaves to a rule and a model_type to a number of its own: said in any case."""
    if arch in _WITHOUT_ROPE:
        return {}
    found = {"rope_theta": c.number("rope_theta", default=10000.0), "num_key_value_heads": c.n_head_kv}
    return found | ({"head_dim": c.head_dim} if "head_dim" in families.find(model_type).defaults else {})


def _check_said(file: GGUFFile, c: Config) -> None:
    """Raises UnsupportedError for a key that changes the model and that config.json of this model type cannot say."""
    if file.arch == "deepseek2":
        return  # its tensors have no way back, which export.py says
    words = families.find(c.get("model_type")).words
    for ending, neutral in _UNSAID.items():
        if ending in words:
            continue
        if ending == "attention.shared_kv_layers" and file.arch in export_gemma.ARCHS:
            continue
        value = file.metadata.get(f"{file.arch}.{ending}")
        if value is not None and not any(value == each for each in neutral):
            raise UnsupportedError(
                f"{file.arch}.{ending} is {clip(value)}: the config.json of a {c.get('model_type')} model has no word "
                "for it, so the export would be another model"
            )
    capped = [e for e in ("attn_logit_softcapping", "final_logit_softcapping") if _number(file, e)]
    if capped and not file.arch.startswith("gemma"):
        raise UnsupportedError(f"{file.arch}.{capped[0]}: a {c.get('model_type')} model has no soft caps")
    n_rot = _number(file, "rope.dimension_count")
    told = file.arch in _PARTS or "rope.dimension_count" in words
    if n_rot is not None and not told and n_rot != c.head_dim:
        raise UnsupportedError(
            f"{file.arch}.rope.dimension_count is {n_rot}: a {c.get('model_type')} model rotates whole heads of "
            f"{c.head_dim}"
        )


def _windows(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    """A window that model types would have by default is said to be none."""
    if file.arch.startswith("qwen"):
        if config.get("sliding_window"):
            raise UnsupportedError(
                f"{file.arch}.attention.sliding_window: it does not say which layers have the window"
            )
        return {"use_sliding_window": False}
    plain = config["model_type"] in ("mistral", "mixtral") and not config.get("sliding_window")
    return {"sliding_window": None} if plain else {}


def _experts(file: GGUFFile) -> dict[str, Any]:
    if file.arch not in EXPERT_NORM:
        return {}
    said = file.metadata.get(f"{file.arch}.expert_weights_norm")
    return {"norm_topk_prob": said if isinstance(said, bool) else EXPERT_NORM[file.arch]}


def _number(file: GGUFFile, ending: str) -> int | float | None:
    value = file.metadata.get(f"{file.arch}.{ending}")
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _scaling(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    kind = file.metadata.get(f"{file.arch}.rope.scaling.type")
    if kind in ("linear", "yarn"):
        told = {name: _number(file, f"rope.scaling.{ending}") for ending, name in _SCALING.items()}
        ratio = _number(file, "rope.scaling.attn_factor") or _number(file, "rope.scaling.yarn_attn_factor")
        if kind == "yarn" and ratio not in (None, 1.0):
            told["attention_factor"] = attention_factor(ratio or 1.0, told["factor"] or 1.0)
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
    context = _number(file, "rope.scaling.original_context_length") or config.get("max_position_embeddings")
    n_rot = _number(file, "rope.dimension_count")
    head = config.get("head_dim", config.get("hidden_size", 0) // max(config.get("num_attention_heads", 1), 1))
    if context is not None:
        made["original_max_position_embeddings"] = context
    if n_rot is not None and n_rot != head > 0:
        made["partial_rotary_factor"] = n_rot / head
    long, short = (_values(file, f"rope_factors_{name}.weight") for name in ("long", "short"))
    if long is not None and short is not None:
        made["rope_scaling"] = {
            "rope_type": "longrope", "long_factor": long.tolist(), "short_factor": short.tolist(),
            "attention_factor": _number(file, "rope.scaling.attn_factor") or 1.0,
        }  # fmt: skip
    return made


def _values(file: GGUFFile, name: str) -> NDArray[np.float32] | None:
    info = file.tensors.get(name)
    return None if info is None else _native.dequantize(info.type.id, info.data, 1, info.n_elements).reshape(-1)
