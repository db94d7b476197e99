"""What this installation is and what it found on this machine: the text of a bug report."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from pyggml import _native, arch
from pyggml.keywords import known_only

_OTHERS = ("numpy", "jinja2", "tokenizers", "sentencepiece", "typer", "rich")


@known_only
def info() -> dict[str, Any]:
    """Versions, CPU level and why, threads, types, architectures, devices. Plain data, ready for JSON.

    >>> info()["isa"] in info()["isa_levels"]
    True
    """
    import importlib.metadata  # these take longer than all the rest here
    import platform

    versions: dict[str, str | None] = {}
    for name in _OTHERS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # noqa: PERF203 - six names, once
            versions[name] = None
    forced = os.environ.get("PYGGML_ISA")
    return {
        "pyggml": _native.version(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "isa": _native.isa(),
        "isa_levels": _native.isa_levels(),
        "isa_reason": f"forced by PYGGML_ISA={forced}" if forced else "the best this CPU runs",
        "threads": _native.default_threads(),
        "types": [name for _, name, *_ in _native.type_table()],
        "types_written": [row[1] for row in _native.type_table() if row[6]],
        "architectures": arch.names(),
        "devices": _devices(),
        "versions": versions,
    }


def _devices() -> list[dict[str, Any]]:
    """OpenCL and CUDA devices, where the optional extension was built."""
    if importlib.util.find_spec("pyggml._devices") is None:
        return []
    from pyggml import _devices

    return [dict(device) for device in _devices.devices()]
