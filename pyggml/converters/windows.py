"""Attention windows: which layers see only the last tokens -> attention.sliding_window, or a refusal by name.

A GGUF says one window: of all layers (llama, phi3), of those that the architecture has it in (gemma2, gemma3), or of
those of attention.sliding_window_pattern (olmo2, exaone4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyggml.converters.config_json import Config
from pyggml.errors import GGUFError
from pyggml.shown import clip

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


def of_each_layer(c: Config, habit: Sequence[str]) -> list[bool]:
    """Which layers have the window, where the file can say of each. habit: where config.json does not."""
    told = c.get("layer_types")
    layers = list(habit) if told is None else told
    if not isinstance(layers, list) or len(layers) != c.n_layer or any(each not in (SLIDING, FULL) for each in layers):
        raise c.refused("layer_types", told, f"expected {SLIDING} or {FULL} for each of {c.n_layer} layers")
    return [each == SLIDING for each in layers]


def every_fourth_full(c: Config) -> list[str]:
    """The layers of OLMo 3 and EXAONE 4."""
    return [SLIDING if (i + 1) % 4 else FULL for i in range(c.n_layer)]


def kinds(said: Mapping[str, Any], n_layer: int) -> list[str]:
    """The way back: layer_types by the metadata of a file with windows; every fourth layer is full if it does not say.

    Raises GGUFError for a pattern that is neither a period nor a value for each layer.
    """
    key = "attention.sliding_window_pattern"
    pattern = said.get(key, 4)
    if isinstance(pattern, int) and pattern > 0:
        pattern = [(i + 1) % pattern != 0 for i in range(n_layer)]
    if not isinstance(pattern, list) or len(pattern) != n_layer:
        raise GGUFError(f"{key} is {clip(pattern)}, expected a period or a value for each of {n_layer} layers")
    return [SLIDING if each else FULL for each in pattern]


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
