"""Importance matrices and comparisons: against numpy, against the file forms, and what is refused."""

import dataclasses
import importlib.util
import json
import math
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest
from model import tiny
from oracle import transformer

import pyggml
from pyggml import _native
from pyggml.graph import Graph, Weight
from pyggml.recipes.importance import Imatrix
from pyggml.recipes.report import write_report
from pyggml.recipes.survey import survey
from pyggml.recipes.watch import Trial


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("im") / "x.gguf", n_layer=2)


IDS = np.random.default_rng(3).integers(0, 260, 96).tolist()


def test_sums_are_those_of_the_forward_pass(made):
    with pyggml.load(made.path) as model:
        im = pyggml.imatrix(model, IDS, n_ctx=32)
    assert (im.n_chunk, im.chunk_size) == (3, 32)
    assert len(im) == 2 * 7 + 1
    w = made.weights
    x = transformer.rms_norm(w["token_embd.weight"][IDS].astype(float), w["blk.0.attn_norm.weight"], 1e-5)
    for name in ("attn_q", "attn_k", "attn_v"):
        np.testing.assert_allclose(im[f"blk.0.{name}.weight"], (x * x).mean(axis=0), rtol=1e-4)
    hidden = []
    for at in range(0, 96, 32):
        logits = transformer.forward(w, IDS[at : at + 32], **made.oracle)
        hidden.append(np.linalg.lstsq(w["output.weight"].astype(float), logits.T, rcond=None)[0].T)
    np.testing.assert_allclose(im["output.weight"], (np.concatenate(hidden) ** 2).mean(axis=0), rtol=1e-3)


def test_pieces_do_not_matter(made):
    with pyggml.load(made.path) as model:
        whole = pyggml.imatrix(model, IDS, n_ctx=96)
        with Trial(model, 96, watch=True) as trial:
            trial.n_step = 17
            want = list(trial.steps(IDS))
            assert [len(x) for x in want] == [17, 17, 17, 17, 17, 11]
            np.testing.assert_allclose(np.concatenate(want), model.logits(IDS), atol=2e-2)
            assert set(trial.products) == set(whole)
            assert [len(x) for x in trial.steps(IDS, 20)] == [0, 0, 0, 0, 9, 11]


@pytest.mark.parametrize("form", ["ours", "gguf", "dat"])
def test_files(made, tmp_path, form):
    path = tmp_path / "im.gguf"
    with pyggml.load(made.path) as model:
        im = pyggml.imatrix(model, IDS, n_ctx=48, dataset="some ids")
    im.save(path)
    if form == "ours":
        again = Imatrix.load(path)
        assert (again.datasets, again.n_chunk, again.chunk_size) == (["some ids"], 2, 48)
    elif form == "gguf":  # the names and shapes that llama.cpp's tools read
        gguf = pytest.importorskip("gguf")
        file = gguf.GGUFReader(str(path))
        assert file.get_field("general.type").contents() == "imatrix"
        assert file.get_field("imatrix.datasets").contents() == ["some ids"]
        assert file.get_field("imatrix.chunk_count").contents() == 2
        tensors = {t.name: t for t in file.tensors}
        sums, counts = tensors["blk.1.ffn_down.weight.in_sum2"], tensors["blk.1.ffn_down.weight.counts"]
        assert (list(sums.shape), list(counts.shape)) == ([96, 1], [1, 1])
        assert counts.data.item() == 96
        np.testing.assert_allclose(sums.data.reshape(-1) / 96, im["blk.1.ffn_down.weight"])
        return
    else:
        raw = struct.pack("<i", len(im))
        for name, values in im.items():
            raw += struct.pack(f"<i{len(name)}sii", len(name), name.encode(), 5, len(values))
            raw += (values * 5).astype("<f4").tobytes()
        path.write_bytes(raw + struct.pack("<ii4s", 7, 4, b"text"))
        again = Imatrix.load(path)
        assert (again.datasets, again.n_chunk) == (["text"], 7)
    assert set(again) == set(im)
    for name in im:
        np.testing.assert_allclose(again[name], im[name], rtol=1e-6)


