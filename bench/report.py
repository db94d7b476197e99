"""Prints the goals' table and writes it where documents have room for it, with the plots.

    python bench/report.py [RESULT.json ...] [--print]
    python bench/report.py --truth                          the tables of truth.json and caches.json alone

Without a name: the newest full run of bench/results. Of several results the later one stands where both measured the
same. Between `<!-- table:NAME -->` and `<!-- /table -->` in docs/PERFORMANCE.md and README.md the table NAME is put
(goals, card, files, rest, types, kernels, truth, caches); --print leaves the documents alone. Needs no package but
matplotlib, for the plots.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import goals
from records import Record, find, load, merged, ratio

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
DOCUMENTS = ("docs/PERFORMANCE.md", "docs/MEASURED.md", "README.md")
MARKS = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- /table -->)", flags=re.S)


def card_table(results: Sequence[dict[str, Any]]) -> str:
    """The machine, in words and rates."""
    card = results[-1]["card"]
    rates = card["rates"]
    rows = [
        "| threads | int8 | bf16 | f32 GMAC/s | read 4 KiB pages | read 2 MiB pages GB/s |",
        "|---|---|---|---|---|---|",
    ]
    for n in sorted({int(key.rsplit("_", 1)[1]) for key in rates if key[-1].isdigit()}):
        figures = (f"{kind}_{n}" for kind in ("int8_gmac", "bf16_gmac", "f32_gmac", "read_gbs_4k", "read_gbs_2m"))
        rows.append(f"| {n} | " + " | ".join(goals.number(rates[f]) if f in rates else "" for f in figures) + " |")
    huge = card["pages"].get("transparent_hugepage_enabled", "unknown")
    said = [
        f"{card['cpu']}, {card['cores']} cores at {rates.get('clock_ghz', 0):.2f} GHz, {card['memory_gb']} GB, level "
        f"{card['isa']}; {card['system']}; huge pages: {huge}; load {card['load']}, "
        f"{card['busy_cores']} cores busy with other work; {card['date'][:10]}, commit {card['commit'][:12]}.",
        "Engines: " + "; ".join(sorted({v.split(" (")[0] for r in results for v in r["engines"].values()})) + ".",
    ]
    return "\n".join(said) + "\n\n" + "\n".join(rows)


def files_table(records: Sequence[Record], threads: int) -> str:
    """Tokens/s per file and engine."""
    lines = [
        "| file | engine | prefill 512, tokens/s | of peak | decode 64, tokens/s | of bandwidth |",
        "|---|---|---|---|---|---|",
    ]
    found = find(records, section="speed", threads=threads)
    for model in dict.fromkeys(r["model"] for r in found):
        for engine, variant in dict.fromkeys((r["engine"], r["variant"]) for r in find(found, model=model)):
            mine = {"model": model, "engine": engine, "variant": variant}
            cells = []
            for more in ({"what": "prefill", "n": 512}, {"what": "decode"}):
                got = find(found, **mine, **more)
                cells += [with_spread(got[0]), f"{got[0]['share']:.0%}" if got[0]["share"] else ""] if got else ["", ""]
            lines.append(f"| {model} | {engine} {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def short_table(records: Sequence[Record], threads: int) -> str:
    """Tokens/s per file beside llama.cpp, and the ratio."""
    lines = ["| file | prefill 512 | llama.cpp | ratio | decode 64 | llama.cpp | ratio |", "|---" * 7 + "|"]
    found = find(records, section="speed", threads=threads)
    for model in dict.fromkeys(r["model"] for r in found):
        cells = []
        for more in ({"what": "prefill", "n": 512}, {"what": "decode"}):
            ours = find(found, model=model, engine="pyggml", variant="mapped", **more)
            theirs = find(found, model=model, engine="llama.cpp", **more)
            cells += [with_spread(got[0]) if got else "" for got in (ours, theirs)]
            cells.append(f"**{ratio(ours[0], theirs[0])[0]:.2f}**" if ours and theirs else "")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rest_table(records: Sequence[Record]) -> str:
    """Loading, memory, small models, depth and batches: a row per figure."""
    lines = ["| | engine | threads | measured |", "|---|---|---|---|"]
    for section in ("load", "memory", "small", "thread", "experts", "real", "depth", "batch"):
        for r in find(records, section=section):
            place = [r["model"].removeprefix("1b-"), r["what"]]
            place += [f"at {r['depth']}, {r['kv']} cache"] if section == "depth" else []
            place += [f"of {r['batch']}"] if section == "batch" else []
            who = f"{r['engine']} {r['variant']}".strip()
            share = f", {r['share']:.0%} of {r['limit']['name']}" if r["share"] else ""
            lines.append(f"| {' '.join(place)} | {who} | {r['threads']} | {with_spread(r)} {r['unit']}{share} |")
    return "\n".join(lines)


def types_table(records: Sequence[Record]) -> str:
    """Every block type beside llama.cpp: tokens/s and ratio, decode and prefill."""
    found = find(records, section="types")
    lines = ["| type | decode 64 | llama.cpp | ratio | of bandwidth | prefill 256 | llama.cpp | ratio | of peak |"]
    lines.append("|---" * 9 + "|")
    for kind in dict.fromkeys(r["model"] for r in found):
        cells = []
        for what in ("decode", "prefill"):
            ours, theirs = (find(found, model=kind, what=what, engine=e) for e in ("pyggml", "llama.cpp"))
            cells += [
                goals.number(ours[0]["median"]) if ours else "",
                goals.number(theirs[0]["median"]) if theirs else "",
            ]
            cells.append(f"{ratio(ours[0], theirs[0])[0]:.2f}" if ours and theirs else "")
            cells.append(f"{ours[0]['share']:.0%}" if ours and ours[0]["share"] else "")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kernels_table(records: Sequence[Record], shape: str = "8192x2048") -> str:
    """Every type at one shape: what n = 1, 8 and 512 reach."""
    found = find(records, section="kernels", model=shape)
    lines = ["| type | n = 1, of the roofline | n = 8 | n = 512 | n = 512, GMAC/s |", "|---|---|---|---|---|"]
    for kind in dict.fromkeys(r["variant"] for r in found):
        cells = []
        for n in (1, 8, 512):
            got = find(found, variant=kind, n=n)
            cells.append(f"{got[0]['share']:.0%}" if got and got[0]["share"] else "")
        last = find(found, variant=kind, n=512)
        lines.append(f"| {kind} | " + " | ".join(cells) + f" | {goals.number(last[0]['median']) if last else ''} |")
    return "\n".join(lines)


def exactness(run: dict[str, float]) -> str:
    """KL and the change of perplexity."""
    return f"{run['kl']:.3g}, {100 * run['perplexity']:+.2f} %"


def levels_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The CPU levels that rows have in common; one that has another's figures stands beside it."""
    return [level for level in ("avx2", "avxvnni", "avx512", "neon") if all(level in row for row in rows)]


