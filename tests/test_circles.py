"""No circles: between the modules of pyggml by their imports, between the C files by what they call and include.

Imports deferred into functions and those for types alone count like any other: whoever reads one module has to read the
other. Reads sources only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from test_house import NATIVE, PACKAGE, ROOT, c_sources, code_of, includes_of, where

Graph = Mapping[str, set[str]]


def circles(graph: Graph) -> list[list[str]]:
    """The sets of names that reach each other, each sorted; those of one name are left out."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for name in graph.get(todo.pop(), set()) - seen:
                seen.add(name)
                todo.append(name)
        reach[start] = seen
    found = {tuple(sorted(b for b in reach[a] if a in reach.get(b, ()))) for a in graph if a in reach[a]}
    return sorted(list(names) for names in found if len(names) > 1)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, modules: set[str]) -> Iterator[str]:
    """The modules of the package that a module names in any import."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *(node.module.split(".") if node.module else ())))
            for alias in node.names:
                name = f"{stem}.{alias.name}"
                if name in modules or stem in modules:
                    yield name if name in modules else stem


def python_graph() -> dict[str, set[str]]:
    paths = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    known = {*paths, "pyggml._native", "pyggml._devices"}
    return {name: set(imported(path, known)) - {name} for name, path in paths.items()}


def c_graph() -> dict[str, set[str]]:
    """File -> files whose functions it calls (or takes the address of), and those it includes."""
    texts = {where(path): code_of(path) for path in c_sources()}
    head = re.compile(r"^(?!static)[A-Za-z_][\w \t*]*?\b(pgg_\w+)\s*\([^;{}]*\)\s*\{", re.M)
    homes = {name: file for file, text in texts.items() if file.endswith(".c") for name in head.findall(text)}
    graph: dict[str, set[str]] = {}
    for file, text in texts.items():
        called = {homes[name] for name in re.findall(r"\bpgg_\w+", text) if name in homes}
        graph[file] = called - {file} if file.endswith(".c") else set()
    for path in c_sources():
        for name, _ in includes_of(path):
            for folder in (path.parent, NATIVE, NATIVE / "include"):
                if (folder / name).is_file():
                    graph[where(path)].add(where((folder / name).resolve()))
                    break
    return graph


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.xfail(strict=True, reason="model.py and engine/ know each other until the engine is built")
def test_no_module_imports_in_a_circle() -> None:
    graph = python_graph()
    assert len(graph["pyggml.model"]) > 10, "imports are not read"
    assert circles(graph) == []


def test_no_c_file_calls_in_a_circle() -> None:
    graph = c_graph()
    assert "native/core/exec.h" in graph["native/core/exec.c"]
    assert len(graph["native/core/plan.c"]) > 8
    assert circles(graph) == []
