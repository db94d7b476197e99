"""pyggml as an engine for compare.py, and alone: `python bench/model.py MODEL.gguf` prints prefill and decode tokens/s.

Only the public API: load, session, step.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np
import worker


class Pyggml:
    """Greedy steps through a Session."""

    name = "pyggml"

    def __init__(self, path: str, n_threads: int, n_ctx: int) -> None:
        import pyggml

        self.model = pyggml.load(path, n_threads=n_threads, n_ctx=n_ctx)
        self.session = self.model.session()
        self.last: int = 0

    def version(self) -> str:
        """Version and CPU level."""
        import pyggml

        return f"pyggml {pyggml.__version__} ({pyggml.info()['isa']})"

    def prefill(self, ids: list[int]) -> None:
        """Feeds ids to the empty session."""
        self.session.reset()
        self.last = int(np.argmax(self.session.step(ids)))

    def decode(self, n: int) -> list[int]:
        """n steps of one token, the likeliest each time."""
        tokens = []
        for _ in range(n):
            self.last = int(np.argmax(self.session.step([self.last])))
            tokens.append(self.last)
        return tokens


def main() -> None:
    """Times one model and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores this process may use")
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    import card

    threads = args.threads or card.cores()
    engine = Pyggml(args.model, threads, args.prefill + args.decode + 8)
    n_vocab = engine.model.n_vocab
    ids = np.random.default_rng(0).integers(0, n_vocab, args.prefill).tolist()
    print(f"{engine.version()}, {threads} threads, {args.model}")
    rows: dict[str, list[float]] = {"prefill": [], "decode": []}
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        engine.prefill(ids)
        rows["prefill"].append(args.prefill / (time.perf_counter() - start))
        engine.prefill(ids[:4])
        start = time.perf_counter()
        engine.decode(args.decode)
        rows["decode"].append(args.decode / (time.perf_counter() - start))
    for name, rates in rows.items():
        warm = rates[1:]  # the first round brings pages in
        print(f"{name:8} {statistics.median(warm):9.1f} tokens/s ({min(warm):.1f} - {max(warm):.1f})")


if __name__ == "__main__":
    if len(sys.argv) == 4 and all(arg.isdigit() for arg in sys.argv[2:]):
        worker.serve(Pyggml)
    else:
        main()