def truth_table(result: dict[str, Any]) -> str:
    """Run error per type and level, and llama.cpp's."""
    rows = result["rows"]
    levels = levels_of(rows)
    lines = [f"| model | type | {' | '.join(levels)} | llama.cpp | of it |", "|---" * (len(levels) + 4) + "|"]
    for row in rows:
        worst = max(row[level]["kl"] for level in levels)
        cells = [exactness(row[level]) for level in levels]
        theirs = row["llama.cpp"]
        cells += [f"{theirs:.3g}", f"{worst / theirs:.2f}"] if theirs else ["", ""]
        lines.append(f"| {row['model']} | {row['type']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def caches_table(result: dict[str, Any]) -> str:
    """KL and perplexity per type of cache and level, and llama.cpp's."""
    rows = result["rows"]
    levels = levels_of(rows)
    lines = [f"| cache | bits | {' | '.join(levels)} | llama.cpp |", "|---" * (len(levels) + 3) + "|"]
    for row in rows:
        cells = [exactness(row[who]) if who in row else "" for who in (*levels, "llama.cpp")]
        lines.append(f"| {row['type']} | {row['bits']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def put_truth() -> None:
    """The tables that have results of their own, into the documents."""
    made = {"truth": truth_table, "caches": caches_table}
    tables = {name: of(json.loads((RESULTS / f"{name}.json").read_text("ascii"))) for name, of in made.items()}
    print("\n\n".join(tables.values()))
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(put(path.read_text(encoding="utf-8"), tables), encoding="utf-8")


def with_spread(r: Record) -> str:
    """median (lowest - highest)."""
    if len(r["values"]) == 1:
        return goals.number(r["median"])
    return f"{goals.number(r['median'])} ({goals.number(r['min'])} - {goals.number(r['max'])})"


def put(text: str, tables: dict[str, str]) -> str:
    """text with each known table between its marks.

    >>> put("<!-- table:a -->\\nold\\n<!-- /table -->", {"a": "new"})
    '<!-- table:a -->\\nnew\\n<!-- /table -->'
    """
    return MARKS.sub(lambda m: m[1] + tables[m[2]] + "\n" + m[3] if m[2] in tables else m[0], text)


def main() -> None:
    """Reads, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path)
    parser.add_argument("--print", action="store_true", dest="only_print", help="change no document, draw nothing")
    parser.add_argument("--truth", action="store_true", help="the tables of truth.json and caches.json alone")
    args = parser.parse_args()
    if args.truth:
        put_truth()
        return
    paths = args.results or sorted(RESULTS.glob("run-*.json"), key=lambda p: p.stat().st_mtime)[-1:]
    if not paths:
        raise SystemExit("no result: run `python bench/run.py` first, or name a file")
    results = [load(path) for path in paths]
    records = merged(results)
    threads = results[-1]["options"]["threads"]
    predictions = json.loads((ROOT / "bench" / "predictions.json").read_text(encoding="ascii"))["goals"]
    names = ", ".join(f"`bench/results/{path.name}`" for path in paths)
    tables = {
        "card": f"From {names}.\n\n" + card_table(results),
        "goals": goals.table(records, predictions, threads),
        "short": short_table(records, threads),
        "files": files_table(records, threads),
        "rest": rest_table(records),
        "types": types_table(records),
        "kernels": kernels_table(records),
    }
    problems = [text for r in results for text in r["problems"]]
    print("\n\n".join(tables.values()))
    print("\n".join(["", "Not measured:", *problems]) if problems else "")
    if args.only_print:
        return
    for name in DOCUMENTS:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        path.write_text(put(before, tables), encoding="utf-8")
    try:
        import plots

        print("plots:", *plots.draw(records, ROOT / "docs" / "plots", threads))
    except ImportError:
        print("no plots: pip install '.[bench]'")


if __name__ == "__main__":
    main()
