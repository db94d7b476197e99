"""Puts the machine card into pytest-benchmark's JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    import card

    machine_info["card"] = card.card()
