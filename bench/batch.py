"""Tokens/s of several sequences in one step, at batch 1, 2, 4, 8, 16: rounds of all sizes in turn.

    python bench/batch.py [MODEL.gguf] [--threads N] [--tokens 32] [--rounds 3]

Total decoded tokens/s of each size, medians and spread, and their ratio to batch 1, to bench/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import card
import numpy as np

import pyggml
from pyggml import _native
from pyggml.quant import QuantType
from pyggml.sample import Sampling

SIZES = (1, 2, 4, 8, 16)
PROMPT = 16


def rate(model: pyggml.Model, size: int, n_tokens: int) -> float:
    """Tokens/s of size sequences behind a short prompt."""
    kind = QuantType.parse(model.kv_type).id
    sessions = [_native.Session(model._plan, model.n_ctx, kind) for _ in range(size)]
    samplers = [Sampling(temperature=0).sampler(model.n_vocab) for _ in range(size)]
    rng = np.random.default_rng(1)
    prompts = [rng.integers(3, model.n_vocab, PROMPT).astype(np.int32) for _ in range(size)]
    chosen = model._plan.next(sessions, samplers, prompts, model.n_threads)
    t0 = time.perf_counter()
    for _ in range(n_tokens):
        fed = [np.array([token], np.int32) for token in chosen]
        chosen = model._plan.next(sessions, samplers, fed, model.n_threads)
    return size * n_tokens / (time.perf_counter() - t0)


def main() -> None:
    """Runs all sizes in turn and writes one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results")
    args = parser.parse_args()
    model = pyggml.load(args.model, n_threads=args.threads, n_ctx=PROMPT + args.tokens + 1)
    rates: dict[int, list[float]] = {size: [] for size in SIZES}
    for turn in range(args.rounds + 1):
        for size in SIZES:
            got = rate(model, size, args.tokens)
            if turn:
                rates[size].append(got)
    medians = {size: statistics.median(values) for size, values in rates.items()}
    result = {
        "model": Path(args.model).name if args.model else "bundled",
        "threads": model.n_threads,
        "tokens": args.tokens,
        "rounds": args.rounds,
        "tokens_per_second": {s: {"median": medians[s], "min": min(v), "max": max(v)} for s, v in rates.items()},
        "ratio_to_one": {size: medians[size] / medians[1] for size in SIZES},
    }
    print(json.dumps(result, indent=1))
    machine = card.card(measure=False)
    name = f"batch-{machine['date'][:10]}-{result['model'].removesuffix('.gguf')}-{model.n_threads}t.json"
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"card": machine, "results": [result]}, indent=1)
    (args.out / name).write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
