"""The choice: a recipe, the numbers of a model and the names and shapes of its tensors -> their new types.

Knows no files and no bytes. The tables are in mixes.py; the kept names are llama.cpp's, so that files look as users
expect. One difference on purpose: a tensor that a rule catches still counts as its layer, so a rule moves no other
tensor's type (in llama.cpp it shifts the layers behind it).
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.numeric.notation import notation
from pyggml.quant.names import is_format, is_notation
from pyggml.quant.types import QuantType
from pyggml.recipes.matching import Rules
from pyggml.recipes.mixes import ALIASES, COPY, FALLBACK, FLOATS, MIXES, ROWS
from pyggml.recipes.recipe import VECTOR_NAMES, Recipe, Rule

_KEPT = re.compile(
    r"_norm\.weight$|ffn_gate_inp|ffn_gate_tid2eid|altup|laurel|per_layer_model_proj|position_embd|token_types"
    r"|ssm_conv1d|shortconv\.conv|indexer\.[kq]_proj|attn_rel_b|rope_freqs|codebook"
    r"|time_mix_(first|w[012]|v[012]|a[012]|g[12]|decay_w[12]|lerp_fused)\.weight"
    r"|sam\.(pos_embd|neck\.|net_)|\.rel_pos|\.patch_embd|\.patch_merger|\.position_embd"
)
"""Tensors that no mix touches: small, or too fragile."""

_LAYER = re.compile(r"blk\.(\d+)\.")
_KINDS = ("attn_qkv", "attn_kv_b", "attn_v", "attn_k", "attn_q", "attn_output")
_ATTN_V = ("attn_v", "attn_qkv", "attn_kv_b")  # one class, counted together


class Named(Protocol):
    """What is asked of a tensor: TensorInfo has it."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def type(self) -> QuantType: ...


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the conditions of the mixes need to know about a model."""

    arch: str = ""
    n_layer: int = 0
    n_head: int = 1
    n_head_kv: int = 1
    n_expert: int = 0

    @staticmethod
    def from_metadata(metadata: Mapping[str, Any]) -> Numbers:
        """The numbers of a file; what it does not say, or says in another form, counts as absent."""
        arch = metadata.get("general.architecture")
        arch = arch if isinstance(arch, str) else ""

        def first(key: str, default: int) -> int:
            value = metadata.get(f"{arch}.{key}", default)
            if not isinstance(value, (int, float, str)) and len(value):
                value = value[0]  # an array, one value a layer: the first layer speaks
            return int(value) if isinstance(value, int) or hasattr(value, "dtype") else default

        n_head = first("attention.head_count", 1)
        return Numbers(
            arch,
            first("block_count", 0),
            n_head,
            first("attention.head_count_kv", n_head),
            first("expert_count", 0),
        )


def parse(text: str) -> tuple[str, bool]:
    """("Q4_K_M", False) of a mix in any case or of bits like W4A8, ("q4_k", True) of "pure:TYPE".

    >>> parse("q4_k"), parse("pure:Q4_K"), parse("FP16"), parse("W8A8")
    (('Q4_K_M', False), ('q4_k', True), ('F16', False), ('Q8_0', False))
    """
    head, colon, rest = text.strip().partition(":")
    if colon and head.strip().lower() == "pure":
        kind = QuantType.parse(rest)
        if not kind.is_weight:
            raise UnsupportedError(f"type {kind.name} holds no weights; a file cannot be made of it")
        return kind.name, True
    name = text.strip().upper()
    name = notation(name).recipe if is_notation(name) else ALIASES.get(name, name)
    if name in MIXES or name == COPY:
        return name, False
    if any(name == kind.name.upper() for kind in QuantType):
        raise ArgumentError(f"{text[:60]!r} is a type without a mix; 'pure:{text.strip().lower()}' puts it everywhere")
    if is_format(name):
        raise ArgumentError(
            f"{text[:60]!r} has no GGUF type, so no file can hold it; pyggml.numeric.encode makes it of an array. "
            "Near it: Q4_0 or IQ4_NL for 4 bits, Q8_0 for 8"
        )
    near = difflib.get_close_matches(name[:40], [*MIXES, *ALIASES], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(MIXES)};"
    raise ArgumentError(f"unknown recipe {text[:60]!r}; {hint} 'pure:TYPE' puts one type everywhere")


def as_pure(text: str) -> str:
    """The recipe that puts a mix's own type everywhere.

    >>> as_pure("q4_k_m"), as_pure("pure:q8_0"), as_pure("nvfp4")
    ('pure:q4_k', 'pure:q8_0', 'pure:nvfp4')
    """
    name = text.strip().upper()
    if ALIASES.get(name, name) in MIXES:
        return f"pure:{MIXES[ALIASES.get(name, name)].base}"
    return f"pure:{parse(text if ':' in text else f'pure:{text}')[0]}"


def file_type(base: str) -> int:
    """general.file_type of a mix, or of a file that is mostly of one type."""
    name = base.upper()
    name = ALIASES.get(name, name)
    return MIXES[name].file_type if name in MIXES else 39 if name == "NVFP4" else 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The new type of a tensor, and why where it is not what was asked for."""

    type: QuantType
    why: str = ""


