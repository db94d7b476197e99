"""How a family of models is described to the converter: names by table, changes of rows by table, metadata by rule.

A table row is "layers.#.self_attn.q_proj": "blk.#.attn_q": # stands for a number, .weight and .bias go along. A source
name with one number more than its target is one expert of a stack. The tables themselves are in families/.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.errors import GGUFError
from pyggml.gguf_format import clip

Meta = dict[str, tuple[Any, str | None]]
"""Metadata: key -> (value, GGUF type or None for the natural one)."""

_NUMBER = re.compile(r"\.(\d+)(?=\.|$)")
_ENDS = re.compile(r"\.(weight|bias)$")
PREFIXES = re.compile(
    r"^(model\.language_model\.|language_model\.model\.|language_model\.|model\.|transformer\.|bert\.)"
)
LIMIT = 1 << 31
MAX_HEAD = 1 << 16


class Config:
    """config.json with its values checked on the way out. Raises GGUFError naming the key."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        inner = values.get("text_config")
        self._values = {**values, **inner} if isinstance(inner, dict) else dict(values)
        self._where = where

    def get(self, *names: str) -> Any:
        """The first of some keys that is there and not null, else None."""
        for name in names:
            if self._values.get(name) is not None:
                return self._values[name]
        return None

    def count(self, *names: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self.get(*names)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < LIMIT:
            raise GGUFError(f"{self._where}: {names[0]} is {clip(value)}, expected a whole number from 1")
        return value

    def number(self, *names: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.get(*names)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise GGUFError(f"{self._where}: {names[0]} is {clip(value)}, expected a finite number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """A bool."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise GGUFError(f"{self._where}: {name} is {clip(value)}, expected true or false")
        return default if value is None else value

    def numbers(self, values: Any, name: str) -> list[float]:
        """A list of finite numbers found in a nested place."""
        if not isinstance(values, list) or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
            raise GGUFError(f"{self._where}: {name} is {clip(values)}, expected a list of numbers")
        return [float(v) for v in values]

    def rope(self, kind: str | None = None) -> Config:
        """Rope parameters: rope_parameters (of a kind of layer) of new files, rope_theta and rope_scaling of old."""
        new = self.get("rope_parameters")
        if isinstance(new, dict) and kind is not None and isinstance(new.get(kind), dict):
            new = new[kind]
        old = self.get("rope_scaling")
        values = {"rope_theta": self.get("rope_theta")}
        for part in (old, new):
            if isinstance(part, dict):
                values.update({key: value for key, value in part.items() if not isinstance(value, dict)})
        values["rope_type"] = values.get("rope_type") or values.get("type") or "default"
        return Config(values, self._where)

    @property
    def n_head(self) -> int:
        """Query heads."""
        return self.count("num_attention_heads", "n_head")

    @property
    def n_head_kv(self) -> int:
        """Key and value heads."""
        return self.count("num_key_value_heads", default=self.n_head)

    @property
    def n_embd(self) -> int:
        """Width of the residual stream."""
        return self.count("hidden_size", "n_embd")

    @property
    def n_layer(self) -> int:
        """Blocks."""
        return self.count("num_hidden_layers", "n_layer", "num_layers")

    @property
    def head_dim(self) -> int:
        """Values of a head."""
        found = self.count("head_dim", default=self.n_embd // self.n_head)
        if found > MAX_HEAD:
            raise GGUFError(f"{self._where}: heads of {found} values, expected at most {MAX_HEAD}")
        return found


@dataclass(frozen=True)
class Change:
    """What happens to a tensor on the way into a GGUF, and back. floats: it computes, so it needs real floats."""

    there: Callable[[NDArray[Any], Config], NDArray[Any]]
    back: Callable[[NDArray[Any], Config], NDArray[Any]] | None = None
    floats: bool = False


@dataclass(frozen=True)
class Family:
    """One architecture. names: stem -> stem or several stems; change: by target stem without its block number."""

    arch: str
    names: Mapping[str, str | tuple[str, ...]]
    metadata: Callable[[Config], Meta]
    change: Mapping[str, Change] = field(default_factory=dict)
    skip: str = r"rotary_emb\.inv_freq$|(attn|attention)\.(masked_)?bias$|position_ids$"
    extra: Callable[[Config], dict[str, NDArray[np.float32]]] = lambda c: {}
    model_type: str = ""

    def targets(self, name: str) -> list[tuple[str, int | None]] | None:
        """A source's name -> (target name, expert) pairs; [] where it is left out on purpose, None if unknown."""
        plain = PREFIXES.sub("", name)
        if re.search(self.skip, name):
            return []
        end = _ENDS.search(plain)
        stem = plain[: end.start()] if end else plain
        to = self.names.get(_NUMBER.sub(".#", stem))
        if to is None:
            return None
        numbers = [int(n) for n in _NUMBER.findall(stem)]
        found: list[tuple[str, int | None]] = []
        for pattern in (to,) if isinstance(to, str) else to:
            slots = pattern.count("#")
            target = pattern
            for number in numbers[:slots]:
                target = target.replace("#", str(number), 1)
            expert = numbers[slots] if len(numbers) > slots else None
            found.append((target + (end.group() if end else ".weight"), expert))
        return found

    def change_of(self, target: str) -> Change | None:
        """The change of a tensor by its GGUF name: of the whole name first, then of the stem."""
        plain = re.sub(r"^blk\.\d+\.", "", target)
        return self.change.get(plain) or self.change.get(_ENDS.sub("", plain))


def heads_to_pairs(rows: NDArray[Any], n_head: int) -> NDArray[Any]:
    """Rows of rope halves (i, i + d/2) -> neighbouring pairs (2i, 2i + 1), head by head."""
    return np.ascontiguousarray(rows.reshape(n_head, 2, -1, *rows.shape[1:]).swapaxes(1, 2)).reshape(rows.shape)


def pairs_to_heads(rows: NDArray[Any], n_head: int) -> NDArray[Any]:
    """The inverse of heads_to_pairs."""
    return np.ascontiguousarray(rows.reshape(n_head, -1, 2, *rows.shape[1:]).swapaxes(1, 2)).reshape(rows.shape)


ROPE_PAIRS = {
    "attn_q": Change(lambda w, c: heads_to_pairs(w, c.n_head), lambda w, c: pairs_to_heads(w, c.n_head)),
    "attn_k": Change(lambda w, c: heads_to_pairs(w, c.n_head_kv), lambda w, c: pairs_to_heads(w, c.n_head_kv)),
}
"""Q and K of architectures whose GGUF form turns neighbouring pairs."""

TURNED = Change(lambda w, c: np.ascontiguousarray(w.T), lambda w, c: np.ascontiguousarray(w.T))
"""A matrix stored (in, out)."""

ONE_MORE = Change(lambda w, c: w + np.float32(1), lambda w, c: w - np.float32(1), floats=True)
"""A norm whose weight is stored minus one."""


def decoder(c: Config, arch: str, head_dim: bool = True) -> Meta:
    """The keys that every decoder with RMS norms has."""
    meta: Meta = {
        f"{arch}.block_count": (c.n_layer, "u32"),
        f"{arch}.context_length": (c.count("max_position_embeddings", "n_positions", "n_ctx"), "u32"),
        f"{arch}.embedding_length": (c.n_embd, "u32"),
        f"{arch}.feed_forward_length": (c.count("intermediate_size"), "u32"),
        f"{arch}.attention.head_count": (c.n_head, "u32"),
        f"{arch}.attention.head_count_kv": (c.n_head_kv, "u32"),
        f"{arch}.attention.layer_norm_rms_epsilon": (c.number("rms_norm_eps", default=1e-6), "f32"),
    }
    if head_dim and c.get("head_dim") is not None:
        meta[f"{arch}.attention.key_length"] = (c.head_dim, "u32")
        meta[f"{arch}.attention.value_length"] = (c.head_dim, "u32")
    return meta


def rope(c: Config, arch: str, kind: str | None = None) -> Meta:
    """Rope base and scaling. llama3's factors are a tensor (see llama3_factors), longrope's too."""
    r = c.rope(kind)
    meta: Meta = {f"{arch}.rope.freq_base": (r.number("rope_theta", default=10000.0), "f32")}
    name = r.get("rope_type")
    if name == "linear":
        meta[f"{arch}.rope.scaling.type"] = ("linear", None)
        meta[f"{arch}.rope.scaling.factor"] = (r.number("factor"), "f32")
    elif name == "yarn":
        meta[f"{arch}.rope.scaling.type"] = ("yarn", None)
        meta[f"{arch}.rope.scaling.factor"] = (r.number("factor"), "f32")
        meta[f"{arch}.rope.scaling.original_context_length"] = (r.count("original_max_position_embeddings"), "u32")
        for key in ("beta_fast", "beta_slow"):
            if r.get(key) is not None:
                meta[f"{arch}.rope.scaling.yarn_{key}"] = (r.number(key), "f32")
        if r.get("attention_factor") is not None:
            meta[f"{arch}.rope.scaling.attn_factor"] = (r.number("attention_factor"), "f32")
    elif name not in ("default", "llama3", "longrope", "su", "dynamic", "mrope"):
        raise GGUFError(
            f"{arch}: rope scaling of type {clip(name)} is not known; linear, yarn, llama3 and longrope are"
        )
    return meta


def llama3_factors(c: Config) -> dict[str, NDArray[np.float32]]:
    """Llama 3.1's divisor of each frequency: 1 for short waves, factor for long ones, a ramp between."""
    r = c.rope()
    if r.get("rope_type") != "llama3":
        return {}
    factor, context = r.number("factor"), r.number("original_max_position_embeddings")
    low, high = r.number("low_freq_factor"), r.number("high_freq_factor")
    speeds = r.number("rope_theta", default=10000.0) ** -(np.arange(0, c.head_dim, 2, dtype=np.float32) / c.head_dim)
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