@pytest.mark.parametrize("act", _native.activations())
def test_what_experts_read_gives_what_they_made(tmp_path, act, monkeypatch):
    """The rows that expert_inputs gives, through down and weighed, are the op's own result."""
    made = tiny.write(tmp_path / "moe.gguf", n_layer=1, n_expert=5, n_expert_used=2)
    n_ff = made.weights["blk.0.ffn_down_exps.weight"].shape[-1]
    arrays = [np.linspace(-3, 3, 5 * n, dtype=np.float32).reshape(5, n) for n in (n_ff, n_ff, 64)]
    biases = (None, None, None)
    if act == "silu_capped":  # with biases, as gpt-oss has it
        biases = tuple(Weight(f"bias.{i}", 0, 1, b.size, b.view(np.uint8).reshape(-1)) for i, b in enumerate(arrays))
    if act != "silu":
        plain = Graph.experts

        def experts(g, x, routing, gate, up, down, _, name, **__):
            return plain(g, x, routing, gate, up, down, act, name, biases=biases)

        monkeypatch.setattr(Graph, "experts", experts)
    with pyggml.load(made.path) as model, Trial(model, 40, watch=True) as trial:
        (mix,) = trial._mixtures
        mix = dataclasses.replace(mix, act=act, biases=biases)
        trial._mixtures = [mix]
        list(trial.steps(IDS[:40]))
        routing = trial._session.node(mix.routing, 40)
        want = trial._session.node(mix.routing + 1, 40)
        got = np.zeros_like(want)
        down = made.weights["blk.0.ffn_down_exps.weight"].reshape(5, 64, -1)
        for names, e, n_expert, h in trial.expert_inputs(40):
            assert n_expert == 5
            if "down" in names[0]:
                at, slot = np.nonzero(routing[:, :2] == e)
                more = 0 if biases[2] is None else arrays[2][e]
                got[at] += routing[at, 2 + slot][:, None] * (h @ down[e].T + more)
        np.testing.assert_allclose(got, want, atol=2e-5 * np.abs(want).max())


def test_experts_of_a_model(tmp_path):
    made = tiny.write(tmp_path / "moe.gguf", n_layer=2, n_expert=4, n_expert_used=2)
    with pyggml.load(made.path) as model:
        im = pyggml.imatrix(model, IDS, n_ctx=48)
    counts = im.counts["blk.1.ffn_down_exps.weight"]
    assert counts.sum() == 2 * len(IDS)
    assert im["blk.1.ffn_gate_exps.weight"].shape == (4 * 64,)
    im.save(tmp_path / "im.gguf")
    assert Imatrix.load(tmp_path / "im.gguf").sums["blk.1.ffn_up_exps.weight"].shape == (4, 64)
    plain, weighed = tmp_path / "a.gguf", tmp_path / "b.gguf"
    pyggml.quantize_file(made.path, plain, "pure:q4_1")
    pyggml.quantize_file(made.path, weighed, "pure:q4_1", imatrix=tmp_path / "im.gguf")
    name = "blk.1.ffn_gate_exps.weight"
    losses = []
    for path in (plain, weighed):
        with pyggml.gguf.open(path) as file:
            info = file.tensors[name]
            got = pyggml.dequantize(info.data, info.type, info.shape)
        d = got - made.weights[name].reshape(4, -1, 64)
        losses.append((im[name].reshape(4, 1, 64) * d * d).sum())
    assert losses[1] < losses[0]


def test_experts_keep_their_slices():
    im = Imatrix({"e": np.array([[2.0, 4.0], [9.0, 9.0]])}, {"e": np.array([2.0, 0.0])})
    assert im["e"].tolist() == [1.0, 2.0, 1.0, 1.0]  # the second met no token


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0\0\0\0", b"hello, this is text", struct.pack("<iii", 1, 3, 1), struct.pack("<i", -1),
     struct.pack("<ii1sii", 1, 1, b"a", 1, 1 << 27), struct.pack("<ii1siif", 1, 1, b"a", 1, 1, math.nan)],
)  # fmt: skip
def test_broken_files(tmp_path, raw):
    path = tmp_path / "im.dat"
    path.write_bytes(raw)
    with pytest.raises(pyggml.GGUFError):
        Imatrix.load(path)


def test_a_model_is_no_imatrix(made, tmp_path):
    with pytest.raises(pyggml.GGUFError, match="no importance matrix"):
        Imatrix.load(made.path)
    with pytest.raises(pyggml.GGUFError, match="does not exist"):
        Imatrix.load(tmp_path / "none")


def test_quantizing_with_it_lowers_the_weighted_error(made, tmp_path):
    with pyggml.load(made.path) as model:
        im = pyggml.imatrix(model, IDS, n_ctx=48)
    im.save(tmp_path / "im.gguf")
    errors = []
    for given in (None, tmp_path / "im.gguf"):
        pyggml.quantize_file(made.path, tmp_path / "q.gguf", "pure:q4_1", imatrix=given)
        with pyggml.gguf.open(tmp_path / "q.gguf") as file:
            info = file.tensors["blk.1.attn_q.weight"]
            got = pyggml.dequantize(info.data, info.type, info.shape)
        errors.append(float(((got - made.weights[info.name]) ** 2 * im[info.name]).sum()))
    assert errors[1] < errors[0]


def test_compare(made, tmp_path):
    pyggml.quantize_file(made.path, tmp_path / "q8.gguf", "pure:q8_0")
    pyggml.quantize_file(made.path, tmp_path / "q4.gguf", "pure:q4_0")
    with (
        pyggml.load(made.path, kv_type="f32") as a,
        pyggml.load(tmp_path / "q8.gguf") as b,
        pyggml.load(tmp_path / "q4.gguf") as c,
    ):
        same, near, far = (pyggml.compare(a, x, IDS, n_ctx=48) for x in (a, b, c))
        text = "the king and the fox " * 20
        assert pyggml.compare(a, c, text, n_ctx=48).perplexity_a == pytest.approx(a.perplexity(text, 48), rel=1e-6)
        want, kls = [], []
        for at in (0, 48):
            pa, pb = (m.logits(IDS[at : at + 47]).astype(float)[24:] for m in (a, c))
            la, lb = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (pa, pb))
            kls.append((np.exp(la) * (la - lb)).sum(axis=1))
            want.append(la[np.arange(23), IDS[at + 25 : at + 48]])
    assert same.kl_max == 0
    assert same.same_top == 1
    assert far.n == 46
    assert far.perplexity_a == pytest.approx(np.exp(-np.mean(want)), rel=1e-4)
    assert far.kl_mean == pytest.approx(np.mean(kls), rel=0.02)  # the model's own cache is f16
    assert 0 < near.kl_mean < far.kl_mean <= far.kl_99 <= far.kl_max
    assert far.logit_change > near.logit_change > 0


