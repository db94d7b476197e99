"""Gemma 4: windowed layers with heads of their own, keys that may serve as values, shared keys and values, rows given
to each layer (E2B, E4B), experts beside a dense feed-forward (26B). Norms are stored as they are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pyggml.arch import gemma_layers, layers
from pyggml.arch.decoder import Router, experts_of
from pyggml.arch.gemma_layers import GemmaConfig
from pyggml.arch.outputs import Outputs
from pyggml.config import Experts, Reader
from pyggml.graph import Graph, Node

if TYPE_CHECKING:
    from pyggml.engine.weights import Block, Weights

NAMES = ("gemma4",)


def config(r: Reader) -> GemmaConfig:
    """The numbers of a Gemma 4."""
    c = gemma_layers.read(r)
    experts = experts_of(Router(), r, c, c.experts) if c.experts else None
    return c.with_own(GemmaConfig, experts=experts, **gemma_layers.numbers(r, c, period=6))


def build(g: Graph, c: GemmaConfig, w: Weights) -> Outputs:
    """Token ids -> logits of the wanted rows."""
    turns = gemma_layers.ropes(c, w)
    x = g.scale(g.embed(w["token_embd.weight"], c.n_embd), math.sqrt(c.n_embd), name="embed_scale")
    inputs = gemma_layers.per_layer_inputs(g, c, w, x) if c.per_layer else None
    storing = [blk for blk in w.blocks() if c.sources[blk.index] == blk.index and not c.windows[blk.index]]
    keys_serve = not any(blk.has("attn_v.weight") for blk in storing)  # no key says it
    for blk in w.blocks():
        h = layers.norm(g, c, blk, "attn_norm", x)
        x = x + layers.norm(g, c, blk, "post_attention_norm", gemma_layers.attention(g, c, blk, h, turns, keys_serve))
        x = x + layers.norm(g, c, blk, "post_ffw_norm", _ffn(g, c, blk, x))
        if inputs is not None:
            x = x + gemma_layers.given(g, c, blk, x, inputs)
        scale = blk.get("layer_output_scale.weight")
        if scale is not None:
            by = g.row(scale, 0, 1, name=f"blk.{blk.index}.layer_output_scale")
            x = g.mix(x, by, c.n_embd, name=f"blk.{blk.index}.layer_output")
    return gemma_layers.outputs(g, c, w, g.wanted(x))


def _ffn(g: Graph, c: GemmaConfig, blk: Block, x: Node) -> Node:
    y = layers.ffn(g, c, blk, layers.norm(g, c, blk, "ffn_norm", x), c.widths[blk.index], "gelu")
    if not c.experts:
        return y
    y = layers.norm(g, c, blk, "post_ffw_norm_1", y)
    return y + layers.norm(g, c, blk, "post_ffw_norm_2", _experts(g, c, blk, x, c.experts))


def _experts(g: Graph, c: GemmaConfig, blk: Block, x: Node, e: Experts) -> Node:
    """The router reads rows normed by a scale of its own; each expert's weight has one too."""
    h = g.rms_norm(x, blk["ffn_gate_inp.scale"], c.norm_eps, name=f"blk.{blk.index}.ffn_gate_inp_norm")
    h = g.scale(h, c.n_embd**-0.5, name=f"blk.{blk.index}.ffn_gate_inp_scale")
    routing = layers.route(g, blk, g.matmul(blk["ffn_gate_inp.weight"], h, m=e.n), e, blk["ffn_down_exps.scale"])
    return layers.experts(g, c, blk, layers.norm(g, c, blk, "pre_ffw_norm_2", x), routing, e, "gelu")
