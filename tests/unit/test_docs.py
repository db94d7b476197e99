"""What the documents show runs: every doctest of the package, and the README's example on the bundled model."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import pyggml

EXTRAS = {"pyggml.torch": "torch"}  # a module with a library of its own
MODULES = ["pyggml"] + [
    info.name
    for info in pkgutil.walk_packages(pyggml.__path__, "pyggml.")
    if not info.name.endswith(("__main__", "_devices")) and ".data" not in info.name
]


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str, repo_root: Path) -> None:
    if name == "pyggml.embed" and Path(pyggml.__file__).parent == repo_root / "pyggml":
        pytest.skip("a source tree: the C library is not installed")
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, f"{name}: {result}"


def test_there_are_doctests() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [
        t for name in MODULES if name not in EXTRAS for t in finder.find(importlib.import_module(name)) if t.examples
    ]
    assert len(found) > 15


def test_readme_example(repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (repo_root / "README.md").read_text(encoding="utf-8")
    match = re.search(r"## Ten lines.*?```python\n(.*?)```", text, re.S)
    assert match is not None
    bundled = next(Path(p) for folder in pyggml.__path__ for p in Path(folder, "data").glob("*.gguf"))
    names: dict[str, object] = {}
    exec(match[1].replace('"model.gguf"', repr(str(bundled))), names)
    printed = capsys.readouterr().out
    assert len(printed) > 200
    assert "general.architecture" in printed
