"""Config: the numbers of a model, read from metadata and judged before anything is built from them.

Knows the key names that architectures share (`<arch>.x`), not what an architecture does with them, and no tensors.
Source: the GGUF format description and the keys that llama.cpp's converters write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pyggml.config_keys import Said, said, unknown
from pyggml.errors import GGUFError, UnsupportedError

_MAX_LAYERS = 1 << 12
_MAX_WIDTH = 1 << 20  # n_embd, and all heads together
_MAX_HEADS = 1 << 14
_MAX_FF = 1 << 24
MAX_VOCAB = 1 << 24
_MAX_CTX = 1 << 30
_MAX_EXPERTS = 1 << 14
_MAX_NAME = 64
_LEAST = 1e-37  # what is smaller is 0 in float32


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How positions beyond the trained context are rotated.

    kind none, linear or yarn; factor >= how much longer the context became; attn_factor multiplies YaRN's own
    1 + 0.1 ln(factor); n_ctx_orig the context of the original training; beta_fast, beta_slow YaRN's ramp in turns.
    """

    kind: str = "none"
    factor: float = 1.0
    attn_factor: float = 1.0
    n_ctx_orig: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0


@dataclass(frozen=True, slots=True)
class Config:
    """The numbers of a model, in GGUF's words; made by from_metadata().

    n_vocab is 0 where the file names neither a vocabulary nor its size; the rows of token_embd decide in any case
    (padded vocabularies have more rows than tokens). n_expert 0 is a dense model; n_ff_expert is the width of
    one expert, n_ff_shared of the one every token passes (0: not told). expert_gating: 0 not told, 1 softmax,
    2 sigmoid, 3 softmax of the chosen; expert_norm: chosen weights sum to 1, None where the architecture decides.
    sliding_window, logit_softcap (of the output) and attn_logit_softcap are 0 where there is none, attn_scale where the
    heads decide. pooling_type: 0 none, 1 mean, 2 cls, 3 last, 4 rank. said: the keys whose value changes the
    mathematics, for Asked; unknown: keys of the architecture that nothing here knows.
    """

    arch: str
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim_k: int
    head_dim_v: int
    n_ff: int
    n_vocab: int
    n_ctx_train: int
    norm_eps: float
    rope_freq_base: float
    rope_n_rot: int
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    n_expert: int = 0
    n_expert_used: int = 0
    n_ff_expert: int = 0
    n_ff_shared: int = 0
    expert_gating: int = 0
    expert_norm: bool | None = None
    expert_scale: float = 1.0
    sliding_window: int = 0
    attn_logit_softcap: float = 0.0
    logit_softcap: float = 0.0
    causal: bool = True
    pooling_type: int = 0
    attn_scale: float = 0.0
    said: tuple[Said, ...] = ()
    unknown: tuple[str, ...] = ()

    @staticmethod
    def from_metadata(metadata: Mapping[str, Any]) -> Config:
        """The Config of a file's metadata, whatever its architecture.

        Raises:
            GGUFError: a value is missing, of the wrong type, zero, negative, not finite, absurdly large, or
                contradicts another; the message names the key, what it holds and what was expected.
            UnsupportedError: values that differ per layer, or a rope scaling of another kind.

        >>> from pyggml.config import Config
        >>> c = Config.from_metadata({"general.architecture": "llama", "llama.block_count": 2,
        ...     "llama.context_length": 64, "llama.embedding_length": 32, "llama.feed_forward_length": 48,
        ...     "llama.attention.head_count": 4, "llama.attention.layer_norm_rms_epsilon": 1e-5})
        >>> c.n_head_kv, c.head_dim_k, c.rope_n_rot
        (4, 8, 8)
        """
        return _read(_Reader(metadata))


