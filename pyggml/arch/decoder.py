"""The decoder that is described by data: what a row of decoders.py can say, its config() and its build().

A row says in what a decoder differs from Llama; everything else is Llama's. Papers of the common part: arXiv 2302.13971
(Llama), 2305.13245 (grouped queries), 2401.04088 (experts).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pyggml.arch import layers
from pyggml.arch.layers import Xielu
from pyggml.arch.outputs import Outputs
from pyggml.config import MAX_CTX, MAX_FF, Config, Experts, Heads, Reader, layer_heads, shared
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.graph import Graph, Node, Rope

if TYPE_CHECKING:
    from pyggml.engine.weights import Block, Weights

_MAX_SHARED = 1 << 10
_GATINGS = {1: "softmax", 2: "sigmoid", 3: "softmax_chosen"}  # expert_gating_func


class Norms(NamedTuple):
    """Names of the norms before and behind attention and feed-forward; "" where there is none."""

    attn: str = "attn_norm"
    attn_post: str = ""
    ffn: str = "ffn_norm"
    ffn_post: str = ""


LLAMA = Norms()
POST = Norms(attn_post="post_attention_norm", ffn_post="post_ffw_norm")
BEHIND = POST._replace(attn="", ffn="")


class Window(NamedTuple):
    """Layers that see the last attention.sliding_window tokens only: all, or with a period all but each period-th.

    first: counted so that the first layer has none, else each period ends with one. size: where the file does not say;
    0: then there is no window. own_rope: these layers turn by rope.freq_base_swa (base where the file does not say; 0:
    that of the model), and nothing is scaled there but with scaled. chunked: they are chunks of attention.chunk_size.
    """

    period: int = 0
    size: int = 0
    own_rope: bool = False
    base: float = 0.0
    first: bool = False
    scaled: bool = False
    chunked: bool = False


class Router(NamedTuple):
    """How experts are chosen where the file does not say. shared: every token passes one more, "gated" or "plain",
    where the file has a width for it, or "like" one of the others. early: weights multiply what an expert reads.
    latent: experts may have a width of their own.
    """

    norm: bool = True
    shared: str = ""
    gating: str = "softmax"
    early: bool = False
    latent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """A decoder, in what it differs from Llama.

    rope: "norm" turns neighbouring pairs, "neox" halves; still: every still-th layer turns nothing (0: all turn);
    window_rope: where there are windows, only their layers turn. positions: they are learned, a row each. temper:
    queries grow with their position by attention.temperature_scale, in "all" layers, where yarn_log_multiplier says of
    YaRN's magnitude too, or in those that turn nothing ("still"). norms: their names; norm: "rms" or "layer". qk_norm:
    "there" by heads where the tensors are, "head" by heads, "width" over all heads, "" none; norm_turned: behind the
    rope. embed_norm: embeddings are normed, and not once more in the first layer. parallel: attention and feed-forward
    read the same rows, but for attn_norm_2, which attention has for itself where it is there; "key" where
    use_parallel_residual says so. ffn, act: how, and its activation.
    window: None where no key says of which layers it is. experts: None for a dense model. wide: so many layers has the
    one model whose scores are scaled by n_embd / n_head instead of by the width of a head. root_scale: embeddings times
    sqrt(n_embd). dense: matrices that the last rows pass, where the file has them. sinks: every head has a score of
    nothing. exact: YaRN's ramp is not cut at whole pairs. ahead: the last layers may be such as predict further tokens.
    ones: turned queries and keys are normed by heads without weights, but in the one model with `bare` experts.
    alibi: scores sink with distance where attention.max_alibi_bias says so. idle: keys of what the models never have,
    which their files say all the same.

    Where attention.causal is false all tokens see each other, and there are embeddings only.

    Keys that are computed: embedding_scale, residual_scale; logit_scale "times" or "over" that value; logit_cap and
    attn_cap the soft caps where the file does not say (0: none), logit_cap None for a decoder without.
    """

    rope: str = "norm"
    still: int = 0
    positions: bool = False
    temper: str = ""
    window_rope: bool = False
    norms: Norms = LLAMA
    norm: str = "rms"
    embed_norm: bool = False
    qk_norm: str = "there"
    norm_turned: bool = False
    parallel: bool | str = False
    ffn: str = "gated"
    act: str = "silu"
    window: Window | None = None
    experts: Router | None = None
    wide: int = 0
    root_scale: bool = False
    embedding_scale: bool = False
    residual_scale: bool = False
    logit_scale: str = ""
    logit_cap: float | None = None
    attn_cap: float = 0.0
    dense: tuple[str, ...] = ()
    sinks: bool = False
    exact: bool = False
    ahead: bool = False
    ones: bool = False
    bare: int = 0
    alibi: bool = False
    idle: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig(Config):
    """A Config and the numbers of a decoder. layer_heads, widths, windows (0: none) and mixed (whether it has experts)
    are those of each layer; the last n_ahead layers predict further tokens, and are not run. temper: factor and length
    of Graph.temper, 0 and 0 where queries stay. xielu: the curve of each layer that has this activation.

    attn_scale 0: by the width of a head. window_base: base of the rope of windowed layers, 0 where all layers have one
    rope. Caps are 0 and scales 1 where there is none.
    """

    layer_heads: tuple[Heads, ...]
    widths: tuple[int, ...]
    windows: tuple[int, ...]
    mixed: tuple[bool, ...]
    n_ahead: int
    parallel: bool
    window_base: float
    attn_scale: float
    attn_cap: float
    alibi: float
    logit_cap: float
    embedding_scale: float
    residual_scale: float
    logit_scale: float
    temper: tuple[float, int]
    xielu: tuple[Xielu, ...]


# ---- reading -----------------------------------------------------------------------------------------------------


def config(row: Decoder, r: Reader) -> DecoderConfig:
    """The numbers of a decoder; takes the keys that the row computes."""
    c = shared(r, varied=True)
    r.take("attention.causal", "pooling_type", *row.idle)
    if row.temper == "all":
        c = _all_dims(r, c)
    windows = windows_of(row.window, r, c.n_layer)
    return c.with_own(
        DecoderConfig,
        layer_heads=layer_heads(r, c),
        widths=r.per_layer("feed_forward_length", MAX_FF, c.n_layer, c.n_ff),
        windows=windows,
        parallel=r.flag("use_parallel_residual", True) if row.parallel == "key" else bool(row.parallel),
        window_base=_window_base(row.window, r, c) if any(windows) else 0.0,
        experts=experts_of(row.experts, r, c, c.experts) if row.experts and c.experts else None,
        mixed=mixed(r, c) if row.experts and c.experts else (False,) * c.n_layer,
        n_ahead=ahead(r, c) if row.ahead else 0,
        attn_scale=_attn_scale(row, r, c),
        attn_cap=r.number("attn_logit_softcapping", row.attn_cap, zero=True),
        alibi=r.number("attention.max_alibi_bias", 0.0, zero=True) if row.alibi else 0.0,
        logit_cap=0.0 if row.logit_cap is None else r.number("final_logit_softcapping", row.logit_cap, zero=True),
        embedding_scale=_embedding_scale(row, r, c),
        residual_scale=scale_of(r, "residual_scale") if row.residual_scale else 1.0,
        logit_scale=_logit_scale(row, r),
        temper=_temper(row, r, c) if row.temper else (0.0, 0),
        xielu=_xielu(r, c.n_layer) if row.act == "xielu" else (),
    )


def _all_dims(r: Reader, c: Config) -> Config:
    """YaRN's magnitude divided by the one that yarn_log_multiplier (mscale_all_dim) says."""
    multiplier, s = r.number("rope.scaling.yarn_log_multiplier", 0.0, zero=True), c.rope.scaling
    by = 1.0 + 0.1 * multiplier * math.log(max(s.factor, 1.0)) if s.kind == "yarn" else 1.0
    return replace(c, rope=replace(c.rope, scaling=replace(s, attn_factor=s.attn_factor / by)))


