"""Gemma 3n: streams of rows of which each layer computes one and corrects all (AltUp, arXiv 2301.13310), a narrow way
beside attention (Laurel, arXiv 2411.07501), few active gates, rows given to each layer, shared keys and values.

Streams lie side by side: (tokens, n_streams * n_embd). Norms are stored as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyggml.arch import gemma_layers, layers
from pyggml.arch.gemma_layers import GemmaConfig
from pyggml.arch.outputs import Outputs
from pyggml.config import Reader
from pyggml.graph import Graph, Node, Rope, Weight

if TYPE_CHECKING:
    from pyggml.engine.weights import Block, Weights

NAMES = ("gemma3n",)

_MOST_STREAMS = 64
_STORING = 20  # layers of the published models that store keys and values, where the file does not say
_LEAST = 1e-5  # mean square of a stream that counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemma3nConfig(GemmaConfig):
    """A GemmaConfig and: streams, the one that is computed, and for each layer how many standard deviations above the
    mean of its row a gate must be to count (minus infinity: all count).
    """

    n_streams: int
    active: int
    sparsity: tuple[float, ...]


def config(r: Reader) -> Gemma3nConfig:
    """The numbers of a Gemma 3n."""
    c = gemma_layers.read(r)
    n = r.integer("altup.num_inputs", _MOST_STREAMS, 4, least=2)
    return c.with_own(
        Gemma3nConfig,
        n_streams=n,
        active=r.integer("altup.active_idx", n - 1, 0, least=0),
        sparsity=r.numbers("activation_sparsity_scale", c.n_layer),
        **gemma_layers.numbers(r, c, period=5, n_shared=max(c.n_layer - _STORING, 0), logit_cap=30.0),
    )


def build(g: Graph, c: Gemma3nConfig, w: Weights) -> Outputs:
    """Token ids -> logits of the wanted rows."""
    turns = gemma_layers.ropes(c, w)
    x = g.scale(g.embed(w["token_embd.weight"], c.n_embd), math.sqrt(c.n_embd), name="embed_scale")
    inputs = gemma_layers.per_layer_inputs(g, c, w, x)
    more = g.matmul(_matrices(c, w, "altup_proj.weight"), x)
    streams = g.concat(x, g.level(more, x, _LEAST, c.n_embd, name="altup_level"), name="altup_streams")
    for blk in w.blocks():
        streams = _layer(g, c, blk, streams, inputs, turns)
    return gemma_layers.outputs(g, c, w, _merged(g, c, w, g.wanted(streams)))


def _matrices(c: Gemma3nConfig, w: Weights, name: str) -> Weight:
    """All matrices of a stack as one: each stream's rows are a run of what it makes."""
    stack = w.stack(name, c.n_streams - 1, c.n_embd, c.n_embd)
    return replace(stack, rows=stack.n_stack * stack.rows, n_stack=1)


def _stream(g: Graph, c: Gemma3nConfig, streams: Node, i: int, name: str = "") -> Node:
    return g.cols(streams, i * c.n_embd, c.n_embd, name=name)


def _merged(g: Graph, c: Gemma3nConfig, w: Weights, streams: Node) -> Node:
    """The mean of the first stream and what a matrix makes of each other one, as large as the first."""
    matrices = _matrices(c, w, "altup_unembd_proj.weight")
    first = total = _stream(g, c, streams, 0)
    for i in range(1, c.n_streams):
        made = g.matmul(matrices, _stream(g, c, streams, i), name=f"altup_unembd_proj.{i}")
        total = total + g.level(_stream(g, c, made, i - 1), first, _LEAST)
    return g.scale(total, 1 / c.n_streams, name="altup_merged")


def _layer(g: Graph, c: Gemma3nConfig, blk: Block, streams: Node, inputs: Node, turns: tuple[Rope, Rope]) -> Node:
    b = f"blk.{blk.index}"
    by = g.matmul(
        blk["altup_predict_coef.weight"], _modes(g, c, blk, _stream(g, c, streams, c.active)), m=c.n_streams**2
    )
    streams = streams + g.mix(streams, by, c.n_embd, name=f"{b}.altup_predicted")
    before = _stream(g, c, streams, c.active, name=f"{b}.altup_active")
    x = _ffn(g, c, blk, _attention(g, c, blk, before, turns))

    by = g.matmul(blk["altup_correct_coef.weight"], _modes(g, c, blk, x), m=c.n_streams)
    change = g.mix(x + g.scale(before, -1.0), by, c.n_embd, plus=1.0, name=f"{b}.altup_change")
    streams = g.add(streams, change, name=f"{b}.altup_corrected")
    scale = g.row(blk["altup_correct_scale.weight"], 0, c.n_embd)
    told = gemma_layers.given(g, c, blk, _stream(g, c, streams, c.active) * scale, inputs)
    first, others = _stream(g, c, streams, 0), g.cols(streams, c.n_embd, (c.n_streams - 1) * c.n_embd)
    for_all = told
    for _ in range(c.n_streams - 2):
        for_all = g.concat(for_all, told)
    return g.concat(first, others + for_all, name=f"{b}.altup_out")


def _modes(g: Graph, c: Gemma3nConfig, blk: Block, x: Node) -> Node:
    """What mixes streams, one number each, by a row of the active one."""
    h = g.scale(layers.norm(g, c, blk, "altup_router_norm", x), 1 / c.n_embd)
    return g.softcap(g.matmul(blk["altup_router.weight"], h, m=c.n_streams), 1.0)  # tanh


def _attention(g: Graph, c: Gemma3nConfig, blk: Block, x: Node, turns: tuple[Rope, Rope]) -> Node:
    h = layers.norm(g, c, blk, "attn_norm", x)
    beside = g.matmul(blk["laurel_r.weight"], g.matmul(blk["laurel_l.weight"], h), m=c.n_embd)
    beside = h + layers.norm(g, c, blk, "laurel_post_norm", beside)
    y = layers.norm(g, c, blk, "post_attention_norm", gemma_layers.attention(g, c, blk, h, turns))
    return g.scale(x + y + beside, 0.5**0.5, name=f"blk.{blk.index}.attn_laurel")


def _ffn(g: Graph, c: Gemma3nConfig, blk: Block, x: Node) -> Node:
    h, n_ff = layers.norm(g, c, blk, "ffn_norm", x), c.widths[blk.index]
    gate, up = (g.matmul(blk[f"ffn_{part}.weight"], h, m=n_ff) for part in ("gate", "up"))
    if c.sparsity[blk.index] > -math.inf:
        gate = g.excess(gate, c.sparsity[blk.index], name=f"blk.{blk.index}.ffn_excess")
    y = g.matmul(blk["ffn_down.weight"], g.glu(gate, up, "gelu", name=f"blk.{blk.index}.ffn_act"), m=c.n_embd)
    return x + layers.norm(g, c, blk, "post_ffw_norm", y)
