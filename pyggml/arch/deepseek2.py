"""DeepSeek-V2 and V3, R1, Kimi-K2, GLM-4.7-Flash: latent attention, a mixture of experts behind a few dense layers.

Keys and values of all heads are made of one latent row a token. Files with attn_k_b and attn_v_b absorb these matrices
in queries and results: then the cache is that row and the part of a key that turns, one head for all, and values are
its first columns. Older files have both in attn_kv_b, and every head keeps keys and values. Papers: arXiv 2405.04434
(V2), 2412.19437 (V3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyggml.arch import decoder, layers
from pyggml.arch.outputs import Outputs
from pyggml.config import MAX_FF, Config, Heads, Reader, shared
from pyggml.errors import GGUFError
from pyggml.graph import Graph, Node, Rope

if TYPE_CHECKING:
    from pyggml.engine.weights import Block, Weights

NAMES = ("deepseek2",)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentConfig(Config):
    """A Config; nope: columns of a head's key that do not turn, v: of its value, rank: of the latent row, q_rank: of
    what queries are made from (0: of the layer's row itself).
    """

    nope: int
    v: int
    rank: int
    q_rank: int
    mixed: tuple[bool, ...]
    n_ahead: int
    attn_scale: float


def config(r: Reader) -> LatentConfig:
    """The numbers of the model."""
    c = shared(r)
    key = r.integer("attention.key_length_mla", MAX_FF, 0) or c.heads.k
    if key <= c.rope.n_rot:
        raise GGUFError(f"{c.arch}: keys have {key} values, of which {c.rope.n_rot} turn; expected more than these")
    s, multiplier = c.rope.scaling, r.number("rope.scaling.yarn_log_multiplier", 0.0, zero=True)
    magnitude = 1.0
    if multiplier and s.kind == "yarn":  # YaRN's magnitude is one of the scores, and not of cosine and sine
        magnitude = 1.0 + multiplier * math.log(max(s.factor, 1.0))
        plain = s.attn_factor / (1.0 + 0.1 * math.log(max(s.factor, 1.0)))
        c = replace(c, rope=replace(c.rope, scaling=replace(s, attn_factor=plain)))
    router = decoder.Router(norm=False, shared="plain")
    return c.with_own(
        LatentConfig,
        nope=key - c.rope.n_rot,
        v=r.integer("attention.value_length_mla", MAX_FF, 0) or c.heads.v,
        rank=r.integer("attention.kv_lora_rank", MAX_FF),
        q_rank=r.integer("attention.q_lora_rank", MAX_FF, 0, least=0),
        experts=decoder.experts_of(router, r, c, c.experts) if c.experts else None,
        mixed=decoder.mixed(r, c),
        n_ahead=decoder.ahead(r, c),
        attn_scale=magnitude**2 / math.sqrt(key),
    )


def build(g: Graph, c: LatentConfig, w: Weights) -> Outputs:
    """Token ids -> the last norm's rows and the logits of the wanted ones."""
    turn = layers.rope_of(c, w, "norm")
    x = g.embed(w["token_embd.weight"], c.n_embd)
    for blk in decoder.run(w, c.n_layer - c.n_ahead):
        x = x + _attention(g, c, blk, layers.norm(g, c, blk, "attn_norm", x), turn)
        h = layers.norm(g, c, blk, "ffn_norm", x)
        if c.experts and c.mixed[blk.index]:
            x = x + layers.moe_ffn(g, c, blk, h, c.experts)
        else:
            x = x + layers.ffn(g, c, blk, h, c.n_ff)
    x = layers.norm(g, c, w, "output_norm", g.wanted(x))
    return Outputs(logits=layers.logits(g, w, x), embedding=x)


def _attention(g: Graph, c: LatentConfig, blk: Block, x: Node, turn: Rope) -> Node:
    n, name, n_rot, both = c.heads.n, f"blk.{blk.index}", c.rope.n_rot, c.nope + c.rope.n_rot
    if c.q_rank:
        h = g.matmul(blk["attn_q_a.weight"], x, blk.get("attn_q_a.bias"), c.q_rank)
        q = g.matmul(blk["attn_q_b.weight"], layers.norm(g, c, blk, "attn_q_a_norm", h), m=n * both)
    else:
        q = g.matmul(blk["attn_q.weight"], x, m=n * both)
    kv = g.matmul(blk["attn_kv_a_mqa.weight"], x, blk.get("attn_kv_a_mqa.bias"), c.rank + n_rot)
    latent = layers.norm(g, c, blk, "attn_kv_a_norm", g.cols(kv, 0, c.rank, name=f"{name}.latent"))
    q_turned, k_turned = layers.rope(
        g, blk, g.cols(q, c.nope, n_rot, both, name=f"{name}.q_pe"), g.cols(kv, c.rank, n_rot, name=f"{name}.k_pe"),
        Heads(n, 1, n_rot, n_rot), turn,
    )  # fmt: skip
    q = g.cols(q, 0, c.nope, both, name=f"{name}.q_nope")
    fused = blk.get("attn_kv_b.weight")
    if fused is not None:
        y = g.matmul(fused, latent, m=n * (c.nope + c.v))
        k = g.concat(g.cols(y, 0, c.nope, c.nope + c.v, name=f"{name}.k_nope"), k_turned, c.nope, n_rot)
        v, heads = g.cols(y, c.nope, c.v, c.nope + c.v, name=f"{name}.v"), Heads(n, n, both, c.v)
        q = g.concat(q, q_turned, c.nope, n_rot)
        return layers.attn_output(g, c, blk, layers.attend(g, blk, q, k, v, heads, scale=c.attn_scale))
    q = g.concat(g.heads(blk.stack("attn_k_b.weight", n, c.rank, c.nope), q), q_turned, c.rank, n_rot)
    heads = Heads(n, 1, c.rank + n_rot, c.rank)
    y = layers.attend(g, blk, q, g.concat(latent, k_turned), None, heads, scale=c.attn_scale)
    return layers.attn_output(g, c, blk, g.heads(blk.stack("attn_v_b.weight", n, c.v, c.rank), y))
