"""Config: the numbers that every model has, read from metadata and judged before anything is built from them.

Knows the key names that architectures share (`<arch>.x`), not what an architecture does with them, and no tensors. What
is an architecture's own it reads itself (pyggml/arch). Source: the GGUF format description and the keys that
llama.cpp's converters write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np

from pyggml.config.keys import Said, said, unknown
from pyggml.config.reader import Reader, short
from pyggml.errors import GGUFError, UnsupportedError

_MAX_LAYERS = 1 << 12
_MAX_WIDTH = 1 << 20  # n_embd, and all heads together
MAX_HEADS = 1 << 14
MAX_FF = 1 << 24
MAX_VOCAB = 1 << 24
MAX_CTX = 1 << 30
_MAX_EXPERTS = 1 << 14

C = TypeVar("C", bound="Config")


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
    """The numbers of a model, in GGUF's words. An architecture adds its own in a subclass.

    Where layers differ, n_head, n_head_kv and n_ff are the largest. n_vocab is 0 where the file names neither a
    vocabulary nor its size; the rows of token_embd decide in any case (padded vocabularies have more rows than tokens).
    n_expert 0 is a dense model; n_ff_expert is the width of one expert. pooling_type: 0 none, 1 mean, 2 cls, 3 last,
    4 rank. said: the keys whose value changes the mathematics and that the architecture did not take; unknown: keys of
    the architecture that nothing here knows.
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
    causal: bool = True
    pooling_type: int = 0
    said: tuple[Said, ...] = ()
    unknown: tuple[str, ...] = ()

    @staticmethod
    def from_metadata(metadata: Mapping[str, Any]) -> Config:
        """The Config of a file's metadata, whatever its architecture; arch.config() adds what is an architecture's own.

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
        return shared(Reader(metadata))

    def with_own(self, kind: type[C], **own: Any) -> C:
        """These numbers and an architecture's own, as its subclass of Config."""
        return kind(**{each.name: getattr(self, each.name) for each in fields(self)}, **own)


def shared(r: Reader, *, varied: bool = False, gaps: bool = False) -> Config:
    """What every architecture has. r keeps no note of it: an architecture takes the keys that it computes.

    varied: the architecture has numbers of heads and widths of its own for each layer; else they must be alike. gaps:
    some layers attend to nothing, and have no heads of keys and values.
    """
    own = Reader(r.metadata)
    c = _read(own, varied, 0 if gaps else 1)
    # In this order: what is said is only asked of values that were found to be of their types.
    return replace(c, said=tuple(said(r.metadata, r.arch)), unknown=unknown(r.metadata, r.arch, own.taken))


def _read(r: Reader, varied: bool, least_kv: int) -> Config:
    n_layer = r.integer("block_count", _MAX_LAYERS)
    n_ctx = r.integer("context_length", MAX_CTX)
    n_embd = r.integer("embedding_length", _MAX_WIDTH)
    n_head, n_head_kv = _heads(r, n_layer, varied, least_kv)
    head_dim_k = _head_dim(r, "attention.key_length", n_embd, n_head, n_layer)
    head_dim_v = _head_dim(r, "attention.value_length", n_embd, n_head, n_layer)
    n_expert, n_expert_used = _experts(r)
    n_ff_expert = r.integer("expert_feed_forward_length", MAX_FF, 0) if n_expert else 0
    n_ff = _most(r, "feed_forward_length", MAX_FF, n_layer, n_ff_expert or None, varied)
    return Config(
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
        causal=r.flag("attention.causal", True),
        pooling_type=r.integer("pooling_type", 4, 0, least=0),
    )


def _most(r: Reader, key: str, limit: int, n_layer: int, default: int | None, varied: bool, least: int = 1) -> int:
    if varied:
        return max(r.per_layer(key, limit, n_layer, default, least))
    return r.alike(key, limit, n_layer, default)


def _heads(r: Reader, n_layer: int, varied: bool, least_kv: int) -> tuple[int, int]:
    n_head = _most(r, "attention.head_count", MAX_HEADS, n_layer, None, varied)
    n_head_kv = _most(r, "attention.head_count_kv", MAX_HEADS, n_layer, n_head, varied, least_kv)
    if not varied and n_head % n_head_kv:
        raise GGUFError(
            f"{r.arch}.attention.head_count is {n_head}, no multiple of head_count_kv, which is {n_head_kv}"
        )
    return n_head, n_head_kv


def _head_dim(r: Reader, key: str, n_embd: int, n_head: int, n_layer: int) -> int:
    if r.value(key) is None and min(r.per_layer("attention.head_count", MAX_HEADS, n_layer)) != n_head:
        raise GGUFError(f"{r.arch}.attention.head_count differs between layers, and {key} is missing")
    if r.value(key) is None and n_embd % n_head:
        raise GGUFError(
            f"{r.arch}.embedding_length is {n_embd}, no multiple of head_count, which is {n_head}, and {key} is missing"
        )
    dim = r.integer(key, _MAX_WIDTH, n_embd // n_head)
    if dim * n_head > _MAX_WIDTH:
        raise GGUFError(f"{r.arch}.{key}: {n_head} heads of {dim} values, expected at most {_MAX_WIDTH} in all")
    return dim


def _experts(r: Reader) -> tuple[int, int]:
    n_expert = r.integer("expert_count", _MAX_EXPERTS, 0, least=0)
    if n_expert == 0:
        return 0, 0
    return n_expert, r.integer("expert_used_count", n_expert)


def _norm_eps(r: Reader) -> float:
    for key in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        if r.value(key) is not None:
            return r.number(key, limit=1.0)
    return r.number("attention.layer_norm_rms_epsilon")  # missing: says so


def _vocab(r: Reader) -> int:
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


def _rope_n_rot(r: Reader, head_dim: int) -> int:
    key = "rope.dimension_count"
    n_rot = r.integer(key, head_dim, head_dim)
    if n_rot % 2:
        got = f"is {n_rot}" if r.value(key) is not None else f"is missing and the heads have {n_rot} values"
        raise GGUFError(f"{r.arch}.{key} {got}, expected an even number")
    return n_rot


def _rope_scaling(r: Reader, n_ctx: int) -> RopeScaling:
    factor = r.number("rope.scaling.factor", r.number("rope.scale_linear", 0.0, zero=True), zero=True, limit=1e6)
    kind = r.value("rope.scaling.type")
    if kind is None:
        kind = "linear" if factor not in (0.0, 1.0) else "none"
    if not isinstance(kind, str):
        raise r.wrong("rope.scaling.type", kind, "none, linear or yarn")
    if kind not in ("none", "linear", "yarn"):
        raise UnsupportedError(f"{r.arch}.rope.scaling.type is {short(kind)}; supported are none, linear and yarn")
    beta_fast = r.number("rope.scaling.yarn_beta_fast", 32.0)
    beta_slow = r.number("rope.scaling.yarn_beta_slow", 1.0)
    return RopeScaling(
        kind=kind,
        factor=factor or 1.0,
        attn_factor=r.number("rope.scaling.attn_factor", r.number("rope.scaling.yarn_attn_factor", 1.0)),
        n_ctx_orig=r.integer("rope.scaling.original_context_length", MAX_CTX, n_ctx),
        beta_fast=beta_fast,
        beta_slow=beta_slow,
    )
