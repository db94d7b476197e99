"""Parts that several architectures share, written once over Graph: norms, heads, rope, attention, feed-forwards, head.

c is a Config, blk the weights of one layer, w those of the model. Nothing here reads metadata or knows an architecture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pyggml.errors import ArgumentError, ShapeError
from pyggml.graph import ROWS_SOURCE, Graph, Node, Rope, Weight

if TYPE_CHECKING:
    from pyggml.config import Config, Experts, Heads
    from pyggml.engine.weights import Block, Weights

MOST_TAPS = 16  # that conv has
MATRICES, _CONVOLVED = 1 << 12, 1 << 13  # where states of matrices are numbered, and of conv beside attention
_ENCODER, _CROSS = 1 << 14, 1 << 15  # where states are numbered that a layer has of the source, and attends to in it


def rope_of(c: Config, w: Weights, kind: str, exact: bool = False) -> Rope:
    """The model's rotary embedding; rope_freqs.weight holds llama3's divisors where a file has them, rope_factors_short
    and _long those of LongRoPE, for contexts up to the original one and for longer ones.

    exact: YaRN's ramp is not cut at whole pairs.
    """
    n_rot, base, s = c.rope.n_rot, c.rope.freq_base, c.rope.scaling
    factors, far = w.get("rope_freqs.weight"), w.get("rope_factors_long.weight")
    if s.kind != "yarn":
        scale = 1.0 / s.factor if s.kind == "linear" else 1.0
        if far is not None:  # LongRoPE
            factors = w["rope_factors_short.weight"]
        return Rope(kind, n_rot, base, scale, s.n_ctx_orig, attn_factor=s.attn_factor, factors=factors, far=far)
    return Rope(
        kind,
        n_rot,
        base,
        1.0 / s.factor,
        s.n_ctx_orig,
        ext_factor=1.0,
        attn_factor=s.attn_factor * (1.0 + 0.1 * math.log(max(s.factor, 1.0))),
        beta_fast=s.beta_fast,
        beta_slow=s.beta_slow,
        factors=factors,
        exact=exact,
    )


def norm(
    g: Graph, c: Config, at: Block | Weights, name: str, x: Node, kind: str = "rms", seg: int | None = None
) -> Node:
    """`name` over whole rows, or over each run of seg values of a row. kind: "rms", or "layer" with its bias if any."""
    if kind == "layer":
        return g.layer_norm(x, at[f"{name}.weight"], at.get(f"{name}.bias"), c.norm_eps, seg)
    return g.rms_norm(x, at[f"{name}.weight"], c.norm_eps, seg)


def qkv(g: Graph, blk: Block, x: Node, heads: Heads) -> tuple[Node, Node, Node]:
    """x times the matrices of queries, keys and values, or one that holds all three; biases where the file has them."""
    n_q, n_k, n_v = heads.n * heads.k, heads.n_kv * heads.k, heads.n_kv * heads.v
    fused = blk.get("attn_qkv.weight")
    if fused is not None:
        y = g.matmul(fused, x, blk.get("attn_qkv.bias"), n_q + n_k + n_v)
        parts = ((0, n_q, "q"), (n_q, n_k, "k"), (n_q + n_k, n_v, "v"))
        q, k, v = (g.cols(y, start, n, name=f"blk.{blk.index}.attn_{name}") for start, n, name in parts)
        return q, k, v
    q = g.matmul(blk["attn_q.weight"], x, blk.get("attn_q.bias"), n_q)
    k = g.matmul(blk["attn_k.weight"], x, blk.get("attn_k.bias"), n_k)
    v = g.matmul(blk["attn_v.weight"], x, blk.get("attn_v.bias"), n_v)
    return q, k, v


def rope(g: Graph, blk: Block, q: Node, k: Node, heads: Heads, how: Rope) -> tuple[Node, Node]:
    """Queries and keys, turned by their positions."""
    q = g.rope(q, how, heads.n, heads.k, name=f"blk.{blk.index}.rope_q")
    return q, g.rope(k, how, heads.n_kv, heads.k, name=f"blk.{blk.index}.rope_k")


def attend(
    g: Graph,
    blk: Block,
    q: Node,
    k: Node | None,
    v: Node | None,
    heads: Heads,
    *,
    scale: float = 0.0,
    softcap: float = 0.0,
    window: int = 0,
    chunked: bool = False,
    causal: bool = True,
    layer: int | None = None,
    sinks: Weight | None = None,
    alibi: float = 0.0,
    source: Node | None = None,
) -> Node:
    """Attention in a cache -> (tokens, heads.n * heads.v), before the output matrix.

    scale 0: 1 / sqrt(heads.k). window 0: all positions; chunked: it is a chunk of the text. layer: whose cache it
    is, the layer's own unless it is said: without k and v that of another one. k without v: values are the first
    heads.v columns of keys. sinks (1, heads.n): one more score for each query head, that of nothing at all. alibi: as
    Graph.attention has it. source:
    rows of another text (those of Graph.embed or input with source=True) to attend to instead: keys and values are
    made of them, when it is encoded, by cross_attn_k and cross_attn_v; k, v and layer are None, and causal does not
    matter.
    """
    index, name = blk.index + (_ENCODER if q.rows == ROWS_SOURCE else 0), ""
    if source is not None:
        if any(each is not None for each in (k, v, layer)):
            raise ArgumentError(f"blk.{blk.index}: keys and values are those of source: k, v and layer must be None")
        k = g.matmul(blk["cross_attn_k.weight"], source, blk.get("cross_attn_k.bias"), heads.n_kv * heads.k)
        v = g.matmul(blk["cross_attn_v.weight"], source, blk.get("cross_attn_v.bias"), heads.n_kv * heads.v)
        index, name, causal = blk.index + _CROSS, f"blk.{blk.index}.cross_attention", False
    return g.attention(
        q,
        k,
        v,
        layer=index,
        keys=layer,
        values=layer,
        v_dim=heads.v,
        n_head=heads.n,
        n_head_kv=heads.n_kv,
        scale=scale or 1.0 / math.sqrt(heads.k),
        window=window,
        chunked=chunked,
        softcap=softcap,
        causal=causal,
        sinks=sinks,
        alibi=alibi,
        name=name or f"blk.{blk.index}.attention",
    )


def conv(g: Graph, blk: Block, name: str, x: Node, taps: int, bias: Weight | None = None, beside: bool = False) -> Node:
    """Each column of x over the last `taps` positions, by `name`. beside: the layer attends too, and its number is the
    cache's."""
    w = blk[f"{name}.weight"]
    if (w.rows, w.cols) != (x.cols, taps):
        raise ShapeError(f"{w.name} is ({w.rows}, {w.cols}), expected ({x.cols}, {taps})")
    return g.conv(x, w, bias=bias, layer=blk.index + (_CONVOLVED if beside else 0))


