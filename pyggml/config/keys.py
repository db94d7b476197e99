"""Keys of `<arch>.` that change what a model computes, and which values of each change nothing.

An architecture that does not take such a key would compute something else without a word, so a key whose value matters
must be taken by its config(), or is refused by name: the idea of Weights.check_all_taken, for metadata. No key is
judged here as right or wrong. Source: the keys that llama.cpp's readers and converters know.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyggml.shown import clip

_MOST = 1 << 13  # elements of an array that are looked at; models have fewer layers


@dataclass(frozen=True, slots=True)
class Said:
    """A key whose value changes the mathematics; shown is its value as text.

    n_ctx: contexts up to this length are computed the same without it (0: none is). does: what an architecture that
    does not know it computes.
    """

    key: str
    shown: str
    n_ctx: int = 0
    does: str = ""


@dataclass(frozen=True, slots=True)
class _Key:
    neutral: Callable[[Any], bool]
    does: str = ""


def _of(*values: Any) -> Callable[[Any], bool]:
    """Whether a value, or every element of an array, is one of values (True is no 1)."""
    known = {(isinstance(v, bool), v) for v in values}

    def judge(value: Any) -> bool:
        if isinstance(value, (list, tuple, np.ndarray)):
            items = value.tolist() if isinstance(value, np.ndarray) and value.size <= _MOST else value
            return len(items) <= _MOST and all(np.isscalar(x) and judge(x) for x in items)
        return (isinstance(value, bool), value) in known

    return judge


_OFF = _of(0, False)
_ONE = _of(0, 1)
_TEXTS = _of("reference", "Meta AI original pth", "")

KEYS: dict[str, _Key] = {
    # attention
    "attention.causal": _Key(_of(True), "lets no token see later ones"),
    "attention.scale": _Key(_OFF, "scales by 1 / sqrt(head size)"),
    "attn_logit_softcapping": _Key(_OFF, "caps nothing"),
    "attention.clamp_kqv": _Key(_OFF, "clamps nothing"),
    "attention.max_alibi_bias": _Key(_OFF, "adds no bias for distance"),
    "attention.output_scale": _Key(_ONE),
    "attention.temperature_scale": _Key(_OFF),
    "attention.temperature_length": _Key(_OFF),
    "attention.shared_kv_layers": _Key(_OFF, "gives each layer keys and values of its own"),
    "attention.*_lora_rank": _Key(_OFF),
    "attention.key_length_mla": _Key(_OFF),
    "attention.value_length_mla": _Key(_OFF),
    "attention.chunk_size": _Key(_OFF, "lets every token see all before it"),
    "attention.indexer.*": _Key(_OFF),
    "attention.recurrent_layers": _Key(_OFF),
    "attention.group_norm_*": _Key(_OFF),
    "attention.relative_buckets_count": _Key(_OFF),
    "full_attention_interval": _Key(_ONE),
    # rope
    "rope.dimension_sections": _Key(_OFF, "turns all pairs by one position"),
    "rope.scaling.yarn_log_multiplier": _Key(_OFF, "takes YaRN's magnitude from the factor"),
    "rope.scaling.alpha": _Key(_ONE, "takes the base as the file gives it"),
    "rope.scaling.yarn_ext_factor": _Key(_of(1, -1), "mixes in all of YaRN"),
    # experts
    "expert_count": _Key(_OFF, "has no experts"),
    "expert_used_count": _Key(_OFF, "has no experts"),
    "expert_shared_count": _Key(_OFF, "found no shared expert"),
    "expert_shared_feed_forward_length": _Key(_OFF, "found no shared expert"),
    "expert_weights_scale": _Key(_ONE, "has no experts"),
    "expert_weights_norm": _Key(_OFF, "has no experts"),
    "expert_gating_func": _Key(_ONE, "has no experts"),
    "expert_group_count": _Key(_ONE, "chooses among all experts"),
    "expert_group_used_count": _Key(_ONE, "chooses among all experts"),
    "expert_group_scale": _Key(_ONE),
    "experts_per_group": _Key(_OFF),
    "leading_dense_block_count": _Key(_OFF, "builds all layers alike"),
    "interleave_moe_layer_step": _Key(_ONE, "builds all layers alike"),
    "moe_every_n_layers": _Key(_ONE, "builds all layers alike"),
    "moe_latent_size": _Key(_OFF, "gives experts whole rows"),
    "router_logit_softcapping": _Key(_OFF),
    # around the layers
    "final_logit_softcapping": _Key(_OFF, "caps nothing"),
    "pooling_type": _Key(_OFF, "gives logits, not embeddings"),
    "logit_scale": _Key(_ONE, "scales no logits"),
    "embedding_scale": _Key(_ONE, "scales no embeddings"),
    "residual_scale": _Key(_ONE, "scales no residuals"),
    "use_parallel_residual": _Key(_OFF, "adds attention before the feed-forward"),
    "tensor_data_layout": _Key(_TEXTS, "knows rows in the order of the reference"),
    "nextn_predict_layers": _Key(_OFF),
    "n_deepstack_layers": _Key(_OFF),
    "num_deepstack_layers": _Key(_OFF),
    "swin_norm": _Key(_OFF),
    "rescale_every_n_layers": _Key(_OFF),
    "token_shift_count": _Key(_OFF),
    "time_mix_extra_dim": _Key(_OFF),
    "time_decay_extra_dim": _Key(_OFF),
    "decoder_start_token_id": _Key(_OFF),
    "decoder_block_count": _Key(_OFF),
    "embedding_length_per_layer_input": _Key(_OFF),
    "hidden_activation": _Key(_of("silu", "swish", "swiglu", ""), "uses SwiGLU"),
    "activation_sparsity_scale": _Key(_OFF),
    "swiglu_*": _Key(_OFF),
    **dict.fromkeys(
        ("ssm.*", "wkv.*", "shortconv.*", "kda.*", "altup.*", "laurel.*", "hyper_connection.*", "xielu.*", "posnet.*",
         "convnext.*"), _Key(_OFF),
    ),
}  # fmt: skip

# Keys without an architecture in front.
GENERAL: dict[str, _Key] = {
    "general.quantization_version": _Key(_of(2), "knows the blocks of version 2"),
    "general.type": _Key(_of("model", ""), "runs whole models"),
}

# Keys that say where a window lies and what differs inside; without a window they mean nothing.
_WINDOW = "attention.sliding_window"
_WINDOWS = ("attention.sliding_window_pattern", "attention.*_swa", "rope.*_swa")

# Sizes and notes: read by Config where they matter, and of no consequence where not.
_NOTES = (
    "vocab_size", "feed_forward_length", "expert_feed_forward_length", "expert_chunk_feed_forward_length",
    "embedding_length_out", "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon",
    "rope.scaling.finetuned", "rope.scale_linear", "classifier.output_labels", "dense_*_feat_*", "features_length",
)  # fmt: skip


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


_IS_WINDOW, _IS_NOTE = _any_of(_WINDOWS), _any_of(_NOTES)
_IS_MANY = _any_of(pattern for pattern in KEYS if "*" in pattern)


def _known(key: str) -> _Key | None:
    found = KEYS.get(key)
    if found is None and _IS_MANY.fullmatch(key):
        found = next(known for pattern, known in KEYS.items() if fnmatch.fnmatchcase(key, pattern))
    return found


def said(metadata: Mapping[str, Any], arch: str) -> Iterator[Said]:
    """What the keys of arch say that changes the mathematics."""
    start = f"{arch}."
    window = metadata.get(start + _WINDOW)
    window = None if isinstance(window, int) and not window else window  # 0: there is none
    for full, general in GENERAL.items():
        if full in metadata and not general.neutral(metadata[full]):
            yield Said(full, _shown(metadata[full]), does=general.does)
    for full in metadata:
        key = full.removeprefix(start)
        if key == full:
            continue
        if key == _WINDOW:
            if window is not None:
                yield Said(full, _shown(window), _length(window), "lets every token see all before it")
        elif _IS_WINDOW.fullmatch(key):
            if window is not None and not _same_outside(metadata, full):
                n_ctx = _length(window) if key.endswith("_pattern") else 0  # where no window begins, none matters
                yield Said(full, _shown(metadata[full]), n_ctx, "builds all layers alike")
        else:
            known = _known(key)
            if known is not None and not known.neutral(metadata[full]):
                yield Said(full, _shown(metadata[full]), 0, known.does)


def _length(window: Any) -> int:
    """Tokens of a window; 0 where the value is none."""
    return window if isinstance(window, int) and not isinstance(window, bool) and window > 0 else 0


def unknown(metadata: Mapping[str, Any], arch: str, asked: set[str]) -> tuple[str, ...]:
    """Keys of arch that neither a reader asked for nor anything here knows."""
    start = f"{arch}."
    keys = (full.removeprefix(start) for full in metadata if full.startswith(start))
    known, many = {*asked, *KEYS, _WINDOW}, (_IS_WINDOW, _IS_NOTE, _IS_MANY)
    return tuple(start + key for key in keys if key not in known and not any(each.fullmatch(key) for each in many))


def _same_outside(metadata: Mapping[str, Any], key: str) -> bool:
    """Whether what a key says of windows holds in all layers."""
    if key.endswith("_pattern"):
        return _of(True, 1)(metadata[key])
    elsewhere = metadata.get(key.removesuffix("_swa"), 10000.0 if "freq_base" in key else None)
    return bool(np.array_equal(metadata[key], elsewhere))


def _shown(value: Any) -> str:
    return clip(value[:16].tolist() if isinstance(value, np.ndarray) else value, 80)
