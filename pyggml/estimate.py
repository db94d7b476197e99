"""How much memory a model takes and where its parameters are, from the header alone.

The plan that load would make is built over names, types and shapes, and says what cache and scratch take; no weight is
read. Where the architecture cannot be run they are those of a plain transformer with the header's numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyggml import _native, arch, display, gguf
from pyggml.arguments import whole_or_none
from pyggml.config import Config
from pyggml.engine import context
from pyggml.engine.build import N_BATCH, build, check_vocab
from pyggml.engine.cache_type import cache_type, usual
from pyggml.errors import ArgumentError, GGUFError, PyggmlError
from pyggml.files.regular_file import PathLike
from pyggml.keywords import known_only
from pyggml.quant.types import QuantType, QuantTypeLike

#: The parts parameters and bytes are counted in.
PARTS = ("embeddings", "attention", "ffn", "output", "norms", "other")

_MOST_COLS = 1 << 24  # of a vector
_LAYER = re.compile(r"blk\.(\d+)\.(.+)")
_OLD_EXPERT = re.compile(r"ffn_(gate|up|down)\.\d+\.")
_COMPARED = ("f16", "q8_0", "q4_0")
# Bytes of resident memory that a tokenizer adds, by tokenizer.ggml.model: its library, each token, each merge. Measured
# on published vocabularies of 32 to 152 thousand tokens (t5: random ones of 32 to 250 thousand), with CPython 3.11; a
# test keeps them near the truth.
_TOKENIZERS = {
    "llama": (2_500_000, 460, 0), "gpt2": (7_000_000, 380, 280), "gemma4": (7_000_000, 380, 280),
    "bert": (4_500_000, 560, 0), "t5": (4_500_000, 480, 0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes and parameters of a model; bytes are of this file's types unless said otherwise.

    total = weights + kv_cache + scratch + tokenizer. parts and parameters_by_part have the keys of PARTS;
    parameters_by_layer one entry a layer; active_parameters are those a token meets (fewer than parameters where there
    are experts). memory_at maps "f16", "q8_0", "q4_0" to the total if the matrices were of that type. note says why
    kv_cache and scratch are 0 where the metadata does not describe a plain transformer; empty otherwise. tokenizer is
    what its tables and its library stay with (within a fifth of what was measured), 0 where the file has none that can
    be built; while it is built, half as much again comes and goes.
    """

    weights: int
    kv_cache: int
    scratch: int
    total: int
    parts: dict[str, int]
    parameters: int
    parameters_by_part: dict[str, int]
    parameters_by_layer: list[int]
    active_parameters: int
    memory_at: dict[str, int]
    bits_per_weight: float
    n_ctx: int
    kv_type: str
    note: str = ""
    tokenizer: int = 0

    def _repr_html_(self) -> str:
        shown = {
            name: getattr(self, name) for name in ("parameters", "weights", "kv_cache", "scratch", "total", "n_ctx")
        }
        title = f"Estimate, {self.bits_per_weight:.2f} bits per weight"
        return display.facts(title, shown | {f"total as {k}": v for k, v in self.memory_at.items()})


@known_only
def estimate(
    path: PathLike | gguf.GGUFFile, n_ctx: int | None = None, kv_type: QuantTypeLike | None = None
) -> Estimate:
    """What a model would take in memory with a context of n_ctx tokens (the trained length by default).

    kv_type: of its cache, None for what load would take.

    Raises:
        GGUFError, UnsupportedError: the file cannot be read.
        ArgumentError: n_ctx is no positive integer, or kv_type no type whose blocks fit the heads.

    >>> import tempfile, numpy as np, pyggml
    >>> path = tempfile.mkdtemp() + "/x.gguf"
    >>> with pyggml.gguf.Writer(path) as w:
    ...     w.add_tensor("token_embd.weight", (8, 4), "f32", np.ones((8, 4), np.float32))
    >>> pyggml.estimate(path).parts["embeddings"]
    128
    """
    if isinstance(path, gguf.GGUFFile):
        return _estimate(path, n_ctx, kv_type)
    with gguf.open(path) as file:
        return _estimate(file, n_ctx, kv_type)


def part_of(name: str) -> str:
    """The entry of PARTS a tensor belongs to, judged by its name."""
    match = _LAYER.match(name)
    own = match[2] if match else name
    stem = own.rsplit(".", 1)[0] if own.endswith((".weight", ".bias")) else own
    if stem.endswith("norm") or "_norm_" in stem:
        return "norms"
    if match is None:
        if stem in ("token_embd", "position_embd", "token_types", "per_layer_token_embd"):
            return "embeddings"
        return "output" if stem == "output" or stem.startswith("cls") else "other"
    if stem.startswith("attn_"):
        return "attention"
    return "ffn" if stem.startswith("ffn_") else "other"


def _estimate(file: gguf.GGUFFile, n_ctx: int | None, kv_type: QuantTypeLike | None) -> Estimate:
    n_ctx = whole_or_none("n_ctx", n_ctx, 1, context.MAX_CTX)
    kind = None if kv_type is None else cache_type(kv_type)
    infos = list(file.tensors.values())
    held, config, note = _held(file, n_ctx, kind)
    by_part, bytes_by_part = dict.fromkeys(PARTS, 0), dict.fromkeys(PARTS, 0)
    for info in infos:
        part = part_of(info.name)
        by_part[part] += info.n_elements
        bytes_by_part[part] += info.nbytes
    weights, parameters = sum(bytes_by_part.values()), sum(by_part.values())
    tokenizer = _tokenizer(file.metadata)
    beside = held.cache + held.scratch + tokenizer
    return Estimate(
        weights=weights,
        kv_cache=held.cache,
        scratch=held.scratch,
        total=weights + beside,
        parts=bytes_by_part,
        parameters=parameters,
        parameters_by_part=by_part,
        parameters_by_layer=_by_layer(infos),
        active_parameters=_active(infos, config),
        memory_at={name: _weights_at(infos, QuantType.parse(name)) + beside for name in _COMPARED},
        bits_per_weight=8.0 * weights / parameters if parameters else 0.0,
        n_ctx=held.n_ctx,
        kv_type=held.kind.name,
        note=note,
        tokenizer=tokenizer,
    )


