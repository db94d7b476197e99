"""EmbeddingGemma: a Gemma 3 whose tokens see each other. config.json has the model_type of Gemma 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters.families.bert import ENCODER, pooling
from pyggml.converters.families.gemma import ACT, DEFAULTS3, EMBEDDING, NORMS, POST_NORMS, SKIP, gemma3
from pyggml.converters.family import Config, Family, Meta


def _metadata(c: Config) -> Meta:
    return gemma3(c, EMBEDDING) | pooling(c, EMBEDDING)


def _back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    return config | {
        "model_type": "gemma3_text", "use_bidirectional_attention": True, "query_pre_attn_scalar": config["head_dim"]
    }  # fmt: skip


FAMILIES = {
    EMBEDDING: Family(
        EMBEDDING, {name: to for name, to in POST_NORMS.items() if name != "lm_head"}, _metadata, NORMS, skip=SKIP,
        computes={**ENCODER, **ACT, "use_bidirectional_attention": (True,)}, defaults=DEFAULTS3, prefix="",
        named="Gemma3TextModel", biases={}, back=_back,
    )
}  # fmt: skip
