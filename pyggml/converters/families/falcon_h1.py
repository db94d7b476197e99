"""Falcon-H1: attention and Mamba-2 beside each other in every layer. Its many factors are multiplied into the matrices.

Sources: transformers/models/falcon_h1; the names of llama.cpp. A file has no word for the factors, so that a checkpoint
made of one has them all 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.families.llama import NAMES
from pyggml.converters.families.mamba import HEADS, PLAIN, SECOND, Names, expanded, heads, names
from pyggml.converters.family import ATTENTION, MLP, Change, Config, Family, Meta, decoder
from pyggml.converters.ropes import llama3_factors, rope

_NAMES: Names = {
    **{name: to for name, to in NAMES.items() if ".mlp." not in name and "post_attention" not in name},
    "final_layernorm": "output_norm",
    "layers.#.pre_ff_layernorm": "blk.#.ffn_norm",
    **{f"layers.#.feed_forward.{part}_proj": f"blk.#.ffn_{part}" for part in ("gate", "up", "down")},
    **names("mamba"),
}
del _NAMES["norm"]
_FACTORS = ("embedding_multiplier", "lm_head_multiplier", "key_multiplier", "attention_in_multiplier",
            "attention_out_multiplier", "ssm_in_multiplier", "ssm_out_multiplier")  # fmt: skip


def _listed(c: Config, name: str, n: int) -> list[float]:
    found = c.numbers(name) if c.get(name) is not None else [1.0] * n
    if len(found) != n:
        raise c.refused(name, found, f"expected {n} numbers")
    return found


def _inner(c: Config) -> int:
    return c.count("mamba_d_ssm") if c.get("mamba_d_ssm") is not None else expanded(c)


def _by(*factors: str) -> Callable[[Config], float]:
    """The product of some factors; name.0 is the first of a list of two."""

    def by(c: Config) -> float:
        found = 1.0
        for name in factors:
            stem, _, at = name.partition(".")
            found *= _listed(c, stem, 2)[int(at)] if at else c.number(stem, default=1.0)
        return found

    return by


def _times(by: Callable[[Config], Any]) -> Change:
    """Products in doubles, rounded once. Biases of a layer are multiplied as its rows are."""

    def there(w: NDArray[Any], c: Config) -> NDArray[Any]:
        factor = by(c)
        return w if np.all(np.equal(factor, 1.0)) else (w.astype(np.float64) * factor).astype(np.float32)

    return Change(there, lambda w, c: w, floats=True)


def _rows(c: Config) -> NDArray[np.float64]:
    """Of the rows of ssm_in: gate, values, B, C, steps."""
    n, bc = _inner(c), c.count("n_groups") * c.count("state_size")
    sizes = (n, n, bc, bc, c.count("num_heads"))
    factors = np.repeat(_listed(c, "ssm_multipliers", 5), sizes)
    return np.asarray(factors * c.number("ssm_in_multiplier", default=1.0))[:, None]


_CHANGES: dict[str, Change] = {
    **SECOND,
    "token_embd.weight": _times(_by("embedding_multiplier")),
    "output.weight": _times(_by("lm_head_multiplier")),
    "attn_q.weight": _times(_by("attention_in_multiplier")),
    "attn_k.weight": _times(_by("attention_in_multiplier", "key_multiplier")),
    "attn_k.bias": _times(_by("key_multiplier")),
    "attn_v.weight": _times(_by("attention_in_multiplier")),
    **dict.fromkeys(("attn_output.weight", "attn_output.bias"), _times(_by("attention_out_multiplier"))),
    "ssm_in.weight": _times(_rows),
    **dict.fromkeys(("ssm_out.weight", "ssm_out.bias"), _times(_by("ssm_out_multiplier"))),
    **dict.fromkeys(("ffn_gate.weight", "ffn_gate.bias"), _times(_by("mlp_multipliers.0"))),
    **dict.fromkeys(("ffn_down.weight", "ffn_down.bias"), _times(_by("mlp_multipliers.1"))),
}


def _metadata(c: Config) -> Meta:
    for name in _FACTORS:
        c.number(name, default=1.0)
    for name, n in (("mlp_multipliers", 2), ("ssm_multipliers", 5)):
        _listed(c, name, n)
    if c.flag("tie_word_embeddings") and _by("embedding_multiplier")(c) != _by("lm_head_multiplier")(c):
        raise c.refused("lm_head_multiplier", c.get("lm_head_multiplier"), "the embedding has another, and is the head")
    if c.flag("mamba_rms_norm") and c.flag("mamba_norm_before_gate", True):
        raise c.refused("mamba_norm_before_gate", True, "a GGUF of falcon-h1 norms what the gate has passed")
    c.get("mamba_norm_before_gate"), c.get("expand")
    if c.get("mamba_d_head") not in (None, "auto", _inner(c) // c.count("num_heads")):
        raise c.refused("mamba_d_head", c.get("mamba_d_head"), "heads must make up mamba_d_ssm")
    return decoder(c, "falcon-h1") | rope(c, "falcon-h1") | heads(c, "falcon-h1", _inner(c))


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    normed = any(name.endswith("ssm_norm.weight") for name in said[""])
    return config | {
        "mamba_d_ssm": said["ssm.inner_size"], "mamba_norm_before_gate": False, "mamba_rms_norm": normed,
        "mamba_d_head": said["ssm.inner_size"] // said["ssm.time_step_rank"],
    }  # fmt: skip


FAMILIES = {
    "falcon_h1": Family(
        "falcon-h1", _NAMES, _metadata, _CHANGES, extra=llama3_factors, back=_back, named="FalconH1ForCausalLM",
        computes=PLAIN,
        defaults={"rms_norm_eps": 1e-5, "num_key_value_heads": 8, "mamba_n_heads": 128, "mamba_n_groups": 1,
                  "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_d_ssm": 1024,
                  "mamba_norm_before_gate": True, "max_position_embeddings": 8192},
        spelled={"conv_kernel": "mamba_d_conv", "state_size": "mamba_d_state", "num_heads": "mamba_n_heads",
                 "n_groups": "mamba_n_groups", "expand": "mamba_expand"},
        words=HEADS,
        biases={"attention_bias": ATTENTION, "mlp_bias": MLP, "mamba_conv_bias": ("ssm_conv1d",),
                "mamba_proj_bias": ("ssm_in",), "projectors_bias": ("ssm_out",), "": ("ssm_dt",)},
    ),
}  # fmt: skip
