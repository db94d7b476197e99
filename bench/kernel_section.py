"""The kernel bench as a section of a run: pytest in a process of its own, its JSON as records."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import records
from runner import HERE, OutOfTime, Runner

SECONDS = {False: 180, True: 900}


def kernels(run: Runner, full: bool) -> None:
    """Products on one thread, cold weights for small n."""
    seconds = SECONDS[full]
    if not full:
        seconds = int(min(seconds, run.end - time.monotonic()))
    if seconds < 20:
        raise OutOfTime("kernels: no time left")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernels.json"
        command = [
            sys.executable, "-m", "pytest", str(HERE / "kernels" / "bench_products.py"), "-q", "--no-header", "-rN",
            "--benchmark-json", str(target), "--benchmark-columns=median", "--benchmark-disable-gc",
            "--seconds", str(seconds), "--threads", "1", *(["--full"] if full else []),
        ]  # fmt: skip
        got = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds + 120)
        last = got.stdout.strip().splitlines()[-1:]
        print(*last, file=sys.stderr)
        if not target.is_file():
            raise RuntimeError(f"the kernel bench gave no JSON: {last}")
        if "skipped" in "".join(last):
            run.problem(f"kernels: the time was up: {last[0]}")
        data = json.loads(target.read_text(encoding="utf-8"))
    run.found += [made for made in map(as_record, data["benchmarks"]) if made]


def as_record(bench: dict[str, Any]) -> records.Record | None:
    """A case of pytest-benchmark as a record; None for what is no product. Values: fastest, median, slowest GMAC/s."""
    facts = bench["extra_info"]
    if "gmac_s" not in facts:
        return None
    stats = bench["stats"]
    gmac = facts["gmac_s"] * stats["median"]  # per call
    bounds: list[records.Limit] = []
    if "share" in facts:
        unit = "GMAC/s" if facts["bound"] == "peak" else "GB/s"
        bounds = [(facts["bound"], facts["limit"], unit, facts["share"] * facts["limit"])]
    return records.record(
        "kernels", "product", [gmac / stats["max"], gmac / stats["median"], gmac / stats["min"]], "GMAC/s", bounds,
        model=facts["shape"], variant=facts["type"], threads=facts["threads"], n=facts["n"],
    )  # fmt: skip
