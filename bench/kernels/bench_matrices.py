"""Products, decoders and encoders of the native core, per type: `pytest bench/kernels`.

`_native.matmul` is one plan-free call: it prepares the activations, then multiplies. n = 1 is decode (bytes count),
n = 512 prefill (multiply-adds count). Rates are in extra_info: GMAC/s and GB/s of weights at the median.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyggml import _native

M, K = 4096, 2048
IDS = {name: type_id for type_id, name, *_ in _native.type_table()}
TYPES = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k", "q6_k"]
WRITTEN = [name for _, name, _, _, _, kind, encodes in _native.type_table() if encodes and kind != "int"]


def weights(kind: str) -> np.ndarray[Any, Any]:
    """(M, K) random weights of a type."""
    rng = np.random.default_rng(1)
    return _native.quantize(IDS[kind], rng.standard_normal((M, K), dtype=np.float32) * np.float32(0.02))


@pytest.mark.parametrize("n", [1, 8, 512])
@pytest.mark.parametrize("kind", TYPES)
def bench_matmul(benchmark: Any, kind: str, n: int) -> None:
    raw = weights(kind)
    x = np.random.default_rng(2).standard_normal((n, K), dtype=np.float32)
    threads = _native.default_threads()
    y = benchmark(_native.matmul, IDS[kind], raw, M, K, x, threads)
    assert np.isfinite(y).all()
    seconds = benchmark.stats["median"]
    benchmark.extra_info.update(
        isa=_native.isa(), threads=threads, gmac_s=M * K * n / seconds / 1e9, weight_gb_s=raw.nbytes / seconds / 1e9
    )


@pytest.mark.parametrize("kind", WRITTEN)
def bench_quantize(benchmark: Any, kind: str) -> None:
    x = np.random.default_rng(3).standard_normal((256, K), dtype=np.float32)
    benchmark(_native.quantize, IDS[kind], x, None, _native.default_threads())
    benchmark.extra_info.update(isa=_native.isa(), mvalues_s=x.size / benchmark.stats["median"] / 1e6)


@pytest.mark.parametrize("kind", WRITTEN)
def bench_dequantize(benchmark: Any, kind: str) -> None:
    x = np.random.default_rng(3).standard_normal((256, K), dtype=np.float32)
    raw = _native.quantize(IDS[kind], x)
    benchmark(_native.dequantize, IDS[kind], raw, 256, K, _native.default_threads())
    benchmark.extra_info.update(isa=_native.isa(), mvalues_s=x.size / benchmark.stats["median"] / 1e6)
