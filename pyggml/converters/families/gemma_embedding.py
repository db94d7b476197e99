"""EmbeddingGemma: a Gemma 3 whose tokens see each other. config.json has the model_type of Gemma 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters.families.bert import ENCODER, pooling
from pyggml.converters.families.gemma import ACT, DEFAULTS3, EMBEDDING, NORMS, POST_NORMS, SKIP, gemma3
from pyggml.converters.family import Config, Family, Meta
from pyggml.converters.stored import Stored


def _metadata(c: Config) -> Meta:
    return gemma3(c, EMBEDDING) | pooling(c, EMBEDDING)


_DENSE = {f"dense_{i}.linear": f"dense_{i}" for i in (2, 3)}
"""Matrices behind the pooling (sentence.py)."""


def _widths(tensors: Mapping[str, Stored], c: Config) -> Meta:
    """What the matrices read and make."""
    there = {to: tensors[f"{name}.weight"].shape for name, to in _DENSE.items() if f"{name}.weight" in tensors}
    return {
        f"{EMBEDDING}.{to}_feat_{end}": (shape[at], "u32")
        for to, shape in there.items()
        for end, at in (("in", 1), ("out", 0))
    }


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    return config | {
        "model_type": "gemma3_text", "use_bidirectional_attention": True, "query_pre_attn_scalar": config["head_dim"]
    }  # fmt: skip


FAMILIES = {
    EMBEDDING: Family(
        EMBEDDING, {name: to for name, to in POST_NORMS.items() if name != "lm_head"} | _DENSE, _metadata, NORMS,
        skip=SKIP, read=_widths,
        computes={**ENCODER, **ACT, "use_bidirectional_attention": (True,)}, defaults=DEFAULTS3, prefix="",
        named="Gemma3TextModel", biases={}, back=_back,
    )
}  # fmt: skip
