"""How positions are rotated: the rope keys of a config.json -> metadata and tensors of a GGUF, and YaRN back again.

Sources: transformers/modeling_rope_utils.py for what each key does, llama.cpp's context for what each GGUF key does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.config_json import Config
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.shown import clip

Meta = dict[str, tuple[Any, str | None]]
"""Metadata: key -> (value, GGUF type or None for the natural one)."""

CARRIED = ("default", "linear", "yarn", "llama3")
_PLAIN = "finetuned", "original_max_position_embeddings"  # told beside types that do not use them


def rope(
    c: Config,
    arch: str,
    kind: str | None = None,
    carried: Collection[str] = CARRIED,
    exact: bool = False,
    whole: bool = True,
) -> Meta:
    """Rope base and scaling. llama3's factors are a tensor: see llama3_factors.

    carried: the types that the architecture's file can say. Raises UnsupportedError for others. exact: YaRN's ramp is
    not rounded. whole: heads are rotated whole.
    """
    r = c.rope(kind)
    name = rope_type(r, arch, carried)
    if whole:
        whole_head(r)
    meta: Meta = {f"{arch}.rope.freq_base": (base(r), "f32")}
    if name == "linear":
        meta[f"{arch}.rope.scaling.type"] = ("linear", None)
        meta[f"{arch}.rope.scaling.factor"] = (r.positive("factor", least=1.0), "f32")
    elif name == "yarn":
        meta |= yarn(c, r, arch, exact)
        meta |= _magnitude(r, yarn_factor(c, r), arch)
    if name in ("default", "linear"):
        for each in _PLAIN:
            r.get(each)
    return meta


def rope_type(r: Config, arch: str, carried: Collection[str]) -> str:
    """The type of a rope. Raises UnsupportedError for one that the file cannot say, with what can be done."""
    name = r.get("rope_type")
    if name in carried:
        return str(name)
    cure = "convert a checkpoint without it"
    if name == "dynamic":
        cure = "without it the model computes the same up to max_position_embeddings tokens: remove it for that"
    raise UnsupportedError(
        f"{r.where}: rope_type is {clip(name)}, a rope scaling that a GGUF of {arch} cannot say; it can say "
        f"{', '.join(carried)}; {cure}"
    )


def base(r: Config) -> float:
    """rope_theta. Raises GGUFError where it is no base of a power."""
    theta = r.number("rope_theta", default=10000.0)
    if not 0 < theta <= 1e30:
        raise GGUFError(f"{r.where}: rope_theta is {theta:g}, expected a number above 0 and at most 1e30")
    return theta


def part_of_head(c: Config) -> int:
    """How many values of a head are rotated. Raises GGUFError where partial_rotary_factor is no share of it."""
    part = c.rope().number("partial_rotary_factor", default=1.0)
    if not 0 < part <= 1:
        raise GGUFError(f"{c.where}: partial_rotary_factor is {part:g}, expected a share of the head")
    return int(part * c.head_dim)


def part_rope(c: Config, arch: str) -> Meta:
    """Rope keys of heads that are rotated in part."""
    meta = rope(c, arch, carried=("default", "linear", "yarn"), whole=False)
    return meta | {f"{arch}.rope.dimension_count": (part_of_head(c), "u32")}


PART_WORDS = {"rope.dimension_count": "partial_rotary_factor"}


def part_back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The way back of a number of rotated values: their share of the head."""
    width = Config(config, "the file's metadata").head_dim
    n_rot = said.get("rope.dimension_count", width)
    if not 0 < n_rot <= width:
        raise GGUFError(f"rope.dimension_count is {n_rot}, expected 1 to {width}, the width of a head")
    return config | {"partial_rotary_factor": n_rot / width}


def whole_head(r: Config) -> None:
    """Raises UnsupportedError where only a part of each head is rotated."""
    part = r.number("partial_rotary_factor", default=1.0)
    if part != 1.0:
        raise r.refused("partial_rotary_factor", part, "models of this type rotate whole heads")


