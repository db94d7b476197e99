"""The machine card: what hardware and software a number was measured on, and what that machine can do at best.

`python bench/card.py` prints it. The rates come from probe.c, built here with the local C compiler; without one they
are missing, and the card says so.
"""

from __future__ import annotations

import atexit
import contextlib
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
READ_BYTES = 256 << 20  # as much as probe.c reads of a file
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


def probe_flags(have: set[str]) -> list[str]:
    """Compiler flags of the widest vectors among these CPU flags: named, so that the probe is one program everywhere.

    >>> probe_flags({"avx2", "fma", "f16c", "avx_vnni"})
    ['-mavx2', '-mfma', '-mf16c', '-mavxvnni']
    """
    avx2 = ["avx2", "fma", "f16c"]
    avx512 = ["avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"]
    if not {*avx2} <= have:
        return []
    wanted = avx2
    if {*avx512[:4], "avx512_vnni"} <= have:
        wanted = avx2 + avx512 + (["avx512bf16"] if "avx512_bf16" in have else [])
    elif "avx_vnni" in have:
        wanted = [*avx2, "avxvnni"]
    return [f"-m{name}" for name in wanted]


@functools.cache
def _probe() -> str | None:
    """The built probe, or None without a C compiler."""
    cc = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if cc is None:
        return None
    program = Path(tempfile.mkdtemp(prefix="pyggml-probe-")) / "probe"
    command = [cc, "-O2", *probe_flags(set(cpu_flags())), str(HERE / "probe.c"), "-o", str(program), "-lpthread"]
    got = subprocess.run(command, capture_output=True, text=True)
    if got.returncode:
        print(f"bench: probe.c does not build here, the card has no rates:\n{got.stderr[:500]}", file=sys.stderr)
        return None
    return str(program)


@functools.cache
def _file() -> str:
    """A file whose pages can be mapped and read; it goes with the process."""
    folder = tempfile.mkdtemp(prefix="pyggml-read-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, "data")
    block = os.urandom(1 << 20)
    with path.open("wb") as out:
        for _ in range(READ_BYTES >> 20):
            out.write(block)
    return str(path)


def rates(threads: Sequence[int] = (1,), seconds: float = 0.05, file: str | None = None) -> dict[str, float]:
    """Clock, peaks and read bandwidth of this minute, per number of threads. {} without a compiler.

    Names: clock_ghz, {int8,bf16,f32}_gmac_N, read_gbs_4k_N (a mapped file: file, or one of its own), read_gbs_2m_N
    (anonymous memory on huge pages); N threads together. About 3 * seconds a figure.
    """
    program = _probe()
    if program is None:
        return {}
    command = [program, str(seconds), file or _file(), *map(str, sorted(set(threads)))]
    got = subprocess.run(command, capture_output=True, text=True)
    if got.returncode:
        print(f"bench: the probe failed ({got.returncode}): no rates", file=sys.stderr)
        return {}
    found: dict[str, float] = json.loads(got.stdout)
    return found


def pages() -> dict[str, str]:
    """Page settings of the system that weights and caches meet."""
    folder = Path("/sys/kernel/mm/transparent_hugepage")
    found = {"page_bytes": str(os.sysconf("SC_PAGE_SIZE")) if hasattr(os, "sysconf") else ""}
    for name in ("enabled", "defrag", "shmem_enabled"):
        with contextlib.suppress(OSError):
            found[f"transparent_hugepage_{name}"] = (folder / name).read_text(encoding="ascii").strip()
    return found


def caches() -> dict[str, str]:
    """Sizes of the first core's caches."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with contextlib.suppress(OSError):
            level, kind, size = ((index / n).read_text(encoding="ascii").strip() for n in ("level", "type", "size"))
            found[f"L{level} {kind.lower()}"] = size
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


def card(threads: Sequence[int] = (), measure: bool = True) -> dict[str, Any]:
    """Plain data, ready for JSON. threads: what to measure the machine with; none: 1 and all cores."""
    import numpy

    import pyggml

    facts = pyggml.info()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cpu_flags": cpu_flags(),
        "caches": caches(),
        "cores": cores(),
        "memory_gb": _memory_gb(),
        "pages": pages(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "busy_cores": round(busy(0.5), 2),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "pyggml": facts["pyggml"],
        "commit": commit(),
        "isa": facts["isa"],
        "rates": rates(threads or (1, cores())) if measure else {},
    }


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


if __name__ == "__main__":
    print(json.dumps(card(), indent=1))
