"""The builder of a forward pass: each call appends one record to a native plan and returns a Node.

Shapes are judged by the core as ops are added, so a wrong file fails here, at load, with a sentence that names the
weight. Rows of a node are the tokens of a step (`ROWS_TOKENS`), the wanted ones among them (`ROWS_WANTED`), or those
of the source, another text that is read before (`ROWS_SOURCE`).
Nothing here knows files or architectures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyggml import _native
from pyggml.arguments import flag, instance, list_of, number, text, whole
from pyggml.errors import ArgumentError, ShapeError
from pyggml.operands import ROPE_STYLES, activation, expect, same, stem, stored, word
from pyggml.operands import Rope as Rope
from pyggml.operands import Weight as Weight
from pyggml.quant.types import QuantType, QuantTypeLike

ROWS_SOURCE = _native.ROWS_SOURCE
_FIELDS = {kind: {field.name: field for field in fields} for kind, fields in _native.op_table().items()}
_MOST_BATCH, _MOST_CONTEXT = 1 << 20, 1 << 30  # of pgg_plan_freeze
_MOST_FLOAT = float(np.finfo(np.float32).max)
_GATINGS = {"softmax": 0, "sigmoid": 1, "softmax_chosen": 2}


@dataclass(frozen=True, slots=True)
class Node:
    """One array of the plan: rows x cols of float32."""

    graph: Graph
    index: int
    rows: int
    cols: int

    def __add__(self, other: Node) -> Node:
        return self.graph.add(self, other)

    def __mul__(self, other: Node | float) -> Node:
        return self.graph.mul(self, other) if isinstance(other, Node) else self.graph.scale(self, other)


class Graph:
    """Appends ops to a plan. Names given by `name=` appear in messages and in the profile.

    n_positions: rows of the smallest table of positions, which a context cannot exceed; 0 without any. recurrent:
    some op remembers what cannot be taken back. n_near: the
    longest context before far factors of a rope count; 0 without any.
    """

    def __init__(self) -> None:
        self.n_positions = 0
        self.n_near = 0
        self.recurrent = False
        self.plan = _native.Plan()
        self._weights: dict[str, tuple[int, Weight]] = {}
        self._n_ops = 0

    def _weight(self, w: Weight) -> int:
        """Its number in the plan. Raises ArgumentError where another weight has its name."""
        index, first = self._weights.get(w.name, (None, w))
        if index is None:
            index = self.plan.weight(w.name, w.type_id, w.data, w.rows * w.n_stack, w.cols)
            self._weights[w.name] = index, w
        elif first is not w and not same(first, w):
            raise ArgumentError(
                f"{w.name} is already the name of another weight of this graph, {stored(first)}; this one is "
                f"{stored(w)}: give each a name of its own"
            )
        return index

    def _op(self, kind: str, name: str, **fields: Node | Weight | float | None) -> Node:
        """Appends an op by the names of its fields in native/core/ops.def."""
        name = text("name", name) or f"{kind}.{self._n_ops}"
        values = {key: self._value(name, _FIELDS[kind][key], value) for key, value in fields.items()}
        self.recurrent |= "state" in fields
        index = self.plan.op(kind, name, **values)
        self._n_ops += 1
        rows, cols = self.plan.node_shape(index)
        return Node(self, index, rows, cols)

    def _value(self, name: str, field: _native.OpField, value: Any) -> float | None:
        """A field as the plan takes it; its range and whether it may be absent are judged there."""
        label = f"{name}: {field.name}"
        if value is None:
            return None
        if field.kind == "node":
            return self._index(label, value)
        if field.kind == "weight":
            return self._weight(instance(label, value, Weight, "a Weight"))
        if field.kind == "float":
            return value if type(value) is float else number(label, value, -_MOST_FLOAT, _MOST_FLOAT)
        if (field.low, field.high) == (0, 1):
            return flag(label, value)
        fits = -(2**31) <= whole(label, value, -(2**63)) < 2**31
        return whole(label, value, -(2**31) if fits else field.low, 2**31 - 1 if fits else field.high)

    def _index(self, label: str, node: Any) -> int:
        """The number of a node of this graph."""
        found = instance(label, node, Node, "a Node")
        if found.graph is not self:
            raise ArgumentError(f"{label} is a node of another Graph; build it in this one")
        return found.index

    def embed(self, table: Weight, n_embd: int, name: str = "embed", source: bool = False) -> Node:
        """Rows of table (n_vocab, n_embd) by token id -> (tokens, n_embd); zeros for -1 in a plan with an input too.

        source: by the ids of the source, another text that Session.encode reads and attention of the text attends to.
        What is made of them has its rows (`ROWS_SOURCE`), and is computed when it is encoded.
        """
        expect(table, None, n_embd)
        return self._op("embed", name, table=table, source=source)

    def positions(self, table: Weight, n_embd: int, name: str = "", source: bool = False) -> Node:
        """Rows of table (n, n_embd) by position -> (tokens, n_embd). A context cannot be longer than n.

        source: by the positions of the source, which cannot be longer than n.
        """
        expect(table, None, n_embd)
        if not source:
            self.n_positions = min(self.n_positions or table.rows, table.rows)
        return self._op("positions", name or stem(table), table=table, source=source)

    def kinds(self, table: Weight, n_embd: int, name: str = "", source: bool = False) -> Node:
        """Rows of table (n, n_embd) by the token's kind -> (tokens, n_embd): 0, but where an id is that of a token plus
        the kind times the rows of the table that embed reads."""
        expect(table, None, n_embd)
        return self._op("kinds", name or stem(table), table=table, source=source)

    def row(self, table: Weight, index: int, n_embd: int, name: str = "", source: bool = False) -> Node:
        """The same row of table (n, n_embd) for every token, or every row of the source -> (tokens, n_embd)."""
        expect(table, None, n_embd)
        return self._op("row", name or stem(table), table=table, index=index, source=source)

    def input(self, cols: int, name: str = "input", source: bool = False) -> Node:
        """Rows handed to the step by the caller -> (tokens, cols); zeros where a step of a plan with ids has none.

        source: rows of the source, as of embed.
        """
        return self._op("input", name, cols=cols, source=source)

    def rms_norm(
        self, x: Node, w: Weight | None, eps: float, seg: int | None = None, name: str = "", own: bool = False
    ) -> Node:
        """x / rms(x) * w over whole rows, or over each run of seg values of a row.

        w (1, seg), or (1, cols) with own, where runs have weights of their own; None for ones.
        """
        run = _cols("x", x) if seg is None else seg
        if w is not None:
            expect(w, 1, x.cols if own else run)
        return self._op("rms_norm", name or (stem(w) if w else ""), x=x, w=w, seg=run, eps=eps)

    def layer_norm(
        self, x: Node, w: Weight | None, bias: Weight | None, eps: float, seg: int | None = None, name: str = ""
    ) -> Node:
        """(x - mean) / sqrt(variance + eps) * w + bias over whole rows, or over each run of seg values of a row."""
        run = _cols("x", x) if seg is None else seg
        for each in (w, bias):
            if each is not None:
                expect(each, 1, run)
        return self._op("layer_norm", name or (stem(w) if w else ""), x=x, w=w, bias=bias, seg=run, eps=eps)

    def matmul(self, w: Weight, x: Node, bias: Weight | None = None, m: int | None = None, name: str = "") -> Node:
        """x (rows, k) times w (m, k) transposed, plus bias (1, m) -> (rows, m); m None takes what w has."""
        expect(w, m, _cols("x", x))
        return self._op("matmul", name or stem(w), x=x, w=w, bias=bias)

    def heads(self, w: Weight, x: Node, name: str = "") -> Node:
        """Each head's run of x (rows, n * k) times its own of the n matrices (m, k) that w stacks -> (rows, n * m)."""
        n = instance("w", w, Weight, "a Weight").n_stack
        if _cols("x", x) != n * w.cols:
            raise ShapeError(f"{w.name} is ({n}, {w.rows}, {w.cols}), expected (n, m, k) with n * k = {_cols('x', x)}")
        return self._op("heads", name or stem(w), x=x, w=w, n_head=n)

    def add(self, a: Node, b: Node, name: str = "") -> Node:
        """a + b, one shape."""
        return self._op("add", name, a=a, b=b)

    def mul(self, a: Node, b: Node, name: str = "") -> Node:
        """a * b, value by value."""
        return self._op("mul", name, a=a, b=b)

    def scale(self, x: Node, by: float, name: str = "") -> Node:
        """x * by."""
        return self._op("scale", name, x=x, factor=by)

    def temper(self, x: Node, factor: float, length: int, ahead: bool = False, name: str = "") -> Node:
        """x (tokens, cols) * (1 + factor * ln(1 + floor(pos / length))); ahead: of pos + 1."""
        return self._op("temper", name, x=x, factor=factor, length=length, ahead=ahead)

    def softcap(self, x: Node, cap: float, name: str = "") -> Node:
        """cap * tanh(x / cap)."""
        return self._op("softcap", name, x=x, cap=cap)

    def rope(self, x: Node, how: Rope, n_head: int, head_dim: int, name: str = "") -> Node:
        """Turns the first n_rot values of every head of x (tokens, n_head * head_dim) by its position."""
        how = instance("how", how, Rope, "a Rope")
        if how.far is not None:
            self.n_near = how.n_ctx_orig
        return self._op(
            "rope",
            name,
            x=x,
            factors=how.factors,
            far=how.far,
            n_head=n_head,
            head_dim=head_dim,
            n_rot=how.n_rot,
            style=ROPE_STYLES[how.kind],
            n_ctx_orig=how.n_ctx_orig,
            exact=how.exact,
            freq_base=how.freq_base,
            freq_scale=how.freq_scale,
            ext_factor=how.ext_factor,
            attn_factor=how.attn_factor,
            beta_fast=how.beta_fast,
            beta_slow=how.beta_slow,
        )

    def attention(
        self,
        q: Node,
        k: Node | None,
        v: Node | None,
        *,
        layer: int,
        n_head: int,
        n_head_kv: int,
        scale: float,
        window: int = 0,
        chunked: bool = False,
        softcap: float = 0.0,
        causal: bool = True,
        keys: int | None = None,
        values: int | None = None,
        v_dim: int | None = None,
        sinks: Weight | None = None,
        alibi: float = 0.0,
        name: str = "",
    ) -> Node:
        """Stores k, v in the cache of layer, then attends to it -> (tokens, n_head * v_dim).

        causal: a token sees none behind it, and with a window the last `window`; else those at most window / 2 away.
        chunked: the text is cut into chunks of window positions, and a token sees those of its own chunk.
        k None: the keys are those that layer `keys` stored. v None: the values are those of layer `values`, or the
        first v_dim columns of its keys where it stored none; both are this layer unless they are said.
        k and v with the rows of the source, or a layer that stored such: every token of q attends to all of the source;
        causal is then False and window 0.
        sinks (1, n_head): one more score for each head, neither scaled nor capped, whose weight goes to no value.
        alibi: scores sink with the distance in positions, by slopes of heads down to 2^-alibi (0: by none).
        """
        if sinks is not None:
            expect(sinks, 1, n_head)
        n_head, n_head_kv = (whole(n, v, -(2**31)) for n, v in (("n_head", n_head), ("n_head_kv", n_head_kv)))
        keys, values = layer if keys is None else keys, layer if values is None else values
        k_dim = (_cols("q", q) // max(n_head, 1)) if k is None else _cols("k", k) // max(n_head_kv, 1)
        if v is not None:
            v_dim = _cols("v", v) // max(n_head_kv, 1)
        return self._op(
            "attention",
            name or f"blk.{layer}.attention",
            q=q,
            k=k,
            v=v,
            sinks=sinks,
            keys=keys,
            values=values,
            n_head=n_head,
            n_head_kv=n_head_kv,
            k_dim=k_dim,
            v_dim=k_dim if v_dim is None else v_dim,
            causal=causal,
            window=window,
            chunked=chunked,
            scale=scale,
            softcap=softcap,
            alibi=alibi,
        )

    def conv(
        self,
        x: Node,
        w: Weight,
        *,
        layer: int,
        bias: Weight | None = None,
        type: QuantTypeLike = "f32",
        name: str = "",
    ) -> Node:
        """Each column of x (tokens, c) over the last taps positions, the token's own last, by w (c, taps), plus bias.

        Before the text there is nothing. What the next step needs is kept as the state of layer, in rows of type: f32,
        f16 or bf16. x is rounded to it before it is multiplied, so that pieces of a text and the whole agree.
        """
        if instance("w", w, Weight, "a Weight").n_stack != 1 or w.rows != _cols("x", x):
            raise ShapeError(f"{w.name} is ({w.rows}, {w.cols}), expected ({_cols('x', x)}, taps)")
        kept = QuantType.parse(type, "type").id
        return self._op("conv", name or stem(w), x=x, w=w, bias=bias, state=layer, type=kept)

    def delta(
        self,
        q: Node,
        k: Node,
        v: Node,
        alpha: Node,
        beta: Node,
        a: Weight,
        dt: Weight,
        *,
        layer: int,
        n_head_k: int,
        grouped: bool = False,
        scale: float = 1.0,
        name: str = "",
    ) -> Node:
        """The gated delta rule: a matrix S (k_dim, v_dim) of each head, changed token by token -> as v.

        S *= exp(a * softplus(alpha + dt)), S += k (x) sigmoid(beta) * (v - k S), and the result is scale * q S. alpha,
        beta (tokens, n_head) and a, dt (1, n_head) have a value for each head, q and k (tokens, n_head_k * k_dim) serve
        n_head / n_head_k of them: neighbours where grouped, else each n_head_k-th. What the next step needs is kept as
        the state of layer, in floats.
        """
        n_head, n_k = _cols("alpha", alpha), whole("n_head_k", n_head_k, -(2**31))
        return self._op(
            "delta",
            name or f"blk.{layer}.delta",
            q=q,
            k=k,
            v=v,
            alpha=alpha,
            beta=beta,
            a=a,
            dt=dt,
            state=layer,
            n_head=n_head,
            n_head_k=n_head_k,
            k_dim=_cols("q", q) // max(n_k, 1),
            v_dim=_cols("v", v) // n_head,
            grouped=grouped,
            scale=scale,
        )

    def scan(
        self,
        x: Node,
        b: Node,
        c: Node,
        dt: Node,
        a: Weight,
        bias: Weight,
        d: Weight | None = None,
        *,
        layer: int,
        n_group: int = 1,
        name: str = "",
    ) -> Node:
        """A selective state space: a matrix S (v_dim, k_dim) of each head, changed token by token -> as x.

        With step = softplus(dt + bias), S *= exp(step * a) and S += step * x (x) b; the result is S c + d * x. dt
        (tokens, n_head) and bias, d (1, n_head) have a value for each head, a too, or (1, n_head * k_dim) one for each
        column of S. b, c (tokens, n_group * k_dim) serve n_head / n_group neighbours. What the next step needs is kept
        as the state of layer, in floats.
        """
        n_head, n_group = _cols("dt", dt), whole("n_group", n_group, -(2**31))
        return self._op(
            "scan",
            name or f"blk.{layer}.scan",
            x=x,
            b=b,
            c=c,
            dt=dt,
            a=a,
            bias=bias,
            d=d,
            state=layer,
            n_head=n_head,
            n_group=n_group,
            k_dim=_cols("b", b) // max(n_group, 1),
            v_dim=_cols("x", x) // n_head,
            each=instance("a", a, Weight, "a Weight").cols != n_head,
        )

    def activate(self, x: Node, act: str, name: str = "") -> Node:
        """act(x): "silu" x * sigmoid(x), "gelu" in the tanh form, "gelu_erf" in the one by the error function.

        "silu_capped": y * sigmoid(1.702 y) with y = min(x, 7). "sigmoid" 1 / (1 + exp(-x)). "relu" and its square
        "relu_squared". "elu": exp(x) - 1 below 0.
        """
        return self._op("activate", name or f"{act}.{self._n_ops}", x=x, act=activation(act))

    def glu(self, gate: Node, up: Node, act: str = "silu", name: str = "") -> Node:
        """act(gate) * up; with "silu_capped" up counts as 1 + min(max(up, -7), 7)."""
        return self._op("glu", name, gate=gate, up=up, act=activation(act))

    def cols(self, x: Node, start: int, n: int, seg: int | None = None, name: str = "") -> Node:
        """Columns [start, start + n) of x, or of each run of seg columns -> (rows, n for each run)."""
        return self._op("cols", name, x=x, seg=_cols("x", x) if seg is None else seg, start=start, n=n)

    def concat(self, a: Node, b: Node, a_seg: int | None = None, b_seg: int | None = None, name: str = "") -> Node:
        """a and b side by side, or run by run: a_seg columns of a, b_seg of b, and so on; one run of b serves all."""
        return self._op(
            "concat",
            name,
            a=a,
            b=b,
            a_seg=_cols("a", a) if a_seg is None else a_seg,
            b_seg=_cols("b", b) if b_seg is None else b_seg,
        )

    def softmax(self, x: Node, name: str = "") -> Node:
        """exp(x) / sum of exp(x), row by row."""
        return self._op("softmax", name, x=x)

    def route(
        self,
        logits: Node,
        n_used: int,
        *,
        gating: str = "softmax",
        norm: bool = False,
        scale: float = 1.0,
        bias: Weight | None = None,
        scales: Weight | None = None,
        groups: tuple[int, int, int] = (0, 0, 0),
        name: str = "",
    ) -> Node:
        """Chooses n_used experts a row from logits (rows, n_expert) -> (rows, 2 * n_used): ids, then weights.

        gating: "softmax" over all experts, "sigmoid", or "softmax_chosen" over those chosen. norm makes the weights of
        a row sum to 1, then scale multiplies them. bias (1, n_expert) counts for the choice alone; scales (1, n_expert)
        multiply the weights of their experts at last. groups (n, used, best): the experts stand in n groups of one
        size, and only those of the `used` groups can be chosen whose `best` (1 or 2) highest ones make the greatest
        sum.
        """
        return self._op(
            "route",
            name,
            logits=logits,
            bias=bias,
            scales=scales,
            n_used=n_used,
            gating=word("gating", gating, _GATINGS),
            norm=norm,
            scale=scale,
            n_group=groups[0],
            n_group_used=groups[1],
            group_best=groups[2],
        )

    def experts(
        self,
        x: Node,
        routing: Node,
        gate: Weight,
        up: Weight | None,
        down: Weight,
        act: str = "silu",
        name: str = "",
        *,
        biases: tuple[Weight | None, Weight | None, Weight | None] = (None, None, None),
        early: bool = False,
        plain: bool = False,
    ) -> Node:
        """The weighted sum over the chosen experts of down(act(gate(x)) * up(x)) -> (rows, down.rows).

        gate and up stack n_expert matrices (n_ff, x.cols), down n_expert matrices (m, n_ff); without up, gate stacks
        matrices (2 * n_ff, x.cols): the rows of gate, then those of up. routing is what route() made. biases: of gate,
        up and down, those of all experts in one row (1, n_expert * n_ff or m). early: weights multiply what an expert
        reads, not what it makes. plain: down(act(gate(x))), without up.
        """
        for part, given in (("gate", gate), ("up", gate if up is None else up), ("down", down)):
            instance(part, given, Weight, "a Weight")
        both = up is None and not plain
        n_ff = gate.rows // 2 if both else gate.rows
        for w, rows, cols in (
            (gate, 2 * n_ff if both else n_ff, _cols("x", x)),
            (gate if up is None else up, gate.rows, _cols("x", x)),
            (down, down.rows, n_ff),
        ):
            if (w.n_stack, w.rows, w.cols) != (gate.n_stack, rows, cols):
                raise ShapeError(
                    f"{w.name} is ({w.n_stack}, {w.rows}, {w.cols}), expected ({gate.n_stack}, {rows}, {cols})"
                )
        return self._op(
            "experts", name or stem(down), x=x, routing=routing, gate=gate, up=up, down=down,
            gate_bias=biases[0], up_bias=biases[1], down_bias=biases[2], n_expert=gate.n_stack, act=activation(act),
            early=early, plain=plain,
        )  # fmt: skip

    def gate(self, x: Node, by: Node, name: str = "") -> Node:
        """x (rows, cols) * sigmoid(by), by (rows, 1)."""
        return self._op("gate", name, x=x, by=by)

    def mix(self, x: Node, by: Node, seg: int, plus: float = 0.0, name: str = "") -> Node:
        """Runs of seg columns of x (rows, n * seg), mixed by by (rows, m * n) -> (rows, m * seg).

        Run i is the sum over j of (by[i * n + j] + plus) times run j of x; with n = m = 1 each row is multiplied by a
        number of its own.
        """
        return self._op("mix", name, x=x, by=by, seg=seg, plus=plus)

    def level(self, x: Node, like: Node, least: float, seg: int | None = None, name: str = "") -> Node:
        """x, or each run of seg columns of it, times rms(like) / rms(x); a mean square below least counts as least."""
        return self._op("level", name, x=x, like=like, seg=_cols("x", x) if seg is None else seg, least=least)

    def excess(self, x: Node, deviations: float, name: str = "") -> Node:
        """max(x - bound, 0), where bound is the row's mean and so many of its standard deviations."""
        return self._op("excess", name, x=x, deviations=deviations)

    def wanted(self, x: Node, name: str = "wanted") -> Node:
        """Only the rows whose result the caller asked for."""
        return self._op("rows", name, x=x)

    def finish(self, out: Node | Iterable[Node], n_batch: int, n_ctx: int, keep_all: bool = False) -> _native.Plan:
        """Names the outputs, lays out the memory and returns the frozen plan.

        out: the node that steps return, or several: a session returns the first, or the one whose number it was given.
        """
        outputs = [out] if isinstance(out, Node) else list_of("out", out, "a Node or a list of them")
        indices = [self._index("out", node) for node in outputs]
        n_batch, n_ctx = whole("n_batch", n_batch, 1, _MOST_BATCH), whole("n_ctx", n_ctx, 1, _MOST_CONTEXT)
        keep_all = flag("keep_all", keep_all)
        for index in indices:
            self.plan.output(index)
        self.plan.freeze(n_batch, n_ctx, keep_all)
        self._weights.clear()  # the plan holds what it needs
        return self.plan


def _cols(label: str, node: Node) -> int:
    return instance(label, node, Node, "a Node").cols
