"""Mamba, Mamba-2 and decoders with them in numpy float64, from the papers and the published models; imports no pyggml.

Weights are a dict of GGUF names -> arrays (out, in). Positions start at 0; all tokens at once.
"""

from __future__ import annotations

import numpy as np
from oracle.transformer import experts, frequencies, rms_norm, rope, silu


def scan(x, b, c, dt, a, bias, d):
    """x (n, heads, v), b, c (n, heads, k), dt (n, heads), a (heads, 1 or k), bias, d (heads) -> as x."""
    step = np.logaddexp(0, dt + bias)
    state, y = np.zeros((*x.shape[1:], b.shape[-1])), np.empty(x.shape)
    for t in range(len(x)):
        state *= np.exp(step[t][:, None] * a)[:, None]
        state += (step[t][:, None] * x[t])[:, :, None] * b[t][:, None]
        y[t] = (state * c[t][:, None]).sum(-1) + d[:, None] * x[t]
    return y


def mixed(x, w, taps_name="ssm_conv1d"):
    """silu of a convolution over the last positions."""
    taps, n = w[f"{taps_name}.weight"], len(x)
    padded = np.concatenate([np.zeros((taps.shape[1] - 1, x.shape[1])), x])
    y = sum(padded[j : j + n] * taps[:, j] for j in range(taps.shape[1]))
    return silu(y + w.get(f"{taps_name}.bias", 0.0))


def times(w, name, x):
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def mamba(w, x, eps, own_eps=0.0):
    """A layer of Mamba; own_eps: of norms without weights."""
    values, gate = np.split(times(w, "ssm_in", x), 2, axis=1)
    values, k = mixed(values, w), w["ssm_a"].shape[1]
    parts = values @ w["ssm_x.weight"].T
    rank = parts.shape[1] - 2 * k
    dt, b, c = np.split(parts, [rank, rank + k], axis=1)
    if own_eps or "ssm_dt_norm.weight" in w:
        dt, b, c = (
            rms_norm(part, w.get(f"ssm_{name}_norm.weight", 1.0), own_eps or eps)
            for name, part in (("dt", dt), ("b", b), ("c", c))
        )
    heads = values.shape[1]
    wide = [np.repeat(part[:, None], heads, 1) for part in (b, c)]
    y = scan(values[:, :, None], *wide, dt @ w["ssm_dt.weight"].T, w["ssm_a"], w["ssm_dt.bias"], w["ssm_d"])
    return times(w, "ssm_out", y[:, :, 0] * silu(gate))


