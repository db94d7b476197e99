"""What Gemma 3n and 4 share: windowed layers with heads and a rope of their own, values that are normed, last layers
that read the keys and values of earlier ones, and rows of a second table that each layer is given.

Nothing here is an architecture; gemma3n.py and gemma4.py are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pyggml.arch import layers
from pyggml.arch.decoder import Window, windows_of
from pyggml.arch.outputs import Outputs
from pyggml.config import MAX_CTX, MAX_FF, Config, Heads, Reader, layer_heads, shared
from pyggml.graph import Graph, Node, Rope

if TYPE_CHECKING:
    from pyggml.engine.weights import Block, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmaConfig(Config):
    """A Config and what both have. layer_heads, widths, windows (0: none) and sources are those of each layer.

    sources: the layer whose keys and values it reads, its own number as a rule. turn_inside: n_rot and base of the rope
    of windowed layers. per_layer: columns that each layer is given (0: none). logit_cap 0: none.
    """

    layer_heads: tuple[Heads, ...]
    widths: tuple[int, ...]
    windows: tuple[int, ...]
    sources: tuple[int, ...]
    turn_inside: tuple[int, float]
    attn_scale: float
    per_layer: int
    logit_cap: float


def numbers(r: Reader, c: Config, period: int, n_shared: int = 0, logit_cap: float = 0.0) -> dict[str, Any]:
    """The fields of GemmaConfig beyond Config. What holds where the file does not say: every period-th layer has no
    window, the last n_shared share keys and values, logits have a cap (0: none).
    """
    r.take("pooling_type")
    windows = windows_of(Window(period=period), r, c.n_layer)
    heads, inside = layer_heads(r, c), (c.rope.n_rot, c.rope.freq_base)
    if any(windows):
        k = r.integer("attention.key_length_swa", MAX_CTX, c.heads.k)
        v = r.integer("attention.value_length_swa", MAX_CTX, c.heads.v)
        heads = tuple(replace(h, k=k, v=v) if window else h for h, window in zip(heads, windows, strict=True))
        inside = _turn_inside(r, c, k)
    return {
        "layer_heads": heads,
        "widths": r.per_layer("feed_forward_length", MAX_FF, c.n_layer, c.n_ff),
        "windows": windows,
        "sources": _sources(r, c, windows, heads, n_shared),
        "turn_inside": inside,
        "attn_scale": r.number("attention.scale", 1.0, zero=True) or 1.0,
        "per_layer": r.integer("embedding_length_per_layer_input", MAX_FF, 0, least=0),
        "logit_cap": r.number("final_logit_softcapping", logit_cap, zero=True),
    }


def read(r: Reader) -> Config:
    """What every architecture has."""
    return shared(r, varied=True)


def _turn_inside(r: Reader, c: Config, head_dim: int) -> tuple[int, float]:
    key = "rope.dimension_count_swa"
    n_rot = r.integer(key, head_dim, min(head_dim, c.rope.n_rot) if head_dim == c.heads.k else head_dim)
    if n_rot % 2:
        raise r.wrong(key, n_rot, "an even number")
    return n_rot, r.number("rope.freq_base_swa", c.rope.freq_base)


def _sources(r: Reader, c: Config, windows: tuple[int, ...], heads: tuple[Heads, ...], default: int) -> tuple[int, ...]:
    """The last attention.shared_kv_layers read what the last one of their kind before them stored."""
    key = "attention.shared_kv_layers"
    n_shared = r.integer(key, c.n_layer, default, least=0)
    own = range(c.n_layer - n_shared)
    found = list(own)
    for i in range(len(own), c.n_layer):
        at = next((j for j in reversed(own) if windows[j] == windows[i]), None)
        if at is None:
            kind = "with" if windows[i] else "without"
            raise r.wrong(key, n_shared, f"an earlier layer {kind} a window, whose keys and values layer {i} reads")
        theirs, mine = heads[at], heads[i]
        if (theirs.n_kv, theirs.k, theirs.v) != (mine.n_kv, mine.k, mine.v):
            raise r.wrong(key, n_shared, f"layers {at} and {i} with the same heads of keys and values")
        found.append(at)
    return tuple(found)


# ---- building ----------------------------------------------------------------------------------------------------


def ropes(c: GemmaConfig, w: Weights) -> tuple[Rope, Rope]:
    """The turns of layers without and with a window."""
    n_rot, base = c.turn_inside
    return layers.rope_of(c, w, "neox"), Rope("neox", n_rot, base)


def attention(
    g: Graph, c: GemmaConfig, blk: Block, x: Node, turns: tuple[Rope, Rope], keys_serve: bool = False
) -> Node:
    """Attention of normed rows, before its norm. keys_serve: as values too, in layers without a window."""
    i, heads, window = blk.index, c.layer_heads[blk.index], c.windows[blk.index]
    turn, source = turns[window > 0], c.sources[blk.index]
    q = g.matmul(blk["attn_q.weight"], x, m=heads.n * heads.k)
    q = g.rope(layers.norm(g, c, blk, "attn_q_norm", q, seg=heads.k), turn, heads.n, heads.k, name=f"blk.{i}.rope_q")
    k = v = None
    if source == i:
        k = g.matmul(blk["attn_k.weight"], x, m=heads.n_kv * heads.k)
        v = k if keys_serve and not window else g.matmul(blk["attn_v.weight"], x, m=heads.n_kv * heads.v)
        v = g.rms_norm(v, None, c.norm_eps, heads.v, name=f"blk.{i}.attn_v_norm")
        k = layers.norm(g, c, blk, "attn_k_norm", k, seg=heads.k)
        k = g.rope(k, turn, heads.n_kv, heads.k, name=f"blk.{i}.rope_k")
    else:
        blk.pass_over("attn_k.weight", "attn_v.weight", "attn_k_norm.weight")  # some files have them
    y = layers.attend(
        g, blk, q, k, v, heads, scale=c.attn_scale, window=window, layer=None if source == i else source
    )  # fmt: skip
    return layers.attn_output(g, c, blk, y)


def per_layer_inputs(g: Graph, c: GemmaConfig, w: Weights, x: Node) -> Node:
    """(tokens, n_layer * per_layer): what each layer is given, of the token and of its embedding x."""
    table, n = w["per_layer_token_embd.weight"], c.n_layer * c.per_layer
    told = g.scale(g.embed(table, n, name="per_layer_embed"), math.sqrt(c.per_layer), name="per_layer_scale")
    made = g.scale(g.matmul(w["per_layer_model_proj.weight"], x, m=n), c.n_embd**-0.5, name="per_layer_proj_scale")
    made = layers.norm(g, c, w, "per_layer_proj_norm", made, seg=c.per_layer)
    return g.scale(made + told, 0.5**0.5, name="per_layer_inputs")


def given(g: Graph, c: GemmaConfig, blk: Block, x: Node, inputs: Node) -> Node:
    """What a layer makes of x and of what it is given, normed."""
    i = blk.index
    mine = g.cols(inputs, i * c.per_layer, c.per_layer, name=f"blk.{i}.per_layer_input")
    gate = g.matmul(blk["inp_gate.weight"], x, m=c.per_layer)
    y = g.matmul(blk["proj.weight"], g.glu(gate, mine, "gelu", name=f"blk.{i}.inp_gate_act"), m=c.n_embd)
    return layers.norm(g, c, blk, "post_norm", y)


def outputs(g: Graph, c: GemmaConfig, w: Weights, x: Node) -> Outputs:
    """Of the wanted rows behind the last layer."""
    x = layers.norm(g, c, w, "output_norm", x)
    y = layers.logits(g, w, x)
    return Outputs(logits=g.softcap(y, c.logit_cap, name="output_cap") if c.logit_cap else y, embedding=x)
