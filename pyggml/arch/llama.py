"""Llama 1-3, Mistral 7B, Yi, SmolLM2, and Mixtral: RMS norm, grouped-query attention, SwiGLU, dense or by experts.

Q and K rows are stored for rope on neighbouring pairs. Papers: arXiv 2302.13971, 2310.06825, 2401.04088.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyggml.arch.layers import attention, gated_ffn, head, moe_ffn, rope_of
from pyggml.graph import Graph, Node

if TYPE_CHECKING:
    from pyggml.config import Config
    from pyggml.engine.weights import Weights

NAMES = ("llama",)


def build(g: Graph, c: Config, w: Weights) -> Node:
    """Token ids -> logits of the wanted rows. A sliding window is that of every layer, as in Mistral 7B v0.1."""
    return block(g, c, w, "norm", window=c.sliding_window)


def block(
    g: Graph,
    c: Config,
    w: Weights,
    rope_kind: str,
    *,
    window: int = 0,
    norms: bool | None = None,
    expert_norm: bool = True,
) -> Node:
    """What the families built like Llama share.

    norms: whether q and k are normed by heads (None: where the tensors are there); expert_norm: whether the weights of
    a token's experts sum to 1, unless the file says.
    """
    rope = rope_of(c, w, rope_kind)
    x = g.embed(w["token_embd.weight"], c.n_embd)
    for blk in w.blocks():
        h = g.rms_norm(x, blk["attn_norm.weight"], c.norm_eps)
        x = x + attention(g, c, blk, h, rope, window, norms)
        h = g.rms_norm(x, blk["ffn_norm.weight"], c.norm_eps)
        x = x + (moe_ffn(g, c, blk, h, expert_norm) if c.n_expert else gated_ffn(g, c, blk, h))
    return head(g, c, w, x)
