"""Numbers of a model that belong together, as Config holds them: heads, experts, rope. No keys, no judgement."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heads:
    """n query heads over n_kv key and value heads; k and v are the values of a key and of a value."""

    n: int
    n_kv: int
    k: int
    v: int


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture: n_used of n experts of width n_ff; n_ff_shared of the one that every token passes (0: none), times the
    sigmoid of its own gate with shared_gate.

    gating: how logits become weights, as Graph.route has it; norm: those of a token sum to 1; scale multiplies them.
    groups: which experts a token may choose from, as there. early: weights multiply what an expert reads. n_latent: the
    width that experts read and make, where it is not the model's (0: it is).
    The first three are every model's, the others an architecture's own.
    """

    n: int
    n_used: int
    n_ff: int
    n_ff_shared: int = 0
    shared_gate: bool = False
    gating: str = "softmax"
    norm: bool = True
    scale: float = 1.0
    groups: tuple[int, int, int] = (0, 0, 0)
    early: bool = False
    n_latent: int = 0


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How positions beyond the trained context are rotated.

    kind none, linear or yarn; factor >= how much longer the context became; attn_factor multiplies YaRN's own
    1 + 0.1 ln(factor); n_ctx_orig the context of the original training; beta_fast, beta_slow YaRN's ramp in turns.
    """

    kind: str = "none"
    factor: float = 1.0
    attn_factor: float = 1.0
    n_ctx_orig: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0


@dataclass(frozen=True, slots=True)
class RopeNumbers:
    """The first n_rot values of a head turn, by angles that fall with freq_base, scaled as scaling says."""

    freq_base: float
    n_rot: int
    scaling: RopeScaling
