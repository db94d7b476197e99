"""Config: the numbers that every model has, read from metadata and judged before anything is built from them.

Knows the key names that architectures share (`<arch>.x`), not what an architecture does with them, and no tensors. What
is an architecture's own it reads itself (pyggml/arch). Source: the GGUF format description and the keys that
llama.cpp's converters write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from pyggml.config.keys import Said, said, unknown
from pyggml.config.parts import Experts, Heads, RopeNumbers, RopeScaling
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
class Config:
    """The numbers of a model, in GGUF's words. An architecture adds its own in a subclass.

    Where layers differ, heads.n, heads.n_kv and n_ff are the largest. n_vocab is 0 where the file names neither a
    vocabulary nor its size; the rows of token_embd decide in any case (padded vocabularies have more rows than tokens).
    experts: None for a dense model. pooling_type: 0 none, 1 mean, 2 cls, 3 last, 4 rank. said: the keys whose value
    changes the mathematics and that the architecture did not take; unknown: keys of the architecture that nothing here
    knows.
    """

    arch: str
    n_layer: int
    n_embd: int
    heads: Heads
    n_ff: int
    n_vocab: int
    n_ctx_train: int
    norm_eps: float
    rope: RopeNumbers
    experts: Experts | None = None
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
        >>> c.heads, c.rope.n_rot
        (Heads(n=4, n_kv=4, k=8, v=8), 8)
        """
        return shared(Reader(metadata))

    def with_own(self, kind: type[C], **own: Any) -> C:
        """These numbers and an architecture's own, as its subclass of Config; what own names again is the own one."""
        return kind(**{each.name: getattr(self, each.name) for each in fields(self)} | own)


def shared(r: Reader, *, varied: bool = False, gaps: bool = False, attends: bool = True) -> Config:
    """What every architecture has. r keeps no note of it: an architecture takes the keys that it computes.

    varied: the architecture has numbers of heads and widths of its own for each layer; else they must be alike. gaps:
    some layers attend to nothing, and have no heads of keys and values, or no feed-forward. attends: False where no
    layer has either; their numbers are 0.
    """
    own = Reader(r.metadata)
    c = _read(own, varied, 0 if gaps else 1, attends)
    # In this order: what is said is only asked of values that were found to be of their types.
    return replace(c, said=tuple(said(r.metadata, r.arch)), unknown=unknown(r.metadata, r.arch, own.taken))


def _read(r: Reader, varied: bool, least: int, attends: bool) -> Config:
    n_layer = r.integer("block_count", _MAX_LAYERS)
    n_ctx = r.integer("context_length", MAX_CTX)
    n_embd = r.integer("embedding_length", _MAX_WIDTH)
    heads = _heads(r, n_embd, n_layer, varied, least) if attends else Heads(0, 0, 0, 0)
    experts = _experts(r)
    n_ff = 0
    if attends:
        n_ff = _most(r, "feed_forward_length", MAX_FF, n_layer, (experts and experts.n_ff) or None, varied, least)
    if experts and not experts.n_ff:
        experts = replace(experts, n_ff=n_ff)
    return Config(
        arch=r.arch,
        n_layer=n_layer,
        n_embd=n_embd,
        heads=heads,
        n_ff=n_ff,
        n_vocab=_vocab(r),
        n_ctx_train=n_ctx,
        norm_eps=_norm_eps(r),
        rope=RopeNumbers(
            r.number("rope.freq_base", 10000.0), _rope_n_rot(r, heads.k) if attends else 0, _rope_scaling(r, n_ctx)
        ),
        experts=experts,
        causal=r.flag("attention.causal", True),
        pooling_type=r.integer("pooling_type", 4, 0, least=0),
    )


def _most(r: Reader, key: str, limit: int, n_layer: int, default: int | None, varied: bool, least: int = 1) -> int:
    if varied:
        return max(r.per_layer(key, limit, n_layer, default, least))
    return r.alike(key, limit, n_layer, default)


def _heads(r: Reader, n_embd: int, n_layer: int, varied: bool, least_kv: int) -> Heads:
    n_head = _most(r, "attention.head_count", MAX_HEADS, n_layer, None, varied)
    n_head_kv = _most(r, "attention.head_count_kv", MAX_HEADS, n_layer, n_head, varied, least_kv)
    if not varied and n_head % n_head_kv:
        raise GGUFError(
            f"{r.arch}.attention.head_count is {n_head}, no multiple of head_count_kv, which is {n_head_kv}"
        )
    k, v = (_head_dim(r, f"attention.{name}_length", n_embd, n_head, n_layer) for name in ("key", "value"))
    return Heads(n_head, n_head_kv, k, v)


def layer_heads(r: Reader, c: Config, least_kv: int = 1) -> tuple[Heads, ...]:
    """The heads of each layer, where they may differ; least_kv 0: a layer may have none of keys and values."""
    n = r.per_layer("attention.head_count", MAX_HEADS, c.n_layer)
    n_kv = r.per_layer("attention.head_count_kv", MAX_HEADS, c.n_layer, c.heads.n, least_kv)
    for i, (each, each_kv) in enumerate(zip(n, n_kv, strict=True)):
        if each_kv and each % each_kv:
            raise GGUFError(
                f"{c.arch}.attention.head_count is {each}, no multiple of head_count_kv, which is {each_kv}, "
                f"in layer {i}"
            )
    return tuple(Heads(each, each_kv, c.heads.k, c.heads.v) for each, each_kv in zip(n, n_kv, strict=True))


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


def _experts(r: Reader) -> Experts | None:
    """Of width 0 where the file does not say."""
    n = r.integer("expert_count", _MAX_EXPERTS, 0, least=0)
    if n == 0:
        return None
    return Experts(n, r.integer("expert_used_count", n), r.integer("expert_feed_forward_length", MAX_FF, 0))


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