def _tokenizer(metadata: gguf.Metadata) -> int:
    model = metadata.get("tokenizer.ggml.model")
    if not isinstance(model, str) or model not in _TOKENIZERS:
        return 0
    n_token, n_merge = (
        metadata.array_length(key) or 0 if key in metadata else 0
        for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")
    )
    library, token, merge = _TOKENIZERS[model]
    return library + n_token * token + n_merge * merge if n_token else 0


@dataclass(frozen=True, slots=True)
class _Held:
    """Bytes of the cache and of scratch, for so many positions."""

    cache: int
    scratch: int
    n_ctx: int
    kind: QuantType


def _held(file: gguf.GGUFFile, n_ctx: int | None, kind: QuantType | None) -> tuple[_Held, Config | None, str]:
    """-> what the plan says or, with a note, the header; and the header's numbers."""
    try:
        config = arch.config(file.metadata)
        return _of_plan(file, config, n_ctx, kind or usual(config.causal)), config, ""
    except ArgumentError:
        raise
    except PyggmlError as error:
        why = str(error)
    try:
        config = Config.from_metadata(file.metadata)
    except PyggmlError as error:
        return _Held(0, 0, n_ctx or 0, kind or usual(True)), None, f"no estimate of the cache: {error}"
    n_ctx, kind = n_ctx or config.n_ctx_train, kind or usual(config.causal)
    note = f"cache and scratch are those of a plain transformer, because this file cannot be run: {why}"
    return _Held(_cache(config, n_ctx, kind), _scratch(config, n_ctx), n_ctx, kind), config, note


def _of_plan(file: gguf.GGUFFile, config: Config, n_ctx: int | None, kind: QuantType) -> _Held:
    made = build(file, config, replaced={name: _Unread(info) for name, info in file.tensors.items()})
    check_vocab(file.metadata, made.n_vocab)
    n_ctx = context.exact(config, n_ctx, made.n_ctx, made.graph.n_near)
    plan = made.freeze(N_BATCH, n_ctx)
    try:
        held = plan.memory(kind.id, n_ctx)
    except ArgumentError:
        raise _unfit(config, kind) from None
    return _Held(held["cache"], held["scratch"], n_ctx, kind)


class _Unread:
    """A tensor of which nothing is read: the plan gets its place in the map, and ones for the values of a vector."""

    def __init__(self, info: gguf.TensorInfo) -> None:
        self.type, self.shape = info.type, info.shape
        self._mapped = info._mapped

    @property
    def data(self) -> NDArray[np.uint8]:
        """Of one row, or of several that are taken as one."""
        k = math.prod(self.shape)
        if k > _MOST_COLS:
            raise GGUFError(f"a vector of {k} values, expected at most {_MOST_COLS}")
        return _native.quantize(self.type.id, np.ones((1, k), np.float32)) if self.type.encodes else self._mapped()


def _unfit(c: Config, kind: QuantType) -> ArgumentError:
    return ArgumentError(f"kv_type {kind} does not fit heads of {c.heads.k} and {c.heads.v} values")


def _cache(c: Config, n_ctx: int, kind: QuantType) -> int:
    """Keys and values of every position in every layer."""
    if not kind.is_weight or c.heads.k % kind.elems or c.heads.v % kind.elems:
        raise _unfit(c, kind)
    row = kind.row_bytes(c.heads.n_kv * c.heads.k) + kind.row_bytes(c.heads.n_kv * c.heads.v)
    return c.n_layer * n_ctx * row


def _scratch(c: Config, n_ctx: int) -> int:
    """One batch's widest moments in floats: residuals, q, k, v, attention output, gate and up, one row of logits."""
    heads = (c.heads.n + c.heads.n_kv) * (c.heads.k + c.heads.v)
    experts = c.experts.n_ff * c.experts.n_used if c.experts else 0
    row = 3 * c.n_embd + heads + 2 * max(c.n_ff, experts)
    return 4 * (min(N_BATCH, n_ctx) * row + c.n_vocab)


def _by_layer(infos: Iterable[gguf.TensorInfo]) -> list[int]:
    layers: dict[int, int] = {}
    for info in infos:
        match = _LAYER.match(info.name)
        if match and len(match[1]) < 6:
            layers[int(match[1])] = layers.get(int(match[1]), 0) + info.n_elements
    return [layers[i] for i in sorted(layers)]


def _active(infos: Iterable[gguf.TensorInfo], config: Config | None) -> int:
    mixture = config.experts if config else None
    total = 0
    for info in infos:
        routed = "_exps" in info.name or _OLD_EXPERT.search(info.name) is not None
        total += info.n_elements * mixture.n_used // mixture.n if mixture and routed else info.n_elements
    return total


def _weights_at(infos: Iterable[gguf.TensorInfo], kind: QuantType) -> int:
    """Bytes if every matrix were of that type; vectors, and rows its blocks do not fit, stay as recipes leave them."""
    total = 0
    for info in infos:
        if len(info.shape) == 1 or not info.type.is_weight or part_of(info.name) == "norms":
            total += info.nbytes
            continue
        k = info.shape[-1]
        fits = kind if k % kind.elems == 0 else QuantType.parse("f16")
        total += fits.row_bytes(k) * math.prod(info.shape[:-1])
    return total
