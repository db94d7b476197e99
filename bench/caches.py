"""What a type of cache costs on a real model, beside llama.cpp's cache of the same type.

    python bench/run.py --only caches                    python bench/caches.py [--text TEXT] [--types q4_0 ...]

SmolLM2-135M-Instruct expanded to f32, so that weights and activations are not rounded: what differs is the cache. The
same pieces of text as truth.py; KL divergence of the next-token distributions from our run with an f32 cache, and the
change of perplexity. The exit status is 1 where a type of blocks is less exact than llama.cpp's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import card
import numpy as np
import truth
from numpy.typing import NDArray
from rivals.llama_cpp_python import CACHES, LlamaCpp

import pyggml
from pyggml import _native
from pyggml.engine.cache_type import CACHE_TYPES
from pyggml.quant.types import QuantType

BLOCKS = tuple(name for name in CACHE_TYPES if QuantType.parse(name).is_block)


def of_llama_cpp(path: Path, parts: list[list[int]], kind: str, threads: int) -> NDArray[np.float32]:
    """As truth.log_probs, by llama.cpp."""
    engine = LlamaCpp(str(path), threads, truth.LENGTH, kind)
    engine.load()
    try:
        return np.concatenate([truth.normal(engine.logits(ids, truth.LENGTH // 2)) for ids in parts])
    finally:
        engine.close()


def table(args: argparse.Namespace, save: Any) -> list[dict[str, Any]]:
    """A row per type; save is called behind each."""
    rows: list[dict[str, Any]] = []
    parts = truth.pieces(truth.smollm2(), args.text)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "floats.gguf"
        pyggml.quantize_file(truth.smollm2(), file, "pure:f32", allow_requantize=True)
        want = truth.log_probs(file, parts, args.levels[-1])
        for kind in args.types:
            row: dict[str, Any] = {"type": kind, "bits": QuantType.parse(kind).bits_per_weight}
            for level in args.levels:
                row[level] = truth.compare(want, truth.log_probs(file, parts, level, kind), parts)
            if kind in CACHES:
                row["llama.cpp"] = truth.compare(want, of_llama_cpp(file, parts, kind, card.cores()), parts)
            rows.append(row)
            print(json.dumps(row), flush=True)
            save(rows)
    return rows


def above(rows: list[dict[str, Any]]) -> list[str]:
    """Types of blocks that are less exact than llama.cpp's."""
    return [
        f"{row['type']} on {level}: KL {row[level]['kl']} > {row['llama.cpp']['kl']}"
        for row in rows
        if row["type"] in BLOCKS and "llama.cpp" in row
        for level in _native.isa_levels()
        if level in row and row[level]["kl"] > row["llama.cpp"]["kl"]
    ]


def main(words: list[str] | None = None) -> int:
    """Writes caches.json; 1 where a type of blocks is less exact than llama.cpp's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=truth.TEXT)
    parser.add_argument("--types", nargs="+", default=list(CACHE_TYPES), choices=CACHE_TYPES, help="only these")
    parser.add_argument("--levels", nargs="+", default=truth.LEVELS)
    parser.add_argument("--out", type=Path, default=truth.HERE / "results" / "caches.json")
    args = parser.parse_args(words)
    machine = card.card(measure=False)

    def save(rows: list[dict[str, Any]]) -> None:
        args.out.write_text(json.dumps({"card": machine, "rows": rows}, indent=1) + "\n", encoding="ascii")

    worse = above(table(args, save))
    for line in worse:
        print("less exact than llama.cpp:", line)
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
