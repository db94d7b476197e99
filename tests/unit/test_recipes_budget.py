"""Choosing types for a size: the solver against brute force, exact sizes, costs in files, and that it helps."""

import itertools
import json
from dataclasses import dataclass

import numpy as np
import pytest
from model import tiny
from typer.testing import CliRunner

import pyggml
from pyggml.cli.app import app
from pyggml.recipes.budget import Option, hull, solve
from pyggml.recipes.costs import Sensitivity, TensorCost, anchors, candidates, own_text, writable


def random_options(rng, n, kinds=4):
    made = {}
    for i in range(n):
        sizes = np.sort(rng.choice(np.arange(5, 60), kinds, replace=False))
        costs = np.sort(rng.uniform(0, 10, kinds))[::-1]
        made[f"t{i}"] = [Option(int(s), float(c), f"k{j}") for j, (s, c) in enumerate(zip(sizes, costs, strict=True))]
    return made


@pytest.mark.parametrize("seed", range(20))
def test_solver_is_near_the_best(seed):
    options = random_options(np.random.default_rng(seed), 6)
    least = sum(o[0].nbytes for o in options.values())
    for limit in (least, least + 20, least + 60, least + 150):
        chosen = solve(options, limit)
        picked = {name: next(o for o in options[name] if o.kind == kind) for name, kind in chosen.items()}
        assert sum(o.nbytes for o in picked.values()) <= limit
        best = min(
            sum(o.cost for o in combo)
            for combo in itertools.product(*options.values())
            if sum(o.nbytes for o in combo) <= limit
        )
        step = max(max(a.cost - b.cost for a, b in itertools.pairwise(o)) for o in options.values())
        assert best <= sum(o.cost for o in picked.values()) <= best + step + 1e-9
    with pytest.raises(pyggml.ArgumentError, match="not enough"):
        solve(options, least - 1)


def test_hull_leaves_out_what_never_pays():
    made = hull([Option(10, 9.0, "a"), Option(20, 8.9, "bad"), Option(30, 2.0, "b"), Option(40, 3.0, "worse"),
                 Option(50, 1.0, "c"), Option(10, 9.5, "same size")])  # fmt: skip
    assert [o.kind for o in made] == ["a", "b", "c"]


def test_costs_follow_the_nearest_measured_type():
    cost = TensorCost("w", (4, 256), "f32", {"q2_k": 0.1, "q4_k": 0.01, "q6_k": 0.001}, {"q4_k": 0.02, "q2_k": 0.5})
    assert cost.cost("q4_k") == 0.02
    assert cost.cost("q6_k") == pytest.approx(0.002)
    assert cost.cost("f32") == 0
    assert cost.nbytes("q4_k") == 4 * 144


@dataclass
class Matrix:
    """What is asked of a tensor."""

    shape: tuple[int, ...]
    type: pyggml.QuantType
    name: str = "w"


def of_rows(k, kind="f32"):
    return Matrix((4, k), pyggml.QuantType.parse(kind))


def test_candidates_and_anchors():
    kinds = candidates(of_rows(256), 4.5)
    assert all(k.encodes and 2.5 <= k.bits_per_weight <= 8.6 for k in kinds)
    near = anchors(kinds, 4.5, 2)
    assert near[0].bits_per_weight == 4.5
    assert abs(near[1].bits_per_weight - 4.5) >= 0.9
    for bad in (["q8_k"], [], ["i32"]):
        with pytest.raises((pyggml.ArgumentError, pyggml.UnsupportedError)):
            writable(bad)
    for near in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(pyggml.ArgumentError, match="above 0"):
            pyggml.sensitivity("", near=near)


@pytest.mark.parametrize(
    ("k", "own", "near", "names"),
    [
        (256, "f32", 10.0, "q8_0 f16"),  # the next below and the next above
        (256, "f32", 12.0, "q8_0 f16"),
        (256, "f32", 16.0, "f16"),
        (256, "f32", 24.0, "f16 f32"),
        (256, "f32", 90.0, "f16 f32"),
        (256, "f16", 12.0, "q8_0 f16"),
        (256, "bf16", 12.0, "q8_0 bf16"),  # what it has, none as large
        (172, "f32", 4.5, "f16"),  # rows that no block divides
        (172, "f32", 20.0, "f16 f32"),
        (256, "q4_0", 9.0, "q4_0"),  # no type is better than what it has
        (32, "f32", 1.0, "q4_0 iq4_nl q4_1 q5_0 q5_1 q8_0"),
    ],
)
def test_the_types_around_a_target_hold_it_between_them(k, own, near, names):
    assert [kind.name for kind in candidates(of_rows(k, own), near)] == names.split()


@pytest.fixture(scope="module")
def src(tmp_path_factory):
    return tiny.write(
        tmp_path_factory.mktemp("b") / "x.gguf", n_embd=256, n_head=8, head_dim=32, n_ff=256, n_layer=3
    ).path


