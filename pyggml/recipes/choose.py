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
    "q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "tq1_0": "q4_0", "tq2_0": "q4_0",
    "q2_0": "q4_0", "iq1_s": "iq4_nl", "iq1_m": "iq4_nl", "iq2_xxs": "iq4_nl", "iq2_xs": "iq4_nl", "iq2_s": "iq4_nl",
    "iq3_xxs": "iq4_nl", "iq3_s": "iq4_nl", "iq4_xs": "iq4_nl",
}  # fmt: skip
"""What serves instead where a row is no multiple of the block; F16 where that does not fit either."""

FILE_TYPE = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k": 12, "q4_k": 15,
    "q5_k": 17, "q6_k": 18, "bf16": 32,
}  # fmt: skip
"""general.file_type of a file that is mostly of one type."""


def parse(recipe: str) -> QuantType:
    """The type of a "pure:TYPE" recipe, or of a plain float type name."""
    head, _, rest = recipe.partition(":")
    if rest and head.strip().lower() == "pure":
        kind = QuantType.parse(rest.strip())
    elif recipe.strip().lower() in ("f32", "f16", "bf16", "fp32", "fp16"):
        kind = QuantType.parse(recipe.strip())
    else:
        raise UnsupportedError(
            f"recipe {recipe!r} is not available; use 'pure:TYPE', e.g. 'pure:Q4_K', "
            f"with one of {', '.join(sorted(FILE_TYPE))}"
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
        kind = QuantType.parse(_FALLBACK.get(kind.name, "f16"))
    return kind
