"""Random models with state spaces by the names and keys of llama.cpp's converter, and what the oracle must be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from oracle import state_space

import pyggml

N_EMBD, N_VOCAB, EPS, N_FF = 48, 61, 1e-5, 40
SPACE, ATTENTION, BOTH, FEED = "space", "attention", "both", "feed"
IDS = [int(i) for i in np.random.default_rng(3).integers(0, N_VOCAB, 37)]


class Setting(NamedTuple):
    """arch; what each layer is; keys and what the oracle is told of them. rank: of Mamba; groups, heads: of Mamba-2.

    mixed: layers with experts; n_latent: their width; normed: the result of Mamba-2 is.
    """

    arch: str
    layers: tuple[str, ...]
    keys: dict[str, Any] = {}  # noqa: RUF012 (nobody changes it)
    told: dict[str, Any] = {}  # noqa: RUF012
    rank: int = 0
    heads: int = 6
    groups: int = 2
    k: int = 20
    taps: int = 4
    mixed: tuple[int, ...] = ()
    n_latent: int = 0
    normed: bool = True
    tied: bool = False
    bias: bool = True

    @property
    def inner(self) -> int:
        return 72

    @property
    def first(self) -> bool:
        return self.rank > 0


SCALES = {"embedding_scale": 6.0, "residual_scale": 0.3, "logit_scale": 4.0, "attention.scale": 0.4}
TOLD = {"embedding_scale": 6.0, "residual_scale": 0.3, "logit_scale": 4.0, "attn_scale": 0.4}
EXPERTS = {"expert_count": 5, "expert_used_count": 2}
SHARED = {**EXPERTS, "expert_shared_feed_forward_length": 24}
NANO = {**SHARED, "expert_feed_forward_length": 28, "expert_weights_norm": True, "expert_weights_scale": 2.5,
        "expert_shared_count": 1, "expert_group_count": 1}  # fmt: skip
SETTINGS = {
    "mamba": Setting("mamba", (SPACE,) * 3, rank=5, k=16),
    "mamba, tied, no bias": Setting("mamba", (SPACE,) * 2, rank=3, k=9, taps=3, tied=True, bias=False),
    "falcon mamba": Setting("mamba", (SPACE,) * 2, {"ssm.dt_b_c_rms": True}, {"own_eps": EPS}, rank=5, k=16),
    "mamba2": Setting("mamba2", (SPACE,) * 3, heads=4, groups=1),
    "mamba2, groups": Setting("mamba2", (SPACE,) * 2, heads=9, groups=3, k=33, taps=2, tied=True, bias=False),
    "jamba": Setting("jamba", (SPACE, ATTENTION, SPACE), EXPERTS, {"n_expert_used": 2}, rank=4, k=16, mixed=(0, 2)),
    "granite": Setting(
        "granitehybrid", (SPACE, ATTENTION, SPACE),
        {**SCALES, "rope.scaling.finetuned": False, "expert_count": 0, "expert_shared_feed_forward_length": N_FF}, TOLD
    ),
    "granite, experts, rope": Setting(
        "granitehybrid", (SPACE, ATTENTION), {**SCALES, **SHARED},
        {**TOLD, "n_expert_used": 2, "expert_norm": True, "turn": "norm"}, mixed=(0, 1), tied=True
    ),
    "falcon-h1": Setting(
        "falcon-h1", (BOTH,) * 2, {"rope.freq_base": 1e6}, {"turn": "neox", "base": 1e6}, normed=False
    ),
    "falcon-h1, normed": Setting("falcon-h1", (BOTH,), {}, {"turn": "neox"}, tied=True),
    "nemotron_h": Setting("nemotron_h", (SPACE, FEED, ATTENTION, FEED, SPACE), {"rope.scaling.finetuned": False}),
    "nemotron_h_moe": Setting(
        "nemotron_h_moe", (SPACE, FEED, ATTENTION, FEED), {**NANO, "moe_latent_size": 16},
        {"n_expert_used": 2, "expert_norm": True, "expert_scale": 2.5}, mixed=(1,), n_latent=16
    ),
    "nemotron_h_moe, whole": Setting(
        "nemotron_h_moe", (FEED, SPACE, FEED), {**NANO, "expert_weights_norm": False},
        {"n_expert_used": 2, "expert_scale": 2.5}, mixed=(0, 2)
    ),
}  # fmt: skip


def weights(name: str) -> dict[str, np.ndarray]:
    s, rng = SETTINGS[name], np.random.default_rng(1)
    made: dict[str, np.ndarray] = {}

    def matrix(key: str, *shape: int, bias: bool = False) -> None:
        made[f"{key}.weight"] = rng.normal(0, 1.2 / np.sqrt(shape[-1]), shape).astype(np.float32)
        if bias:
            vector(f"{key}.bias", shape[-2], around=0.0)

    def vector(key: str, *shape: int, around: float = 1.0) -> None:
        made[key] = rng.normal(around, 0.2, shape).astype(np.float32)

    matrix("token_embd", N_VOCAB, N_EMBD)
    if not s.tied:
        matrix("output", N_VOCAB, N_EMBD)
    vector("output_norm.weight", N_EMBD)
    for i, kind in enumerate(s.layers):
        b = f"blk.{i}"
        vector(f"{b}.attn_norm.weight", N_EMBD)
        if kind in (SPACE, BOTH):
            bc = 0 if s.first else 2 * s.groups * s.k
            matrix(f"{b}.ssm_in", 2 * s.inner + bc + (0 if s.first else s.heads), N_EMBD)
            matrix(f"{b}.ssm_conv1d", s.inner + bc, s.taps, bias=s.bias)
            matrix(f"{b}.ssm_out", N_EMBD, s.inner)
            n = s.inner if s.first else s.heads
            vector(f"{b}.ssm_dt.bias", n, around=-1.0)
            made[f"{b}.ssm_a"] = -np.exp(rng.normal(0, 1, (n, s.k if s.first else 1))).astype(np.float32)
            vector(f"{b}.ssm_d", *((n,) if s.first else (n, 1)))
            if s.first:
                matrix(f"{b}.ssm_x", s.rank + 2 * s.k, s.inner)
                matrix(f"{b}.ssm_dt", s.inner, s.rank)
            elif s.normed:
                vector(f"{b}.ssm_norm.weight", s.groups, s.inner // s.groups)
            for each, size in (("dt", s.rank), ("b", s.k), ("c", s.k)) if s.arch == "jamba" else ():
                vector(f"{b}.ssm_{each}_norm.weight", size)
        if kind in (ATTENTION, BOTH):
            for each, rows, cols in (("q", 48, N_EMBD), ("k", 24, N_EMBD), ("v", 24, N_EMBD), ("output", N_EMBD, 48)):
                matrix(f"{b}.attn_{each}", rows, cols)
        if s.arch in ("mamba", "mamba2") or (s.arch.startswith("nemotron") and kind != FEED):
            continue
        plain = s.arch.startswith("nemotron")
        if not plain:
            vector(f"{b}.ffn_norm.weight", N_EMBD)
        parts = ("up",) if plain else ("gate", "up")
        if i not in s.mixed:
            for each in parts:
                matrix(f"{b}.ffn_{each}", N_FF, N_EMBD)
            matrix(f"{b}.ffn_down", N_EMBD, N_FF)
            continue
        n_ff, width = (28, s.n_latent or N_EMBD) if plain else (N_FF, N_EMBD)
        matrix(f"{b}.ffn_gate_inp", 5, N_EMBD)
        for each in parts:
            matrix(f"{b}.ffn_{each}_exps", 5, n_ff, width)
        matrix(f"{b}.ffn_down_exps", 5, width, n_ff)
        if "expert_shared_feed_forward_length" in s.keys:
            for each in parts:
                matrix(f"{b}.ffn_{each}_shexp", 24, N_EMBD)
            matrix(f"{b}.ffn_down_shexp", N_EMBD, 24)
        if plain:
            vector(f"{b}.exp_probs_b.bias", 5, around=0.0)
        if s.n_latent:
            matrix(f"{b}.ffn_latent_down", s.n_latent, N_EMBD)
            matrix(f"{b}.ffn_latent_up", N_EMBD, s.n_latent)
    return made


def metadata(name: str) -> dict[str, Any]:
    s = SETTINGS[name]
    n_kv = [2 if kind in (ATTENTION, BOTH) else 0 for kind in s.layers]
    said: dict[str, Any] = {
        "context_length": 128, "embedding_length": N_EMBD, "block_count": len(s.layers),
        "attention.layer_norm_rms_epsilon": EPS, "ssm.conv_kernel": s.taps, "ssm.inner_size": s.inner,
        "ssm.state_size": s.k, "ssm.time_step_rank": s.rank or s.heads, "attention.head_count": 4,
        "attention.head_count_kv": n_kv, "feed_forward_length": N_FF,
    }  # fmt: skip
    if s.arch in ("mamba", "mamba2"):
        said |= {"attention.head_count": 0, "attention.head_count_kv": None, "feed_forward_length": 0}
    if s.arch == "falcon-h1":
        said["attention.head_count_kv"] = 2
    if s.arch.startswith("nemotron"):
        widths = [(28 if i in s.mixed else N_FF) if kind == FEED else 0 for i, kind in enumerate(s.layers)]
        said["feed_forward_length"] = widths
    if not s.first:
        said["ssm.group_count"] = s.groups
    return {f"{s.arch}.{key}": value for key, value in (said | s.keys).items()}


def write(path: Path, name: str, drop: tuple[str, ...] = (), **changed: Any) -> Path:
    """changed: keys without the architecture, with __ for dots (None: no such key)."""
    arch = SETTINGS[name].arch
    said = metadata(name) | {f"{arch}.{key.replace('__', '.')}": value for key, value in changed.items()}
    with pyggml.gguf.Writer(path) as out:
        out.add("general.architecture", arch)
        for key, value in said.items():
            if value is not None:
                out.add(key, value)
        for tensor, values in weights(name).items():
            if tensor not in drop:
                out.add_tensor(tensor, values.shape, "f32", values)
    return path


def truth(name: str, held: dict[str, np.ndarray] | None = None, **told: Any) -> np.ndarray:
    s = SETTINGS[name]
    how: dict[str, Any] = dict(n_layer=len(s.layers), eps=EPS, n_group=s.groups, n_head=4, n_head_kv=2)
    found: np.ndarray = state_space.forward(held or weights(name), IDS, **{**how, **s.told, **told})
    return found