@pytest.fixture(scope="module")
def costs(src):
    with pyggml.load(src) as model:
        return pyggml.sensitivity(model, "the king and the fox and a hen " * 8, n_ctx=64, n_chunk=2, n_kl=1)


def test_sensitivity_measures_what_it_says(src, costs, tmp_path):
    assert set(costs.tensors) == {n for n in pyggml.gguf.open(src).tensors if n.endswith("weight") and "norm" not in n}
    cost = costs.tensors["blk.1.ffn_up.weight"]
    assert cost.error["q3_k"] > cost.error["q4_k"] > cost.error["q6_k"] > cost.error["q8_0"] > 0
    assert len(cost.kl) == 1
    kind, value = next(iter(cost.kl.items()))
    ids = "the king and the fox and a hen " * 8
    rules = {r"^blk\.1\.ffn_up": kind}
    with pyggml.load(src) as model:
        im = pyggml.imatrix(model, ids, n_ctx=64, n_chunk=8)
        pyggml.quantize_file(src, tmp_path / "q.gguf", "F32", rules=rules, imatrix=im)
        with pyggml.load(tmp_path / "q.gguf", kv_type="f32") as other, pyggml.load(src, kv_type="f32") as same:
            chunk = [256, *model.tokenize(ids, add_special=False)][:64]
            a, b = (m.logits(chunk).astype(float) for m in (same, other))
    a, b = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (a, b))
    assert value == pytest.approx((np.exp(a) * (a - b)).sum(axis=1).mean(), rel=0.6)  # the second chunk differs
    costs.save(tmp_path / "c.json")
    assert Sensitivity.load(tmp_path / "c.json") == costs


@pytest.mark.parametrize("bpw", [3.6, 4.5, 5.3, 8.0])
def test_the_size_is_kept_and_used(src, costs, tmp_path, bpw):
    rows = pyggml.quantize_file(src, tmp_path / "q.gguf", target_bpw=bpw, sensitivity=costs)
    with pyggml.gguf.open(tmp_path / "q.gguf") as file:
        infos = list(file.tensors.values())
        got = 8 * sum(t.nbytes for t in infos) / sum(t.n_elements for t in infos)
    assert bpw - 0.12 < got <= bpw
    assert len({r.new for r in rows}) > 2
    size = (tmp_path / "q.gguf").stat().st_size
    pyggml.quantize_file(src, tmp_path / "s.gguf", target_size=size, sensitivity=costs)
    assert size * 0.97 < (tmp_path / "s.gguf").stat().st_size <= size