def _temper(row: Decoder, r: Reader, c: Config) -> tuple[float, int]:
    still = row.temper == "still"
    factor = r.number("attention.temperature_scale", 0.1 if still else 0.0, zero=True)
    length = r.integer("attention.temperature_length", MAX_CTX, 8192 if still else 0, least=0)
    return (factor, length or c.rope.scaling.n_ctx_orig) if factor else (0.0, 0)


def _xielu(r: Reader, n_layer: int) -> tuple[Xielu, ...]:
    above, below, beta = (r.numbers(f"xielu.{name}", n_layer) for name in ("alpha_p", "alpha_n", "beta"))
    r.numbers("xielu.eps", n_layer)  # below rounding
    return tuple(Xielu(_softplus(p), b + _softplus(n), b) for p, n, b in zip(above, below, beta, strict=True))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def windows_of(window: Window | None, r: Reader, n_layer: int) -> tuple[int, ...]:
    """The window of each layer, 0 where there is none."""
    if window is None:
        return (0,) * n_layer
    size = r.integer(f"attention.{'chunk_size' if window.chunked else 'sliding_window'}", MAX_CTX, window.size, least=0)
    if not window.period or not size:
        return (size,) * n_layer
    key, period, told = "attention.sliding_window_pattern", window.period, None
    said = r.value(key)
    if isinstance(said, int) and not isinstance(said, bool):
        period = r.integer(key, n_layer + 1)
    else:
        told = r.flags(key, n_layer)
    step = 0 if window.first else 1
    inside = told if told is not None else tuple((i + step) % period != 0 for i in range(n_layer))
    return tuple(size if each else 0 for each in inside)


