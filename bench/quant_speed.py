"""MB/s of float32 that one thread quantizes, against llama.cpp on the same rows, in turns: best of a few rounds.

PYTHONPATH=. python bench/quant_speed.py [TYPES] [ROWS]      e.g. q4_k,q6_k 8; rows hold 4096 Gaussian values
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from oracle import quants  # noqa: E402

from pyggml import QuantType, _native  # noqa: E402

ROUNDS = 5


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    names = sys.argv[1] if len(sys.argv) > 1 else "q4_0,q8_0,q2_k,q3_k,q4_k,q5_k,q6_k,iq4_xs"
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    lib = quants.ggml()
    assert lib is not None, "pip install llama-cpp-python"
    x = quants.normal(1, rows, 4096).astype(np.float32)
    for name in names.split(","):
        kind = QuantType.parse(name)
        block = (kind.elems, kind.bytes)
        weights = np.ones(4096, np.float32) if name in quants.NEEDS_IMPORTANCE else None
        times = [
            (
                seconds(lambda: _native.quantize(kind.id, x, None, 1)),  # noqa: B023
                seconds(lambda: quants.ggml_quantize(lib, kind.id, block, x, weights)),  # noqa: B023
            )
            for _ in range(ROUNDS)
        ]
        ours, theirs = (x.nbytes / 1e6 / min(column) for column in zip(*times, strict=True))
        print(f"{name:8} {ours:8.1f} MB/s   llama.cpp {theirs:8.1f} MB/s   ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
