"""Products of every type at the shapes of 1B and 8B models, n = 1 to 512: `pytest bench/kernels [--full]`.

`_native.matmul` prepares the activations and multiplies, as a step does for the first matrix of a group; its call is a
part of the time (a few microseconds). Up to n = 32 the weights are cold: calls walk over distinct matrices of more
bytes than the last cache holds, on 2 MiB pages. The share is of the roofline: the longer of reading the weights and
multiplying at the peak, over the time it took. Cases stand in the order of their use; those the time no longer allows
are skipped and say so.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import limits
import numpy as np
import synthetic

from pyggml import _native

IDS = {name: type_id for type_id, name, *_ in _native.type_table()}
TYPES = [name for _, name, *_, kind, _ in _native.type_table() if kind in ("block", "float") and name != "f64"]
COMMON = ["q4_k", "q6_k", "q4_0", "q8_0", "f16", "bf16"]
SHAPES_1B = [(2048, 2048), (8192, 2048), (2048, 8192), (512, 2048)]
SHAPES_8B = [(4096, 4096), (14336, 4096), (4096, 14336)]
TOKENS = [1, 2, 4, 8, 16, 32, 128, 512]
COLD = 32  # tokens up to which weights come from memory
COLD_BYTES = 128 << 20
HOT_BYTES = 1 << 20  # of random blocks, repeated

Case = tuple[str, tuple[int, int], int]


def quick_cases() -> list[Case]:
    """What a user's day is made of: common types at two shapes, every type at n = 1 and 512."""
    common = [(kind, shape, n) for kind in COMMON for shape in (SHAPES_1B[1], SHAPES_8B[0]) for n in TOKENS]
    rest = [(kind, SHAPES_1B[1], n) for kind in TYPES if kind not in COMMON for n in (1, 8, 512)]
    return common + rest


def full_cases() -> list[Case]:
    """Everything: first the quick ones, then the rest by shape."""
    first = quick_cases()
    done = set(first)
    every = ((kind, shape, n) for shape in SHAPES_1B + SHAPES_8B for kind in COMMON + TYPES for n in TOKENS)
    return first + [case for case in dict.fromkeys(every) if case not in done]


class Pool:
    """The matrices of one type, as many as are cold, kept from case to case."""

    def __init__(self) -> None:
        self.kind = ""
        self.memory: Any = None
        self.blocks: Any = None

    def matrices(self, kind: str, shape: tuple[int, int], n: int) -> list[Any]:
        """Views of (rows, bytes of a row); distinct until COLD_BYTES are used up."""
        size = shape[0] * _native.row_bytes(IDS[kind], shape[1])
        count = max(-(-COLD_BYTES // size), 2) if n <= COLD else 1
        if self.kind != kind:
            self.kind, self.blocks = kind, synthetic.random_blocks(kind, HOT_BYTES)
            self.memory = None
        if self.memory is None or self.memory.nbytes < size * count:
            self.memory = None  # before the next is made
            self.memory = _native.Memory(size * count)
            flat = self.memory.array()
            for at in range(0, flat.size, self.blocks.size):
                part = flat[at : at + self.blocks.size]
                part[:] = self.blocks[: part.size]
        flat = self.memory.array()
        return [flat[i * size : (i + 1) * size].reshape(shape[0], -1) for i in range(count)]


POOL = Pool()


def walker(kind: str, shape: tuple[int, int], n: int, threads: int) -> Callable[[], Any]:
    """A call that multiplies with the next matrix."""
    turn = itertools.cycle(POOL.matrices(kind, shape, n))
    x = np.random.default_rng(2).standard_normal((n, shape[1]), dtype=np.float32)
    return lambda: _native.matmul(IDS[kind], next(turn), shape[0], shape[1], x, threads)


def pytest_generate_tests(metafunc: Any) -> None:
    """The selection that was asked for."""
    if "case" in metafunc.fixturenames:
        cases = full_cases() if metafunc.config.getoption("--full") else quick_cases()
        names = [f"{kind}-{shape[0]}x{shape[1]}-{n}" for kind, shape, n in cases]
        metafunc.parametrize("case", cases, ids=names)


def bench_product(benchmark: Any, case: Case, threads: int, rates: dict[str, float], time_left: Any) -> None:
    kind, shape, n = case
    time_left()
    call = walker(kind, shape, n, threads)
    y = call()
    assert np.isfinite(y).all()
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    rounds = int(min(max(0.08 / once, 3), 200))
    benchmark.pedantic(call, rounds=rounds, iterations=1, warmup_rounds=0)
    seconds = benchmark.stats["median"]
    nbytes, macs = shape[0] * _native.row_bytes(IDS[kind], shape[1]), shape[0] * shape[1] * n
    facts: dict[str, Any] = {
        "isa": _native.isa(), "threads": threads, "type": kind, "shape": f"{shape[0]}x{shape[1]}", "n": n,
        "cold": n <= COLD, "gmac_s": macs / seconds / 1e9, "weight_gb_s": nbytes / seconds / 1e9,
    }  # fmt: skip
    peak, read = rates.get(limits.peak_name(kind, threads)), rates.get(f"read_gbs_2m_{threads}")
    if peak and read:
        facts["bound"], facts["share"] = limits.product_share(macs, nbytes, seconds, peak * 1e9, read * 1e9)
        facts["limit"] = peak if facts["bound"] == "peak" else read
    benchmark.extra_info.update(facts)
