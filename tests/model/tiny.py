"""Tiny random models written to a file: every option of the architectures, small enough for the numpy oracle."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import pyggml


@dataclass
class Tiny:
    """One model: its file, its weights in float32 as stored, and what the oracle must be told."""

    path: Path
    weights: dict[str, np.ndarray]
    oracle: dict[str, object] = field(default_factory=dict)


def byte_tokens() -> list[str]:
    """The 256 byte symbols of byte-level BPE, in byte order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    odd = iter(range(256, 512))
    return [chr(b) if b in shown else chr(next(odd)) for b in range(256)]


def outlier(w: dict[str, np.ndarray], channel: int, n_layer: int, size: float = 40.0) -> None:
    """Makes a channel of every norm large and the weights that read it small, as real models have them: the function
    stays, its activations are uneven."""
    behind = [("output_norm", ["output"])]
    for i in range(n_layer):
        behind.append((f"blk.{i}.attn_norm", [f"blk.{i}.attn_{x}" for x in "qkv"]))
        behind.append((f"blk.{i}.ffn_norm", [f"blk.{i}.ffn_gate", f"blk.{i}.ffn_up"]))
    for norm, readers in behind:
        w[norm + ".weight"][channel] *= size
        for name in readers:
            w[name + ".weight"][:, channel] /= size


def write(
    path: Path,
    arch: str = "llama",
    *,
    type: str = "f32",
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    head_dim: int = 16,
    n_ff: int = 96,
    n_expert: int = 0,
    n_expert_used: int = 0,
    n_ff_shared: int = 0,
    n_vocab: int = 260,
    n_ctx: int = 128,
    tied: bool = False,
    bias: bool = False,
    qk_norm: bool = False,
    freq_factors: bool = False,
    scaling: tuple[str, float, int] | None = None,
    window: int = 0,
    softcap: float = 0.0,
    attn_scale: float = 0.0,
    attn_factor: float = 1.0,
    planted: int = 0,
    seed: int = 1,
    extra: dict[str, object] | None = None,
    more: dict[str, np.ndarray] | None = None,
) -> Tiny:
    rng = np.random.default_rng(seed)
    eps = 1e-5

    def matrix(m: int, k: int, *stack: int) -> np.ndarray:
        return rng.normal(0, 1.2 / np.sqrt(k), (*stack, m, k)).astype(np.float32)

    def vector(n: int, around: float) -> np.ndarray:
        return (around + rng.normal(0, 0.15, n)).astype(np.float32)

    w: dict[str, np.ndarray] = {"token_embd.weight": rng.normal(0, 1, (n_vocab, n_embd)).astype(np.float32)}
    for i in range(n_layer):
        b = f"blk.{i}."
        w[b + "attn_norm.weight"] = vector(n_embd, 1)
        w[b + "ffn_norm.weight"] = vector(n_embd, 1)
        shapes = {
            "attn_q": (n_head * head_dim, n_embd), "attn_k": (n_head_kv * head_dim, n_embd),
            "attn_v": (n_head_kv * head_dim, n_embd), "attn_output": (n_embd, n_head * head_dim),
        }  # fmt: skip
        ffn = {"gate": (n_ff, n_embd), "up": (n_ff, n_embd), "down": (n_embd, n_ff)}
        if n_expert:
            w[b + "ffn_gate_inp.weight"] = matrix(n_expert, n_embd)
            w |= {f"{b}ffn_{name}_exps.weight": matrix(m, k, n_expert) for name, (m, k) in ffn.items()}
        else:
            shapes |= {f"ffn_{name}": shape for name, shape in ffn.items()}
        if n_ff_shared:
            shapes |= {"ffn_gate_inp_shexp": (1, n_embd), "ffn_down_shexp": (n_embd, n_ff_shared)}
            shapes |= {"ffn_gate_shexp": (n_ff_shared, n_embd), "ffn_up_shexp": (n_ff_shared, n_embd)}
        for name, (m, k) in shapes.items():
            w[f"{b}{name}.weight"] = matrix(m, k)
            if bias and name in ("attn_q", "attn_k", "attn_v"):
                w[f"{b}{name}.bias"] = vector(m, 0)
        if qk_norm:
            w[b + "attn_q_norm.weight"] = vector(head_dim, 1)
            w[b + "attn_k_norm.weight"] = vector(head_dim, 1)
    w["output_norm.weight"] = vector(n_embd, 1)
    if not tied:
        w["output.weight"] = matrix(n_vocab, n_embd)
    for channel in rng.permutation(n_embd)[:planted]:
        outlier(w, int(channel), n_layer)
    if freq_factors:
        w["rope_freqs.weight"] = np.linspace(1, 8, head_dim // 2, dtype=np.float32)

    w |= more or {}
    meta: dict[str, object] = {
        "general.architecture": arch, f"{arch}.context_length": n_ctx, f"{arch}.embedding_length": n_embd,
        f"{arch}.block_count": n_layer, f"{arch}.feed_forward_length": n_ff, f"{arch}.attention.head_count": n_head,
        f"{arch}.attention.head_count_kv": n_head_kv, f"{arch}.attention.key_length": head_dim,
        f"{arch}.attention.value_length": head_dim, f"{arch}.attention.layer_norm_rms_epsilon": eps,
        f"{arch}.rope.dimension_count": head_dim, f"{arch}.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*byte_tokens(), "<s>", "</s>", "th", "the"],
        "tokenizer.ggml.token_type": [1] * 256 + [3, 3, 1, 1], "tokenizer.ggml.merges": ["t h", "th e"],
        "tokenizer.ggml.bos_token_id": 256, "tokenizer.ggml.eos_token_id": 257, "tokenizer.ggml.add_bos_token": True,
    }  # fmt: skip
    if n_expert:
        meta |= {f"{arch}.expert_count": n_expert, f"{arch}.expert_used_count": n_expert_used}
        meta |= {f"{arch}.expert_feed_forward_length": n_ff}
    if n_ff_shared:
        meta[f"{arch}.expert_shared_feed_forward_length"] = n_ff_shared
    if scaling is not None:
        meta[f"{arch}.rope.scaling.type"] = scaling[0]
        meta[f"{arch}.rope.scaling.factor"] = float(scaling[1])
        meta[f"{arch}.rope.scaling.original_context_length"] = scaling[2]
    variant = {
        "attention.sliding_window": window, "attn_logit_softcapping": softcap, "attention.scale": attn_scale,
        "rope.scaling.attn_factor": attn_factor,
    }  # fmt: skip
    meta |= {f"{arch}.{key}": value for key, value in variant.items() if value not in (0, 1.0)}
    meta.update(extra or {})

    stored = {}
    with pyggml.gguf.Writer(path) as out:
        for key, value in meta.items():
            if value is not None:
                out.add(key, value)
        for name, values in w.items():
            kind = "f32" if values.ndim == 1 or "ffn_gate_inp" in name else type
            tensor = pyggml.quantize(values, kind)
            out.add_tensor(name, tensor.shape, tensor.type, tensor.raw)
            stored[name] = tensor.dequantize()
    return Tiny(
        path,
        stored,
        dict(
            n_layer=n_layer, n_head=n_head, n_head_kv=n_head_kv, head_dim=head_dim, eps=eps,
            kind="norm" if arch == "llama" else "neox", scaling=scaling, n_expert_used=n_expert_used,
            expert_norm=arch != "qwen2moe", window=window, softcap=softcap, attn_scale=attn_scale,
            attn_factor=attn_factor,
        ),
    )  # fmt: skip
