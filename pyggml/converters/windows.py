"""Attention windows: which layers see only the last tokens -> attention.sliding_window, or a refusal by name.

A GGUF says one window: of all layers (llama, phi3), or of those that the architecture has it in (gemma2, gemma3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyggml.converters.config_json import Config

Meta = dict[str, tuple[Any, str | None]]

SLIDING, FULL = "sliding_attention", "full_attention"


def every_layer(c: Config, arch: str) -> Meta:
    """Families whose window, where there is one, is that of all layers (Mistral, Mixtral, Phi-3)."""
    if not c.get("sliding_window"):
        return {}
    _check_layers(c, [SLIDING] * c.n_layer)
    return _one_window(c, arch)


def when_used(c: Config, arch: str, habit: Callable[[Config], Sequence[str]]) -> None:
    """Qwen: a window only with use_sliding_window, in the layers that layer_types says or, without it, habit.

    Such files have no key for it: raises UnsupportedError where a layer has a window that is shorter than the context.
    """
    used = c.flag("use_sliding_window")
    told = c.get("layer_types")
    c.get("max_window_layers")
    if not c.get("sliding_window") or not used:
        _check_layers(c, [FULL] * c.n_layer)
        return
    layers = list(told) if isinstance(told, list) else list(habit(c))
    if SLIDING not in layers:
        _check_layers(c, [FULL] * c.n_layer)
    elif c.count("sliding_window") < c.n_ctx:
        raise c.refused(
            "use_sliding_window",
            used,
            f"{layers.count(SLIDING)} of {c.n_layer} layers see the last {c.get('sliding_window')} tokens only, which "
            f"a GGUF of {arch} cannot say; set it to false to convert the model for full attention",
        )


def as_built(c: Config, habit: Sequence[str]) -> None:
    """Architectures whose layers with windows are fixed: raises UnsupportedError where config.json says others."""
    _check_layers(c, habit)


def _one_window(c: Config, arch: str) -> Meta:
    window = c.count("sliding_window")
    if window >= c.n_ctx:  # nothing lies before it
        return {}
    return {f"{arch}.attention.sliding_window": (window, "u32")}


def _check_layers(c: Config, right: Sequence[str]) -> None:
    told = c.get("layer_types")
    if told is None or told == list(right):
        return
    kinds = sorted(set(right))
    raise c.refused(
        "layer_types",
        told,
        f"layers of other kinds than this model type computes ({len(right)} layers, {' and '.join(kinds)})",
    )
