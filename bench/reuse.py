"""Ten chat turns of growing history, with prefix reuse and without, alternating: tokens computed and seconds a turn.

    python bench/reuse.py [MODEL.gguf] [--turns 10] [--tokens 32] [--ctx 2048] [--rounds 3] [--threads N]

Answers have a fixed seed, so both ways say about the same. Prints the table of docs/MEASURED.md and writes one JSON to
bench/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import card

import pyggml

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
QUESTION = "And what came then, when number {} of the brothers had gone out into the wide world to seek his fortune?"


def talk(model: pyggml.Model, turns: int, tokens: int) -> list[tuple[int, int, float]]:
    """Of each turn: tokens of the prompt, tokens computed (the answer's too), seconds."""
    messages: list[dict[str, str]] = []
    found = []
    for turn in range(turns):
        messages.append({"role": "user", "content": QUESTION.format(turn + 1)})
        start = time.perf_counter()
        told = model.chat(messages, template=TEMPLATE, max_tokens=tokens, seed=1)
        seconds = time.perf_counter() - start
        messages.append({"role": "assistant", "content": told.text})
        usage = told.usage
        computed = usage.prompt_tokens - usage.cached_tokens + usage.completion_tokens
        found.append((usage.prompt_tokens, computed, seconds))
    return found


def main() -> None:
    """Both ways in turn; each conversation on a model that was loaded for it, after one that warms up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--ctx", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results")
    args = parser.parse_args()
    rounds: dict[bool, list[list[tuple[int, int, float]]]] = {False: [], True: []}
    for turn in range(args.rounds + 1):
        for reuse in (False, True) if turn % 2 else (True, False):
            with pyggml.load(args.model, n_ctx=args.ctx, n_threads=args.threads, prefix_reuse=reuse) as model:
                found = talk(model, args.turns, args.tokens)
            if turn:
                rounds[reuse].append(found)
    rows = []
    for i in range(args.turns):
        row = [i + 1]
        for reuse in (False, True):
            prompt, computed, _ = rounds[reuse][0][i]
            row += [prompt, computed, statistics.median(each[i][2] for each in rounds[reuse])]
        rows.append(row)
    print("| turn | prompt | computed without | s | computed with | s |")
    print("|---:|---:|---:|---:|---:|---:|")
    for n, prompt, without, slow, _, with_reuse, quick in rows:
        print(f"| {n} | {prompt} | {without} | {slow:.3f} | {with_reuse} | {quick:.3f} |")
    sums = [sum(row[k] for row in rows) for k in (2, 3, 5, 6)]
    print(f"| all | | {sums[0]} | {sums[1]:.3f} | {sums[2]} | {sums[3]:.3f} |")
    args.out.mkdir(exist_ok=True)
    machine, name = card.card(measure=False), Path(args.model).stem if args.model else "bundled"
    result = {"model": name, "threads": model.n_threads, "turns": rows}
    target = args.out / f"reuse-{machine['date'][:10]}-{name}-{model.n_threads}t.json"
    target.write_text(json.dumps({"card": machine, "results": [result]}, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