def _window_base(window: Window | None, r: Reader, c: Config) -> float:
    if window is None or not window.own_rope:
        return 0.0
    return r.number("rope.freq_base_swa", window.base or c.rope.freq_base)


def mixed(r: Reader, c: Config) -> tuple[bool, ...]:
    """Whether each layer has experts."""
    dense = r.integer("leading_dense_block_count", c.n_layer, 0, least=0)
    step = r.integer("interleave_moe_layer_step", c.n_layer, 1, least=0)
    return tuple(i >= dense and step > 0 and (i + 1) % step == 0 for i in range(c.n_layer))


def ahead(r: Reader, c: Config) -> int:
    """How many layers at the end predict tokens behind the next one."""
    return r.integer("nextn_predict_layers", c.n_layer - 1, 0, least=0)


def experts_of(router: Router, r: Reader, c: Config, found: Experts) -> Experts:
    """The experts that Config found, with what the file says of their choice."""
    r.take("expert_count", "expert_used_count")
    gating = r.integer("expert_gating_func", 4, 0, least=0)
    if gating and gating not in _GATINGS:
        raise UnsupportedError(f"{c.arch}.expert_gating_func is {gating}, which is not supported")
    how = _GATINGS[gating] if gating else router.gating
    return replace(
        found,
        n_ff_shared=_shared_width(router, r, c, found),
        shared_gate=router.shared == "gated",
        gating=how,
        norm=r.flag("expert_weights_norm", router.norm),
        scale=r.number("expert_weights_scale", 1.0, zero=True) or 1.0,
        groups=_groups(r, found, how),
        early=router.early,
        n_latent=r.integer("moe_latent_size", MAX_FF, 0, least=0) if router.latent else 0,
    )


def _shared_width(router: Router, r: Reader, c: Config, found: Experts) -> int:
    if not router.shared:
        return 0
    n = r.integer("expert_shared_count", _MAX_SHARED, 1 if router.shared == "like" else 0, least=0)
    default = c.n_ff if router.shared == "gated" else n * found.n_ff
    return r.integer("expert_shared_feed_forward_length", MAX_FF, 0, least=0) or default


