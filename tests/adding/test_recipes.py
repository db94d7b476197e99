"""docs/ADDING.md names files that are there, and tests/adding does what it says for every recipe of the core."""

from __future__ import annotations

import pytest
from adding.additions import ADDITIONS
from adding.recipes import ROOT, names, recipes


@pytest.mark.parametrize("heading", recipes())
def test_recipes_name_what_exists(heading: str) -> None:
    patterns = recipes()[heading]
    assert patterns, f"{heading}: no path is read from its steps"
    for pattern in patterns:
        own = "*" in pattern and any(ROOT.glob(pattern.split("*")[0].rpartition("/")[0]))
        assert own or (ROOT / pattern).exists(), f"{heading}: there is no {pattern}"


def test_additions_have_their_recipe() -> None:
    assert set(ADDITIONS) <= set(recipes())


def test_what_a_recipe_names() -> None:
    steps = "1. `native/a.def` and\n   `pyggml/arch/<family>.py`, not `a.c`; `pyggml/room/`.\n"
    found = recipes(f"## One\n\n{steps}\nCheck: `tests/x.py`\n")
    assert found == {"One": ["native/a.def", "pyggml/arch/*.py", "pyggml/room/"]}
    named, others = (
        ("native/a.def", "pyggml/arch/x.py", "pyggml/room/y"),
        ("native/b.def", "pyggml/arch/x.c", "tests/x.py"),
    )
    assert all(names(found["One"], path) for path in named)
    assert not any(names(found["One"], path) for path in others)
