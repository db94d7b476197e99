"""A llama / qwen forward pass in numpy float64, from the papers; imports no pyggml: the truth of the model tests.

Weights are a dict of GGUF names -> arrays (out, in). Positions start at 0; all tokens at once.
"""

from __future__ import annotations

import math

import numpy as np


def rms_norm(x, w, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * w


def frequencies(n_rot, base, scaling, factors):
    """Radians a position, and the magnitude of cos and sin."""
    i = np.arange(0, n_rot, 2)
    freq = base ** (-i / n_rot)
    if factors is not None:
        freq = freq / factors
    if scaling is None:
        return freq, 1.0
    kind, factor, n_orig = scaling
    if kind == "linear":
        return freq / factor, 1.0

    def dim_of(turns):
        return n_rot * math.log(n_orig / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(math.floor(dim_of(32.0)), 0), min(math.ceil(dim_of(1.0)), n_rot - 1)
    ramp = np.clip((i / 2 - low) / max(high - low, 0.001), 0, 1)
    return freq / factor * ramp + freq * (1 - ramp), 0.1 * math.log(factor) + 1.0


def rope(x, kind, freq, magnitude):
    """x (tokens, heads, dim)."""
    n_rot = 2 * len(freq)
    angle = np.arange(x.shape[0])[:, None, None] * freq
    cos, sin = np.cos(angle) * magnitude, np.sin(angle) * magnitude
    y = x.copy()
    if kind == "norm":
        a, b = x[..., 0:n_rot:2], x[..., 1:n_rot:2]
        y[..., 0:n_rot:2], y[..., 1:n_rot:2] = a * cos - b * sin, a * sin + b * cos
    else:
        a, b = x[..., : n_rot // 2], x[..., n_rot // 2 : n_rot]
        y[..., : n_rot // 2], y[..., n_rot // 2 : n_rot] = a * cos - b * sin, a * sin + b * cos
    return y


def silu(x):
    return x / (1 + np.exp(-x))


def experts(x, router, gate, up, down, n_used, norm):
    """Each row of x through the n_used experts its router likes best, weighted by softmax."""
    y = np.zeros((len(x), down.shape[1]))
    for row, out in zip(x, y, strict=True):
        logits = router @ row
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        chosen = np.argsort(-weights, kind="stable")[:n_used]
        total = weights[chosen].sum() if norm else 1.0
        for e in chosen:
            out += weights[e] / total * (down[e] @ (silu(gate[e] @ row) * (up[e] @ row)))
    return y


def forward(
    w, ids, *, n_layer, n_head, n_head_kv, head_dim, eps, kind, base=10000.0, n_rot=None, scaling=None,
    n_expert_used=0, expert_norm=True, window=0, softcap=0.0, attn_scale=0.0, attn_factor=1.0,
):  # fmt: skip
    """Logits (tokens, n_vocab) at every position."""
    w = {name: np.asarray(value, np.float64) for name, value in w.items()}
    n = len(ids)
    freq, magnitude = frequencies(n_rot or head_dim, base, scaling, w.get("rope_freqs.weight"))
    magnitude *= attn_factor
    before = np.arange(n)[:, None] - np.arange(n)[None]
    mask = np.where((before >= 0) & (before < (window or n)), 0.0, -np.inf)
    x = w["token_embd.weight"][list(ids)]
    for i in range(n_layer):

        def part(name, h, i=i):
            y = h @ w[f"blk.{i}.{name}.weight"].T
            return y + w.get(f"blk.{i}.{name}.bias", 0.0)

        h = rms_norm(x, w[f"blk.{i}.attn_norm.weight"], eps)
        q = part("attn_q", h).reshape(n, n_head, head_dim)
        k = part("attn_k", h).reshape(n, n_head_kv, head_dim)
        v = part("attn_v", h).reshape(n, n_head_kv, head_dim)
        if f"blk.{i}.attn_q_norm.weight" in w:
            q = rms_norm(q, w[f"blk.{i}.attn_q_norm.weight"], eps)
            k = rms_norm(k, w[f"blk.{i}.attn_k_norm.weight"], eps)
        q, k = rope(q, kind, freq, magnitude), rope(k, kind, freq, magnitude)
        k, v = np.repeat(k, n_head // n_head_kv, 1), np.repeat(v, n_head // n_head_kv, 1)
        s = np.einsum("qhd,khd->hqk", q, k) * (attn_scale or 1 / math.sqrt(head_dim))
        s = (softcap * np.tanh(s / softcap) if softcap else s) + mask
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + part("attn_output", np.einsum("hqk,khd->qhd", p, v).reshape(n, -1))
        h = rms_norm(x, w[f"blk.{i}.ffn_norm.weight"], eps)
        if n_expert_used:
            stacks = [w[f"blk.{i}.ffn_{name}.weight"] for name in ("gate_inp", "gate_exps", "up_exps", "down_exps")]
            x = x + experts(h, *stacks, n_expert_used, expert_norm)
        else:
            x = x + part("ffn_down", silu(part("ffn_gate", h)) * part("ffn_up", h))
        if f"blk.{i}.ffn_gate_shexp.weight" in w:
            shared = part("ffn_down_shexp", silu(part("ffn_gate_shexp", h)) * part("ffn_up_shexp", h))
            x = x + shared / (1 + np.exp(-part("ffn_gate_inp_shexp", h)))
    x = rms_norm(x, w["output_norm.weight"], eps)
    return x @ w.get("output.weight", w["token_embd.weight"]).T
