"""What the package writes it reads: large choices, odd names and notes, and nothing is written that it would refuse."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyggml
from pyggml.errors import ArgumentError, GGUFError
from pyggml.model import BUNDLED
from pyggml.quant.types import QuantType
from pyggml.recipes import Recipe, Rule, importance, parse_recipe
from pyggml.recipes import recipe as limits
from pyggml.recipes.choose import Numbers, choose
from pyggml.recipes.costs import CANDIDATES, Sensitivity, TensorCost
from pyggml.recipes.matching import Rules
from pyggml.recipes.rewrite import Change, Changes

SECONDS = 60  # what hangs takes hours


class Matrix:
    """What choose() asks of a tensor."""

    shape, type = (256, 256), QuantType.parse("f16")

    def __init__(self, name: str) -> None:
        self.name = name


def large_choice(n_layer: int) -> Changes:
    kinds = [f"ffn_{part}.{i}" for part in ("gate", "up", "down") for i in range(8)]
    names = [f"blk.{layer}.{kind}.weight" for layer in range(n_layer) for kind in kinds]
    new = [("q4_k", "q6_k")[number % 3 == 0] for number in range(len(names))]
    rows = [Change(name, "f16", kind, 1) for name, kind in zip(names, new, strict=True)]
    return Changes(rows, Recipe("Q4_K_M", note="chosen"), set(names))


def test_a_choice_of_thousands_of_matrices_is_read_and_used_again(tmp_path: Path) -> None:
    rows = large_choice(250)
    assert len(rows) == 6000
    path = tmp_path / "r.toml"
    begin = time.monotonic()
    path.write_text(rows.recipe.to_toml())
    read = pyggml.load_recipe(path)
    chosen = choose(read, [Matrix(row.name) for row in rows], Numbers(n_layer=250))
    assert {name: choice.type.name for name, choice in chosen.items()} == {row.name: row.new for row in rows}
    assert read == rows.recipe
    assert time.monotonic() - begin < SECONDS


def test_names_are_looked_up_as_they_would_be_searched() -> None:
    names = ["a", "a.b", "a.b\n", "a\nb", "", "a+b", "axb", "blk.0.x", "blk.1.x", "A.B", "a.b\n\n", "^a.b$"]
    rules = [Rule(f"^{re.escape(name)}$", "q8_0", layers) for name in names for layers in ("", "0")]
    rules += [Rule("^a.b$", "q4_0"), Rule("b$", "q5_0"), Rule(r"^a\.b$", "q6_k"), Rule("x", "f16", "1")]
    for order in (rules, rules[::-1], rules[5:] + rules[:5]):
        found = Rules(order, 2)
        for name in names:
            slow = (
                rule for rule in order
                if re.search(rule.match, name) and name.startswith(f"blk.{rule.layers}." if rule.layers else "")
            )  # fmt: skip
            assert found.first(name) == next(slow, None), name
    for rule in rules:
        for name in names:
            fits = not rule.layers or name.startswith(f"blk.{rule.layers}.")
            assert rule.matcher(2)(name) == (fits and bool(re.search(rule.match, name)))


@pytest.mark.parametrize(
    "made",
    [
        Recipe("q4_k_m", [Rule("ffn_up"), Rule("norm", "", "first 2")], [Rule("x"), Rule("y", "f32")]),
        Recipe("Q4_0", output_type=12, embedding_type=QuantType.parse("q6_k")),  # type: ignore[arg-type]
        Recipe("Q4_0", note="\x00\x7f\u0085\u2028'''\"\"\"\\\t\n\r\U0001f600", smaller=["Q3_K_M", 'it\'s "so"']),
        Recipe("Q4_0", [Rule("^a\\\nb'\"$", "q8_0"), Rule("\u00e9\u4e2d", "q8_0")], max_size=2**63 - 1),
        Recipe("Q4_0", [Rule(f"^{re.escape('.' * 1024)}$", "q8_0")]),
    ],
)
def test_recipes_are_read_as_they_were(made: Recipe) -> None:
    again = parse_recipe(made.to_toml())
    assert again == made
    assert again.to_toml() == made.to_toml()


def test_a_rule_without_a_type_leaves_what_is_there() -> None:
    kinds = {
        row.name: row.new
        for row in pyggml.quantize_file(
            BUNDLED, "", "Q4_0", rules={"ffn_up": "", "ffn": "q5_0"}, allow_requantize=True, dry_run=True
        )
    }
    with pyggml.gguf.open(BUNDLED) as file:
        assert kinds["blk.0.ffn_up.weight"] == file.tensors["blk.0.ffn_up.weight"].type.name
    assert kinds["blk.0.ffn_down.weight"] == "q5_0"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (Recipe(note="\ud800"), r"holds '\\ud800', which is no character"),
        (Recipe(rules=[Rule("x", "q8_0")] * (limits.MAX_PATTERNS + 1)), "at most 4096 rules that do not name one"),
        (Recipe(keep=[Rule("^x$")] * (limits.MAX_RULES + 1)), "131,073 rules, at most 131,072"),
        (Recipe(note="x" * limits.MAX_TOML), "a recipe of 16,.* bytes, at most 16,777,216"),
        (Recipe(base=3), "base must be text"),  # type: ignore[arg-type]
        (Recipe(output_type="q99"), "output_type.*q99|unknown tensor type"),
    ],
)
def test_a_recipe_that_could_not_be_read_is_not_written(made: Recipe, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        made.to_toml()


# ---- what was measured -----------------------------------------------------------------------------------------------


def test_the_costs_of_a_large_model_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = dict.fromkeys(CANDIDATES, 0.1)
    names = [f"blk.{i}.ffn_up.weight" for i in range(60)]
    known = Sensitivity({name: TensorCost(name, (2, 64, 256), "f16", error, error) for name in names})
    known.save(tmp_path / "c.json")
    assert Sensitivity.load(tmp_path / "c.json") == known
    each = (tmp_path / "c.json").stat().st_size / 60
    assert each * pyggml.gguf.format.MAX_TENSORS < pyggml.recipes.costs._MAX_FILE
    monkeypatch.setattr(pyggml.recipes.costs, "_MAX_FILE", 1000)
    with pytest.raises(ArgumentError, match=r"cannot be saved, they could not be read again: it has .* at most 1000"):
        known.save(tmp_path / "d.json")


@pytest.mark.parametrize(
    "cost",
    [
        TensorCost("a", (2, 3), "f16", {"q4_0": float("nan")}),
        TensorCost("a", (2, 3), "f16", {"q4_0": -1.0}),
        TensorCost("a", (2, 3), "q99", {}),
        TensorCost("a", (2, 3), "f16", {}, {"q4_0": 1.0}),
        TensorCost("\ud800", (2, 3), "f16", {}),
    ],
)
def test_costs_that_could_not_be_read_are_not_written(cost: TensorCost, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="these costs cannot be saved"):
        Sensitivity({"a": cost}).save(tmp_path / "c.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sums", "counts", "how", "told"),
    [
        ([[np.nan]], [1], {}, "sums.* must be finite and not negative"),
        ([[np.inf]], [1], {}, "sums.* must be finite"),
        ([[-1]], [1], {}, "sums.* must be finite and not negative"),
        ([[1]], [-1], {}, "counts.* must be finite and not negative"),
        ([[1]], [np.inf], {}, "counts.* must be finite"),
        ([[3e38]], [1e-9], {}, "sums.* are too large for their counts"),
        ([[1]], [1], {"n_chunk": 2**31}, "n_chunk must be"),
        ([[1]], [1], {"chunk_size": 2**31}, "chunk_size must be"),
    ],
)
def test_an_importance_matrix_that_makes_no_sense_is_not_made(sums: Any, counts: Any, how: Any, told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        pyggml.Imatrix({"w": np.array(sums)}, {"w": np.array(counts)}, **how)


def test_an_importance_matrix_is_read_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "im.gguf"
    many = {f"w.{i}": np.full((2, 3), i, np.float32) for i in range(9)} | {"": np.ones((1, 1), np.float32)}
    made = pyggml.Imatrix(many, {name: np.arange(len(each)) for name, each in many.items()}, ["t"], 2**31 - 1, 1)
    made.save(path)
    again = pyggml.Imatrix.load(path)
    assert (again.n_chunk, again.chunk_size, again.datasets) == (2**31 - 1, 1, ["t"])
    assert all(np.array_equal(again[name], made[name]) for name in many)
    assert len(again) == 10
    path.unlink()
    monkeypatch.setattr(importance, "_MAX_TOTAL", 10)
    for odd in (made, pyggml.Imatrix({}, {})):
        with pytest.raises(ArgumentError, match=r"an importance matrix of (55|0) columns cannot be saved"):
            odd.save(path)
    assert not path.exists()


# ---- sessions --------------------------------------------------------------------------------------------------------


def test_a_session_is_read_by_any_that_can_hold_it_and_others_say_why_not(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    with pyggml.load(n_ctx=512) as m:
        full = m.session(kv_type="f32")
        full.step([1] * 500)
        full.save(path)
        for n_ctx, kind, told in (
            (512, "q4_0", "the state's cache is f32, the session's q4_0"),
            (16, "f32", "the state has 500 positions, the session holds 16"),
            (499, "f32", "the state has 500 positions, the session holds 499"),
        ):
            with pytest.raises(ArgumentError, match=told):
                m.session(n_ctx, kind).load(path)
        for n_ctx in (500, 512):
            other = m.session(n_ctx, "f32")
            other.load(path)
            assert other.n_past == 500
        path.write_bytes(path.read_bytes() + bytes(1 << 22))
        with pytest.raises(GGUFError, match="are too many"):
            full.load(path)
