"""Eight Python threads on one model against the same work one after another, alternating in one run.

    python bench/together.py [MODEL.gguf] [--threads N] [--callers 8] [--tokens 64] [--rounds 5]

Total generated tokens/s of both ways, medians and spread, and their ratio, to bench/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from pathlib import Path

import card

import pyggml


def main() -> None:
    """Runs both ways in turn and writes one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results")
    args = parser.parse_args()
    model = pyggml.load(args.model, n_threads=args.threads, n_ctx=512)

    def tell(i: int) -> None:
        model.generate([10 + i, 20, 30, 40], max_tokens=args.tokens, temperature=1.0, seed=i)

    def one_after_another() -> None:
        for i in range(args.callers):
            tell(i)

    def together() -> None:
        threads = [threading.Thread(target=tell, args=(i,)) for i in range(args.callers)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    tokens = sum(
        len(model.generate([10 + i, 20, 30, 40], max_tokens=args.tokens, temperature=1.0, seed=i).tokens)
        for i in range(args.callers)
    )
    rates: dict[str, list[float]] = {"one_after_another": [], "together": []}
    for turn in range(args.rounds + 1):
        ways = [one_after_another, together] if turn % 2 else [together, one_after_another]
        for way in ways:
            t0 = time.perf_counter()
            way()
            if turn:
                rates[way.__name__].append(tokens / (time.perf_counter() - t0))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "model": Path(args.model).name if args.model else "bundled",
        "threads": model.n_threads,
        "callers": args.callers,
        "tokens": tokens,
        "tokens_per_second": {k: {"median": medians[k], "min": min(v), "max": max(v)} for k, v in rates.items()},
        "ratio": medians["together"] / medians["one_after_another"],
    }
    print(json.dumps(result, indent=1))
    machine = card.card(measure=False)
    target = (
        args.out / f"together-{machine['date'][:10]}-{result['model'].removesuffix('.gguf')}-{model.n_threads}t.json"
    )
    target.write_text(json.dumps({"card": machine, "results": [result]}, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
