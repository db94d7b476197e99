"""BERT and its kin in numpy float64, from the papers and the published models; imports no pyggml.

Weights are a dict of GGUF names -> arrays (out, in). Positions start at 0; all tokens at once, and all see each other.
"""

from __future__ import annotations

from math import erf

import numpy as np
from oracle.transformer import frequencies, rope, silu


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def slopes(n_head, most=8.0):
    """ALiBi's, arXiv 2108.12409: a geometric series, and every second of the next finer one for further heads."""
    n = 2 ** int(np.floor(np.log2(n_head)))
    first = [2 ** (-most * (h + 1) / n) for h in range(n)]
    return np.array(first + [2 ** (-most * (h + 0.5) / n) for h in range(n_head - n)])


def times(w, name, x):
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def norm(w, name, x, eps):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(w, x, n_head, eps, kind, alibi, base):
    n, dim = x.shape
    if "attn_qkv.weight" in w:
        q, k, v = np.split(times(w, "attn_qkv", x), 3, axis=1)
    else:
        q, k, v = (times(w, f"attn_{each}", x) for each in "qkv")
    if "attn_q_norm.weight" in w:
        q, k = norm(w, "attn_q_norm", q, eps), norm(w, "attn_k_norm", k, eps)
    q, k, v = (each.reshape(n, n_head, -1) for each in (q, k, v))
    if kind == "rope":
        freq, magnitude = frequencies(dim // n_head, base, None, None)
        q, k = rope(q, "neox", freq, magnitude), rope(k, "neox", freq, magnitude)
    s = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(dim // n_head)
    if kind == "alibi":
        s -= slopes(n_head, alibi)[:, None, None] * np.abs(np.arange(n)[:, None] - np.arange(n))
    p = np.exp(s - s.max(-1, keepdims=True))
    y = np.einsum("hqk,khd->qhd", p / p.sum(-1, keepdims=True), v)
    return times(w, "attn_output", y.reshape(n, dim))


def feed(w, x, gate, n_used):
    if "ffn_gate_inp.weight" in w:
        y = np.zeros_like(x)
        for row, out in zip(x, y, strict=True):
            weights = np.exp(w["ffn_gate_inp.weight"] @ row)
            weights /= weights.sum()
            for e in np.argsort(-weights, kind="stable")[:n_used]:
                hidden = gelu(w["ffn_up_exps.weight"][e] @ row)
                out += weights[e] * (w["ffn_down_exps.weight"][e] @ hidden)
        return y
    up = times(w, "ffn_up", x)
    if "ffn_gate.weight" in w:
        up = gate(times(w, "ffn_gate", x)) * up
    elif up.shape[1] != w["ffn_down.weight"].shape[1]:
        first, second = np.split(up, 2, axis=1)
        up = gate(first) * second
    else:
        up = gelu(up)
    return times(w, "ffn_down", up)


def forward(w, ids, *, n_layer, n_head, eps=1e-5, kinds=None, kind="learned", alibi=8.0, base=10000.0, n_used=0):
    """What the last layer says of each token. kinds: token types; kind: of positions."""
    w = {name: np.asarray(value, np.float64) for name, value in w.items()}
    x = w["token_embd.weight"][list(ids)]
    if "token_types.weight" in w:
        x = x + np.atleast_2d(w["token_types.weight"])[list(kinds or [0] * len(ids))]
    if kind == "learned":
        x = x + w["position_embd.weight"][: len(ids)]
    x = norm(w, "token_embd_norm", x, eps)
    for i in range(n_layer):
        own = {name.removeprefix(f"blk.{i}."): value for name, value in w.items() if name.startswith(f"blk.{i}.")}
        y = norm(own, "attn_output_norm", x + attention(own, x, n_head, eps, kind, alibi, base), eps)
        if "attn_norm_2.weight" in own:
            y = norm(own, "attn_norm_2", x + y, eps)
        gate = silu if kind == "rope" else gelu
        x = norm(own, "layer_output_norm", y + feed(own, y, gate, n_used), eps)
    return x
