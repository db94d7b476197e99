"""Mamba, Falcon Mamba and Mamba-2; and what their layers are called and say inside of other models.

Sources: transformers/models/mamba, falcon_mamba and mamba2; the names of llama.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pyggml.converters.family import DECAY, TAPS, Change, Config, Family, Meta
from pyggml.converters.meaning import SILU, Values, activation
from pyggml.errors import GGUFError

Names = dict[str, str | tuple[str, ...]]
_MIXER = ("conv1d", "in_proj", "out_proj")
_FIRST = {"x_proj": "ssm_x", "dt_proj": "ssm_dt"}
_SECOND = {"dt_bias": "ssm_dt.bias", "norm": "ssm_norm"}


def names(at: str, first: bool = False) -> Names:
    """Tensors of a layer's state space under `at`."""
    stems = {each: f"ssm_{each.removesuffix('_proj')}" for each in _MIXER}
    stems |= {"A_log": "ssm_a", "D": "ssm_d", **(_FIRST if first else _SECOND)}
    return {f"layers.#.{at}.{each}": f"blk.#.{to}" for each, to in stems.items()}


FIRST: dict[str, Change] = {"ssm_a": DECAY, "ssm_conv1d.weight": TAPS}
"""Changes of Mamba's tensors, and of Mamba-2's, which have a value for each head."""
_COLUMN = Change(lambda w, c: w.reshape(-1, 1), lambda w, c: w.reshape(-1))
SECOND: dict[str, Change] = {
    **FIRST,
    "ssm_a": Change(lambda w, c: DECAY.there(w, c).reshape(-1, 1), lambda w, c: log_column(w, c), floats=True),
    "ssm_d": _COLUMN,
    "ssm_norm": Change(lambda w, c: w.reshape(c.count("n_groups"), -1), lambda w, c: w.reshape(-1)),
}


def log_column(w: Any, c: Config) -> Any:
    """The way back of a column of decays."""
    assert DECAY.back is not None
    return DECAY.back(w, c).reshape(-1)


PLAIN: dict[str, Values] = {
    **activation(*SILU),
    **dict.fromkeys(("time_step_limit", "mamba_dt_limit"), ([0.0, math.inf], [0.0, {"__float__": "Infinity"}])),
    "mamba_hidden_act": SILU,
}
"""What layers of state spaces compute in any case."""
WORDS = {"ssm.conv_kernel": "conv_kernel", "ssm.state_size": "state_size"}
HEADS = {**WORDS, "ssm.time_step_rank": "num_heads", "ssm.group_count": "n_groups"}
"""The way back: of Mamba, and of Mamba-2."""


def heads(c: Config, arch: str, inner: int) -> Meta:
    """What is said of Mamba-2's layers."""
    n = c.count("num_heads")
    c.get("chunk_size")  # a matter of how, not of what
    if inner % n:
        raise GGUFError(f"{c.where}: {n} heads of state spaces do not divide their width of {inner}")
    return _sizes(c, arch, inner) | {
        f"{arch}.ssm.time_step_rank": (n, "u32"),
        f"{arch}.ssm.group_count": (c.count("n_groups"), "u32"),
    }


