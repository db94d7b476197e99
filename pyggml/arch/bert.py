"""BERT and what followed it: encoders whose tokens all see each other, normed behind attention and feed-forward.

Sources: arXiv 1810.04805 (BERT), 2402.01613 (nomic-embed: rope instead of learned positions, gated feed-forward).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pyggml.arch import layers
from pyggml.arch.outputs import Outputs
from pyggml.config import Config, Reader, shared
from pyggml.errors import UnsupportedError
from pyggml.graph import Graph, Node

if TYPE_CHECKING:
    from pyggml.engine.weights import Block, Weights


class _Encoder(NamedTuple):
    """rope: queries and keys are turned; else positions are learned. ffn, act: as in layers.ffn."""

    rope: bool = False
    ffn: str = "plain"
    act: str = "gelu_erf"


_ROWS = {"bert": _Encoder(), "nomic-bert": _Encoder(rope=True, ffn="gated", act="silu")}
NAMES = tuple(_ROWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig(Config):
    """A Config; its tokens see all others."""


def config(r: Reader) -> BertConfig:
    """The numbers of the model."""
    c = shared(r)
    r.take("pooling_type")
    if r.flag("attention.causal", True):
        raise UnsupportedError(f"{c.arch}.attention.causal is true or missing, but an encoder's tokens see each other")
    return c.with_own(BertConfig)


def build(g: Graph, c: BertConfig, w: Weights) -> Outputs:
    """Token ids -> what the last layer says of the wanted ones."""
    row = _ROWS[c.arch]
    x = g.embed(w["token_embd.weight"], c.n_embd)
    types = w.get("token_types.weight")
    if types is not None:  # texts are all of the first type
        x = x + g.row(types, 0, c.n_embd)
    if not row.rope:
        x = x + g.positions(w["position_embd.weight"], c.n_embd)
    x = _norm(g, c, w, "token_embd_norm", x)
    for blk in w.blocks():
        x = _norm(g, c, blk, "attn_output_norm", x + _attention(g, c, w, blk, x, row))
        x = _norm(g, c, blk, "layer_output_norm", x + layers.ffn(g, c, blk, x, c.n_ff, row.act, row.ffn))
    x = g.wanted(x)
    return Outputs(embedding=x, score=layers.score(g, w, x))


def _norm(g: Graph, c: BertConfig, at: Block | Weights, name: str, x: Node) -> Node:
    """Its bias is always there: a file without one is damaged."""
    return g.layer_norm(x, at[f"{name}.weight"], at[f"{name}.bias"], c.norm_eps)


def _attention(g: Graph, c: BertConfig, w: Weights, blk: Block, x: Node, row: _Encoder) -> Node:
    q, k, v = layers.qkv(g, blk, x, c.heads)
    if row.rope:
        q, k = layers.rope(g, blk, q, k, c.heads, layers.rope_of(c, w, "neox"))
    return layers.attn_output(g, c, blk, layers.attend(g, blk, q, k, v, c.heads, causal=False))
