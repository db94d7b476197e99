"""Decoders that differ from Llama only by data: a row each. decoder.py says what a row can say, and builds from it.

A row stands here when its logits were seen equal to those of transformers (tests/model).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pyggml.arch import decoder
from pyggml.arch.decoder import BEHIND, POST, Decoder, Norms, Router, Window
from pyggml.arch.outputs import Outputs
from pyggml.arch.state_space import IDLE
from pyggml.config import Reader
from pyggml.graph import Graph

if TYPE_CHECKING:
    from pyggml.engine.weights import Weights

_SIX = Window(period=6, own_rope=True, base=10000.0)
_ONE, _BETWEEN = Norms(ffn=""), Norms(ffn="post_attention_norm")
_GRANITE = Decoder(qk_norm="", embedding_scale=True, residual_scale=True, logit_scale="over", idle=IDLE)
ROWS = {
    # Llama 1-3, Mistral 7B, Yi, SmolLM2, Mixtral. A window is that of every layer, as in Mistral 7B v0.1.
    "llama": Decoder(window=Window(), experts=Router()),
    # arXiv 2407.10671, 2505.09388. Biases of q, k, v come with their tensors. A window would be that of some layers,
    # and no key says which: it is not taken, and bounds the context.
    "qwen2": Decoder(rope="neox"),
    "qwen2moe": Decoder(rope="neox", experts=Router(norm=False, shared="gated")),
    "qwen3": Decoder(rope="neox", qk_norm="head"),
    "qwen3moe": Decoder(rope="neox", qk_norm="head", experts=Router()),
    # arXiv 2403.08295, 2408.00118, 2503.19786; norms are stored with their 1 added
    "gemma": Decoder(rope="neox", qk_norm="", act="gelu", root_scale=True),
    "gemma2": Decoder(
        rope="neox", norms=POST, qk_norm="", act="gelu", root_scale=True, window=Window(period=2, size=4096), wide=46,
        attn_cap=50.0, logit_cap=30.0,
    ),
    "gemma3": Decoder(
        rope="neox", norms=POST, qk_norm="head", act="gelu", root_scale=True, wide=62, logit_cap=0.0, window=_SIX
    ),
    # arXiv 2509.20354: all tokens see each other
    "gemma-embedding": Decoder(
        rope="neox", norms=POST, qk_norm="head", act="gelu", root_scale=True, dense=("dense_2", "dense_3"), window=_SIX
    ),
    # arXiv 2405.04324
    "granite": _GRANITE,
    "granitemoe": replace(_GRANITE, experts=Router(shared="plain")),
    # arXiv 2501.00656; OLMo 3 has windows
    "olmo2": Decoder(rope="neox", norms=BEHIND, qk_norm="width", window=Window(period=4, own_rope=True)),
    "starcoder2": Decoder(rope="neox", norm="layer", qk_norm="", ffn="plain", act="gelu"),
    # arXiv 2404.14219
    "phi3": Decoder(rope="neox", qk_norm="", ffn="fused", window=Window()),
    "smollm3": Decoder(qk_norm="", still=4),
    # Command R and R7B: attention beside the feed-forward. arXiv 2504.00698
    "command-r": Decoder(norm="layer", norms=_ONE, qk_norm="", parallel=True, logit_scale="times"),
    "cohere2": Decoder(
        norm="layer", norms=_ONE, qk_norm="", parallel=True, logit_scale="times",
        window=Window(period=4, size=4096), window_rope=True,
    ),
    # arXiv 2507.11407
    "exaone4": Decoder(rope="neox", norms=BEHIND, qk_norm="head", window=Window(period=4), window_rope=True),
    "glm4": Decoder(norms=POST, qk_norm="", ffn="fused"),
    "ernie4_5": Decoder(qk_norm=""),
    "seed_oss": Decoder(rope="neox", norms=_BETWEEN, qk_norm=""),
    "hunyuan-dense": Decoder(rope="neox", qk_norm="head", norm_turned=True),
    # arXiv 2306.11644, 2204.06745
    "phi2": Decoder(rope="neox", norm="layer", norms=_ONE, qk_norm="", parallel=True, ffn="plain", act="gelu"),
    "gptneox": Decoder(rope="neox", norm="layer", qk_norm="", parallel="key", ffn="plain", act="gelu_erf"),
    # learned positions, and none but by distance
    "gpt2": Decoder(still=1, positions=True, norm="layer", qk_norm="", ffn="plain", act="gelu"),
    "mpt": Decoder(still=1, norm="layer", qk_norm="", ffn="plain", act="gelu_erf", alibi=True),
    # arXiv 2311.16867: attention beside the feed-forward, in the larger ones by a norm of its own
    "falcon": Decoder(rope="neox", norm="layer", norms=_ONE, qk_norm="", parallel=True, ffn="plain", act="gelu_erf"),
    # Ministral 3, Mistral Small 3, Devstral
    "mistral3": Decoder(qk_norm="", temper="all"),
    # Llama 4; Maverick, of 128 experts, norms nothing
    "llama4": Decoder(
        still=4, window_rope=True, qk_norm="", ones=True, temper="still", window=Window(4, 8192, chunked=True),
        experts=Router(norm=False, shared="like", gating="sigmoid", early=True), bare=128,
    ),
    # arXiv 2402.16819 (norms are stored with their 1 added), 2509.14233
    "nemotron": Decoder(rope="neox", norm="layer", qk_norm="", ffn="plain", act="relu_squared"),
    "arcee": Decoder(qk_norm="", ffn="plain", act="relu_squared"),
    "apertus": Decoder(rope="neox", qk_norm="head", ffn="plain", act="xielu"),
    # StableLM 2 and 3B; those that compute both parts of a layer from one norm say so, and are refused
    "stablelm": Decoder(rope="neox", norm="layer", qk_norm=""),
    # encoders: arXiv 2503.05500, 2412.13663
    "eurobert": Decoder(rope="neox", qk_norm=""),
    "modern-bert": Decoder(
        rope="neox", norm="layer", embed_norm=True, qk_norm="", ffn="fused", act="gelu_erf",
        window=Window(period=3, own_rope=True, base=10000.0, first=True),
    ),
    # arXiv 2508.10925
    "gpt-oss": Decoder(
        rope="neox", norms=_BETWEEN, qk_norm="", act="silu_capped", sinks=True, exact=True,
        window=Window(period=2, own_rope=True, scaled=True), experts=Router(gating="softmax_chosen"),
    ),
    # arXiv 2508.06471, 2506.05767
    "glm4moe": Decoder(
        rope="neox", norms=_BETWEEN, experts=Router(norm=False, gating="sigmoid", shared="plain"), ahead=True
    ),
    "dots1": Decoder(rope="neox", qk_norm="head", experts=Router(norm=False, shared="plain")),
    "minimax-m2": Decoder(rope="neox", qk_norm="width", experts=Router(gating="sigmoid")),
    "ernie4_5-moe": Decoder(qk_norm="", experts=Router(shared="plain")),
    "hunyuan-moe": Decoder(rope="neox", qk_norm="head", norm_turned=True, experts=Router(shared="plain")),
    "olmoe": Decoder(rope="neox", qk_norm="width", experts=Router(norm=False)),
}  # fmt: skip

NAMES = tuple(ROWS)


def config(r: Reader) -> decoder.DecoderConfig:
    """The numbers of the row's model."""
    return decoder.config(ROWS[r.arch], r)


def build(g: Graph, c: decoder.DecoderConfig, w: Weights) -> Outputs:
    """Token ids -> logits of the wanted rows."""
    return decoder.build(ROWS[c.arch], g, c, w)
