"""Quantizing one file with pyggml and with llama.cpp, in turns: MB/s of float32 per thread and memory of its own.

    PYTHONPATH=. python bench/quant_file.py model-f16.gguf --mixes Q4_0,Q4_K_M --threads 1 --rounds 1

Every run is a process of its own that writes beside SRC or into --out. MB/s counts a value as four bytes. Memory is the
peak of RssAnon: what lies above the page cache, in which both engines keep the file. Linux only. Writes
bench/results/quant-file-DATE.json and the table between `<!-- speed:begin -->` marks of docs/ENCODERS.md.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import card

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("<!-- speed:begin -->\n", "<!-- speed:end -->")
ENGINES = ("pyggml", "llama.cpp")


def one(engine: str, src: str, dst: str, mix: str, threads: int) -> None:
    """What a process of its own does."""
    if engine == "pyggml":
        import pyggml

        pyggml.quantize_file(src, dst, mix, n_threads=threads)
        return
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{mix.upper()}")
    params.nthread = threads
    failed = llama_cpp.llama_model_quantize(src.encode(), dst.encode(), params)
    if failed:
        sys.exit(f"llama.cpp: {failed}")


def anonymous(pid: int) -> int:
    """Bytes of memory that belong to no file, now; 0 once the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)


def run(engine: str, src: str, dst: str, mix: str, threads: int) -> tuple[float, int]:
    """(seconds of the whole process, peak bytes)."""
    command = [sys.executable, __file__, src, "--one", engine, "--out", dst, "--mixes", mix, "--threads", str(threads)]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.02)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{engine} {mix} failed: {' '.join(command)}")
    Path(dst).unlink()
    return seconds, peak


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each mix; best of the rounds, as other work only slows."""
    lines = ["| mix | pyggml MB/s | llama.cpp MB/s | ratio | peak MB | llama.cpp's |", "|---|---|---|---|---|---|"]
    for row in rows:
        (a, x), (b, y) = ((max(row[e]["mb_per_s"]), row[e]["peak_mb"]) for e in ENGINES)
        lines.append(f"| {row['mix']} | {a:.0f} | {b:.0f} | {a / b:.2f} | {x:.0f} | {y:.0f} |")
    return "\n".join(lines) + "\n"


def measure(src: str, folder: str, mix: str, threads: int, rounds: int, megabytes: float) -> dict[str, Any]:
    """MB/s per thread of every round and the highest peak, of both engines in turns."""
    row: dict[str, Any] = {"mix": mix, **{engine: {"mb_per_s": [], "peak_mb": 0.0} for engine in ENGINES}}
    for turn in range(rounds):
        for engine in ENGINES[:: 1 if turn % 2 == 0 else -1]:
            seconds, peak = run(engine, src, f"{folder}/out.gguf", mix, threads)
            row[engine]["mb_per_s"].append(round(megabytes / threads / seconds, 2))
            row[engine]["peak_mb"] = max(row[engine]["peak_mb"], peak / 1e6)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("src")
    parser.add_argument("--mixes", default="Q4_0,Q8_0,Q4_K_M,Q6_K,IQ4_XS,Q2_K")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", help="where the files are written; a temporary folder beside SRC unless given")
    parser.add_argument("--one", choices=ENGINES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args.one, args.src, args.out, args.mixes, args.threads)
        return
    import gguf

    megabytes = sum(4 * math.prod(int(n) for n in t.shape) for t in gguf.GGUFReader(args.src).tensors) / 1e6
    rows = []
    machine = card.card(measure=False)
    target = ROOT / "bench" / "results" / f"quant-file-{machine['date'][:10]}.json"
    with tempfile.TemporaryDirectory(dir=args.out or Path(args.src).resolve().parent) as folder:
        for mix in args.mixes.split(","):
            rows.append(measure(args.src, folder, mix, args.threads, args.rounds, megabytes))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
            told = {"card": machine, "model": Path(args.src).name, "threads": args.threads, "rows": rows}
            target.write_text(json.dumps(told, indent=1) + "\n", encoding="ascii")
    page = ROOT / "docs" / "ENCODERS.md"
    head, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    page.write_text(head + MARKS[0] + table(rows) + MARKS[1] + rest.partition(MARKS[1])[2], encoding="utf-8")


if __name__ == "__main__":
    main()