def attn_output(g: Graph, c: Config, blk: Block, y: Node) -> Node:
    """What attention found, back to the width of the model."""
    return g.matmul(blk["attn_output.weight"], y, blk.get("attn_output.bias"), c.n_embd)


class Xielu(NamedTuple):
    """An activation: above * x^2 + beta * x where x is above 0, else below * (exp(x) - 1 - x) + beta * x.

    Source: arXiv 2411.13010.
    """

    above: float
    below: float
    beta: float

    def of(self, g: Graph, x: Node, name: str) -> Node:
        """exp(x) - 1 below 0 and x above it is elu."""
        square, elu = g.activate(x, "relu_squared", f"{name}_square"), g.activate(x, "elu", f"{name}_elu")
        return g.scale(square, self.above) + g.scale(elu, self.below) + g.scale(x, self.beta - self.below)


def ffn(g: Graph, c: Config, blk: Block, x: Node, n_ff: int, act: str | Xielu = "silu", kind: str = "gated") -> Node:
    """down(act(gate(x)) * up(x)); kind "fused": gate and up are one matrix; "plain", as Xielu is: down(act(up(x)))."""
    name = f"blk.{blk.index}.ffn"
    if isinstance(act, Xielu) or kind == "plain":
        up = g.matmul(blk["ffn_up.weight"], x, blk.get("ffn_up.bias"), n_ff)
        hidden = act.of(g, up, f"{name}_act") if isinstance(act, Xielu) else g.activate(up, act, name=f"{name}_act")
    elif kind == "gated":
        gate = g.matmul(blk["ffn_gate.weight"], x, blk.get("ffn_gate.bias"), n_ff)
        up = g.matmul(blk["ffn_up.weight"], x, blk.get("ffn_up.bias"), n_ff)
        hidden = g.glu(gate, up, act, name=f"{name}_act")
    else:
        both = g.matmul(blk["ffn_up.weight"], x, blk.get("ffn_up.bias"), 2 * n_ff)
        gate, up = g.cols(both, 0, n_ff, name=f"{name}_gate"), g.cols(both, n_ff, n_ff, name=f"{name}_up")
        hidden = g.glu(gate, up, act, name=f"{name}_act")
    return g.matmul(blk["ffn_down.weight"], hidden, blk.get("ffn_down.bias"), c.n_embd)


