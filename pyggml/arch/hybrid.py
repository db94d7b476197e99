"""Decoders with state spaces: in every layer, in most instead of attention, or beside it.

Sources: arXiv 2312.00752 (Mamba), 2410.05355 (Falcon Mamba), 2405.21060 (Mamba-2), 2403.19887 (Jamba), 2504.03624
(Nemotron-H), 2507.22448 (Falcon-H1), the published Granite 4; names are those of llama.cpp's converter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pyggml.arch import layers, state_space
from pyggml.arch.decoder import Router, ahead, experts_of, run, scale_of
from pyggml.arch.outputs import Outputs
from pyggml.arch.state_space import Space
from pyggml.config import MAX_FF, Config, Heads, Reader, layer_heads, shared
from pyggml.graph import Graph, Node, Rope

if TYPE_CHECKING:
    from pyggml.engine.weights import Block, Weights


class _Hybrid(NamedTuple):
    """first: the state space is Mamba, else Mamba-2. attends: "" never, "instead" of it where a layer has heads of
    keys, "beside" it always. rope: how queries and keys turn, "" not at all. single: a layer is one of state space,
    attention and feed-forward; else a feed-forward follows. scaled: as Granite. experts: where a layer has a router.
    """

    first: bool = False
    attends: str = "instead"
    rope: str = ""
    single: bool = False
    ffn: str = "gated"
    act: str = "silu"
    scaled: bool = False
    experts: Router | None = None


_NANO = _Hybrid(single=True, ffn="plain", act="relu_squared")
_SHARED = Router(shared="plain")
_ROWS = {
    "mamba": _Hybrid(first=True, attends=""),
    "mamba2": _Hybrid(attends=""),
    "jamba": _Hybrid(first=True, experts=Router(norm=False)),
    "granitehybrid": _Hybrid(rope="norm", scaled=True, experts=_SHARED),
    "falcon-h1": _Hybrid(attends="beside", rope="neox"),
    "nemotron_h": _NANO,
    "nemotron_h_moe": _NANO._replace(experts=_SHARED._replace(gating="sigmoid", norm=False, latent=True)),
}
NAMES = tuple(_ROWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridConfig(Config):
    """A Config; heads and widths of each layer (0: none), whether they turn, layers at the end that predict further."""

    space: Space
    layer_heads: tuple[Heads, ...]
    widths: tuple[int, ...]
    turns: bool
    n_ahead: int
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    attn_scale: float = 0.0


def config(r: Reader) -> HybridConfig:
    """The numbers of the model."""
    row = _ROWS[r.arch]
    c = shared(r, varied=True, gaps=True, attends=row.attends != "")
    own: dict[str, Any] = {"layer_heads": (c.heads,) * c.n_layer, "widths": (0,) * c.n_layer, "turns": row.rope != ""}
    if row.attends:
        widths = r.per_layer("feed_forward_length", MAX_FF, c.n_layer, c.n_ff, 0)
        own |= {"layer_heads": layer_heads(r, c, 0), "widths": widths}
    if row.experts and c.experts:
        own["experts"] = experts_of(row.experts, r, c, c.experts)
    if row.scaled:
        r.take("expert_shared_feed_forward_length")  # without experts it is the only feed-forward's
        own |= {name: scale_of(r, name) for name in ("embedding_scale", "residual_scale")}
        own |= {"logit_scale": 1.0 / scale_of(r, "logit_scale"), "turns": r.flag("rope.scaling.finetuned", True)}
        own["attn_scale"] = r.number("attention.scale", 0.0, zero=True)
    own["n_ahead"] = ahead(r, c) if row.single else 0
    return c.with_own(HybridConfig, space=state_space.space_of(r, c, row.first), **own)


def build(g: Graph, c: HybridConfig, w: Weights) -> Outputs:
    """Token ids -> the last norm's rows and the logits of the wanted ones."""
    row, turn = _ROWS[c.arch], layers.rope_of(c, w, _ROWS[c.arch].rope) if c.turns else None
    x = g.embed(w["token_embd.weight"], c.n_embd)
    if c.embedding_scale != 1.0:
        x = g.scale(x, c.embedding_scale, name="embed_scale")
    for blk in run(w, c.n_layer - c.n_ahead):
        h, alone = layers.norm(g, c, blk, "attn_norm", x), row.single and c.widths[blk.index] > 0
        x = _joined(g, c, x, _ffn(row, g, c, blk, h) if alone else _mixed(row, g, c, blk, h, turn))
        if row.attends and not row.single:
            x = _joined(g, c, x, _ffn(row, g, c, blk, layers.norm(g, c, blk, "ffn_norm", x)))
    x = layers.norm(g, c, w, "output_norm", g.wanted(x))
    return Outputs(logits=layers.logits(g, w, x, c.logit_scale), embedding=x)


def _joined(g: Graph, c: HybridConfig, x: Node, y: Node) -> Node:
    return x + (y if c.residual_scale == 1.0 else g.scale(y, c.residual_scale))


def _mixed(row: _Hybrid, g: Graph, c: HybridConfig, blk: Block, x: Node, turn: Rope | None) -> Node:
    heads = c.layer_heads[blk.index]
    if not heads.n_kv:
        return state_space.mamba(g, c, blk, x, c.space)
    q, k, v = layers.qkv(g, blk, x, heads)
    if turn is not None:
        q, k = layers.rope(g, blk, q, k, heads, turn)
    y = layers.attn_output(g, c, blk, layers.attend(g, blk, q, k, v, heads, scale=c.attn_scale))
    return y + state_space.mamba(g, c, blk, x, c.space, beside=True) if row.attends == "beside" else y


def _ffn(row: _Hybrid, g: Graph, c: HybridConfig, blk: Block, x: Node) -> Node:
    if c.experts and blk.has("ffn_gate_inp.weight"):
        return layers.moe_ffn(g, c, blk, x, c.experts, row.act, row.ffn)
    return layers.ffn(g, c, blk, x, c.widths[blk.index], row.act, row.ffn)
