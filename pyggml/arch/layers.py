"""Parts that several architectures share, written once over Graph. c is the Config, blk the weights of one layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pyggml.errors import UnsupportedError
from pyggml.graph import Graph, Node, Rope

if TYPE_CHECKING:
    from pyggml.config import Config
    from pyggml.engine.weights import Block, Weights

_GATINGS = {0: "softmax", 1: "softmax", 2: "sigmoid", 3: "softmax_chosen"}  # expert_gating_func; 0: not told


def rope_of(c: Config, w: Weights, kind: str) -> Rope:
    """The model's rotary embedding; rope_freqs.weight holds llama3's divisors where a file has them."""
    s = c.rope_scaling
    factors = w.get("rope_freqs.weight")
    if s.kind != "yarn":
        scale = 1.0 / s.factor if s.kind == "linear" else 1.0
        return Rope(kind, c.rope_n_rot, c.rope_freq_base, scale, attn_factor=s.attn_factor, factors=factors)
    return Rope(
        kind,
        c.rope_n_rot,
        c.rope_freq_base,
        1.0 / s.factor,
        s.n_ctx_orig,
        ext_factor=1.0,
        attn_factor=s.attn_factor * (1.0 + 0.1 * math.log(max(s.factor, 1.0))),
        beta_fast=s.beta_fast,
        beta_slow=s.beta_slow,
        factors=factors,
    )


def attention(g: Graph, c: Config, blk: Block, x: Node, rope: Rope, window: int = 0, norms: bool | None = None) -> Node:
    """Grouped-query attention: optional biases, per-head norms of q and k, rope, output projection.

    norms: whether q and k have them; None: where the tensors are there.
    """
    i = blk.index
    q = g.matmul(blk["attn_q.weight"], x, blk.get("attn_q.bias"), c.n_head * c.head_dim_k)
    k = g.matmul(blk["attn_k.weight"], x, blk.get("attn_k.bias"), c.n_head_kv * c.head_dim_k)
    v = g.matmul(blk["attn_v.weight"], x, blk.get("attn_v.bias"), c.n_head_kv * c.head_dim_v)
    if norms or (norms is None and blk.get("attn_q_norm.weight") is not None):
        q = g.rms_norm(q, blk["attn_q_norm.weight"], c.norm_eps, c.head_dim_k)
        k = g.rms_norm(k, blk["attn_k_norm.weight"], c.norm_eps, c.head_dim_k)
    q = g.rope(q, rope, c.n_head, c.head_dim_k, name=f"blk.{i}.rope_q")
    k = g.rope(k, rope, c.n_head_kv, c.head_dim_k, name=f"blk.{i}.rope_k")
    y = g.attention(
        q,
        k,
        v,
        layer=i,
        n_head=c.n_head,
        n_head_kv=c.n_head_kv,
        scale=c.attn_scale or 1.0 / math.sqrt(c.head_dim_k),
        window=window,
        softcap=c.attn_logit_softcap,
    )
    return g.matmul(blk["attn_output.weight"], y, blk.get("attn_output.bias"), c.n_embd)


def gated_ffn(g: Graph, c: Config, blk: Block, x: Node, act: str = "silu") -> Node:
    """down(act(gate(x)) * up(x))."""
    gate = g.matmul(blk["ffn_gate.weight"], x, blk.get("ffn_gate.bias"), c.n_ff)
    up = g.matmul(blk["ffn_up.weight"], x, blk.get("ffn_up.bias"), c.n_ff)
    hidden = g.glu(gate, up, act, name=f"blk.{blk.index}.ffn_act")
    return g.matmul(blk["ffn_down.weight"], hidden, blk.get("ffn_down.bias"), c.n_embd)


def moe_ffn(g: Graph, c: Config, blk: Block, x: Node, norm: bool, act: str = "silu") -> Node:
    """Each token through n_expert_used of n_expert gated feed-forwards, and through the shared one where there is one.

    norm: whether the chosen weights sum to 1, unless the file says.
    """
    if c.expert_gating not in _GATINGS:
        raise UnsupportedError(f"{c.arch}.expert_gating_func is {c.expert_gating}, which is not supported")
    b = f"blk.{blk.index}"
    routing = g.route(
        g.matmul(blk["ffn_gate_inp.weight"], x, m=c.n_expert),
        c.n_expert_used,
        gating=_GATINGS[c.expert_gating],
        norm=norm if c.expert_norm is None else c.expert_norm,
        scale=c.expert_scale,
        name=f"{b}.ffn_route",
    )
    y = g.experts(
        x,
        routing,
        blk.stack("ffn_gate_exps.weight", c.n_expert, c.n_ff_expert, c.n_embd),
        blk.stack("ffn_up_exps.weight", c.n_expert, c.n_ff_expert, c.n_embd),
        blk.stack("ffn_down_exps.weight", c.n_expert, c.n_embd, c.n_ff_expert),
        act,
        name=f"{b}.ffn_exps",
    )
    if blk.get("ffn_gate_inp_shexp.weight") is None:
        return y
    n_ff = c.n_ff_shared or c.n_ff
    hidden = g.glu(
        g.matmul(blk["ffn_gate_shexp.weight"], x, m=n_ff), g.matmul(blk["ffn_up_shexp.weight"], x, m=n_ff), act,
        name=f"{b}.ffn_act_shexp",
    )  # fmt: skip
    shared = g.matmul(blk["ffn_down_shexp.weight"], hidden, m=c.n_embd)
    return y + g.gate(shared, g.matmul(blk["ffn_gate_inp_shexp.weight"], x, m=1), name=f"{b}.ffn_shexp")


def head(g: Graph, c: Config, w: Weights, x: Node) -> Node:
    """Final norm of the wanted rows, then logits; the embedding table serves where there is no output matrix."""
    table = w["token_embd.weight"]
    x = g.rms_norm(g.wanted(x), w["output_norm.weight"], c.norm_eps)
    return g.matmul(w.get("output.weight") or table, x, w.get("output.bias"), table.rows, name="output")
