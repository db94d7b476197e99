"""LFM2, dense and with experts: layers that mix by a gated short convolution, and some that attend.

A layer without heads of keys and values (attention.head_count_kv 0) is a convolution: its input times a gate, over the
last l_cache positions, times another gate. Its state is the last l_cache - 1 inputs. Source: the model's description
and its published implementation. Names of tensors are those of llama.cpp's converter, which calls the last norm
token_embd_norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyggml.arch import layers
from pyggml.arch.decoder import Router, experts_of, mixed
from pyggml.arch.outputs import Outputs
from pyggml.config import Config, Heads, Reader, layer_heads, shared
from pyggml.graph import Graph, Node, Rope

if TYPE_CHECKING:
    from pyggml.engine.weights import Block, Weights

NAMES = ("lfm2", "lfm2moe")
_EXPERTS = Router(gating="sigmoid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lfm2Config(Config):
    """A Config; the heads of each layer, none of keys for a convolution, the positions that one looks at, and which
    layers have experts."""

    layer_heads: tuple[Heads, ...]
    l_cache: int
    mixed: tuple[bool, ...]


def config(r: Reader) -> Lfm2Config:
    """The numbers of the model."""
    c = shared(r, varied=True, gaps=True)
    l_cache = r.integer("shortconv.l_cache", layers.MOST_TAPS, least=2)
    experts, where = None, (False,) * c.n_layer
    if c.arch == "lfm2moe" and c.experts:
        experts, where = experts_of(_EXPERTS, r, c, c.experts), mixed(r, c)
    return c.with_own(Lfm2Config, layer_heads=layer_heads(r, c, 0), l_cache=l_cache, experts=experts, mixed=where)


def build(g: Graph, c: Lfm2Config, w: Weights) -> Outputs:
    """Token ids -> the last norm's rows and the logits of the wanted ones."""
    turn = layers.rope_of(c, w, "neox")
    x = g.embed(w["token_embd.weight"], c.n_embd)
    for blk in w.blocks():
        h = layers.norm(g, c, blk, "attn_norm", x)
        heads = c.layer_heads[blk.index]
        x = x + (_attention(g, c, blk, h, heads, turn) if heads.n_kv else _convolution(g, c, blk, h))
        h, mixture = layers.norm(g, c, blk, "ffn_norm", x), c.experts if c.mixed[blk.index] else None
        x = x + (layers.moe_ffn(g, c, blk, h, mixture) if mixture else layers.ffn(g, c, blk, h, c.n_ff))
    x = layers.norm(g, c, w, "token_embd_norm", g.wanted(x))
    return Outputs(logits=layers.logits(g, w, x), embedding=x)


def _attention(g: Graph, c: Lfm2Config, blk: Block, x: Node, heads: Heads, turn: Rope) -> Node:
    q, k, v = layers.qkv(g, blk, x, heads)
    q = layers.norm(g, c, blk, "attn_q_norm", q, seg=heads.k)
    k = layers.norm(g, c, blk, "attn_k_norm", k, seg=heads.k)
    q, k = layers.rope(g, blk, q, k, heads, turn)
    return layers.attn_output(g, c, blk, layers.attend(g, blk, q, k, v, heads))


def _convolution(g: Graph, c: Lfm2Config, blk: Block, x: Node) -> Node:
    n, name = c.n_embd, f"blk.{blk.index}.shortconv"
    parts = g.matmul(blk["shortconv.in_proj.weight"], x, m=3 * n)
    before, behind, x = (g.cols(parts, i * n, n, name=f"{name}.{part}") for i, part in enumerate(("b", "c", "x")))
    y = layers.conv(g, blk, "shortconv.conv", g.mul(before, x, name=f"{name}.bx"), c.l_cache)
    return g.matmul(blk["shortconv.out_proj.weight"], g.mul(behind, y, name=f"{name}.cy"), m=n)
