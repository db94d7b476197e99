"""The machine card: what hardware and software a number was measured on, and what that machine can do at best.

`python bench/card.py` prints it. The rates come from probe.c, built here with the local C compiler; without one they
are missing, and the card says so.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
_KEPT = re.compile(r"^(avx\w*|amx\w*|f16c|fma|sse4_2|asimd\w*|i8mm|sve\w*|bf16)$")


def cpu_model() -> str:
    """The CPU's own name, or the architecture."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.M)
    return match[1].strip() if match else platform.machine()


def cpu_flags() -> list[str]:
    """The CPU features that matter to kernels."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, flags=re.M)
    return sorted(flag for flag in (match[1].split() if match else []) if _KEPT.match(flag))


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _flags() -> list[str]:
    """Compiler flags of the widest vectors this CPU has: named, so that the probe is the same program everywhere."""
    have = set(cpu_flags())
    avx2 = ["avx2", "fma", "f16c"]
    avx512 = ["avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"]
    wanted = avx2 + avx512 if {*avx2, *avx512[:4], "avx512_vnni"} <= have else avx2 if {*avx2} <= have else []
    return [f"-m{name}" for name in wanted]


@functools.cache
def _probe() -> str | None:
    """The built probe, or None without a C compiler."""
    cc = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if cc is None:
        return None
    program = Path(tempfile.mkdtemp(prefix="pyggml-probe-")) / "probe"
    command = [cc, "-O2", *_flags(), str(HERE / "probe.c"), "-o", str(program), "-lpthread"]
    got = subprocess.run(command, capture_output=True, text=True)
    if got.returncode:
        print(f"bench: probe.c does not build here, the card has no rates:\n{got.stderr[:500]}", file=sys.stderr)
        return None
    return str(program)


def rates(n_threads: int, quick: bool = False) -> dict[str, float]:
    """Clock, peaks and read bandwidth of this minute; quick: only the bandwidth. {} without a compiler."""
    program = _probe()
    if program is None:
        return {}
    command = [program, str(n_threads), *(["quick"] if quick else [])]
    got = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(got.stdout)
    return found


def busy(seconds: float = 1.0) -> float:
    """Cores in use by anything on this machine, measured while this process sleeps; 0 where /proc is missing."""

    def used() -> float:
        try:
            fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
        except OSError:
            return 0.0
        user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields)
        return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")

    before, start = used(), time.perf_counter()
    time.sleep(seconds)
    return (used() - before) / (time.perf_counter() - start)


def commit() -> str:
    """The commit of this checkout, with + when it has changes; empty outside git.

    PYGGML_BENCH_COMMIT states it where the installed package comes from another one.
    """
    if os.environ.get("PYGGML_BENCH_COMMIT"):
        return os.environ["PYGGML_BENCH_COMMIT"]
    try:
        head = subprocess.run(["git", "-C", HERE, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        state = subprocess.run(["git", "-C", HERE, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    except OSError:
        return ""
    return head.stdout.strip() + ("+" if state.stdout.strip() else "") if head.returncode == 0 else ""


def card(n_threads: int = 0, measure: bool = True) -> dict[str, Any]:
    """Plain data, ready for JSON. n_threads 0: all cores."""
    import numpy

    import pyggml

    facts = pyggml.info()
    n_threads = n_threads or cores()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cpu_flags": cpu_flags(),
        "cores": cores(),
        "threads": n_threads,
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "pyggml": facts["pyggml"],
        "commit": commit(),
        "isa": facts["isa"],
        "rates": rates(n_threads) if measure else {},
    }


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


if __name__ == "__main__":
    print(json.dumps(card(), indent=1))
