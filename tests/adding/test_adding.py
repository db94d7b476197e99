"""docs/ADDING.md, done: in a copy of the tree each addition touches only what its recipe names; built, all work.

One build for all (minutes), so these run by night: pytest -m nightly tests/adding.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from adding.additions import ADDITIONS
from adding.recipes import ROOT, names, recipes
from adding.scratch import Scratch

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(7200)]

HEAD = """
import sys; sys.path.insert(0, "tests")
import numpy as np, pyggml
from pyggml import _native
assert pyggml.__file__.startswith(%r), pyggml.__file__
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Scratch:
    """The copy with everything added; `touched` says what each addition changed."""
    pytest.importorskip("Cython", reason="NO COMPILER: the test extra brings cython, cmake and ninja")
    for tool in ("git", "cmake", "ninja", "cc"):
        if shutil.which(tool) is None:
            pytest.skip(f"NO COMPILER: {tool} is needed to build the copy")
    scratch = Scratch(ROOT, tmp_path_factory.mktemp("adding") / "copy")
    for heading, add in ADDITIONS.items():
        add(scratch)
        TOUCHED[heading] = scratch.changed()
        scratch.keep(heading)
    return scratch


TOUCHED: dict[str, list[str]] = {}


@pytest.fixture(scope="module")
def built(tree: Scratch) -> Scratch:
    tree.build("_native", "test_quant", "check_products", "check_rows")
    return tree


def run(tree: Scratch, code: str) -> str:
    return tree.python(HEAD % str(tree.root) + code)


@pytest.mark.parametrize("heading", ADDITIONS)
def test_an_addition_touches_what_its_recipe_names(heading: str, tree: Scratch) -> None:
    touched = TOUCHED[heading]
    assert touched
    strange = [path for path in touched if not names(recipes()[heading], path)]
    assert not strange, f"{heading}: the recipe does not name {strange}; it names {recipes()[heading]}"


# ---- the quant type ------------------------------------------------------------------------------------------------


def test_the_type_is_known_everywhere(built: Scratch) -> None:
    run(
        built,
        """
kind = pyggml.QuantType.Q4_E
assert (kind.id, kind.elems, kind.bytes, kind.kind, kind.encodes) == (60, 32, 17, "block", True)
f = {f.name: f for f in pyggml.formats()}["q4_e"]
assert (f.bits, f.block, f.exponent, f.low, f.high, f.gguf, f.writable) == (4, 32, None, -8, 7, True, True), f
assert str(pyggml.numeric.notation_of(kind)) == "W4A8"
x = np.random.default_rng(1).normal(size=(70, 512)).astype(np.float32)
t = pyggml.quantize(x, "q4_e")
assert t.nbytes == 70 * 512 // 32 * 17
y = t.dequantize()
assert np.abs(y - x).max() <= 0.51 * np.abs(x).max() / 3.5
""",
    )


def test_the_type_multiplies_at_every_level(built: Scratch) -> None:
    run(
        built,
        """
rng = np.random.default_rng(2)
w, x = pyggml.quantize(rng.normal(size=(67, 768)).astype(np.float32), "q4_e"), rng.normal(size=(40, 768))
x = x.astype(np.float32)
want = x.astype(np.float64) @ w.dequantize().astype(np.float64).T
for isa in _native.isa_levels():
    _native.isa_force(isa)
    for n in (1, 3, 40):
        got = [_native.matmul(60, w.raw, 67, 768, x[:n], threads) for threads in (1, 2)]
        assert np.array_equal(*got), (isa, n)
        assert np.abs(got[0] - want[:n]).max() < 0.02 * np.abs(want).max(), (isa, n)
""",
    )