def _groups(r: Reader, found: Experts, gating: str) -> tuple[int, int, int]:
    """As Graph.route has them: the best one speaks for a group (DeepSeek-V2), with sigmoid the best two (V3)."""
    n = r.integer("expert_group_count", found.n, 1, least=0)
    used = r.integer("expert_group_used_count", max(n, 1), n, least=0) or n
    if n < 2 or used == n:
        return (0, 0, 0)
    size, best = found.n // n, 2 if gating == "sigmoid" else 1
    if found.n % n or size < best or used * size < found.n_used:
        raise GGUFError(
            f"{r.arch}: {found.n_used} of {found.n} experts cannot be chosen from {used} of {n} groups "
            f"whose best {best} speak for them"
        )
    return (n, used, best)


def scale_of(r: Reader, key: str) -> float:
    return r.number(key, 1.0, zero=True) or 1.0


def _attn_scale(row: Decoder, r: Reader, c: Config) -> float:
    default = (c.n_embd / c.heads.n) ** -0.5 if c.n_layer == row.wide else 0.0
    return r.number("attention.scale", default, zero=True)


def _embedding_scale(row: Decoder, r: Reader, c: Config) -> float:
    if row.embedding_scale:
        return scale_of(r, "embedding_scale")
    return math.sqrt(c.n_embd) if row.root_scale else 1.0


def _logit_scale(row: Decoder, r: Reader) -> float:
    if not row.logit_scale:
        return 1.0
    scale = scale_of(r, "logit_scale")
    return scale if row.logit_scale == "times" else 1.0 / scale


# ---- building ----------------------------------------------------------------------------------------------------


def build(row: Decoder, g: Graph, c: DecoderConfig, w: Weights) -> Outputs:
    """Token ids -> the final norm's rows and the logits of the wanted ones."""
    turn = inside = layers.rope_of(c, w, row.rope, row.exact)
    if c.window_base:
        scaled = row.window is not None and row.window.scaled
        inside = replace(turn if scaled else Rope(row.rope, c.rope.n_rot), freq_base=c.window_base)
    x = g.embed(w["token_embd.weight"], c.n_embd)
    if c.embedding_scale != 1.0:
        x = g.scale(x, c.embedding_scale, name="embed_scale")
    if row.embed_norm:
        x = layers.norm(g, c, w, "token_embd_norm", x, row.norm)
    if row.positions:
        x = x + g.positions(w["position_embd.weight"], c.n_embd)
    for blk in run(w, c.n_layer - c.n_ahead):
        x = _layer(row, g, c, blk, x, inside if c.windows[blk.index] else turn)
    x = layers.norm(g, c, w, "output_norm", g.wanted(x), row.norm)
    if not c.causal:
        if w.get("output.weight") is not None:
            raise UnsupportedError(
                f"{c.arch}.attention.causal is false, but the file has output.weight: architecture {c.arch} makes "
                "embeddings then, not logits; the file is a variant that cannot be run yet"
            )
        return Outputs(embedding=_dense(row, g, w, x), score=layers.score(g, w, x))
    y = layers.logits(g, w, x, c.logit_scale)
    if c.logit_cap:
        y = g.softcap(y, c.logit_cap, name="output_cap")
    return Outputs(logits=y, embedding=x, score=layers.score(g, w, x))


def run(w: Weights, n: int) -> Iterator[Block]:
    """The first n layers; the others are left."""
    for blk in w.blocks():
        if blk.index < n:
            yield blk
        else:
            w.leave(blk.index)


def _dense(row: Decoder, g: Graph, w: Weights, x: Node) -> Node:
    """Behind pooling in the descriptions; sums of rows and matrices may change places."""
    for name in row.dense:
        matrix = w.get(f"{name}.weight")
        x = x if matrix is None else g.matmul(matrix, x)
    return x