def choose(recipe: Recipe, tensors: Iterable[Named], numbers: Numbers, has_imatrix: bool = False) -> dict[str, Choice]:
    """Every tensor's new type by name; its old one where the recipe leaves it alone.

    Raises ArgumentError or UnsupportedError for a recipe that makes no sense.
    """
    base, pure = parse(recipe.base)
    every = list(tensors)
    ordered = sorted(every, key=lambda t: (_layer(t.name), t.name))
    mixed = {} if pure or base in FLOATS or base == COPY else _Mixed(base, numbers, has_imatrix, every).types(ordered)
    plain = None if base == COPY else QuantType.parse(base if pure else MIXES[base].base)
    forced = {
        "output.weight": None if recipe.output_type is None else QuantType.parse(recipe.output_type),
        "token_embd.weight": None if recipe.embedding_type is None else QuantType.parse(recipe.embedding_type),
    }
    if all(t.name != "output.weight" for t in every):
        forced["token_embd.weight"] = forced["token_embd.weight"] or forced["output.weight"]
    keep, rules = Rules(recipe.keep, numbers.n_layer), Rules(recipe.rules, numbers.n_layer)
    made = {}
    for t in every:
        kept, rule = keep.first(t.name), rules.first(t.name)
        if kept is not None:
            made[t.name] = _kept(t, kept)
        elif not _is_matrix(t):
            named = rule is not None and rule.match.strip().lower() in VECTOR_NAMES
            made[t.name] = _kept(t, rule) if rule is not None and named else Choice(t.type)
        elif rule is not None:
            made[t.name] = fitting(QuantType.parse(rule.type), t.shape[-1]) if rule.type else Choice(t.type, "kept")
        elif _KEPT.search(t.name):
            made[t.name] = Choice(t.type)
        else:
            made[t.name] = fitting(forced.get(t.name) or mixed.get(t.name, plain) or t.type, t.shape[-1])
    return made


def fitting(kind: QuantType, k: int) -> Choice:
    """kind, or what serves instead for rows of k values."""
    wanted = kind
    while k % kind.elems:
        kind = QuantType.parse(FALLBACK.get(kind.name, "f16"))
    return Choice(kind, "" if kind is wanted else f"rows of {k} do not fit {wanted.name}")


def quantizable(tensor: Named) -> bool:
    """Whether mixes may change this tensor at all."""
    return _is_matrix(tensor) and not _KEPT.search(tensor.name)


def _is_matrix(t: Named) -> bool:
    return t.type.is_weight and len(t.shape) > 1 and t.name.endswith("weight")


