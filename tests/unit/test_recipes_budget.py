"""Choosing types for a size: the solver against brute force, exact sizes, costs in files, and that it helps."""

import itertools
import json

import numpy as np
import pytest
from model import tiny
from typer.testing import CliRunner

import pyggml
from pyggml.cli.app import app
from pyggml.recipes.budget import Option, hull, solve
from pyggml.recipes.costs import Sensitivity, TensorCost, anchors, candidates, own_text


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


def test_candidates_and_anchors():
    kinds = candidates(4.5)
    assert all(k.encodes and 2.5 <= k.bits_per_weight <= 8.6 for k in kinds)
    near = anchors(kinds, 4.5, 2)
    assert near[0].bits_per_weight == 4.5
    assert abs(near[1].bits_per_weight - 4.5) >= 0.9
    for bad in (["q8_k"], [], ["i32"]):
        with pytest.raises((pyggml.ArgumentError, pyggml.UnsupportedError)):
            candidates(4.5, bad)
    for near in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(pyggml.ArgumentError, match="above 0"):
            candidates(near)
    assert [k.name for k in candidates(30.0)] == ["f16"]


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
            ({"target_bpw": 1.0}, r"1 bits per weight are out of reach: between [123]\.\d\d and (8\.5|16|15)"),
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
