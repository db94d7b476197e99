"""Every mix of a model, with and without importance, measured against the source: the table of docs/QUANTIZING.md.

    python bench/mixes.py SOURCE.gguf TEXT [--calibration CHARS] [--held-out CHARS] [--out bench/results]

The text is cut: its first part gives the importance, the rest is held out. SOURCE may also be a directory to convert.
Writes bench/results/mixes-DATE.json, docs/plots/mixes.svg and the table between `<!-- mixes:begin -->` marks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import card
from budget import source_of

from pyggml.recipes.report import write_report
from pyggml.recipes.survey import Surveyed, survey

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("<!-- mixes:begin -->\n", "<!-- mixes:end -->")


def table(rows: Sequence[Surveyed]) -> str:
    """One line for each mix: without importance, then with."""
    lines = [
        f"Source: perplexity {rows[0].found.perplexity_a:.3f} on {rows[0].found.n} held-out positions.\n",
        "| mix | bits | perplexity | mean KL | with importance: perplexity | mean KL |",
        "|---|---|---|---|---|---|",
    ]
    weighed = {row.recipe: row.found for row in rows if row.importance}
    for row in rows:
        if not row.importance:
            a, b = row.found, weighed[row.recipe]
            lines.append(
                f"| {row.recipe} | {row.bits_per_weight:.2f} | {a.perplexity_b:.2f} | {a.kl_mean:.4f} "
                f"| {b.perplexity_b:.2f} | {b.kl_mean:.4f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, writes, fills the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--calibration", type=int, default=60_000, help="characters of the text")
    parser.add_argument("--held-out", type=int, default=120_000, help="characters behind them")
    parser.add_argument("--mixes", nargs="+", help="default: all")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    args = parser.parse_args()
    text = args.text.read_text(encoding="utf-8")
    calibration, held_out = text[: args.calibration], text[args.calibration : args.calibration + args.held_out]

    def progress(done: int, total: int) -> None:
        print(f"\r{done}/{total}", end="" if done < total else "\n", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        source = source_of(args.source, Path(folder))
        rows = survey(source, held_out, args.mixes, importance=calibration, progress=progress)
    machine = card.card(measure=False)
    told = {"card": machine, "model": args.source.name, "calibration": args.calibration, "held_out": len(held_out)}
    target = args.out / f"mixes-{machine['date'][:10]}.json"
    slim = [{k: v for k, v in row.as_dict().items() if k not in ("types", "errors")} for row in rows]
    target.write_text(json.dumps({**told, "rows": slim}, indent=1) + "\n", encoding="ascii")
    print(f"wrote {target.name}\n{table(rows)}")
    if args.mixes is None:
        write_report(rows, ROOT / "docs" / "plots" / "mixes.svg", shown="Q4_K_M", title=args.source.name)
        page = ROOT / "docs" / "QUANTIZING.md"
        head, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
        page.write_text(head + MARKS[0] + table(rows) + MARKS[1] + rest.partition(MARKS[1])[2], encoding="utf-8")


if __name__ == "__main__":
    main()