def test_rules_and_types_stay_the_users(src, costs, tmp_path):
    rows = pyggml.quantize_file(
        src, "", target_bpw=5.0, sensitivity=costs, rules={"attention_key": "q8_0"}, output_type="f16", dry_run=True
    )
    kinds = {r.name: r.new for r in rows}
    assert {kinds[f"blk.{i}.attn_k.weight"] for i in range(3)} == {"q8_0"}
    assert kinds["output.weight"] == "f16"
    for told in (costs, None):
        for target, say in (
            ({"target_bpw": 1.0}, r"1 bits per weight are out of reach: between [123]\.\d\d and (8\.[45]|32)"),
            ({"target_bpw": 40}, "the source has 32"),
            ({"target_size": "1KiB"}, r"1,024 bytes is out of reach: between \d"),
            ({"target_size": "4GiB"}, "the source has"),
        ):
            with pytest.raises(pyggml.ArgumentError, match=say):
                pyggml.quantize_file(src, "", **target, sensitivity=told, dry_run=True)
    with pytest.raises(pyggml.ArgumentError, match="not both"):
        pyggml.quantize_file(src, "", target_bpw=4.0, target_size=9, sensitivity=costs, dry_run=True)
    with pytest.raises(pyggml.ArgumentError, match="above 0"):
        pyggml.quantize_file(src, "", target_bpw=0.0, sensitivity=costs, dry_run=True)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A model in which the rows of ffn_down fit no block."""
    return tiny.write(tmp_path_factory.mktemp("odd") / "x.gguf", n_embd=64, n_head=4, head_dim=16, n_ff=172).path


TEXT = "the king and the fox and a hen " * 8


@pytest.mark.parametrize("bpw", [9.0, 12.0, 15.0, 20.0])
def test_any_target_below_the_source_is_reached(odd, bpw):
    rows = pyggml.quantize_file(odd, "", target_bpw=bpw, text=TEXT, dry_run=True)
    with pyggml.gguf.open(odd) as file:
        got = 8 * sum(r.nbytes for r in rows) / sum(t.n_elements for t in file.tensors.values())
    assert 0.9 * bpw < got <= bpw
    kinds = {r.new for r in rows if "ffn_down" in r.name}
    assert kinds == {"f16"} if bpw < 16 else kinds <= {"f16", "f32"}


def test_rows_that_fit_nothing_measured_keep_the_type_of_the_base(odd, tmp_path, caplog):
    costs = pyggml.sensitivity(odd, TEXT, types=["q4_0", "q8_0"], n_ctx=32, n_chunk=1, n_kl=1)
    costs.save(tmp_path / "c.json")
    assert costs.tensors["blk.0.ffn_down.weight"].error == {}
    for base, kind in (("Q4_K_M", "f16"), ("F32", "f32")):
        rows = pyggml.quantize_file(odd, tmp_path / "y.gguf", base, target_bpw=16.0, sensitivity=tmp_path / "c.json")
        assert {r.new for r in rows if "ffn_down" in r.name} == {kind}
        assert {r.new for r in rows if "ffn_up" in r.name} == {"q8_0"}
        assert "of the room unused" in caplog.text
        caplog.clear()


def test_one_type_for_each_tensor_makes_one_size(odd):
    costs = pyggml.sensitivity(odd, TEXT, types=["f16"], n_ctx=32, n_chunk=1, n_kl=0)
    with pytest.raises(
        pyggml.ArgumentError, match=r"9 bits per weight are out of reach: the types that .* make 16\.\d\d$"
    ):
        pyggml.quantize_file(odd, "", target_bpw=9.0, sensitivity=costs, dry_run=True)


def test_costs_of_another_model(src, costs, tmp_path):
    other = tiny.write(tmp_path / "o.gguf", n_embd=256, n_head=8, head_dim=32, n_ff=512).path
    with pytest.raises(pyggml.ArgumentError, match="another model"):
        pyggml.quantize_file(other, "", target_bpw=5.0, sensitivity=costs, dry_run=True)
    for text in (
        "",
        "[1]",
        "{}",
        '[{"name": "a"}]',
        json.dumps([dict(name="a", shape=[1], old="f32", error={"q4_0": -1}, kl={})]),
    ):
        (tmp_path / "bad.json").write_text(text)
        if text != "{}":
            with pytest.raises(pyggml.ArgumentError, match="no sensitivity file"):
                Sensitivity.load(tmp_path / "bad.json")


def test_own_text_is_the_models():
    with pyggml.load() as model:
        ids = own_text(model, 40)
    assert len(ids) == 40
    assert ids[0] == 0


def test_commands(src, tmp_path):
    (tmp_path / "t.txt").write_text("the king and the fox " * 30)

    def cli(*args):
        done = CliRunner().invoke(app, list(map(str, args)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    said = cli("sensitivity", src, "--text", tmp_path / "t.txt", "--types", "q3_k,q4_k,q6_k", "--chunks", 1,
               "--ctx", 64, "-o", tmp_path / "c.json")  # fmt: skip
    assert "blk.0.attn_q.weight" in said
    cli("quantize", src, tmp_path / "q.gguf", "--target-bpw", 5, "--sensitivity", tmp_path / "c.json",
        "--save-recipe", tmp_path / "r.toml")  # fmt: skip
    cli("quantize", src, tmp_path / "again.gguf", "--recipe", tmp_path / "r.toml")
    with pyggml.gguf.open(tmp_path / "q.gguf") as a, pyggml.gguf.open(tmp_path / "again.gguf") as b:
        assert {n: t.type for n, t in a.tensors.items()} == {n: t.type for n, t in b.tensors.items()}
    cli("quantize", src, tmp_path / "t.gguf", "--target-size", "1M", "--text", tmp_path / "t.txt")
    assert 900_000 < (tmp_path / "t.gguf").stat().st_size <= 1_000_000


@pytest.mark.slow
def test_it_beats_the_fixed_mix_of_the_same_size(shared, tmp_path):
    src = tmp_path / "tales.gguf"
    pyggml.convert(shared / "models" / "tales", src, dtype="f32")
    text = (shared / "models" / "tales" / "valid.txt").read_text()
    with pyggml.load(src) as model:
        pyggml.imatrix(model, text[:60_000]).save(tmp_path / "im.gguf")
    for mix in ("Q4_K_S", "Q5_K_S"):
        pyggml.quantize_file(src, tmp_path / "fixed.gguf", mix, imatrix=tmp_path / "im.gguf")
        size = (tmp_path / "fixed.gguf").stat().st_size
        pyggml.quantize_file(
            src, tmp_path / "chosen.gguf", target_size=size, text=text[:60_000], imatrix=tmp_path / "im.gguf"
        )
        assert (tmp_path / "chosen.gguf").stat().st_size <= size
        with (
            pyggml.load(src) as a,
            pyggml.load(tmp_path / "fixed.gguf") as b,
            pyggml.load(tmp_path / "chosen.gguf") as c,
        ):
            fixed, chosen = (pyggml.compare(a, x, text[60_000:120_000]) for x in (b, c))
        assert chosen.kl_mean < 0.95 * fixed.kl_mean
