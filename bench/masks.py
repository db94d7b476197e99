"""What following a schema costs of a step: seconds in masks, forced text and taking tokens, of those of whole steps.

    python bench/masks.py MODEL.gguf [--rounds 5] [--tokens 120] [--threads N]

Each round makes a text of each kind with another seed. Prints the table of docs/MEASURED.md and writes one JSON to
bench/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import card

import pyggml
from pyggml.engine.following import Following

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 3, "maxItems": 8},
        "notes": {"type": "string", "minLength": 60, "maxLength": 300},
    },
    "required": ["name", "age", "tags", "notes"], "additionalProperties": False,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "a schema of four properties": {"schema": PERSON},
    "any JSON object": {"schema": {"type": "object"}},
    "a regular expression": {"regex": "([A-Z][a-z]{2,9} ){8,40}[0-9]+"},
    "a recursive GBNF grammar": {"grammar": 'root ::= "(" (root | [a-z]{3,9} " ")+ ")"'},
}


class Clock:
    """Seconds in calls that were wrapped."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """call, timed."""

        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


def measure(
    model: pyggml.Model, what: dict[str, Any], tokens: int, seed: int, clock: Clock
) -> tuple[float, float, float]:
    """(seconds a token in masks and the like, seconds of a step of one token, share of the first in all)."""
    clock.seconds = 0.0
    c = model.generate("Here is a record about a person: ", max_tokens=tokens, seed=seed, **what)
    of_masks, n = clock.seconds, max(len(c.tokens), 1)
    plain = model.generate("Here is a record about a person: ", max_tokens=32, seed=seed)
    step = plain.timings.decode_seconds / max(len(plain.tokens) - 1, 1)
    return of_masks / n, step, of_masks / n / step


def main() -> None:
    """Measures and writes."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("model")
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--tokens", type=int, default=120)
    args.add_argument("--threads", type=int)
    args.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = args.parse_args()
    clock = Clock()
    for name in ("bind", "take", "forced"):
        setattr(Following, name, clock.wrapped(getattr(Following, name)))
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in KINDS}
    with pyggml.load(given.model, n_threads=given.threads) as model:
        for what in KINDS.values():  # compiled, and the vocabulary built, before the clock runs
            model.generate("a", max_tokens=2, **what)
        for round_ in range(given.rounds):
            for name, what in KINDS.items():
                found[name].append(measure(model, what, given.tokens, round_, clock))
        threads = model.n_threads
    print("| follows | masks, us a token | step, ms | share of a step |\n|---|---|---|---|")
    for name, rounds in found.items():
        masks, step, share = ([each[i] for each in rounds] for i in range(3))
        print(
            f"| {name} | {statistics.median(masks) * 1e6:.0f} | {statistics.median(step) * 1e3:.1f} "
            f"| {statistics.median(share):.2%} ({min(share):.2%} - {max(share):.2%}) |"
        )
    stem = f"masks-{time.strftime('%Y-%m-%d')}-{Path(given.model).stem}-{threads}t"
    (given.out / f"{stem}.json").write_text(
        json.dumps({"card": card.card(measure=False), "rounds": found}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