class Asked:
    """A Config that notes which of its fields are read: what a builder of a graph is given.

    >>> asked = Asked(Config.from_metadata({"general.architecture": "llama", "llama.block_count": 1,
    ...     "llama.context_length": 64, "llama.embedding_length": 32, "llama.feed_forward_length": 48,
    ...     "llama.attention.head_count": 4, "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.logit_scale": 2.0}))
    >>> asked.n_head
    4
    >>> asked.check_all_taken()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    pyggml.errors.UnsupportedError: llama.logit_scale is 2.0, but architecture llama scales no logits; ...
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._taken: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self._taken.add(name)
        return getattr(self._config, name)

    def check_all_taken(self) -> int:
        """The longest context that is computed exactly; 0 where any is.

        Raises UnsupportedError naming a key of the file that changes the mathematics and was not asked for.
        """
        left = [each for each in self._config.said if each.field not in self._taken]
        for each in left:
            if not each.n_ctx:
                raise UnsupportedError(
                    f"{each.key} is {each.shown}, but architecture {self._config.arch} "
                    f"{each.does or 'does not know it'}; the file is a variant that cannot be run yet"
                )
        return min((each.n_ctx for each in left), default=0)


class _Reader:
    """Typed, bounded access to the keys of one architecture; asked: those that were read."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        name = metadata.get("general.architecture")
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
            raise _wrong("general.architecture", name, "a name such as 'llama'")
        self.arch = name
        self.asked: set[str] = set()

    def value(self, key: str) -> Any:
        """The value of `<arch>.key`, None if absent."""
        self.asked.add(key)
        return self.metadata.get(f"{self.arch}.{key}")

    def integer(
        self, key: str, limit: int, default: int | None = None, least: int = 1, n_layer: int | None = None
    ) -> int:
        """An integer in [least, limit]; with n_layer, an array of so many equal ones is accepted too."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        expected = f"an integer from {least} to {limit}"
        if n_layer is not None and isinstance(value, (list, tuple, np.ndarray)):
            if len(value) != n_layer:
                raise _wrong(f"{self.arch}.{key}", value, f"{expected}, or one for each of {n_layer} layers")
            value = self._same(key, value, expected)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= limit:
            raise _wrong(f"{self.arch}.{key}", value, expected)
        return value

    def _same(self, key: str, values: Any, expected: str) -> Any:
        items = values.tolist() if isinstance(values, np.ndarray) else list(values)
        if not items or not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            raise _wrong(f"{self.arch}.{key}", items[:8], f"{expected}, or an array of them")
        if min(items) != max(items):
            raise UnsupportedError(
                f"{self.arch}.{key} differs between layers (from {min(items)} to {max(items)}); "
                "models with layers of different shapes are not supported"
            )
        return items[0]

    def number(self, key: str, default: float | None = None, *, zero: bool = False, limit: float = 1e30) -> float:
        """A finite number above 0 (or from 0, with zero) and at most limit."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not fits or value < 0 or (value == 0 and not zero) or 0 < value < _LEAST or value > limit:
            expected = f"a finite number {'from' if zero else 'above'} 0 and at most {limit:g}"
            raise _wrong(f"{self.arch}.{key}", value, expected)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """A bool."""
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise _wrong(f"{self.arch}.{key}", value, "a bool")
        return value


