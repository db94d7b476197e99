"""Qwen3.5 and Qwen3-Next: most layers keep one matrix a head by the gated delta rule, the others attend behind a gate.

A layer of the first kind (attention.recurrent_layers, or all but each full_attention_interval-th) mixes queries, keys
and values over the last positions, brings queries and keys to length 1, and has matrices as its state. Attention has
a gate beside each query head and turns a part of a head; in a text alone the three positions of its rope are one.
Layers at the end that predict further tokens (nextn_predict_layers) are loaded and not run. Sources: arXiv 2412.06464
and the models' published implementation; names and the order of heads are those of llama.cpp's converter: in Qwen3-Next
value heads of one key head are neighbours, in the others they lie n_head_k apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyggml.arch import layers
from pyggml.arch.decoder import Router, experts_of
from pyggml.arch.outputs import Outputs
from pyggml.config import MAX_CTX, MAX_FF, MAX_HEADS, Config, Reader, shared
from pyggml.errors import GGUFError
from pyggml.graph import Graph, Node, Rope

if TYPE_CHECKING:
    from pyggml.engine.weights import Block, Weights

NAMES = ("qwen35", "qwen35moe", "qwen3next")

_LENGTH_EPS = 1e-6  # of the lengths of queries and keys, whatever the norms have
_SHARED = Router(shared="gated")


@dataclass(frozen=True, slots=True)
class Delta:
    """n value heads of width v over n_k key heads of width k; taps positions are mixed."""

    n: int
    n_k: int
    k: int
    v: int
    taps: int

    @property
    def mixed(self) -> int:
        """Columns of queries, keys and values side by side."""
        return 2 * self.n_k * self.k + self.n * self.v


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen35Config(Config):
    """A Config; which of the layers that are run keep matrices, and their sizes."""

    recurrent: tuple[bool, ...]
    delta: Delta


def config(r: Reader) -> Qwen35Config:
    """The numbers of the model."""
    c = shared(r)
    n_run = c.n_layer - r.integer("nextn_predict_layers", c.n_layer - 1, 0, least=0)
    interval = r.integer("full_attention_interval", MAX_CTX, 4)
    told = r.flags("attention.recurrent_layers", c.n_layer)
    recurrent = told or tuple((i + 1) % interval != 0 for i in range(c.n_layer))
    mixture = None
    if c.arch != "qwen35":
        if c.experts is None:
            raise GGUFError(f"{c.arch}.expert_count is missing or 0, expected the number of experts")
        mixture = experts_of(_SHARED, r, c, c.experts)
    sections = r.metadata.get(f"{c.arch}.rope.dimension_sections")
    if c.arch != "qwen3next" and _is_one_position(sections, c.rope.n_rot):
        r.take("rope.dimension_sections")
    return c.with_own(Qwen35Config, recurrent=recurrent[:n_run], delta=_delta_of(r, c), experts=mixture)


def _delta_of(r: Reader, c: Config) -> Delta:
    n, n_k = r.integer("ssm.time_step_rank", MAX_HEADS), r.integer("ssm.group_count", MAX_HEADS)
    inner = r.integer("ssm.inner_size", MAX_FF)
    for key, value, by, divisor in (
        ("time_step_rank", n, "group_count", n_k),
        ("inner_size", inner, "time_step_rank", n),
    ):
        if value % divisor:
            raise GGUFError(f"{c.arch}.ssm.{key} is {value}, no multiple of ssm.{by}, which is {divisor}")
    k, taps = r.integer("ssm.state_size", MAX_FF), r.integer("ssm.conv_kernel", layers.MOST_TAPS, least=2)
    return Delta(n, n_k, k, inner // n, taps)


def _is_one_position(sections: object, n_rot: int) -> bool:
    """Whether all pairs turn by positions that are one in a text: those of time, height and width in turns."""
    values = getattr(sections, "tolist", lambda: sections)()
    if not isinstance(values, (list, tuple)) or not all(isinstance(each, int) for each in values):
        return False
    return len(values) in (3, 4) and not sum(values[3:]) and all(i < 3 * values[i % 3] for i in range(n_rot // 2))


def build(g: Graph, c: Qwen35Config, w: Weights) -> Outputs:
    """Token ids -> the last norm's rows and the logits of the wanted ones."""
    turn = layers.rope_of(c, w, "neox")
    x = g.embed(w["token_embd.weight"], c.n_embd)
    for blk in w.blocks():
        if blk.index >= len(c.recurrent):
            w.leave(blk.index)
            continue
        h = layers.norm(g, c, blk, "attn_norm", x)
        x = x + (_delta(g, c, blk, h) if c.recurrent[blk.index] else _attention(g, c, blk, h, turn))
        h = layers.norm(g, c, blk, "post_attention_norm", x)
        x = x + (layers.moe_ffn(g, c, blk, h, c.experts) if c.experts else layers.ffn(g, c, blk, h, c.n_ff))
    x = layers.norm(g, c, w, "output_norm", g.wanted(x))
    return Outputs(logits=layers.logits(g, w, x), embedding=x)