def ranks(c: Config, arch: str, inner: int) -> Meta:
    """What is said of Mamba's layers."""
    told = c.get("time_step_rank")
    rank = -(-c.n_embd // 16) if told in (None, "auto") else c.count("time_step_rank")
    return _sizes(c, arch, inner) | {f"{arch}.ssm.time_step_rank": (rank, "u32")}


def _sizes(c: Config, arch: str, inner: int) -> Meta:
    return {
        f"{arch}.ssm.conv_kernel": (c.count("conv_kernel"), "u32"),
        f"{arch}.ssm.state_size": (c.count("state_size"), "u32"),
        f"{arch}.ssm.inner_size": (inner, "u32"),
    }


ENDLESS = 1 << 20
"""Positions of models that know none, as llama.cpp's converter says it."""


def without_rope(c: Config, arch: str) -> Meta:
    """What is said of attention that nothing turns beside state spaces."""
    c.n_ctx  # noqa: B018 (said, and of no effect)
    return {
        f"{arch}.context_length": (ENDLESS, "u32"),
        f"{arch}.rope.dimension_count": (c.head_dim, "u32"),
        f"{arch}.rope.scaling.finetuned": (False, None),
        f"{arch}.vocab_size": (c.count("vocab_size"), "u32"),
    }


def expanded(c: Config) -> int:
    """The width of state spaces as a multiple of the model's."""
    return int(c.positive("expand", default=2.0) * c.n_embd)


def times(said: Mapping[str, Any], config: Mapping[str, Any]) -> int | float:
    """The way back of expanded()."""
    found = said.get("ssm.inner_size", 0) / config["hidden_size"]
    return int(found) if found.is_integer() else found


def _alone(arch: str, spaces: Callable[[Config], Meta]) -> Callable[[Config], Meta]:
    """A model of nothing but state spaces, which has no longest text."""

    def metadata(c: Config) -> Meta:
        for name in _NO_USE:
            c.get(name)
        return spaces(c) | {
            f"{arch}.block_count": (c.n_layer, "u32"),
            f"{arch}.context_length": (ENDLESS, "u32"),
            f"{arch}.embedding_length": (c.n_embd, "u32"),
            f"{arch}.feed_forward_length": (0, "u32"),
            f"{arch}.attention.head_count": (0, "u32"),
            f"{arch}.attention.layer_norm_rms_epsilon": (c.number("layer_norm_eps"), "f32"),
        }

    return metadata


_NO_USE = ("max_position_embeddings", "time_step_rank", "num_attention_heads", "num_key_value_heads",
           "intermediate_size")  # fmt: skip


def _first(c: Config) -> Meta:
    return ranks(c, "mamba", c.count("intermediate_size", default=expanded(c)))


def _falcon(c: Config) -> Meta:
    return _first(c) | {
        "mamba.ssm.dt_b_c_rms": (True, None),
        "mamba.ssm.dt_b_c_rms_epsilon": (c.number("mixer_rms_eps"), "f32"),
    }


def _second(c: Config) -> Meta:
    inner, width = expanded(c), c.count("head_dim")
    if c.count("num_heads") * width != inner:
        raise GGUFError(f"{c.where}: {c.count('num_heads')} heads of {width} values are not the width of {inner}")
    return heads(c, "mamba2", inner)


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    gone = ("max_position_embeddings", "num_attention_heads", "intermediate_size", "num_key_value_heads")
    found = {key: value for key, value in config.items() if key not in gone} | {"expand": times(said, config)}
    if said.get("ssm.dt_b_c_rms"):
        found.setdefault("mixer_rms_eps", found["layer_norm_epsilon"])
    if "num_heads" in found:
        found["head_dim"] = said["ssm.inner_size"] // found["num_heads"]
    elif not isinstance(found["expand"], int):  # which transformers wants, and does not look at beside this
        found |= {"expand": 2, "intermediate_size": said["ssm.inner_size"]}
    return found


_ALONE: Names = {"embeddings": "token_embd", "embedding": "token_embd", "norm_f": "output_norm", "lm_head": "output",
                 "layers.#.norm": "blk.#.attn_norm"}  # fmt: skip
_DEFAULTS = {"layer_norm_eps": 1e-5, "conv_kernel": 4, "expand": 2, "tie_word_embeddings": True}
_EPS = {"attention.layer_norm_rms_epsilon": "layer_norm_epsilon"}
_BIASES = {"use_bias": ("ssm_in", "ssm_out"), "use_conv_bias": ("ssm_conv1d",)}
FAMILIES = {
    "mamba": Family(
        "mamba", {**_ALONE, **names("mixer", True)}, _alone("mamba", _first), FIRST, computes=PLAIN,
        defaults={**_DEFAULTS, "state_size": 16}, prefix="backbone.", named="MambaForCausalLM", back=_back,
        words={**WORDS, **_EPS, "ssm.time_step_rank": "time_step_rank"}, biases={**_BIASES, "": ("ssm_dt",)},
    ),
    "falcon_mamba": Family(
        "mamba", {**_ALONE, **names("mixer", True)}, _alone("mamba", _falcon), FIRST, computes=PLAIN,
        defaults={**_DEFAULTS, "state_size": 16, "mixer_rms_eps": 1e-6}, prefix="backbone.",
        named="FalconMambaForCausalLM", back=_back, biases={**_BIASES, "": ("ssm_dt",)}, model_type="mamba",
        words={**WORDS, **_EPS, "ssm.time_step_rank": "time_step_rank",
               "ssm.dt_b_c_rms_epsilon": "mixer_rms_eps"},
    ),
    "mamba2": Family(
        "mamba2", {**_ALONE, **names("mixer")}, _alone("mamba2", _second), SECOND, computes=PLAIN,
        defaults={**_DEFAULTS, "state_size": 128, "n_groups": 8, "num_heads": 128, "head_dim": 64,
                  "tie_word_embeddings": False},
        prefix="backbone.", named="Mamba2ForCausalLM", back=_back, words={**HEADS, **_EPS},
        biases={**_BIASES, "": ("ssm_dt",)},
    ),
}  # fmt: skip
