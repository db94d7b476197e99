"""What the documents show runs: every doctest of the package, and the README's example on the bundled model."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import pyggml

EXTRAS = {  # modules with a library of their own
    "pyggml.torch": "torch",
    "pyggml.compat.llm": "llm",
    "pyggml.compat.langchain": "langchain_core",
}
MODULES = ["pyggml"] + [
    info.name
    for info in pkgutil.walk_packages(pyggml.__path__, "pyggml.")
    if not info.name.endswith(("__main__", "_devices")) and ".data" not in info.name
]


class Finder(doctest.DocTestFinder):
    """Finds those of decorated functions too, which doctest takes for another module's."""

    def _from_module(self, module: Any, object: Any) -> bool:  # noqa: A002 - doctest's word
        found = inspect.unwrap(object) if inspect.isfunction(object) else object
        return bool(super()._from_module(module, found))  # type: ignore[misc]


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str, repo_root: Path) -> None:
    if name == "pyggml.embed" and Path(pyggml.__file__).parent == repo_root / "pyggml":
        pytest.skip("a source tree: the C library is not installed")
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in Finder().find(importlib.import_module(name)):
        runner.run(test)
    assert runner.failures == 0, f"{name}: {runner.failures} of {runner.tries}"


def test_there_are_doctests() -> None:
    finder = Finder(exclude_empty=True)
    found = [
        t for name in MODULES if name not in EXTRAS for t in finder.find(importlib.import_module(name)) if t.examples
    ]
    assert {"pyggml.model.load", "pyggml.model.Model.generate", "pyggml.quant.tensor.Tensor"} <= {t.name for t in found}


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


def test_readme_names_what_runs_and_every_extra(repo_root: Path) -> None:
    text = (repo_root / "README.md").read_text(encoding="utf-8")
    told = re.search(r"Architectures that run: (.*?)\.\sEvery", text, re.S)
    assert told is not None
    assert sorted(re.findall(r"`([\w-]+)`", told[1])) == pyggml.info()["architectures"]
    extras = re.search(r"optional-dependencies\]\n(.*?)\n\n", (repo_root / "pyproject.toml").read_text("utf-8"), re.S)
    told = re.search(r"^Extras: (.*?)\n\n", text, re.S | re.M)
    assert extras is not None
    assert told is not None
    for name in re.findall(r"^(\w+) = \[", extras[1], re.M):
        assert re.search(rf"`{name}`|\.\[{name}\]", told[1]), name


def test_the_table_of_models_has_what_runs(repo_root: Path) -> None:
    """Made by tests/model/table.py; each architecture was compared with something, and lost no state."""
    table = (repo_root / "docs" / "MODELS.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert [row[0].removeprefix("| ") for row in rows] == pyggml.info()["architectures"]
    for name, compared, error, *_, state, _converts in rows:
        assert re.search(r"\d [TCO]", compared), name
        assert float(error) < 2e-5, name
        assert state in ("same bits", "-"), name


def test_every_environment_variable_is_told(repo_root: Path) -> None:
    read = re.compile(r"""(?:environ(?:\.get\(|\[)|getenv\()\s*["'](PYGGML_\w+)|\$\{(PYGGML_\w+)""")
    found: set[str] = set()
    for folder in ("pyggml", "native", "tests", "bench", ".ci"):
        for path in (repo_root / folder).rglob("*"):
            if path.is_file() and (path.suffix in (".py", ".pyx", ".c", ".sh") or path.parent.name == ".ci"):
                found |= {a or b for a, b in read.findall(path.read_text(encoding="utf-8"))}
    found |= {"PYGGML_DEBUG"}
    assert "PYGGML_ISA" in found
    text = (repo_root / "docs" / "CLI.md").read_text(encoding="utf-8")
    assert not {name for name in found if f"`{name}`" not in text}


def test_command_lines_of_the_documents_parse(repo_root: Path) -> None:
    from typer.main import get_command

    from pyggml.cli.app import app

    commands = get_command(app).commands
    lines = [
        line.split("#")[0].split()
        for name in ("README.md", "docs/CLI.md", "docs/QUANTIZING.md")
        for line in (repo_root / name).read_text(encoding="utf-8").splitlines()
        if line.startswith("pyggml ")
    ]
    assert len(lines) > 15
    for words in lines:
        known = {option for p in commands[words[1]].params for option in p.opts}
        options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert options <= known, words


def test_the_options_of_the_document_exist(repo_root: Path) -> None:
    from typer.main import get_command

    from pyggml.cli.app import app

    every = {o for c in get_command(app).commands.values() for p in c.params for o in p.opts}
    every |= {"--help", "-h"}
    text = (repo_root / "docs" / "CLI.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(--?[a-z][\w-]*)", text))
    assert len(told) > 20
    assert told <= every, told - every
