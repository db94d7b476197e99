"""Options of the kernel bench, the machine's rates beside it, and the card in pytest-benchmark's JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def pytest_addoption(parser: Any) -> None:
    """--full, --threads, --seconds."""
    group = parser.getgroup("kernel bench")
    group.addoption("--full", action="store_true", help="all types, shapes and n: about 10 minutes")
    group.addoption("--threads", type=int, default=1, help="threads of the products")
    group.addoption("--seconds", type=float, default=0, help="skip products that would begin later; 0: 180, full 900")


def pytest_configure(config: Any) -> None:
    """The clock of --seconds begins."""
    config._bench_end = time.monotonic() + (
        config.getoption("--seconds") or (900 if config.getoption("--full") else 180)
    )


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    import card

    machine_info["card"] = card.card((1, config.getoption("--threads")))


@pytest.fixture(scope="session")
def threads(pytestconfig: Any) -> int:
    """Threads asked for."""
    return int(pytestconfig.getoption("--threads"))


@pytest.fixture(scope="session")
def rates(threads: int) -> dict[str, float]:
    """The machine's rates before the first case."""
    import card

    return card.rates((threads,))


@pytest.fixture
def time_left(pytestconfig: Any) -> Callable[[], None]:
    """Skips the case when the time is up."""

    def judge() -> None:
        if time.monotonic() > pytestconfig._bench_end:
            pytest.skip("the time of --seconds is up")

    return judge
