"""The roofline: what a step must multiply and read, and what the machine's rates allow.

Multiply-adds of a prompt are those of the matrices in the layers, for each token; the head runs once and attention is
not counted, so a share of the peak speaks of the whole model, everything included. A decoded token reads every matrix
once and the filled part of the cache; of a mixture of experts, the chosen ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from records import Limit

KV_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}


@dataclass(frozen=True)
class Work:
    """What a model asks of the machine."""

    file_bytes: int
    layer_macs: int  # per token
    read_bytes: int  # matrices of one decoded token
    kv_values: int  # cached values per position
    kind: str  # the type of most matrices
    n_vocab: int


def work(path: str) -> Work:
    """From a file's header alone."""
    from pyggml import gguf

    with gguf.open(path) as file:
        name = file.metadata["general.architecture"]
        meta = {key: file.metadata[f"{name}.{key}"] for key in ("block_count", "embedding_length")}
        heads = file.metadata[f"{name}.attention.head_count"]
        kv_heads = file.metadata.get(f"{name}.attention.head_count_kv", heads)
        layers = [t for t in file.tensors.values() if t.name.startswith("blk.") and len(t.shape) >= 2]
        used = file.metadata.get(f"{name}.expert_used_count", 0)
        share = {t.name: used / t.shape[0] if len(t.shape) == 3 else 1.0 for t in layers}  # of a stack, the chosen
        kinds: dict[str, int] = {}
        for t in layers:
            kinds[t.type.name] = kinds.get(t.type.name, 0) + t.n_elements
        tied = "output.weight" not in file.tensors
        head = file.tensors["token_embd.weight" if tied else "output.weight"]
        return Work(
            file_bytes=file.size,
            layer_macs=round(sum(t.n_elements * share[t.name] for t in layers)),
            read_bytes=round(sum(t.nbytes * share[t.name] for t in layers)) + head.nbytes,
            kv_values=2 * meta["block_count"] * kv_heads * meta["embedding_length"] // heads,
            kind=max(kinds, key=lambda k: kinds[k]),
            n_vocab=head.shape[0],
        )


def peak_name(kind: str, threads: int) -> str:
    """Which peak bounds products of a weight type: f32 for f16 and f32, bf16 for bf16, int8 for blocks."""
    unit = {"f32": "f32", "f16": "f32", "bf16": "bf16"}.get(kind, "int8")
    return f"{unit}_gmac_{threads}"


def prefill_limit(w: Work, tokens_per_second: float, rates: dict[str, float], threads: int) -> Limit | None:
    """Share of the peak that the layers' products reach, everything else included in the time."""
    name = peak_name(w.kind, threads)
    if name not in rates:
        return None
    return name, rates[name], "GMAC/s", w.layer_macs * tokens_per_second / 1e9


def decode_limit(
    w: Work, steps_per_second: float, rates: dict[str, float], threads: int, variant: str, depth: float, kv: str
) -> Limit | None:
    """Share of the read bandwidth on the pages the weights are in: 4 KiB mapped, 2 MiB copied."""
    name = f"read_gbs_{'2m' if variant == 'copied' else '4k'}_{threads}"
    if name not in rates:
        return None
    return name, rates[name], "GB/s", (w.read_bytes + depth * w.kv_values * KV_BYTES[kv]) * steps_per_second / 1e9


def product_share(macs: float, nbytes: float, seconds: float, peak: float, bandwidth: float) -> tuple[str, float]:
    """Which bound a product meets first and how much of it was reached: the time it must take over the time it took.

    >>> product_share(1e9, 1e6, 0.01, 200e9, 10e9)
    ('peak', 0.5)
    """
    compute, memory = macs / peak, nbytes / bandwidth
    return ("peak", compute / seconds) if compute >= memory else ("read", memory / seconds)


def summary(w: Work) -> dict[str, Any]:
    """For the result file."""
    return {"file_mb": w.file_bytes / 1e6, "layer_gmac": w.layer_macs / 1e9, "read_mb": w.read_bytes / 1e6}
