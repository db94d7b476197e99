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
from test_house import C_FLOORS, NATIVE, PACKAGE, PY_FLOORS, ROOT, c_sources, code_of, includes_of, where

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


def imported(text: str, package: tuple[str, ...], modules: set[str]) -> Iterator[str]:
    """The modules of the package that a module's text names in any import; package: the folders it lies in."""
    for node in ast.walk(ast.parse(text)):
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
    return {
        name: set(imported(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parent.parts, known)) - {name}
        for name, path in paths.items()
    }


def c_calls(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """File -> files whose functions it calls (or takes the address of); texts: code by file."""
    head = re.compile(r"^(?!static)[A-Za-z_][\w \t*]*?\b(pgg_\w+)\s*\([^;{}]*\)\s*\{", re.M)
    homes = {name: file for file, text in texts.items() if file.endswith(".c") for name in head.findall(text)}
    graph: dict[str, set[str]] = {}
    for file, text in texts.items():
        called = {homes[name] for name in re.findall(r"\bpgg_\w+", text) if name in homes}
        graph[file] = called - {file} if file.endswith(".c") else set()
    return graph


def c_graph() -> dict[str, set[str]]:
    """File -> files whose functions it calls, and those it includes."""
    graph = c_calls({where(path): code_of(path) for path in c_sources()})
    for path in c_sources():
        for name, _ in includes_of(path):
            for folder in (path.parent, NATIVE, NATIVE / "include"):
                if (folder / name).is_file():
                    graph[where(path)].add(where((folder / name).resolve()))
                    break
    return graph


# The one file above core/ that core/ calls: it lists the backends, and core/backend.h says how.
SEAM = "native/backends/table.c"


def upward(graph: Graph) -> list[str]:
    """Calls and includes of C files that reach a floor above their own."""
    rooms = {file: Path(file).parts[1] for file in {*graph, *(b for names in graph.values() for b in names)}}
    return sorted(
        f"{a} reaches up to {b}"
        for a, names in graph.items()
        for b in names
        if rooms[b] != rooms[a] and rooms[b] not in C_FLOORS[rooms[a]] and b != SEAM
    )


# ---- what these tests are for: circles that this code had ----------------------------------------------------------

# Each is all that its modules imported of each other, under the names of that time.
FORMER: dict[str, dict[str, set[str]]] = {
    "package and embed": {"pyggml": {"embed"}, "embed": {"pyggml"}},
    "model and engine": {
        "batch": {"generate", "model", "session"},
        "generate": {"model", "session"},
        "model": {"batch", "generate", "scoring", "session"},
        "scoring": {"model", "session"},
        "session": {"model"},
    },
    "quant and numeric": {"catalogue": {"quant"}, "notation": {"quant"}, "quant": {"catalogue", "notation"}},
    "recipes": {
        "budget": {"costs"},
        "costs": {"rewrite"},
        "measured": {"budget", "costs"},
        "rewrite": {"costs", "measured"},
    },
    "sync and watch": {"sync.c": {"watch.c"}, "watch.c": {"sync.c"}},
}

# An import that closes such a circle among the files of today.
CLOSING = [
    ("pyggml.embed", "pyggml"),
    ("pyggml.quant.types", "pyggml.numeric.notation"),
    ("pyggml.quant.types", "pyggml.numeric.catalogue"),
    ("pyggml.recipes.costs", "pyggml.recipes.rewrite"),
]


@pytest.mark.parametrize("name", FORMER)
def test_former_circles_would_be_found(name: str) -> None:
    assert circles(FORMER[name]) == [sorted(FORMER[name])]


@pytest.mark.parametrize(("start", "end"), CLOSING)
def test_a_closing_import_would_be_found(start: str, end: str) -> None:
    graph = python_graph()
    assert {start, end} <= set(graph), "a module was renamed: name it here too"
    assert not [names for names in circles(graph) if {start, end} <= set(names)]
    graph[start] = {*graph[start], end}
    assert [names for names in circles(graph) if {start, end} <= set(names)]


def test_the_engine_may_not_know_the_model() -> None:
    """By the floors already; and by the circle that any such import closes."""
    assert PY_FLOORS["engine"] < PY_FLOORS["model"]
    graph = python_graph()
    used = [name for name in graph["pyggml.model"] if name.startswith("pyggml.engine.")]
    assert used, "model.py stands on engine/"
    for name in used:
        closed = {**graph, name: {*graph[name], "pyggml.model"}}
        assert [names for names in circles(closed) if {name, "pyggml.model"} <= set(names)], name


def test_imports_are_read_wherever_they_stand() -> None:
    text = (
        "from typing import TYPE_CHECKING\nimport p.a\nfrom p import b\nfrom . import c\nfrom .d import x\n"
        "if TYPE_CHECKING:\n    from p.e import y\ndef f():\n    from p.g.h import z\n"
    )
    assert set(imported(text, ("p",), {f"p.{n}" for n in (*"abcde", "g.h", "unused")})) == {
        *(f"p.{n}" for n in "abcde"), "p.g.h",
    }  # fmt: skip


def test_c_calls_are_read() -> None:
    """As sync.c and watch.c had them, and as core and its backend have no right to."""
    graph = c_calls(
        {
            "native/base/sync.c": "void pgg_wait(pgg_gate *g) {\n  if (pgg_watch_says_stop()) return;\n}\n",
            "native/base/watch.c": "int pgg_watch_says_stop(void) {\n  return pgg_at == &pgg_wait;\n}\n",
            "native/core/plan.c": "pgg_status pgg_plan_new(pgg_plan **p) {\n  return pgg_backend_default(p);\n}\n",
            "native/backends/cpu/backend.c": "pgg_status pgg_backend_default(void *p) {\n  return 0;\n}\n",
        }
    )
    assert circles(graph) == [["native/base/sync.c", "native/base/watch.c"]]
    assert upward(graph) == ["native/core/plan.c reaches up to native/backends/cpu/backend.c"]


# ---- the code of today ---------------------------------------------------------------------------------------------


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_in_a_circle() -> None:
    graph = python_graph()
    assert len(graph["pyggml.model"]) > 10, "imports are not read"
    assert circles(graph) == []


def test_no_c_file_calls_in_a_circle() -> None:
    graph = c_graph()
    assert "native/core/exec.h" in graph["native/core/exec.c"]
    assert len(graph["native/core/plan.c"]) > 8
    assert circles(graph) == []


def test_no_c_file_calls_up() -> None:
    graph = c_graph()
    assert "native/base/error.c" in graph["native/core/plan.c"]
    assert upward(graph) == []