# ---- YaRN ----------------------------------------------------------------------------------------------------------


def yarn_factor(c: Config, r: Config) -> float:
    """How much longer the context became: told, or the ratio of the contexts."""
    if r.get("factor") is None:
        return c.n_ctx / r.count("original_max_position_embeddings", default=c.n_ctx)
    return r.positive("factor", least=1.0)


def yarn(c: Config, r: Config, arch: str, exact: bool = False) -> Meta:
    """YaRN's keys but for the magnitude. truncate has no key: what the architecture does not compute is refused."""
    if r.get("truncate") not in ((False,) if exact else (None, True)):
        what = "leave the ramp's ends as they are" if exact else "round the ramp's ends"
        raise r.refused("truncate", r.get("truncate"), f"GGUF has no key for it, its runtimes {what}")
    r.get("finetuned")
    meta: Meta = {
        f"{arch}.rope.scaling.type": ("yarn", None),
        f"{arch}.rope.scaling.factor": (yarn_factor(c, r), "f32"),
        f"{arch}.rope.scaling.original_context_length": (
            r.count("original_max_position_embeddings", default=c.n_ctx),
            "u32",
        ),
    }
    for key in ("beta_fast", "beta_slow"):
        if r.get(key):  # 0 stands for the default, as null does
            meta[f"{arch}.rope.scaling.yarn_{key}"] = (r.positive(key), "f32")
    return meta


def own_magnitude(factor: float, scale: float = 1.0) -> float:
    """YaRN's own factor of cosine and sine, 0.1 ln(factor) + 1; scale: mscale."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def wanted_magnitude(r: Config, factor: float) -> float:
    """The factor of cosine and sine that a config asks for."""
    told = r.get("attention_factor")
    one, all_dims = r.get("mscale"), r.get("mscale_all_dim")
    if told is not None:
        return r.positive("attention_factor")
    if one and all_dims:
        return own_magnitude(factor, r.positive("mscale")) / own_magnitude(factor, r.positive("mscale_all_dim"))
    return own_magnitude(factor)


def _magnitude(r: Config, factor: float, arch: str) -> Meta:
    """attn_factor multiplies what runtimes compute on their own, so the wanted factor is divided by that."""
    ratio = wanted_magnitude(r, factor) / own_magnitude(factor)
    return {} if abs(ratio - 1) < 1e-7 else {f"{arch}.rope.scaling.attn_factor": (ratio, "f32")}


def attention_factor(attn_factor: float, factor: float) -> float:
    """The way back: a file's attn_factor -> attention_factor of a config.json.

    >>> round(attention_factor(1.0, 4.0), 6)
    1.138629
    """
    return attn_factor * own_magnitude(factor)


# ---- Llama 3.1 -----------------------------------------------------------------------------------------------------


def llama3_factors(c: Config, kind: str | None = None) -> dict[str, NDArray[np.float32]]:
    """Llama 3.1's divisor of each frequency: 1 for short waves, factor for long ones, a ramp between."""
    r = c.rope(kind)
    if r.get("rope_type") != "llama3":
        return {}
    factor = r.positive("factor", least=1.0)
    context = r.count("original_max_position_embeddings", default=c.n_ctx)
    low, high = r.positive("low_freq_factor"), r.positive("high_freq_factor")
    if high <= low:
        raise GGUFError(f"{r.where}: high_freq_factor is {high:g}, expected more than low_freq_factor, {low:g}")
    speeds = base(r) ** -(np.arange(0, c.head_dim, 2, dtype=np.float32) / c.head_dim)
    waves = 2 * math.pi / speeds.astype(np.float32)
    factors = []
    for wave in waves.tolist():
        if wave < context / high:
            factors.append(1.0)
        elif wave > context / low:
            factors.append(factor)
        else:
            smooth = (context / wave - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return {"rope_freqs.weight": np.array(factors, np.float32)}