# ---- attention -----------------------------------------------------------------------------------------------------


def _attention(g: Graph, c: Qwen35Config, blk: Block, x: Node, turn: Rope) -> Node:
    heads, b = c.heads, f"blk.{blk.index}"
    both, k, v = layers.qkv(g, blk, x, replace(heads, n=2 * heads.n))  # of a head the query, then its gate
    q = g.cols(both, 0, heads.k, 2 * heads.k, name=f"{b}.attn_queries")
    gate = g.cols(both, heads.k, heads.k, 2 * heads.k, name=f"{b}.attn_gate")
    q = layers.norm(g, c, blk, "attn_q_norm", q, seg=heads.k)
    k = layers.norm(g, c, blk, "attn_k_norm", k, seg=heads.k)
    q, k = layers.rope(g, blk, q, k, heads, turn)
    y = layers.attend(g, blk, q, k, v, heads)
    return layers.attn_output(g, c, blk, g.glu(gate, y, "sigmoid", name=f"{b}.attn_gated"))


# ---- the gated delta rule ------------------------------------------------------------------------------------------


def _delta(g: Graph, c: Qwen35Config, blk: Block, x: Node) -> Node:
    d, b = c.delta, f"blk.{blk.index}"
    n_k, n_v = d.n_k * d.k, d.n * d.v
    mixed, z = _inputs(g, c, blk, x)
    alpha, beta = _gates(g, c, blk, x)
    mixed = g.activate(layers.conv(g, blk, "ssm_conv1d", mixed, d.taps), "silu", name=f"{b}.ssm_mixed")
    units = g.cols(mixed, 0, 2 * n_k, name=f"{b}.ssm_qk")  # x / |x| is x / rms(x) over the root of their number
    units = g.scale(g.rms_norm(units, None, _LENGTH_EPS / d.k, d.k, name=f"{b}.ssm_rms"), d.k**-0.5, f"{b}.ssm_units")
    y = g.delta(
        g.cols(units, 0, n_k, name=f"{b}.ssm_q"),
        g.cols(units, n_k, n_k, name=f"{b}.ssm_k"),
        g.cols(mixed, 2 * n_k, n_v, name=f"{b}.ssm_v"),
        alpha,
        beta,
        blk["ssm_a"],
        blk["ssm_dt.bias"],
        layer=layers.MATRICES + blk.index,
        n_head_k=d.n_k,
        grouped=c.arch == "qwen3next",
        scale=1 / math.sqrt(d.k),
        name=f"{b}.delta",
    )
    y = g.glu(z, layers.norm(g, c, blk, "ssm_norm", y, seg=d.v), name=f"{b}.ssm_gated")
    return g.matmul(blk["ssm_out.weight"], y, m=c.n_embd)


def _inputs(g: Graph, c: Qwen35Config, blk: Block, x: Node) -> tuple[Node, Node]:
    """Queries, keys and values side by side, and the gate of the result."""
    d, b = c.delta, f"blk.{blk.index}"
    if not blk.has("ssm_in.weight"):
        return g.matmul(blk["attn_qkv.weight"], x, m=d.mixed), g.matmul(blk["attn_gate.weight"], x, m=d.n * d.v)
    values = d.n // d.n_k * d.v  # older files: for each key head its query, key, values and gates
    y = g.matmul(blk["ssm_in.weight"], x, m=d.mixed + d.n * d.v)
    sizes = {"q": d.k, "k": d.k, "v": values, "z": values}
    q, k, v, z = (
        g.cols(y, sum(list(sizes.values())[:i]), n, sum(sizes.values()), name=f"{b}.ssm_in_{part}")
        for i, (part, n) in enumerate(sizes.items())
    )
    return g.concat(g.concat(q, k, name=f"{b}.ssm_in_qk"), v, name=f"{b}.ssm_in_qkv"), z


def _gates(g: Graph, c: Qwen35Config, blk: Block, x: Node) -> tuple[Node, Node]:
    """What a head forgets, and what it takes in: before softplus and sigmoid."""
    d = c.delta
    if c.arch != "qwen3next":
        return g.matmul(blk["ssm_alpha.weight"], x, m=d.n), g.matmul(blk["ssm_beta.weight"], x, m=d.n)
    y, each = g.matmul(blk["ssm_ba.weight"], x, m=2 * d.n), d.n // d.n_k
    alpha = g.cols(y, each, each, 2 * each, name=f"blk.{blk.index}.ssm_alpha")
    return alpha, g.cols(y, 0, each, 2 * each, name=f"blk.{blk.index}.ssm_beta")