def _kept(t: Named, rule: Rule) -> Choice:
    if not rule.type:
        return Choice(t.type, "kept")
    kind = QuantType.parse(rule.type)
    if not t.type.is_weight:
        return Choice(t.type)
    if kind.is_block and not _is_matrix(t):
        return Choice(t.type, f"a vector stays {t.type.name}")
    return fitting(kind, t.shape[-1])


def _layer(name: str) -> int:
    found = _LAYER.match(name)
    return int(found[1]) if found else -1


def kind_of(name: str) -> str:
    """Which row of the tables speaks for a tensor; "" for none.

    >>> kind_of("blk.3.ffn_down_exps.weight"), kind_of("blk.3.attn_qkv.weight"), kind_of("blk.0.attn_k_b.weight")
    ('ffn_down', 'attn_v', '')
    """
    if name in ("output.weight", "token_embd.weight"):
        return name.removesuffix(".weight")
    for kind in _KINDS:
        if f"{kind}.weight" in name:
            return "attn_v" if kind in _ATTN_V else kind
    return next((kind for kind in ("ffn_down", "ffn_gate", "ffn_up") if kind in name), "")


class _Mixed:
    """The types that a mix gives, tensor by tensor in layer order."""

    def __init__(self, mix: str, numbers: Numbers, has_imatrix: bool, tensors: Sequence[Named]) -> None:
        self.mix, self.n = mix, numbers
        self.base = MIXES[mix].base
        self.tied = all(t.name != "output.weight" for t in tensors)
        self.n_attn_v = sum(kind_of(t.name) == "attn_v" for t in tensors)
        self.coarse = mix.startswith(("IQ1_", "IQ2_"))
        self.seen: dict[str, int] = {}
        self.facts = {
            "imatrix": has_imatrix,
            "falcon": numbers.arch == "falcon",
            "gqa4": numbers.n_head // max(numbers.n_head_kv, 1) >= 4,
            "experts4": numbers.n_expert >= 4,
            "experts8": numbers.n_expert == 8,
        }

    def types(self, ordered: Iterable[Named]) -> dict[str, QuantType]:
        return {t.name: self._type(t) for t in ordered if quantizable(t)}

    def _type(self, t: Named) -> QuantType:
        kind = kind_of(t.name)
        i = self.seen[kind] = self.seen.get(kind, -1) + 1
        if kind == "token_embd" and self.tied:
            kind = "output"
        if self.mix == "MXFP4_MOE" and kind != "output":
            return QuantType.parse("mxfp4" if len(t.shape) > 2 else "q8_0")
        n = self.n_attn_v if kind == "attn_v" else self.n.n_layer
        if self.n.n_expert > 1 and kind.startswith("ffn") and not self.coarse:
            i = _layer(t.name)  # shared and routed matrices of a layer count once
        rows = ROWS.get(kind, {})
        facts = self.facts | {
            "odd": t.shape[-1] % QuantType.parse(self.base).elems != 0,
            "below2": i < 2,
            "below4": i < 4,
            "first8": i < n // 8,
            "first16": i < n // 16,
            "middle": n // 8 <= i < 7 * n // 8,
            "more": i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2,
        }
        found = _read(rows.get(self.mix, rows.get("*", "")), facts) or self.base
        if kind == "attn_v" and not self.coarse:
            found = self._attn_v(found)
        return QuantType.parse(self.base if found == "base" else found)

    def _attn_v(self, found: str) -> str:
        """Small matrices that matter: more bits where they cost little."""
        big = self.n.arch == "llama" and self.n.n_layer == 80 and self.n.n_head != self.n.n_head_kv
        if big and found in ("q3_k", "q4_k"):
            found = "q5_k"
        return "q8_0" if self.facts["experts8"] else found


def _read(row: str, facts: Mapping[str, bool]) -> str:
    for conditions, kind in _words(row):
        if all(facts[c.lstrip("!")] != c.startswith("!") for c in conditions):
            return kind
    return ""


@functools.cache
def _words(row: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    made = []
    for word in row.split():
        condition, _, kind = word.rpartition(":")
        made.append((tuple(condition.split("&")) if condition else (), kind))
    return tuple(made)
