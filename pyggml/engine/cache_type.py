"""The types that a key/value cache may have, by the names that load, session, estimate and the command line take."""

from __future__ import annotations

from pyggml.errors import ArgumentError
from pyggml.quant.types import QuantType, QuantTypeLike

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


def usual(causal: bool) -> QuantType:
    """Of who does not say: f16, but f32 in a model whose tokens see each other, which keeps nothing between calls."""
    return QuantType.F16 if causal else QuantType.F32


def cache_type(value: QuantTypeLike) -> QuantType:
    """kv_type as a type. Raises ArgumentError for what no cache can be, ArgumentTypeError for what is no type.

    >>> cache_type("F16")
    QuantType.F16
    """
    found: QuantType | None = None
    try:
        found = QuantType.parse(value, "kv_type")
    except ArgumentError:
        if not isinstance(value, str):
            raise
    if found is None or found.name not in CACHE_TYPES:
        shown = repr(value)[:60] if found is None else repr(found.name)
        raise ArgumentError(f"kv_type is {shown}, expected one of {', '.join(CACHE_TYPES)}")
    return found
