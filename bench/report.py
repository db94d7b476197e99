"""Puts a result of compare.py between the bench marks of the README: `python bench/report.py bench/results/X.json`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from compare import table

ROOT = Path(__file__).resolve().parents[1]


def block(data: dict[str, Any], name: str) -> str:
    """The machine in one sentence, then the table."""
    card = data["card"]
    rates = card["rates"]
    reads = [v for k, v in rates.items() if k.startswith("read_gbs_2m")]
    versions = {key: e["version"].split(" (")[0] for r in data["results"] for key, e in r["engines"].items()}
    can = f", reads {max(reads):.0f} GB/s, {rates['int8_gmac_core']:.0f} int8 GMAC/s a core" if reads else ""
    first = data["results"][0]
    lines = [
        f"{card['cpu']}, {card['cores']} cores, level {card['isa']}{can}; {card['date'][:10]};",
        f"{', '.join(versions.values())}. A prompt of {first['prefill_tokens']} tokens, then {first['decode_tokens']}",
        "greedy ones; Llama-3.2-1B shape, random weights, f16 cache. Median (lowest - highest) of",
        f"{first['rounds']} alternating rounds. All numbers: [{name}](bench/results/{name});",
        "how they are made: [bench](bench/README.md).",
    ]
    return "\n".join(lines) + "\n\n" + table(data["results"])


def main() -> None:
    """Rewrites the README."""
    source = Path(sys.argv[1])
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    new = block(json.loads(source.read_text(encoding="ascii")), source.name)
    marks = r"(<!-- bench:begin -->\n).*?(\n<!-- bench:end -->)"
    readme.write_text(re.sub(marks, lambda m: m[1] + new + m[2], text, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    main()
