"""config.json, key by key: values are checked on the way out, and every key that was read is written down.

Publishers, and transformers before and since version 5, spell one fact differently: SPELLINGS is the one table of it.
What the keys do is in families/ and ropes.py; what nobody read is judged in meaning.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pyggml.errors import GGUFError, UnsupportedError
from pyggml.shown import clip

LIMIT = 1 << 31
MAX_HEAD = 1 << 16
MAX_LAYERS = 1 << 12
MAX_FACTOR = 1e6

SPELLINGS: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd",),
    "num_hidden_layers": ("n_layer", "num_layers"),
    "num_attention_heads": ("n_head",),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv"),
    "intermediate_size": ("n_inner",),
    "max_position_embeddings": ("n_positions", "n_ctx"),
    "layer_norm_eps": ("layer_norm_epsilon",),
    "num_experts": ("num_local_experts", "n_routed_experts"),
    "num_experts_per_tok": ("num_experts_per_token",),
    "n_shared_experts": ("num_shared_experts",),
    "sliding_window_pattern": ("_sliding_window_pattern",),
    "num_nextn_predict_layers": ("num_mtp_layers",),
}
"""The name by which the families ask -> other names of the same number."""

ROPE_NAMES = ("rope_scaling", "rope_parameters")


class Config:
    """The values of a config.json. Each read key is recorded; defaults serve for keys that the file does not have.

    A key that is there and null stays null, as in transformers. Raises GGUFError naming the key.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        where: str,
        defaults: Mapping[str, Any] | None = None,
        spelled: Mapping[str, str] | None = None,
    ) -> None:
        inner = values.get("text_config")
        self._values = {**values, **inner} if isinstance(inner, dict) else dict(values)
        self._defaults = dict(defaults or {})
        self._spelled = dict(spelled or {})
        self._taken: set[str] = set()
        self._ropes: dict[str | None, Config] = {}
        self.where = where

    def with_defaults(self, defaults: Mapping[str, Any], spelled: Mapping[str, str] | None = None) -> Config:
        """The same file read for a family, whose defaults and own spellings are known. Nothing is read yet."""
        return Config(self._values, self.where, defaults, spelled)

    def get(self, *names: str) -> Any:
        """The value of the first of some keys, by any of its spellings, that is there and not null, else None."""
        for name in names:
            value = self._one(name)
            if value is not None:
                return value
        return None

    def _one(self, name: str) -> Any:
        found: tuple[str, Any] | None = None
        there = False
        self._taken.add(name)
        for each in self._names(name):
            if each not in self._values:
                continue
            there = True
            self._taken.add(each)
            value = self._values[each]
            if value is None:
                continue
            if found is not None and found[1] != value:
                raise GGUFError(
                    f"{self.where}: {found[0]} is {clip(found[1])} and {each} is {clip(value)}: two names of one number"
                )
            found = found or (each, value)
        if found is not None:
            return found[1]
        return None if there else self._defaults.get(name)

    def _names(self, name: str) -> tuple[str, ...]:
        own = self._spelled.get(name)
        return (name, *SPELLINGS.get(name, ()), *((own,) if own else ()))

    def silent(self, name: str) -> bool:
        """Whether the file says nothing about a key, by any of its spellings."""
        return all(self._values.get(each) is None for each in self._names(name))

    def left(self) -> Iterator[tuple[str, Any]]:
        """The keys that nobody read and that are not null; defaults count as said."""
        for name, value in {**self._defaults, **self._values}.items():
            if name not in self._taken and value is not None:
                yield name, value

    def parts(self) -> Iterator[Config]:
        """The parts that were read on their own: how positions are rotated."""
        yield from self._ropes.values()

    def count(self, *names: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self.get(*names)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < LIMIT:
            raise GGUFError(f"{self.where}: {names[0]} is {clip(value)}, expected a whole number from 1")
        return value

    def index(self, name: str, default: int = 0) -> int:
        """A whole number of at least 0."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LIMIT:
            raise GGUFError(f"{self.where}: {name} is {clip(value)}, expected a whole number from 0")
        return value

    def number(self, *names: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.get(*names)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
            raise GGUFError(f"{self.where}: {names[0]} is {clip(value)}, expected a finite number")
        return float(value)

    def positive(self, *names: str, default: float | None = None, least: float = 0.0) -> float:
        """A number above 0 and from least, at most MAX_FACTOR: a factor, a share, a number of turns."""
        value = self.number(*names, default=default)
        if not (0 < value <= MAX_FACTOR and value >= least):
            low = f"from {least:g}" if least else "above 0, up"
            raise GGUFError(f"{self.where}: {names[0]} is {value:g}, expected a number {low} to {MAX_FACTOR:g}")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """A bool."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise GGUFError(f"{self.where}: {name} is {clip(value)}, expected true or false")
        return default if value is None else value

    def numbers(self, name: str) -> list[float]:
        """A list of finite numbers."""
        values = self.get(name)
        if not isinstance(values, list) or not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and _finite(v) for v in values
        ):
            raise GGUFError(f"{self.where}: {name} is {clip(values)}, expected a list of numbers")
        return [float(v) for v in values]

    def refused(self, name: str, value: Any, why: str) -> UnsupportedError:
        """The error for a value that is understood but cannot be carried."""
        return UnsupportedError(f"{self.where}: {name} is {clip(value)}: {why}")

    # ---- rotary positions ------------------------------------------------------------------------------------------

    def rope(self, kind: str | None = None) -> Config:
        """The rope's own keys, always with rope_type and rope_theta.

        They come from rope_scaling (until transformers 5) or rope_parameters, flat or by kind of layer, and from the
        keys beside them. kind: a kind of layer whose rope may differ; None where all layers have the same.
        """
        if kind not in self._ropes:
            name, said = self._rope_said()
            flat = self._of_kind(name, said, kind)
            theta, local, part = map(self.get, ("rope_theta", "rope_local_base_freq", "partial_rotary_factor"))
            if flat.get("rope_theta") is None:
                flat["rope_theta"] = local if kind == "sliding_attention" and local is not None else theta
            if flat.get("partial_rotary_factor") is None:
                flat["partial_rotary_factor"] = part
            beside = self.get("original_max_position_embeddings")
            if beside is not None:
                flat["original_max_position_embeddings"] = beside
            flat["rope_type"] = flat.pop("type", None) if flat.get("rope_type") is None else flat["rope_type"]
            flat["rope_type"] = flat["rope_type"] or "default"
            flat.pop("type", None)
            self._ropes[kind] = Config(flat, f"{self.where}: {name}")
        return self._ropes[kind]

    def _rope_said(self) -> tuple[str, dict[str, Any]]:
        found = []
        said = [name for name in ROPE_NAMES if not self.silent(name)]
        for name in ROPE_NAMES:
            value = self.get(name)
            if said and name not in said:
                continue  # a default serves where there is neither
            if value is not None and not isinstance(value, dict):
                raise GGUFError(f"{self.where}: {name} is {clip(value)}, expected an object such as "
                                '{"rope_type": "yarn", "factor": 4.0}')  # fmt: skip
            if value:
                found.append((name, value))
        if len(found) == 2 and _rope_facts(found[0][1]) != _rope_facts(found[1][1]):
            raise GGUFError(f"{self.where}: rope_scaling and rope_parameters contradict each other; remove one of them")
        return found[-1] if found else ("rope_parameters", {})

    def _of_kind(self, name: str, said: dict[str, Any], kind: str | None) -> dict[str, Any]:
        nested = {key: value for key, value in said.items() if isinstance(value, dict)}
        if not nested:
            # Gemma 3 before transformers 5: one rope_scaling, meant for the layers of full attention alone
            return {} if kind == "sliding_attention" else dict(said)
        if kind is not None:
            return dict(nested.get(kind) or {})
        layers = self.get("layer_types")
        used = {str(each) for each in layers} if isinstance(layers, list) else set(nested)
        ropes = [nested.get(each) for each in sorted(used)]
        if not ropes or any(each is None or each != ropes[0] for each in ropes):
            raise UnsupportedError(
                f"{self.where}: {name} is {clip(said)}: layers with ropes of their own cannot be said in this GGUF"
            )
        return dict(ropes[0] or {})

    # ---- the sizes that every family has ---------------------------------------------------------------------------

    @property
    def n_head(self) -> int:
        """Query heads."""
        return self.count("num_attention_heads")

    @property
    def n_head_kv(self) -> int:
        """Key and value heads."""
        return self.count("num_key_value_heads", default=self.n_head)

    @property
    def n_embd(self) -> int:
        """Width of the residual stream."""
        return self.count("hidden_size")

    @property
    def n_layer(self) -> int:
        """Blocks."""
        found = self.count("num_hidden_layers")
        if found > MAX_LAYERS:
            raise GGUFError(f"{self.where}: {found} layers, expected at most {MAX_LAYERS}")
        return found

    @property
    def n_ctx(self) -> int:
        """Positions of the training."""
        return self.count("max_position_embeddings")

    @property
    def head_dim(self) -> int:
        """Values of a head."""
        found = self.count("head_dim", default=self.n_embd // self.n_head)
        if found > MAX_HEAD:
            raise GGUFError(f"{self.where}: heads of {found} values, expected at most {MAX_HEAD}")
        return found


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _rope_facts(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a rope object says, whichever way it spells its type; the base may stand beside it."""
    facts = {key: value for key, value in said.items() if value is not None and key not in ("type", "rope_theta")}
    facts["rope_type"] = said.get("rope_type") or said.get("type") or "default"
    return facts
