"""Whether a type per tensor, chosen by measured costs, beats the fixed mixes of the same size.

    python bench/budget.py SOURCE.gguf TEXT [--mixes Q2_K Q4_K_S Q4_K_M Q5_K_M] [--out bench/results]

The text is cut: its first part serves for importance and sensitivity, the rest is held out. Every mix is written with
and without the importance matrix, then quantize_file chooses for exactly the size of the mix. All are judged by KL
against the source on the held-out part. SOURCE may also be the Hugging Face directory of the tales model.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import card

import pyggml
from pyggml.recipes.costs import Sensitivity, sensitivity
from pyggml.recipes.mixes import MIXES

MIX_NAMES = ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_K_S", "Q5_K_M", "Q6_K")


def source_of(path: Path, folder: Path) -> Path:
    """A GGUF: the path itself, or the tales model in f32."""
    if path.is_file():
        return path
    pyggml.convert(path, folder / "source.gguf", dtype="f32")
    return folder / "source.gguf"


def judge(source: Path, file: Path, text: str) -> dict[str, Any]:
    """Size and distance of a file from the source."""
    with pyggml.load(source) as a, pyggml.load(file) as b:
        found = dataclasses.asdict(pyggml.compare(a, b, text))
    with pyggml.gguf.open(file) as f:
        infos = list(f.tensors.values())
        bits = 8 * sum(t.nbytes for t in infos) / sum(t.n_elements for t in infos)
    return {"bytes": file.stat().st_size, "bpw": round(bits, 4), **found}


def measure(source: Path, text: str, mixes: list[str], folder: Path, n_calibration: int) -> list[dict[str, Any]]:
    """One row for each mix."""
    calibration, held_out = text[:n_calibration], text[n_calibration:]
    with pyggml.load(source) as model:
        weights = pyggml.imatrix(model, calibration)
        weights.save(folder / "imatrix.gguf")
    costs: dict[int, Sensitivity] = {}
    rows = []
    for mix in mixes:
        row: dict[str, Any] = {"mix": mix}
        for key, given in (("plain", None), ("imatrix", folder / "imatrix.gguf")):
            pyggml.quantize_file(source, folder / "fixed.gguf", mix, imatrix=given, allow_requantize=True)
            row[key] = judge(source, folder / "fixed.gguf", held_out)
        near = round(row["plain"]["bpw"])
        start = time.perf_counter()
        if near not in costs:
            with pyggml.load(source) as model:
                costs[near] = sensitivity(model, calibration, near=near, imatrix=weights)
        row["seconds"] = round(time.perf_counter() - start, 1)
        changes = pyggml.quantize_file(
            source, folder / "chosen.gguf", target_size=row["plain"]["bytes"], sensitivity=costs[near],
            imatrix=folder / "imatrix.gguf", allow_requantize=True,
        )  # fmt: skip
        row["chosen"] = judge(source, folder / "chosen.gguf", held_out)
        row["types"] = {c.name: c.new for c in changes if c.new != "f32"}
        rows.append(row)
        print(line(row), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    plain, fixed, chosen = (row[key] for key in ("plain", "imatrix", "chosen"))
    return (
        f"{row['mix']:>8}: {plain['bpw']:.3f} bits, KL {plain['kl_mean']:.4e} plain, {fixed['kl_mean']:.4e} imatrix | "
        f"chosen {chosen['bpw']:.3f} bits, KL {chosen['kl_mean']:.4e} "
        f"({chosen['kl_mean'] / fixed['kl_mean']:.2f} of it), "
        f"same top {fixed['same_top']:.2%} -> {chosen['same_top']:.2%}"
    )


def main() -> None:
    """Measures, prints and writes one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--mixes", nargs="+", default=list(MIX_NAMES), choices=sorted(MIXES))
    parser.add_argument("--calibration", type=int, default=60_000, help="characters of the text")
    parser.add_argument("--held-out", type=int, default=120_000, help="characters behind them")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results")
    args = parser.parse_args()
    text = args.text.read_text(encoding="utf-8")[: args.calibration + args.held_out]
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(args.source, Path(folder))
        rows = measure(source, text, args.mixes, Path(folder), args.calibration)
    machine = card.card(measure=False)
    target = args.out / f"budget-{machine['date'][:10]}.json"
    told = {"card": machine, "model": args.source.name, "calibration": args.calibration, "rows": rows}
    target.write_text(json.dumps(told, indent=1) + "\n", encoding="ascii")
    print(f"wrote {target.name}")


if __name__ == "__main__":
    main()
