"""Qwen3.5 and Qwen3-Next in numpy float64, from the papers and the published models; imports no pyggml.

Weights are a dict of GGUF names -> arrays (out, in). Positions start at 0; all tokens at once.
"""

from __future__ import annotations

import numpy as np
from oracle.transformer import experts, frequencies, rms_norm, rope, silu


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def delta_rule(q, k, v, log_decay, share):
    """q, k (n, heads, k), v (n, heads, v), log_decay and share (n, heads) -> (n, heads, v)."""
    state = np.zeros((*k.shape[1:], v.shape[-1]))
    y = np.empty(v.shape)
    for t in range(len(v)):
        state *= np.exp(log_decay[t])[:, None, None]
        missed = v[t] - np.einsum("hkv,hk->hv", state, k[t])
        state += np.einsum("hk,hv->hkv", k[t], missed * share[t][:, None])
        y[t] = np.einsum("hkv,hk->hv", state, q[t])
    return y


def mixer(w, x, eps, n_k, k_dim, grouped):
    """A layer of the delta rule; w: names within the layer."""
    n, heads = len(x), len(w["ssm_a"])
    each, v_dim = heads // n_k, len(w["ssm_norm.weight"])
    if "ssm_in.weight" in w:
        joined = (x @ w["ssm_in.weight"].T).reshape(n, n_k, -1)
        parts = np.split(joined, [k_dim, 2 * k_dim, 2 * k_dim + each * v_dim], axis=-1)
        q, k, v, z = (part.reshape(n, -1) for part in parts)
        mixed = np.concatenate([q, k, v], axis=-1)
    else:
        mixed, z = x @ w["attn_qkv.weight"].T, x @ w["attn_gate.weight"].T
    if "ssm_ba.weight" in w:
        both = (x @ w["ssm_ba.weight"].T).reshape(n, n_k, 2, each)
        beta, alpha = both[:, :, 0].reshape(n, heads), both[:, :, 1].reshape(n, heads)
    else:
        beta, alpha = x @ w["ssm_beta.weight"].T, x @ w["ssm_alpha.weight"].T
    taps = w["ssm_conv1d.weight"]
    padded = np.concatenate([np.zeros((taps.shape[1] - 1, mixed.shape[1])), mixed])
    mixed = silu(sum(padded[j : j + n] * taps[:, j] for j in range(taps.shape[1])))
    q, k, v = np.split(mixed, [n_k * k_dim, 2 * n_k * k_dim], axis=1)

    def units(a):
        a = a.reshape(n, n_k, k_dim)
        a = a / np.sqrt((a * a).sum(-1, keepdims=True) + 1e-6)
        return np.repeat(a, each, 1) if grouped else np.tile(a, (1, each, 1))

    log_decay = w["ssm_a"] * np.logaddexp(0, alpha + w["ssm_dt.bias"])
    y = delta_rule(units(q) / np.sqrt(k_dim), units(k), v.reshape(n, heads, v_dim), log_decay, sigmoid(beta))
    y = rms_norm(y, w["ssm_norm.weight"], eps) * silu(z.reshape(n, heads, v_dim))
    return y.reshape(n, -1) @ w["ssm_out.weight"].T


def attention(w, x, eps, n_head, n_head_kv, head_dim, n_rot, base):
    """Attention behind a gate; w: names within the layer."""
    n, (freq, magnitude) = len(x), frequencies(n_rot, base, None, None)
    q, gate = np.split((x @ w["attn_q.weight"].T).reshape(n, n_head, 2 * head_dim), 2, axis=-1)
    k, v = ((x @ w[f"attn_{name}.weight"].T).reshape(n, n_head_kv, head_dim) for name in "kv")
    q = rope(rms_norm(q, w["attn_q_norm.weight"], eps), "neox", freq, magnitude)
    k = rope(rms_norm(k, w["attn_k_norm.weight"], eps), "neox", freq, magnitude)
    k, v = np.repeat(k, n_head // n_head_kv, 1), np.repeat(v, n_head // n_head_kv, 1)
    s = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(head_dim) + np.triu(np.full((n, n), -np.inf), 1)
    p = np.exp(s - s.max(-1, keepdims=True))
    y = np.einsum("hqk,khd->qhd", p / p.sum(-1, keepdims=True), v) * sigmoid(gate)
    return y.reshape(n, -1) @ w["attn_output.weight"].T


def ffn(w, x, n_expert_used):
    def part(name, h):
        return h @ w[f"ffn_{name}.weight"].T

    if not n_expert_used:
        return part("down", silu(part("gate", x)) * part("up", x))
    stacks = [w[f"ffn_{name}.weight"] for name in ("gate_inp", "gate_exps", "up_exps", "down_exps")]
    shared = part("down_shexp", silu(part("gate_shexp", x)) * part("up_shexp", x))
    return experts(x, *stacks, n_expert_used, True) + shared * sigmoid(x @ w["ffn_gate_inp_shexp.weight"])[:, None]


def forward(
    w, ids, *, recurrent, n_head, n_head_kv, head_dim, n_rot, n_k, k_dim, eps, grouped, n_expert_used=0, base=10000.0
):
    """Logits (tokens, n_vocab) at every position. recurrent: of each layer."""
    w = {name: np.asarray(value, np.float64) for name, value in w.items()}
    x = w["token_embd.weight"][list(ids)]
    for i, rule in enumerate(recurrent):
        start = f"blk.{i}."
        own = {name.removeprefix(start): value for name, value in w.items() if name.startswith(start)}
        h = rms_norm(x, own["attn_norm.weight"], eps)
        if rule:
            x = x + mixer(own, h, eps, n_k, k_dim, grouped)
        else:
            x = x + attention(own, h, eps, n_head, n_head_kv, head_dim, n_rot, base)
        x = x + ffn(own, rms_norm(x, own["post_attention_norm.weight"], eps), n_expert_used)
    x = rms_norm(x, w["output_norm.weight"], eps)
    return x @ w.get("output.weight", w["token_embd.weight"]).T
