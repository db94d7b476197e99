"""The choice: recipe text and a tensor's name and shape -> its new type. Knows no files.

Source of the kept names and the fallback chain: llama.cpp's quantizer, so that files look as users expect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.quant import QuantType

_KEPT = re.compile(
    r"_norm\.weight$|ffn_gate_inp|ffn_gate_tid2eid|altup|laurel|per_layer_model_proj|position_embd|token_types"
    r"|ssm_conv1d|shortconv\.conv|indexer\.[kq]_proj|attn_rel_b|rope_freqs"
)
"""Tensors that no recipe touches: small, or too fragile."""

_FALLBACK = {
    "Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "TQ1_0": "Q4_0", "TQ2_0": "Q4_0",
    "Q2_0": "Q4_0", "IQ1_S": "IQ4_NL", "IQ1_M": "IQ4_NL", "IQ2_XXS": "IQ4_NL", "IQ2_XS": "IQ4_NL", "IQ2_S": "IQ4_NL",
    "IQ3_XXS": "IQ4_NL", "IQ3_S": "IQ4_NL", "IQ4_XS": "IQ4_NL",
}  # fmt: skip
"""What serves instead where a row is no multiple of the block; F16 where that does not fit either."""

FILE_TYPE = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 12, "Q4_K": 15,
    "Q5_K": 17, "Q6_K": 18, "BF16": 32,
}  # fmt: skip
"""general.file_type of a file that is mostly of one type."""


def parse(recipe: str) -> QuantType:
    """The type of a "pure:TYPE" recipe, or of a plain float type name."""
    head, _, rest = recipe.partition(":")
    if rest and head.strip().lower() == "pure":
        kind = QuantType.parse(rest.strip())
    elif recipe.strip().upper() in ("F32", "F16", "BF16", "FP32", "FP16"):
        kind = QuantType.parse(recipe.strip())
    else:
        raise UnsupportedError(
            f"recipe {recipe!r} is not available; use 'pure:TYPE' with one of {', '.join(sorted(FILE_TYPE))}, e.g. 'pure:Q4_K'"
        )
    if not kind.encodes:
        raise UnsupportedError(f"type {kind.name} cannot be written; writable: {', '.join(sorted(FILE_TYPE))}")
    return kind


def compile_rules(rules: Mapping[str, str | QuantType] | None) -> list[tuple[re.Pattern[str], QuantType]]:
    """{regex: type}; the first that matches a tensor name wins over the recipe."""
    made = []
    for text, kind in (rules or {}).items():
        try:
            pattern = re.compile(text)
        except re.error as e:
            raise ArgumentError(f"rule {text!r} is no regular expression: {e}") from None
        made.append((pattern, kind if isinstance(kind, QuantType) else QuantType.parse(kind)))
    return made


def choose(
    name: str,
    shape: Sequence[int],
    old: QuantType,
    base: QuantType,
    rules: Sequence[tuple[re.Pattern[str], QuantType]] = (),
) -> QuantType:
    """The new type of a tensor; its old one where the recipe leaves it alone."""
    if not old.is_weight or len(shape) < 2 or not name.endswith("weight"):
        return old
    for pattern, kind in rules:
        if pattern.search(name):
            return _fitting(kind, shape[-1])
    if _KEPT.search(name):
        return old
    return _fitting(base, shape[-1])


def _fitting(kind: QuantType, k: int) -> QuantType:
    while k % kind.elems:
        kind = QuantType.parse(_FALLBACK.get(kind.name, "F16"))
    return kind
