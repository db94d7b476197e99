"""Command R and R7B: attention beside the feed-forward, behind one norm. Sources: transformers' cohere, cohere2."""

from __future__ import annotations

from typing import Any

from pyggml.converters import windows
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, Config, Family, Meta, decoder
from pyggml.converters.ropes import llama3_factors, rope

_NAMES = {name: to for name, to in NAMES.items() if "post_attention" not in name}
_PERIOD = 4


def _base(c: Config, arch: str) -> Meta:
    return decoder(c, arch, layer_norm=True) | rope(c, arch) | {
        f"{arch}.vocab_size": (c.count("vocab_size"), "u32"),
        f"{arch}.logit_scale": (c.positive("logit_scale"), "f32"),
    }  # fmt: skip


def _cohere(c: Config) -> Meta:
    return _base(c, "command-r")


def _cohere2(c: Config) -> Meta:
    """Layers with a window turn, the others do not: the key is there however long the window is."""
    period = c.count("sliding_window_pattern", default=_PERIOD)
    if period != _PERIOD:
        raise c.refused("sliding_window_pattern", period, f"runtimes of cohere2 take {_PERIOD}")
    windows.as_built(c, [windows.SLIDING if (i + 1) % _PERIOD else windows.FULL for i in range(c.n_layer)])
    return _base(c, "cohere2") | {"cohere2.attention.sliding_window": (c.count("sliding_window"), "u32")}


_DEFAULTS: dict[str, Any] = {"layer_norm_eps": 1e-5, "logit_scale": 0.0625, "tie_word_embeddings": True}
_BACK: dict[str, Any] = {"biases": {"attention_bias": ATTENTION}, "words": {"logit_scale": "logit_scale"}}
FAMILIES = {
    "cohere": Family(
        "command-r", _NAMES, _cohere, extra=llama3_factors, defaults={**_DEFAULTS, "rope_theta": 5e5},
        named="CohereForCausalLM", **_BACK,
    ),
    "cohere2": Family(
        "cohere2", _NAMES, _cohere2, extra=llama3_factors, defaults={**_DEFAULTS, "sliding_window": 4096},
        named="Cohere2ForCausalLM", **_BACK,
    ),
}  # fmt: skip
