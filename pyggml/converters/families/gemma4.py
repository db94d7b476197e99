"""Gemma 3n and 4 (text): layers with windows and heads of their own, shared keys and values, rows given to each layer.

Norm weights are stored as they are. Sources: transformers/models/gemma3n and gemma4; the names of llama.cpp.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters import windows
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import Change, Config, Family, Meta, decoder
from pyggml.converters.meaning import GELU_TANH, activation
from pyggml.converters.ropes import base, rope_type, whole_head
from pyggml.errors import GGUFError

_COMMON: dict[str, str | tuple[str, ...]] = {
    **NAMES,
    "layers.#.post_attention_layernorm": "blk.#.post_attention_norm",
    "layers.#.pre_feedforward_layernorm": "blk.#.ffn_norm",
    "layers.#.post_feedforward_layernorm": "blk.#.post_ffw_norm",
    "layers.#.self_attn.q_norm": "blk.#.attn_q_norm",
    "layers.#.self_attn.k_norm": "blk.#.attn_k_norm",
    "embed_tokens_per_layer": "per_layer_token_embd",
    "per_layer_model_projection": "per_layer_model_proj",
    "per_layer_projection_norm": "per_layer_proj_norm",
    "layers.#.per_layer_input_gate": "blk.#.inp_gate",
    "layers.#.per_layer_projection": "blk.#.proj",
    "layers.#.post_per_layer_input_norm": "blk.#.post_norm",
}
_NAMES4: dict[str, str | tuple[str, ...]] = {
    **_COMMON,
    "layers.#.layer_scalar": "blk.#.layer_output_scale",
    "layers.#.router.proj": "blk.#.ffn_gate_inp",
    "layers.#.router.scale": "blk.#.ffn_gate_inp.scale",
    "layers.#.router.per_expert_scale": "blk.#.ffn_down_exps.scale",
    "layers.#.experts.gate_up_proj": "blk.#.ffn_gate_up_exps",
    "layers.#.experts.down_proj": "blk.#.ffn_down_exps",
    "layers.#.pre_feedforward_layernorm_2": "blk.#.pre_ffw_norm_2",
    "layers.#.post_feedforward_layernorm_1": "blk.#.post_ffw_norm_1",
    "layers.#.post_feedforward_layernorm_2": "blk.#.post_ffw_norm_2",
}
_NAMES3N: dict[str, str | tuple[str, ...]] = {
    **_COMMON,
    "altup_projections.#": "altup_proj",
    "altup_unembed_projections.#": "altup_unembd_proj",
    "layers.#.altup.correction_coefs": "blk.#.altup_correct_coef",
    "layers.#.altup.prediction_coefs": "blk.#.altup_predict_coef",
    "layers.#.altup.correct_output_scale": "blk.#.altup_correct_scale",
    "layers.#.altup.modality_router": "blk.#.altup_router",
    "layers.#.altup.router_norm": "blk.#.altup_router_norm",
    "layers.#.laurel.linear_left": "blk.#.laurel_l",
    "layers.#.laurel.linear_right": "blk.#.laurel_r",
    "layers.#.laurel.post_laurel_norm": "blk.#.laurel_post_norm",
}


def _layers(c: Config, period: int) -> list[bool]:
    """Which layers have a window."""
    told = c.get("layer_types")
    if told is None:
        return [(i + 1) % period != 0 and i + 1 < c.n_layer for i in range(c.n_layer)]
    kinds = (windows.SLIDING, windows.FULL)
    if not isinstance(told, list) or len(told) != c.n_layer or any(each not in kinds for each in told):
        raise c.refused("layer_types", told, f"expected {kinds[0]} or {kinds[1]} for each of {c.n_layer} layers")
    return [each == windows.SLIDING for each in told]


def _common(c: Config, arch: str, inside: list[bool]) -> Meta:
    """What both say of windows, ropes and sharing."""
    meta: Meta = {
        f"{arch}.attention.sliding_window_pattern": (inside, "bool"),
        f"{arch}.attention.sliding_window": (c.count("sliding_window"), "u32"),
        f"{arch}.attention.shared_kv_layers": (c.index("num_kv_shared_layers"), "u32"),
        f"{arch}.embedding_length_per_layer_input": (c.index("hidden_size_per_layer_input"), "u32"),
    }
    c.get("vocab_size_per_layer_input")  # of the table, whose rows count
    if c.get("final_logit_softcapping") is not None:
        meta[f"{arch}.final_logit_softcapping"] = (c.positive("final_logit_softcapping"), "f32")
    local, full = c.rope(windows.SLIDING), c.rope(windows.FULL)
    rope_type(local, arch, ("default",))
    whole_head(local)
    rope_type(full, arch, ("default", "proportional") if arch == "gemma4" else ("default",))
    if arch != "gemma4":
        whole_head(full)
    meta[f"{arch}.rope.freq_base"] = (base(full), "f32")
    meta[f"{arch}.rope.freq_base_swa"] = (base(local), "f32")
    return meta


# ---- Gemma 4 -------------------------------------------------------------------------------------------------------


def _outside(c: Config, inside: list[bool]) -> tuple[int, int]:
    """Width and number of heads of keys in layers without a window.

    They come from per_layer_config (transformers 5.24), or from keys of their own before that.
    """
    head_dim, n_kv = c.count("global_head_dim", default=512), c.n_head_kv
    n_global = c.get("num_global_key_value_heads")
    if n_global is not None and c.flag("attention_k_eq_v"):
        n_kv = c.count("num_global_key_value_heads")
    said = c.get("per_layer_config")
    if said is None:
        return head_dim, n_kv
    full = {str(i) for i, each in enumerate(inside) if not each}
    if not isinstance(said, dict) or {str(key) for key in said} != full or len({str(v) for v in said.values()}) > 1:
        raise c.refused("per_layer_config", said, f"expected one form for each of the layers {', '.join(sorted(full))}")
    form: Any = next(iter(said.values()), {})
    if not isinstance(form, dict) or not form.keys() <= {"head_dim", "num_key_value_heads"}:
        raise c.refused("per_layer_config", form, "expected head_dim and num_key_value_heads, or one of them")
    of_one = Config(form, f"{c.where}: per_layer_config")
    return of_one.count("head_dim", default=c.head_dim), of_one.count("num_key_value_heads", default=c.n_head_kv)


def _gemma4(c: Config) -> Meta:
    inside = _layers(c, 6)
    full, n_kv = _outside(c, inside)
    n_shared, n_ff = c.index("num_kv_shared_layers"), c.count("intermediate_size")
    meta = decoder(c, "gemma4", head_dim=False) | _common(c, "gemma4", inside) | {
        "gemma4.attention.key_length": (full, "u32"),
        "gemma4.attention.value_length": (full, "u32"),
        "gemma4.attention.key_length_swa": (c.head_dim, "u32"),
        "gemma4.attention.value_length_swa": (c.head_dim, "u32"),
        "gemma4.rope.dimension_count": (full, "u32"),
        "gemma4.rope.dimension_count_swa": (c.head_dim, "u32"),
    }  # fmt: skip
    if n_kv != c.n_head_kv:
        meta["gemma4.attention.head_count_kv"] = ([c.n_head_kv if each else n_kv for each in inside], "i32")
    if c.flag("use_double_wide_mlp") and n_shared:
        widths = [n_ff * (2 if i >= c.n_layer - n_shared else 1) for i in range(c.n_layer)]
        meta["gemma4.feed_forward_length"] = (widths, "i32")
    if c.flag("enable_moe_block"):
        meta["gemma4.expert_count"] = (c.count("num_experts"), "u32")
        meta["gemma4.expert_used_count"] = (c.count("top_k_experts"), "u32")
        meta["gemma4.expert_feed_forward_length"] = (c.count("moe_intermediate_size"), "u32")
    return meta


def _rope_freqs(c: Config) -> dict[str, NDArray[np.float32]]:
    """Divisors of the frequencies in layers without a window: some pairs turn, the others as good as stand."""
    inside = _layers(c, 6)
    if all(inside):
        return {}
    pairs = _outside(c, inside)[0] // 2
    turning = int(c.rope(windows.FULL).number("partial_rotary_factor", default=1.0) * pairs)
    if not 0 <= turning <= pairs:
        raise GGUFError(f"{c.where}: partial_rotary_factor makes {turning} of {pairs} pairs turn")
    return {"rope_freqs.weight": np.array([1.0] * turning + [1e30] * (pairs - turning), np.float32)}


# ---- Gemma 3n ------------------------------------------------------------------------------------------------------


def _deviations(c: Config) -> list[float]:
    """How far above the mean a gate must be, so that the share of activation_sparsity_pattern stays below."""
    said = c.get("activation_sparsity_pattern")
    if said is None:
        return [NormalDist().inv_cdf(0.95) if i < 10 < c.n_layer else -math.inf for i in range(c.n_layer)]
    shares = c.numbers("activation_sparsity_pattern") if isinstance(said, list) else [c.number(
        "activation_sparsity_pattern")] * c.n_layer  # fmt: skip
    if len(shares) != c.n_layer or not all(0 <= each < 1 for each in shares):
        raise c.refused("activation_sparsity_pattern", said, f"expected a share below 1 for each of {c.n_layer} layers")
    return [NormalDist().inv_cdf(float(np.float32(each))) if each > 0 else -math.inf for each in shares]


def _gemma3n(c: Config) -> Meta:
    widths: Any = c.get("intermediate_size")
    several = isinstance(widths, list)
    if several and (len(widths) != c.n_layer or not all(type(each) is int and each > 0 for each in widths)):
        raise c.refused("intermediate_size", widths, f"expected a width for each of {c.n_layer} layers")
    meta = decoder(c, "gemma3n", False, widths[0] if several else None) | _common(c, "gemma3n", _layers(c, 5)) | {
        "gemma3n.attention.key_length": (c.head_dim, "u32"),
        "gemma3n.attention.value_length": (c.head_dim, "u32"),
        "gemma3n.altup.num_inputs": (c.count("altup_num_inputs"), "u32"),
        "gemma3n.altup.active_idx": (c.index("altup_active_idx"), "u32"),
        "gemma3n.activation_sparsity_scale": (_deviations(c), "f32"),
    }  # fmt: skip
    if several and len(set(widths)) > 1:
        meta["gemma3n.feed_forward_length"] = (widths, "i32")
    return meta


def _filled(w: NDArray[Any], c: Config) -> NDArray[Any]:
    """Tokens that the second table does not have read its first row."""
    missing = c.count("vocab_size", default=len(w)) - len(w)
    return np.concatenate([w, np.broadcast_to(w[:1], (missing, *w.shape[1:]))]) if missing > 0 else w


_TABLE = {"per_layer_token_embd": Change(_filled, lambda w, c: w)}
_SKIP = r"rotary_emb|(^|\.)(vision_tower|audio_tower|embed_vision|embed_audio|multi_modal_projector)\."
_DEFAULTS = {"rms_norm_eps": 1e-6, "tie_word_embeddings": True, "hidden_size_per_layer_input": 256, "head_dim": 256,
             "sliding_window": 512}  # fmt: skip
_GEMMA4 = Family(
    "gemma4",
    _NAMES4,
    _gemma4,
    _TABLE,
    skip=_SKIP,
    extra=_rope_freqs,
    model_type="gemma4_text",
    computes={**activation(*GELU_TANH), "use_bidirectional_attention": ("vision", False),
              "attention_k_eq_v": (True, False)},
    defaults={**_DEFAULTS, "num_key_value_heads": 4},
    bare=("layers.#.layer_scalar", "layers.#.experts.gate_up_proj", "layers.#.experts.down_proj"),
    vocabulary="gemma4",
)  # fmt: skip
_GEMMA3N = Family(
    "gemma3n",
    _NAMES3N,
    _gemma3n,
    _TABLE,
    skip=_SKIP,
    model_type="gemma3n_text",
    computes={**activation(*GELU_TANH), "altup_correct_scale": (True,)},
    defaults={**_DEFAULTS, "num_key_value_heads": 2, "num_kv_shared_layers": 15, "final_logit_softcapping": 30.0,
              "altup_num_inputs": 4, "rope_theta": 1e6, "rope_local_base_freq": 1e4},
    bare=("layers.#.altup.correct_output_scale",),
)  # fmt: skip
FAMILIES = {"gemma4_text": _GEMMA4, "gemma4": _GEMMA4, "gemma3n_text": _GEMMA3N, "gemma3n": _GEMMA3N}
