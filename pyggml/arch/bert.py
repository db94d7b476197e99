"""BERT and what followed it: encoders whose tokens all see each other, normed behind attention and feed-forward.

Sources: arXiv 1810.04805 (BERT), 2402.01613 (nomic-embed: rope instead of learned positions, gated feed-forward),
2502.07972 (its experts), 2310.19923 (Jina's: scores that sink with distance).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pyggml.arch import layers
from pyggml.arch.decoder import Router, experts_of
from pyggml.arch.outputs import Outputs
from pyggml.config import MAX_CTX, Config, Reader, shared
from pyggml.errors import UnsupportedError
from pyggml.graph import Graph, Node

if TYPE_CHECKING:
    from pyggml.engine.weights import Block, Weights


class _Encoder(NamedTuple):
    """How positions are known: "learned", "rope", which turns queries and keys, or "alibi". ffn, act: as in layers.ffn;
    ffn "": gated, in one matrix or two. experts: in every so many-th layer.
    """

    positions: str = "learned"
    ffn: str = "plain"
    act: str = "gelu_erf"
    experts: Router | None = None


_ROWS = {
    "bert": _Encoder(),
    "nomic-bert": _Encoder("rope", "gated", "silu"),
    "nomic-bert-moe": _Encoder("rope", experts=Router(norm=False)),
    "jina-bert-v2": _Encoder("alibi", ""),
}
NAMES = tuple(_ROWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig(Config):
    """A Config; its tokens see all others. alibi: as Graph.attention has it. mixed: each layer of this number behind
    the first has experts (0: none has)."""

    alibi: float
    mixed: int


def config(r: Reader) -> BertConfig:
    """The numbers of the model."""
    row, c = _ROWS[r.arch], shared(r)
    r.take("pooling_type")
    if r.flag("attention.causal", True):
        raise UnsupportedError(f"{c.arch}.attention.causal is true or missing, but an encoder's tokens see each other")
    return c.with_own(
        BertConfig,
        alibi=r.number("attention.max_alibi_bias", 8.0, zero=True) if row.positions == "alibi" else 0.0,
        mixed=r.integer("moe_every_n_layers", MAX_CTX, 0, least=0) if row.experts else 0,
        experts=experts_of(row.experts, r, c, c.experts) if row.experts and c.experts else None,
    )


def build(g: Graph, c: BertConfig, w: Weights) -> Outputs:
    """Token ids -> what the last layer says of the wanted ones."""
    row = _ROWS[c.arch]
    x = g.embed(w["token_embd.weight"], c.n_embd)
    types = w.get("token_types.weight")
    if types is not None:
        x = x + g.kinds(types, c.n_embd)
    if row.positions == "learned":
        x = x + g.positions(w["position_embd.weight"], c.n_embd)
    x = _norm(g, c, w, "token_embd_norm", x)
    for blk in w.blocks():
        y = _norm(g, c, blk, "attn_output_norm", x + _attention(g, c, w, blk, x, row))
        if blk.get("attn_norm_2.weight") is not None:
            y = _norm(g, c, blk, "attn_norm_2", x + y)
        x = _norm(g, c, blk, "layer_output_norm", y + _ffn(g, c, blk, y, row))
    x = g.wanted(x)
    return Outputs(embedding=x, score=layers.score(g, w, x))


def _norm(g: Graph, c: BertConfig, at: Block | Weights, name: str, x: Node) -> Node:
    """Its bias is always there: a file without one is damaged."""
    return g.layer_norm(x, at[f"{name}.weight"], at[f"{name}.bias"], c.norm_eps)


def _attention(g: Graph, c: BertConfig, w: Weights, blk: Block, x: Node, row: _Encoder) -> Node:
    q, k, v = layers.qkv(g, blk, x, c.heads)
    if row.positions == "alibi" and blk.get("attn_q_norm.weight") is not None:
        q, k = _norm(g, c, blk, "attn_q_norm", q), _norm(g, c, blk, "attn_k_norm", k)
    if row.positions == "rope":
        q, k = layers.rope(g, blk, q, k, c.heads, layers.rope_of(c, w, "neox"))
    return layers.attn_output(g, c, blk, layers.attend(g, blk, q, k, v, c.heads, causal=False, alibi=c.alibi))


def _ffn(g: Graph, c: BertConfig, blk: Block, x: Node, row: _Encoder) -> Node:
    if c.experts and c.mixed and blk.index % c.mixed == 1 % c.mixed:
        return layers.moe_ffn(g, c, blk, x, c.experts, row.act, row.ffn)
    return layers.ffn(g, c, blk, x, c.n_ff, row.act, row.ffn or ("gated" if blk.has("ffn_gate.weight") else "fused"))
