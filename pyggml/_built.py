"""Says what to do where the native part is missing: Python started among the sources finds them first."""

from __future__ import annotations

import os

try:
    import pyggml._native  # noqa: F401
except ModuleNotFoundError as missing:
    if missing.name != "pyggml._native":
        raise
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    raise ImportError(
        f"{here} holds the sources of pyggml, without their native part for this Python: leave that folder to use the "
        "pyggml that is installed (cd .., after pip install), or build in place (docs/CONTRIBUTING.md)",
        name="pyggml._native",
        path=here,
    ) from None
