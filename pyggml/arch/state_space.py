"""Selective state spaces as layers: Mamba, with a step for each value, and Mamba-2, with one for each head.

The input is widened to values and their gate, values are mixed over the last positions (Mamba-2: with what is read and
written, B and C, beside them), and pass a scan whose state is a matrix. Sources: arXiv 2312.00752, 2405.21060; names
and the order of columns are those of llama.cpp's converter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyggml.arch import layers
from pyggml.config import MAX_FF, MAX_HEADS, Config, Reader
from pyggml.errors import GGUFError
from pyggml.graph import Graph, Node

if TYPE_CHECKING:
    from pyggml.engine.weights import Block


_KEYS = ("conv_kernel", "state_size", "group_count", "inner_size", "time_step_rank")
IDLE = (*(f"ssm.{key}" for key in _KEYS), "expert_shared_feed_forward_length")
"""What files of Granite 4 say that have none of it."""


@dataclass(frozen=True, slots=True)
class Space:
    """inner values in n heads with states (inner / n, k); n_group shared pairs of B and C; taps positions are mixed.

    Mamba: rank is the width that steps are made of, n is inner; eps: of norms of steps, B and C, which are there with
    their weights, or without where it is not 0. Mamba-2: rank is 0.
    """

    inner: int
    n: int
    k: int
    n_group: int
    taps: int
    rank: int = 0
    eps: float = 0.0


def space_of(r: Reader, c: Config, first: bool) -> Space:
    """What the keys `ssm.` say; first: of Mamba, not of Mamba-2."""
    inner, k = r.integer("ssm.inner_size", MAX_FF), r.integer("ssm.state_size", MAX_FF)
    taps = r.integer("ssm.conv_kernel", layers.MOST_TAPS, least=2)
    if first:
        eps = r.number("ssm.dt_b_c_rms_epsilon", c.norm_eps, limit=1.0) if r.flag("ssm.dt_b_c_rms", False) else 0.0
        return Space(inner, inner, k, 1, taps, r.integer("ssm.time_step_rank", MAX_FF), eps)
    n, n_group = r.integer("ssm.time_step_rank", MAX_HEADS), r.integer("ssm.group_count", MAX_HEADS, 1)
    for key, value, by, divisor in (
        ("time_step_rank", n, "group_count", n_group),
        ("inner_size", inner, "time_step_rank", n),
    ):
        if value % divisor:
            raise GGUFError(f"{r.arch}.ssm.{key} is {value}, no multiple of ssm.{by}, which is {divisor}")
    return Space(inner, n, k, n_group, taps)


def mamba(g: Graph, c: Config, blk: Block, x: Node, s: Space, beside: bool = False) -> Node:
    """A layer's state space. beside: the layer attends too."""
    b = f"blk.{blk.index}"
    bc = 0 if s.rank else 2 * s.n_group * s.k
    y = g.matmul(blk["ssm_in.weight"], x, blk.get("ssm_in.bias"), 2 * s.inner + bc + (0 if s.rank else s.n))
    if s.rank:  # values, gate; else gate, values, B, C, steps
        mixed, z = g.cols(y, 0, s.inner, name=f"{b}.ssm_x_in"), g.cols(y, s.inner, s.inner, name=f"{b}.ssm_z")
    else:
        z, mixed = g.cols(y, 0, s.inner, name=f"{b}.ssm_z"), g.cols(y, s.inner, s.inner + bc, name=f"{b}.ssm_xbc")
    mixed = layers.conv(g, blk, "ssm_conv1d", mixed, s.taps, blk.get("ssm_conv1d.bias"), beside)
    mixed = g.activate(mixed, "silu", name=f"{b}.ssm_mixed")
    if s.rank:
        values, (before, behind, dt) = mixed, _steps(g, c, blk, mixed, s)
    else:
        values = g.cols(mixed, 0, s.inner, name=f"{b}.ssm_x")
        before = g.cols(mixed, s.inner, bc // 2, name=f"{b}.ssm_b")
        behind = g.cols(mixed, s.inner + bc // 2, bc // 2, name=f"{b}.ssm_c")
        dt = g.cols(y, 2 * s.inner + bc, s.n, name=f"{b}.ssm_dt")
    y = g.scan(
        values,
        before,
        behind,
        dt,
        blk.flat("ssm_a", s.n, s.k if s.rank else 1),
        blk["ssm_dt.bias"],
        blk["ssm_d"] if s.rank else blk.flat("ssm_d", s.n, 1),
        layer=layers.MATRICES + blk.index,
        n_group=s.n_group,
        name=f"{b}.scan",
    )
    y = g.glu(z, y, name=f"{b}.ssm_gated")
    if not s.rank and blk.get("ssm_norm.weight") is not None:
        seg = s.inner // s.n_group
        y = g.rms_norm(y, blk.flat("ssm_norm.weight", s.n_group, seg), c.norm_eps, seg, f"{b}.ssm_norm", own=True)
    return g.matmul(blk["ssm_out.weight"], y, blk.get("ssm_out.bias"), c.n_embd)


def _steps(g: Graph, c: Config, blk: Block, x: Node, s: Space) -> tuple[Node, Node, Node]:
    """B, C and steps of Mamba."""
    y, at, made = g.matmul(blk["ssm_x.weight"], x, m=s.rank + 2 * s.k), 0, []
    for name, n in (("dt", s.rank), ("b", s.k), ("c", s.k)):
        part, w = g.cols(y, at, n, name=f"blk.{blk.index}.ssm_{name}_of_x"), blk.get(f"ssm_{name}_norm.weight")
        if s.eps or w is not None:
            part = g.rms_norm(part, w, s.eps or c.norm_eps, name=f"blk.{blk.index}.ssm_{name}_norm")
        made.append(part)
        at += n
    return made[1], made[2], g.matmul(blk["ssm_dt.weight"], made[0], m=s.inner)
