"""Tokens/s of pyggml and its rivals on the same file, in one alternating run; the result goes to bench/results/.

    python bench/compare.py MODEL.gguf [MODEL.gguf ...] [--rivals llama_cpp_python] [--threads N] [--rounds 5]

Each engine keeps its model in a process of its own. A round asks every engine for a prompt of 512 random tokens and for
64 greedy tokens behind 4, in an order that turns every round; a bandwidth probe runs beside each round. Medians, spread
and every single number are kept, whatever they say. One round before the first is not counted.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from pathlib import Path
from typing import Any

import card
import numpy as np
from worker import Worker

HERE = Path(__file__).resolve().parent


def scripts(rivals: list[str]) -> dict[str, Path]:
    """Engine -> its script; pyggml first."""
    return {"pyggml": HERE / "model.py", **{name: HERE / "rivals" / f"{name}.py" for name in rivals}}


def spread(values: list[float]) -> dict[str, Any]:
    """Median, lowest, highest, and all in the order they were taken."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "all": [round(v, 3) for v in values],
    }


def wait_until_quiet(patience: float) -> float:
    """Sleeps until other programs use less than a tenth of a core, at most patience seconds; cores in use then."""
    end = time.monotonic() + patience
    while (used := card.busy()) > 0.1 and time.monotonic() < end:
        time.sleep(2)
    return used


def compare(
    path: str, rivals: list[str], threads: int, rounds: int, n_prefill: int, n_decode: int, patience: float
) -> dict[str, Any]:
    """One file, all engines."""
    import pyggml

    with pyggml.gguf.open(path) as file:
        vocab = len(file.metadata["tokenizer.ggml.tokens"])
        nbytes = file.size
    ids = np.random.default_rng(0).integers(0, vocab, n_prefill).tolist()
    found = scripts(rivals)
    n_ctx = n_prefill + n_decode + 8
    workers = {name: Worker(script, path, threads, n_ctx) for name, script in found.items()}
    taken: dict[str, dict[str, list[float]]] = {name: {"prefill": [], "decode": []} for name in workers}
    tokens: dict[str, list[int]] = {}
    bandwidth: list[float] = []
    others: list[float] = []
    names = list(workers)
    for turn in range(rounds + 1):
        others.append(wait_until_quiet(patience))
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            asked = workers[name]
            prefill = n_prefill / asked.ask(do="prefill", ids=ids)["seconds"]
            asked.ask(do="prefill", ids=ids[:4])
            answer = asked.ask(do="decode", n=n_decode)
            if turn:
                taken[name]["prefill"].append(prefill)
                taken[name]["decode"].append(n_decode / answer["seconds"])
                tokens[name] = answer["tokens"]
        bandwidth += [v for k, v in card.rates(threads, quick=True).items() if k.startswith("read_gbs_2m")]
    engines = {}
    for name, asked in workers.items():
        engines[name] = {
            "version": asked.version,
            "load_seconds": round(asked.load_seconds, 3),
            "peak_mb": round(asked.ask(do="peak")["peak_mb"], 1),
            "prefill": spread(taken[name]["prefill"]),
            "decode": spread(taken[name]["decode"]),
            "same_tokens_as_pyggml": _same(tokens[name], tokens["pyggml"]),
        }
        asked.close()
    return {
        "model": Path(path).name,
        "bytes": nbytes,
        "threads": threads,
        "prefill_tokens": n_prefill,
        "decode_tokens": n_decode,
        "rounds": rounds,
        "cores_used_by_others": [round(v, 2) for v in others],
        "read_gbs_2m": spread(bandwidth) if bandwidth else None,
        "engines": engines,
    }


def _same(a: list[int], b: list[int]) -> int:
    """How many greedy tokens agree from the start; random weights part early, trained ones late."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: median tokens/s (lowest - highest), one row per file and engine."""
    lines = [
        "| file | threads | engine | prefill tokens/s | decode tokens/s | load s | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for name, e in result["engines"].items():
            p, d = ("{median:.1f} ({min:.1f} - {max:.1f})".format(**e[what]) for what in ("prefill", "decode"))
            head = f"| {result['model']} | {result['threads']} | {name}"
            lines.append(f"{head} | {p} | {d} | {e['load_seconds']:.2f} | {e['peak_mb']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the comparison and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument(
        "--rivals", nargs="*", default=["llama_cpp_python"], help="scripts of bench/rivals; none: pyggml alone"
    )
    parser.add_argument("--threads", type=int, nargs="*", default=[], help="default: all cores this process may use")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine before a round")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file")
    parser.add_argument("--name", default="compare", help="first part of the file's name")
    args = parser.parse_args()
    machine = card.card()
    results: list[dict[str, Any]] = []
    for path in args.models:
        for threads in args.threads or [card.cores()]:
            results.append(compare(path, args.rivals, threads, args.rounds, args.prefill, args.decode, args.patience))
            print(table(results[-1:]), flush=True)
            if max(results[-1]["cores_used_by_others"]) > 0.1:
                print("NOT QUIET: other programs ran beside some rounds; treat the numbers as lower bounds", flush=True)
    cpu = re.sub(r"\W+", "-", machine["cpu"].lower()).strip("-")[:32]
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / f"{args.name}-{machine['date'][:10]}-{cpu}-{machine['commit'].rstrip('+')[:8] or 'nogit'}.json"
    target.write_text(json.dumps({"card": machine, "results": results}, indent=1) + "\n", encoding="ascii")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
