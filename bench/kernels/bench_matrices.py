"""Decoders and encoders of the native core, per type: `pytest bench/kernels`. Products: bench_products.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyggml import _native

K = 2048
IDS = {name: type_id for type_id, name, *_ in _native.type_table()}
WRITTEN = [name for _, name, _, _, _, kind, encodes in _native.type_table() if encodes and kind != "int"]


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