def test_a_file_of_the_type_runs(built: Scratch) -> None:
    out = built.root / "q4_e.gguf"
    run(
        built,
        f"""
from pyggml.model import BUNDLED
pyggml.quantize_file(BUNDLED, {str(out)!r}, "Q4_E", allow_requantize=True)
with pyggml.gguf.open({str(out)!r}) as f:
    assert "q4_e" in {{t.type.name for t in f.tensors.values()}}
with pyggml.load({str(out)!r}) as m:
    assert m.generate("Once upon a time", max_tokens=8, temperature=0).text
""",
    )
    for command in (("inspect", str(out)), ("formats",)):
        assert "q4_e" in built.run(sys.executable, "-m", "pyggml", *command)


def test_tests_that_walk_types_take_it(built: Scratch) -> None:
    unit = (
        "test_quant_type",
        "test_quant_decode",
        "test_quant_encode",
        "test_quant_headers",
        "test_numeric",
        "test_tensor",
    )
    built.pytest(*(f"tests/unit/{name}.py" for name in unit), "tests/unit/test_recipes_mixes.py")
    assert "36 types" in built.native("test_quant")
    for level in levels(built):
        assert ": ok" in built.native("check_products", level)


# ---- the op and the activation -------------------------------------------------------------------------------------


def levels(tree: Scratch) -> list[str]:
    return tree.python("from pyggml import _native; print(*_native.isa_levels())").split()


def test_slots_are_checked_at_every_level(built: Scratch) -> None:
    for level in levels(built):
        assert f"{level}: ok" in built.native("check_rows", level)


def test_the_op_runs_at_every_level(built: Scratch) -> None:
    run(
        built,
        """
from pyggml.graph import Graph
x = np.random.default_rng(3).normal(0, 2, (9, 10_001)).astype(np.float32)
for isa in _native.isa_levels():
    _native.isa_force(isa)
    for threads in (1, 2):
        g = Graph()
        node = g.clamp(g.activate(g.input(x.shape[1]), "relu2"), 0.25, 3.0)
        g.plan.output(node.index)
        g.plan.freeze(16, 64)
        session = _native.Session(g.plan, 64, 0)
        got = session.step(None, len(x), threads, x)
        assert np.array_equal(got, np.clip(np.square(np.maximum(x, 0)), 0.25, 3)), (isa, threads)
g = Graph()
try:
    g.clamp(g.input(4), 2.0, 1.0, name="wrong")
except pyggml.ArgumentError as error:
    assert "wrong: low is 2, above high" in str(error)
else:
    raise AssertionError("the rule of shape.c is not asked")
""",
    )


def test_tests_that_walk_ops_take_it(built: Scratch) -> None:
    out = built.pytest("-vv", "tests/unit/test_ops.py")
    assert "clamp.low" in out
    assert "clamp.high" in out
    built.pytest("tests/test_house.py", "tests/test_circles.py")


# ---- the backend ---------------------------------------------------------------------------------------------------


def test_a_plan_runs_in_part_on_the_backend(built: Scratch, tmp_path: Path) -> None:
    rooms = ("native", "native/include", "native/quant", "native/core", "tests/native")
    built.run(
        "cc", "-std=gnu11", "-O1", "-Wall", "-Werror", *(f"-I{built.root / room}" for room in rooms),
        Path(__file__).with_name("placed.c"), *built.root.glob("build/**/libpgg.a"), "-fopenmp", "-lpthread", "-lm",
        "-o", tmp_path / "placed",
    )  # fmt: skip
    assert built.run(tmp_path / "placed") == "placed: ok\n"


# ---- the architectures ---------------------------------------------------------------------------------------------


def test_the_architectures_load_and_generate(built: Scratch, tmp_path: Path) -> None:
    run(
        built,
        f"""
from model import tiny
ids = []
for name in ("llama", "own-row", "own-file"):
    path = tiny.write({str(tmp_path)!r} + f"/{{name}}.gguf", name).path
    with pyggml.load(path) as m:
        ids.append(m.generate([1, 2, 3], max_tokens=12, temperature=0).tokens)
assert len(ids[0]) > 0
assert ids[0] == ids[1] == ids[2], ids
""",
    )