def mamba2(w, x, eps, n_group):
    """A layer of Mamba-2."""
    n, heads, inner = len(x), len(w["ssm_a"]), w["ssm_out.weight"].shape[1]
    y = times(w, "ssm_in", x)
    gate, xbc, dt = np.split(y, [inner, y.shape[1] - heads], axis=1)
    xbc = mixed(xbc, w)
    k = (xbc.shape[1] - inner) // 2
    values, b, c = np.split(xbc, [inner, inner + k], axis=1)
    b, c = (np.repeat(part.reshape(n, n_group, -1), heads // n_group, 1) for part in (b, c))
    y = scan(values.reshape(n, heads, -1), b, c, dt, w["ssm_a"], w["ssm_dt.bias"], w["ssm_d"][:, 0])
    y = y.reshape(n, inner) * silu(gate)
    if "ssm_norm.weight" in w:
        y = rms_norm(y.reshape(n, n_group, -1), w["ssm_norm.weight"], eps).reshape(n, inner)
    return times(w, "ssm_out", y)


def attention(w, x, n_head, n_head_kv, turn, scale, base):
    n = len(x)
    q, k, v = (
        times(w, f"attn_{name}", x).reshape(n, heads, -1)
        for name, heads in (("q", n_head), ("k", n_head_kv), ("v", n_head_kv))
    )
    if turn:
        freq, magnitude = frequencies(q.shape[-1], base, None, None)
        q, k = rope(q, turn, freq, magnitude), rope(k, turn, freq, magnitude)
    k, v = np.repeat(k, n_head // n_head_kv, 1), np.repeat(v, n_head // n_head_kv, 1)
    s = np.einsum("qhd,khd->hqk", q, k) * (scale or q.shape[-1] ** -0.5) + np.triu(np.full((n, n), -np.inf), 1)
    p = np.exp(s - s.max(-1, keepdims=True))
    y = np.einsum("hqk,khd->qhd", p / p.sum(-1, keepdims=True), v)
    return times(w, "attn_output", y.reshape(n, -1))


def squared(x):
    return np.maximum(x, 0) ** 2


def sigmoid_experts(w, x, n_used, norm, scale):
    """Plain ones behind a squared ReLU, chosen by a sigmoid and a bias, in a width of their own where there is one."""
    scores = 1 / (1 + np.exp(-(x @ w["ffn_gate_inp.weight"].T)))
    inner = x @ w["ffn_latent_down.weight"].T if "ffn_latent_down.weight" in w else x
    y = np.zeros_like(inner)
    for row, out, score in zip(inner, y, scores, strict=True):
        chosen = np.argsort(-(score + w["exp_probs_b.bias"]), kind="stable")[:n_used]
        total = score[chosen].sum() if norm else 1.0
        for e in chosen:
            out += scale * score[e] / total * (w["ffn_down_exps.weight"][e] @ squared(w["ffn_up_exps.weight"][e] @ row))
    y = y @ w["ffn_latent_up.weight"].T if "ffn_latent_up.weight" in w else y
    return y + squared(x @ w["ffn_up_shexp.weight"].T) @ w["ffn_down_shexp.weight"].T


def ffn(w, x, n_used, norm, scale):
    if "ffn_gate_inp.weight" in w and "ffn_gate_exps.weight" in w:
        stacks = [w[f"ffn_{name}.weight"] for name in ("gate_inp", "gate_exps", "up_exps", "down_exps")]
        y = experts(x, *stacks, n_used, norm)
        if "ffn_up_shexp.weight" in w:
            hidden = silu(x @ w["ffn_gate_shexp.weight"].T) * (x @ w["ffn_up_shexp.weight"].T)
            y = y + hidden @ w["ffn_down_shexp.weight"].T
        return y
    if "ffn_gate_inp.weight" in w:
        return sigmoid_experts(w, x, n_used, norm, scale)
    if "ffn_gate.weight" in w:
        return times(w, "ffn_down", silu(times(w, "ffn_gate", x)) * times(w, "ffn_up", x))
    return times(w, "ffn_down", squared(times(w, "ffn_up", x)))


def forward(
    w, ids, *, n_layer, eps, n_group=1, own_eps=0.0, n_head=1, n_head_kv=1, turn="", attn_scale=0.0, base=10000.0,
    n_expert_used=0, expert_norm=False, expert_scale=1.0, embedding_scale=1.0, residual_scale=1.0, logit_scale=1.0,
):  # fmt: skip
    """Logits (tokens, n_vocab). What a layer is its tensors say: parts that read one norm are added."""
    w = {name: np.asarray(value, np.float64) for name, value in w.items()}
    x = w["token_embd.weight"][list(ids)] * embedding_scale
    for i in range(n_layer):
        own = {name.removeprefix(f"blk.{i}."): value for name, value in w.items() if name.startswith(f"blk.{i}.")}
        how, h = (n_expert_used, expert_norm, expert_scale), rms_norm(x, own["attn_norm.weight"], eps)
        y = np.zeros_like(x)
        if "ssm_x.weight" in own:
            y = y + mamba(own, h, eps, own_eps)
        elif "ssm_in.weight" in own:
            y = y + mamba2(own, h, eps, n_group)
        if "attn_q.weight" in own:
            y = y + attention(own, h, n_head, n_head_kv, turn, attn_scale, base)
        if "ffn_norm.weight" in own:
            x = x + residual_scale * y
            y = ffn(own, rms_norm(x, own["ffn_norm.weight"], eps), *how)
        elif any(name.startswith("ffn_") for name in own):
            y = y + ffn(own, h, *how)
        x = x + residual_scale * y
    x = rms_norm(x, w["output_norm.weight"], eps)
    return x @ w.get("output.weight", w["token_embd.weight"]).T / logit_scale
