"""The way into a file: which source tensors make which GGUF tensor, in which type, streamed one at a time."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.converters.family import Change, Config, Family
from pyggml.converters.stored import FLOATS, Stored, f32
from pyggml.errors import GGUFError
from pyggml.quant.tensor import naming
from pyggml.quant.types import QuantType
from pyggml.shown import clip

log = logging.getLogger("pyggml")

_PIECE = 16 << 20  # values converted at once

KEPT_F32 = re.compile(
    r"_norm\.|ffn_gate_inp|position_embd|token_types|rope_f|ssm_conv1d|shortconv\.conv|exp_probs_b|altup_(correct|predict)_coef|\.bias$"
)
"""Small and sensitive tensors: F32 whatever the file's type is."""


@dataclass(frozen=True)
class Made:
    """A tensor of the new file: its sources (several for a stack of experts), what is done to them, and its type."""

    name: str
    parts: tuple[Stored, ...]
    stacked: bool
    change: Change | None
    shape: tuple[int, ...]
    type: QuantType


def plan(tensors: dict[str, Stored], family: Family, c: Config, dtype: str) -> list[Made]:
    """All tensors of the new file in the order of the source. Raises GGUFError for names or stacks that do not fit."""
    if family.ahead:
        tensors = {name: stored for name, stored in tensors.items() if not _is_behind(name, c.n_layer)}
    single: dict[str, Stored] = {}
    experts: dict[str, dict[int, Stored]] = {}
    unknown = [name for name in tensors if family.targets(name) is None]
    if unknown:
        raise GGUFError(
            f"{len(unknown)} tensors are not known in a {family.arch} model, the first is {clip(unknown[0])}: "
            "is the model_type of config.json right?"
        )
    has_embedding = _stored(tensors, family, "token_embd.weight") is not None
    tied = _tied(tensors, family, c)
    for name, stored in tensors.items():
        targets = family.targets(name)
        for target, expert in targets or ():
            if target == "output.weight" and tied:
                if has_embedding:
                    continue
                target = "token_embd.weight"  # of two names of one matrix the other was stored
            if stored.dtype not in FLOATS:
                raise GGUFError(
                    f"tensor {clip(name)} holds {stored.dtype}, expected floats: the weights are packed in a way that "
                    "config.json does not name; convert the model that it was made from"
                )
            if expert is not None:
                experts.setdefault(target, {})[expert] = stored
            elif target in single:
                raise GGUFError(f"tensors {clip(single[target].name)} and {clip(name)} both become {target}")
            else:
                single[target] = stored
    if "token_embd.weight" not in single:
        raise GGUFError("the embedding is missing among the weights: no tensor becomes token_embd.weight")
    made = [_made(target, (stored,), False, family, c, dtype) for target, stored in single.items()]
    for target, numbered in experts.items():
        if sorted(numbered) != list(range(len(numbered))):
            lost = next(i for i in range(len(numbered) + 1) if i not in numbered)
            raise GGUFError(f"{target}: expert {lost} is missing, {len(numbered)} are there")
        parts = tuple(numbered[i] for i in range(len(numbered)))
        if len({(part.shape, part.dtype) for part in parts}) != 1:
            raise GGUFError(f"{target}: the experts differ in shape or type")
        made.append(_made(target, parts, True, family, c, dtype))
    return made


def _is_behind(name: str, n_layer: int) -> bool:
    """Whether a tensor belongs to a layer behind those of the model."""
    layer = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    return layer is not None and int(layer[1]) >= n_layer


def _stored(tensors: dict[str, Stored], family: Family, target: str) -> Stored | None:
    return next((each for name, each in tensors.items() if (target, None) in (family.targets(name) or ())), None)


def _tied(tensors: dict[str, Stored], family: Family, c: Config) -> bool:
    """Whether the output is the embedding. Raises GGUFError where config.json wants an output that is not stored.

    An output that is stored and differs was trained after config.json was written: it counts, as in transformers 5.
    """
    tied = c.flag("tie_word_embeddings")
    embedding, output = (_stored(tensors, family, name) for name in ("token_embd.weight", "output.weight"))
    if tied and embedding is not None and output is not None and not _same(embedding, output):
        log.warning(
            "%s says tie_word_embeddings, but %s differs from the embedding: it is kept, the file is not tied",
            c.where, clip(output.name),
        )  # fmt: skip
        return False
    if tied or "lm_head" not in family.names or output is not None:
        return tied
    if not c.silent("tie_word_embeddings"):
        raise GGUFError(
            f"{c.where}: tie_word_embeddings is false, and no lm_head.weight is stored. If the embedding serves as the "
            "output, set it to true; else the checkpoint lacks its head"
        )
    log.warning("%s does not say tie_word_embeddings and no lm_head is stored: the embedding serves", c.where)
    return True


def _same(a: Stored, b: Stored) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a.read(), b.read())


def _made(target: str, parts: tuple[Stored, ...], stacked: bool, family: Family, c: Config, dtype: str) -> Made:
    change = family.change_of(target)
    shape = parts[0].shape
    if change is not None:
        try:  # shapes without data: a view of one element
            shape = change.there(np.broadcast_to(np.zeros(1, np.float32), shape), c).shape
        except (ValueError, IndexError) as e:
            raise GGUFError(
                f"tensor {clip(parts[0].name)} of shape {list(shape)} does not fit the config: {e}"
            ) from None
    if stacked:
        shape = (len(parts), *shape)
    if not 1 <= len(shape) <= 4 or 0 in shape:
        raise GGUFError(
            f"tensor {clip(parts[0].name)} has the shape {list(shape)}, a GGUF holds 1 to 4 dimensions, none of them 0"
        )
    return Made(target, parts, stacked, change, shape, _type(target, shape, parts[0].dtype, dtype))


def _type(target: str, shape: tuple[int, ...], source: str, dtype: str) -> QuantType:
    if len(shape) < 2 or KEPT_F32.search(target):
        return QuantType.parse("f32")
    kind = QuantType.parse(
        source if dtype == "auto" and source in ("f16", "bf16") else "f32" if dtype == "auto" else dtype
    )
    return QuantType.parse("f16") if shape[-1] % kind.elems else kind


def data_of(made: Made, c: Config, done: Callable[[int], None]) -> Callable[[], Iterator[Any]]:
    """What Writer.add_tensor calls for the bytes of a tensor; done(bytes) after each piece."""

    def pieces() -> Iterator[Any]:
        for part in made.parts:
            values, source = part.read(), part.dtype
            if made.change is not None:
                if made.change.floats:
                    values, source = f32(values, source), "f32"
                values = made.change.there(values, c)
            for piece in encoded(np.ascontiguousarray(values), source, made.type, part.name):
                done(piece.nbytes)
                yield piece

    return pieces


def encoded(values: NDArray[Any], source: str, kind: QuantType, name: str) -> Iterator[NDArray[Any]]:
    """The bytes of an array in a type, some rows at a time. Raises NumericError for values the type cannot hold."""
    if kind.name == source:
        yield values
        return
    k = values.shape[-1]
    rows = values.reshape(-1, k)
    step = max(1, _PIECE // k)
    for begin in range(0, len(rows), step):
        with naming(name, source, begin):
            made = _native.quantize(kind.id, np.ascontiguousarray(f32(rows[begin : begin + step], source)))
        yield made