def route(g: Graph, blk: Block, logits: Node, e: Experts, scales: Weight | None = None) -> Node:
    """Which experts each token passes, by logits (tokens, e.n)."""
    return g.route(
        logits,
        e.n_used,
        gating=e.gating,
        norm=e.norm,
        scale=e.scale,
        bias=blk.get("exp_probs_b.bias"),
        groups=e.groups,
        scales=scales,
        name=f"blk.{blk.index}.ffn_route",
    )


def experts(
    g: Graph, c: Config, blk: Block, x: Node, routing: Node, e: Experts, act: str = "silu", kind: str = "gated"
) -> Node:
    """Each token through the experts that routing chose, whose gate and up may lie in one tensor.

    kind "plain": they are down(act(up(x))).
    """
    gate: Weight
    up: Weight | None
    if kind == "plain":
        gate, up = blk.stack("ffn_up_exps.weight", e.n, e.n_ff, x.cols), None
    elif blk.has("ffn_gate_up_exps.weight"):
        gate, up = blk.stack("ffn_gate_up_exps.weight", e.n, 2 * e.n_ff, x.cols), None
    else:
        gate, up = (blk.stack(f"ffn_{part}_exps.weight", e.n, e.n_ff, x.cols) for part in ("gate", "up"))
    return g.experts(
        x,
        routing,
        gate,
        up,
        blk.stack("ffn_down_exps.weight", e.n, x.cols, e.n_ff),
        act,
        name=f"blk.{blk.index}.ffn_exps",
        biases=(
            blk.joined(f"ffn_{'up' if kind == 'plain' else 'gate'}_exps.bias", e.n, e.n_ff),
            None if kind == "plain" else blk.joined("ffn_up_exps.bias", e.n, e.n_ff),
            blk.joined("ffn_down_exps.bias", e.n, x.cols),
        ),
        early=e.early,
        plain=kind == "plain",
    )


def moe_ffn(g: Graph, c: Config, blk: Block, x: Node, e: Experts, act: str = "silu", kind: str = "gated") -> Node:
    """Each token through e.n_used of e.n feed-forwards, gated or plain, and the shared one where there is one."""
    b = f"blk.{blk.index}"
    logits = g.matmul(blk["ffn_gate_inp.weight"], x, blk.get("ffn_gate_inp.bias"), e.n)
    inner = g.matmul(blk["ffn_latent_down.weight"], x, m=e.n_latent) if e.n_latent else x
    y = experts(g, c, blk, inner, route(g, blk, logits, e), e, act, kind)
    if e.n_latent:
        y = g.matmul(blk["ffn_latent_up.weight"], y, m=c.n_embd)
    if not e.n_ff_shared:
        return y
    n_ff = e.n_ff_shared
    hidden = g.matmul(blk["ffn_up_shexp.weight"], x, m=n_ff)
    if kind == "plain":
        hidden = g.activate(hidden, act, name=f"{b}.ffn_act_shexp")
    else:
        hidden = g.glu(g.matmul(blk["ffn_gate_shexp.weight"], x, m=n_ff), hidden, act, name=f"{b}.ffn_act_shexp")
    shared = g.matmul(blk["ffn_down_shexp.weight"], hidden, m=c.n_embd)
    if e.shared_gate:
        shared = g.gate(shared, g.matmul(blk["ffn_gate_inp_shexp.weight"], x, m=1), name=f"{b}.ffn_shexp")
    return y + shared


def score(g: Graph, w: Weights, x: Node) -> Node | None:
    """x (rows, n_embd) to a score for each label, where the file has a head for it: (rows, n_labels).

    cls: a layer with tanh before it, in encoders.
    """
    head = w.get("cls.output.weight")
    if head is None:
        return None
    inner = w.get("cls.weight")
    if inner is not None:
        x = g.softcap(g.matmul(inner, x, w.get("cls.bias")), 1.0, name="cls_act")  # 1 * tanh(x / 1)
    return g.matmul(head, x, w.get("cls.output.bias"))


def logits(g: Graph, w: Weights, x: Node, scale: float = 1.0) -> Node:
    """x (rows, n_embd) to logits times scale; the embedding table serves where there is no output matrix."""
    table, bias = w["token_embd.weight"], w.get("output.bias")
    if scale != 1.0 and bias is None:  # of x, which is narrower
        x = g.scale(x, scale, name="output_scale")
    y = g.matmul(w.get("output.weight") or table, x, bias, table.rows, name="output")
    return y if scale == 1.0 or bias is None else g.scale(y, scale, name="output_scale")