def _layer(row: Decoder, g: Graph, c: DecoderConfig, blk: Block, x: Node, turn: Rope) -> Node:
    names = row.norms
    h = x if row.embed_norm and not blk.index else _norm(row, g, c, blk, names.attn, x)
    own = c.parallel and blk.get("attn_norm_2.weight") is not None
    read = _norm(row, g, c, blk, "attn_norm_2", x) if own else h
    y = _joined(row, g, c, blk, x, _attention(row, g, c, blk, read, turn), names.attn_post)
    if not c.parallel:
        x = y
    if not c.parallel or names.ffn:
        h = _norm(row, g, c, blk, names.ffn, x)
    return _joined(row, g, c, blk, y, _ffn(row, g, c, blk, h), names.ffn_post)


def _norm(row: Decoder, g: Graph, c: DecoderConfig, blk: Block, name: str, x: Node) -> Node:
    return layers.norm(g, c, blk, name, x, row.norm) if name else x


def _joined(row: Decoder, g: Graph, c: DecoderConfig, blk: Block, x: Node, y: Node, post: str) -> Node:
    """x and what a part of the layer made of it."""
    y = _norm(row, g, c, blk, post, y)
    return x + (y if c.residual_scale == 1.0 else g.scale(y, c.residual_scale))


def _turns(row: Decoder, c: DecoderConfig, layer: int) -> bool:
    """Whether queries and keys of a layer are turned by their positions."""
    if row.window_rope and any(c.windows):
        return c.windows[layer] > 0
    return not row.still or (layer + 1) % row.still != 0


def _norm_heads(row: Decoder, g: Graph, c: DecoderConfig, blk: Block, q: Node, k: Node) -> tuple[Node, Node]:
    seg = None if row.qk_norm == "width" else c.layer_heads[blk.index].k
    return layers.norm(g, c, blk, "attn_q_norm", q, seg=seg), layers.norm(g, c, blk, "attn_k_norm", k, seg=seg)


def _attention(row: Decoder, g: Graph, c: DecoderConfig, blk: Block, x: Node, turn: Rope) -> Node:
    heads = c.layer_heads[blk.index]
    q, k, v = layers.qkv(g, blk, x, heads)
    normed = row.qk_norm and (row.qk_norm != "there" or blk.get("attn_q_norm.weight") is not None)
    if normed and not row.norm_turned:
        q, k = _norm_heads(row, g, c, blk, q, k)
    turns = _turns(row, c, blk.index)
    if turns:
        q, k = layers.rope(g, blk, q, k, heads, turn)
    if normed and row.norm_turned:
        q, k = _norm_heads(row, g, c, blk, q, k)
    if turns and row.ones and not (c.experts and c.experts.n == row.bare):
        q = g.rms_norm(q, None, c.norm_eps, heads.k, f"blk.{blk.index}.norm_q")
        k = g.rms_norm(k, None, c.norm_eps, heads.k, f"blk.{blk.index}.norm_k")
    if c.temper[0] and (row.temper == "all" or not turns):
        q = g.temper(q, *c.temper, ahead=row.temper == "still", name=f"blk.{blk.index}.temper_q")
    y = layers.attend(
        g, blk, q, k, v, heads, scale=c.attn_scale, softcap=c.attn_cap, window=c.windows[blk.index], causal=c.causal,
        chunked=row.window is not None and row.window.chunked and c.windows[blk.index] > 0,
        sinks=blk["attn_sinks.weight"] if row.sinks else None, alibi=c.alibi,
    )  # fmt: skip
    return layers.attn_output(g, c, blk, y)


def _ffn(row: Decoder, g: Graph, c: DecoderConfig, blk: Block, x: Node) -> Node:
    if c.experts and c.mixed[blk.index]:
        return layers.moe_ffn(g, c, blk, x, c.experts, row.act)
    act = c.xielu[blk.index] if c.xielu else row.act
    return layers.ffn(g, c, blk, x, c.widths[blk.index], act, row.ffn)