def test_compare_refuses_other_vocabularies(made, tmp_path):
    other = tiny.write(tmp_path / "o.gguf", n_vocab=300)
    with pyggml.load(made.path) as a, pyggml.load(other.path) as b:
        with pytest.raises(pyggml.ArgumentError, match="260 and 300"):
            pyggml.compare(a, b, IDS)
        with pytest.raises(pyggml.ArgumentError, match="at least 4"):
            pyggml.compare(a, a, [1, 2, 3])
        for n_chunk in (0, -1):
            with pytest.raises(pyggml.ArgumentError, match="n_chunk must be a whole number from 1"):
                pyggml.compare(a, a, IDS, n_chunk=n_chunk)


@pytest.mark.parametrize("dry_run", [False, True])
def test_the_imatrix_of_another_model(made, tmp_path, dry_run):
    wide = {"blk.0.ffn_up.weight": np.ones(7)}
    for weights, say in ((wide, "another model"), ({"other": np.ones(64)}, "names no tensor")):
        with pytest.raises(pyggml.ArgumentError, match=say):
            pyggml.quantize_file(made.path, tmp_path / "q.gguf", "q4_0", imatrix=weights, dry_run=dry_run)
    assert list(tmp_path.iterdir()) == []


def test_commands(made, tmp_path):
    (tmp_path / "t.txt").write_text("the king and the fox " * 30)

    def cli(*args):
        return subprocess.run([sys.executable, "-m", "pyggml", *map(str, args)], capture_output=True, text=True)

    done = cli("imatrix", made.path, "--text", tmp_path / "t.txt", "-o", tmp_path / "im.gguf", "--ctx", 64)
    assert done.returncode == 0, done.stderr
    assert len(Imatrix.load(tmp_path / "im.gguf")) == 15
    done = cli("quantize", made.path, tmp_path / "q.gguf", "q4_1", "--imatrix", tmp_path / "im.gguf")
    assert done.returncode == 0, done.stderr
    done = cli("compare", made.path, tmp_path / "q.gguf", "--text", tmp_path / "t.txt", "--ctx", 64)
    assert done.returncode == 0, done.stderr
    assert "KL divergence" in done.stdout
    done = cli("compare", made.path, tmp_path / "q.gguf", "--text", tmp_path / "t.txt", "--json")
    assert {f.name for f in dataclasses.fields(pyggml.recipes.Comparison)} == set(json.loads(done.stdout))
    assert "no.txt" in cli("imatrix", made.path, "--text", "no.txt").stderr


def test_what_was_read_is_never_written_over(made, tmp_path):
    """The model, the text and the imatrix that something came from, whatever it is."""
    text, im = tmp_path / "held.html", tmp_path / "im.gguf"
    text.write_text("the king and the fox " * 20)
    model = tmp_path / "m.gguf"
    model.write_bytes(made.path.read_bytes())
    pyggml.imatrix(model, IDS, n_ctx=48).save(im)
    columns = Imatrix.load(im)
    kept = {path: path.read_bytes() for path in (text, im, model)}
    matrix = pyggml.imatrix(model, text, n_ctx=48)
    costs = pyggml.sensitivity(model, text, types=["q4_0"], n_kl=0, n_ctx=48, imatrix=columns)
    with pyggml.load(model) as opened:
        ways = [(matrix.save, (text, model)), (costs.save, (text, im, model)), (opened.export_plan, (model,))]
        if importlib.util.find_spec("matplotlib"):
            rows = survey(model, text, ["Q4_0"], n_ctx=48, importance=text)
            assert "texts" not in rows[0].as_dict()
            ways.append((lambda path: write_report(rows, path), (text,)))
        for write, paths in ways:
            for path in paths:
                with pytest.raises(pyggml.PyggmlError, match=r"would replace .*, which is read; give another name"):
                    write(path)
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_text_of_any_name(made, tmp_path):
    for name, told in ((b"caf\xe9.txt", "caf?.txt"), (b"a\nb.txt", "a\nb.txt")):
        path = os.fsencode(tmp_path) + b"/" + name
        with open(path, "w") as file:
            file.write("the king and the fox " * 20)
        pyggml.imatrix(made.path, pathlib.Path(os.fsdecode(path)), n_ctx=48).save(tmp_path / "im.gguf")
        assert Imatrix.load(tmp_path / "im.gguf").datasets == [told]
