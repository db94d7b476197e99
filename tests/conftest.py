"""What all tests share: the reference data, the golden files, and which pyggml is under test.

Tests run against the installed package (rootdir is not on sys.path). PYGGML_DEV=1 allows the source tree in CI.
Reference data lies beside the checkout in ../shared, or where PYGGML_SHARED says; without it the tests
that need it skip, and the summary says how many did.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


LLAMA_RUNS = """
import sys, llama_cpp
for path in sys.argv[1:]:
    llama_cpp.Llama(path, verbose=False, n_ctx=64, n_threads=1).eval(list(range(5, 25)))
"""


@pytest.fixture(scope="session")
def llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module, where it is installed and its build runs on this CPU: one made for another dies of the signal."""
    import pyggml
    from pyggml.model import BUNDLED

    module = pytest.importorskip("llama_cpp")
    paths = [tmp_path_factory.mktemp("probe") / f"{kind}.gguf" for kind in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M")]
    for path in paths:
        pyggml.quantize_file(BUNDLED, path, path.stem, allow_requantize=True)
    done = subprocess.run([sys.executable, "-c", LLAMA_RUNS, *map(str, paths)], capture_output=True, timeout=300)
    if done.returncode:
        pytest.skip(f"LLAMA.CPP DOES NOT RUN HERE: its build ended with status {done.returncode} on this CPU")
    return module


@pytest.fixture(scope="session")
def golden() -> Path:
    """tests/golden: small expected results, each with the script that made it."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout, for tests that read sources."""
    return ROOT


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:
        from pyggml import _native

        metafunc.parametrize("isa", _native.isa_levels(), indirect=True)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each CPU level of this machine in turn, forced while the test runs."""
    from pyggml import _native

    _native.isa_force(request.param)
    yield request.param
    _native.isa_force(None)


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
