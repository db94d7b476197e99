"""Devices other than the CPU. The module is optional: guard the import."""

from typing import Any

def devices() -> list[dict[str, Any]]:
    """Dicts with backend ("cuda" or "opencl"), name, memory (bytes), driver; an empty list without drivers."""