def _wrong(key: str, value: Any, expected: str) -> GGUFError:
    got = "missing" if value is None else _short(value)
    return GGUFError(f"{key[:100]} is {got}, expected {expected}")


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple, np.ndarray)):
        return f"an array of {len(value)} elements"
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "an integer of more than 64 bits"
    text = ascii(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def _read(r: _Reader) -> Config:
    n_layer = r.integer("block_count", _MAX_LAYERS)
    n_ctx = r.integer("context_length", _MAX_CTX)
    n_embd = r.integer("embedding_length", _MAX_WIDTH)
    n_head = r.integer("attention.head_count", _MAX_HEADS, n_layer=n_layer)
    n_head_kv = r.integer("attention.head_count_kv", _MAX_HEADS, n_head, n_layer=n_layer)
    if n_head % n_head_kv:
        raise GGUFError(
            f"{r.arch}.attention.head_count is {n_head}, no multiple of head_count_kv, which is {n_head_kv}"
        )
    head_dim_k = _head_dim(r, "attention.key_length", n_embd, n_head)
    head_dim_v = _head_dim(r, "attention.value_length", n_embd, n_head)
    n_expert, n_expert_used = _experts(r)
    n_ff_expert = r.integer("expert_feed_forward_length", _MAX_FF, 0) if n_expert else 0
    n_ff = r.integer("feed_forward_length", _MAX_FF, n_ff_expert or None, n_layer=n_layer)
    config = Config(
        arch=r.arch,
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim_k=head_dim_k,
        head_dim_v=head_dim_v,
        n_ff=n_ff,
        n_vocab=_vocab(r),
        n_ctx_train=n_ctx,
        norm_eps=_norm_eps(r),
        rope_freq_base=r.number("rope.freq_base", 10000.0),
        rope_n_rot=_rope_n_rot(r, head_dim_k),
        rope_scaling=_rope_scaling(r, n_ctx),
        n_expert=n_expert,
        n_expert_used=n_expert_used,
        n_ff_expert=n_ff_expert or (n_ff if n_expert else 0),
        n_ff_shared=r.integer("expert_shared_feed_forward_length", _MAX_FF, 0, least=0),
        expert_gating=r.integer("expert_gating_func", 4, 0, least=0),
        expert_norm=r.flag("expert_weights_norm", False) if r.value("expert_weights_norm") is not None else None,
        expert_scale=r.number("expert_weights_scale", 1.0, zero=True) or 1.0,
        sliding_window=r.integer("attention.sliding_window", _MAX_CTX, 0, least=0),
        attn_logit_softcap=r.number("attn_logit_softcapping", 0.0, zero=True),
        logit_softcap=r.number("final_logit_softcapping", 0.0, zero=True),
        causal=r.flag("attention.causal", True),
        pooling_type=r.integer("pooling_type", 4, 0, least=0),
        attn_scale=r.number("attention.scale", 0.0, zero=True),
    )
    # In this order: what is said is only asked of values that were found to be of their types.
    return replace(config, said=tuple(said(r.metadata, r.arch)), unknown=unknown(r.metadata, r.arch, r.asked))


def _head_dim(r: _Reader, key: str, n_embd: int, n_head: int) -> int:
    if r.value(key) is None and n_embd % n_head:
        raise GGUFError(
            f"{r.arch}.embedding_length is {n_embd}, no multiple of head_count, which is {n_head}, and {key} is missing"
        )
    dim = r.integer(key, _MAX_WIDTH, n_embd // n_head)
    if dim * n_head > _MAX_WIDTH:
        raise GGUFError(f"{r.arch}.{key}: {n_head} heads of {dim} values, expected at most {_MAX_WIDTH} in all")
    return dim


def _experts(r: _Reader) -> tuple[int, int]:
    n_expert = r.integer("expert_count", _MAX_EXPERTS, 0, least=0)
    if n_expert == 0:
        return 0, 0
    return n_expert, r.integer("expert_used_count", n_expert)


def _norm_eps(r: _Reader) -> float:
    for key in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        if r.value(key) is not None:
            return r.number(key, limit=1.0)
    return r.number("attention.layer_norm_rms_epsilon")  # missing: says so


def _vocab(r: _Reader) -> int:
    size = r.integer("vocab_size", MAX_VOCAB, 0)
    key = "tokenizer.ggml.tokens"
    if size or key not in r.metadata:
        return size
    length_of = getattr(r.metadata, "array_length", None)  # of a file: without decoding the vocabulary
    if length_of is not None:
        n = length_of(key)
    else:
        value = r.metadata[key]
        n = len(value) if isinstance(value, (list, tuple, np.ndarray)) else None
    if n is None or not 1 <= n <= MAX_VOCAB:
        raise GGUFError(f"{key} is {'no array' if n is None else f'an array of {n}'}, expected 1 to {MAX_VOCAB} tokens")
    return int(n)


def _rope_n_rot(r: _Reader, head_dim: int) -> int:
    key = "rope.dimension_count"
    n_rot = r.integer(key, head_dim, head_dim)
    if n_rot % 2:
        got = f"is {n_rot}" if r.value(key) is not None else f"is missing and the heads have {n_rot} values"
        raise GGUFError(f"{r.arch}.{key} {got}, expected an even number")
    return n_rot


def _rope_scaling(r: _Reader, n_ctx: int) -> RopeScaling:
    factor = r.number("rope.scaling.factor", r.number("rope.scale_linear", 0.0, zero=True), zero=True, limit=1e6)
    kind = r.value("rope.scaling.type")
    if kind is None:
        kind = "linear" if factor not in (0.0, 1.0) else "none"
    if not isinstance(kind, str):
        raise _wrong(f"{r.arch}.rope.scaling.type", kind, "none, linear or yarn")
    if kind not in ("none", "linear", "yarn"):
        raise UnsupportedError(f"{r.arch}.rope.scaling.type is {_short(kind)}; supported are none, linear and yarn")
    beta_fast = r.number("rope.scaling.yarn_beta_fast", 32.0)
    beta_slow = r.number("rope.scaling.yarn_beta_slow", 1.0)
    return RopeScaling(
        kind=kind,
        factor=factor or 1.0,
        attn_factor=r.number("rope.scaling.attn_factor", r.number("rope.scaling.yarn_attn_factor", 1.0)),
        n_ctx_orig=r.integer("rope.scaling.original_context_length", _MAX_CTX, n_ctx),
        beta_fast=beta_fast,
        beta_slow=beta_slow,
    )
