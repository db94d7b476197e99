"""What all tests share: the reference data, the golden files, and which pyggml is under test.

Tests run against the installed package (rootdir is not on sys.path). PYGGML_DEV=1 allows the source tree in CI.
Reference data lies beside the checkout in ../shared, or where PYGGML_SHARED says; without it the tests
that need it skip, and the summary says how many did.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MISSING = "NO SHARED DATA"


def shared_dir() -> Path | None:
    """The folder of reference data, or None where this machine has none."""
    named = os.environ.get("PYGGML_SHARED")
    path = Path(named) if named else ROOT.parent / "shared"
    return path.resolve() if (path / "conformance").is_dir() else None


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leaves the checkout, so that `python -c` and `python -m` in tests find the installed package, not the sources."""
    if package_dir() == ROOT / "pyggml":
        yield
        return
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference models, vocabularies and vectors; skips loudly where they are missing."""
    path = shared_dir()
    if path is None:
        pytest.skip(f"{MISSING}: put it in ../shared or name it in PYGGML_SHARED")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """tests/golden: small expected results, each with the script that made it."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout, for tests that read sources."""
    return ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)


def package_dir() -> Path:
    """Where the pyggml under test lies."""
    spec = importlib.util.find_spec("pyggml")
    if spec is None or not spec.submodule_search_locations:
        pytest.exit("pyggml is not installed in this environment (pip install .)", 3)
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def pytest_report_header() -> list[str]:
    return [f"pyggml: {package_dir()}", f"shared: {shared_dir() or 'MISSING, its tests will skip'}"]


def pytest_sessionstart(session: pytest.Session) -> None:
    inside = package_dir() == ROOT / "pyggml"
    if inside and os.environ.get("CI") and os.environ.get("PYGGML_DEV") != "1":
        pytest.exit("the source tree shadows the installed package; use `pytest`, not `python -m pytest`", 3)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    missing = sum(MISSING in str(report.longrepr) for report in skipped)
    if missing:
        terminalreporter.write_line(
            f"{missing} tests skipped: no shared data (../shared or PYGGML_SHARED)", yellow=True, bold=True
        )
