"""survey and its report: rows of the right files, pictures that open, errors before work, nothing half written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import pyggml
from pyggml.cli.app import app
from pyggml.model import BUNDLED
from pyggml.recipes.report import check, write_report
from pyggml.recipes.survey import relative_error, survey

TEXT = "Once upon a time there was a king who had three sons, and the youngest of them was a fool. " * 4


@pytest.fixture(scope="module")
def rows():
    return survey(BUNDLED, TEXT, ["Q8_0", "Q2_K", "Q4_K_M"], importance=TEXT, n_ctx=64)


def test_rows_are_in_the_order_of_bits(rows):
    assert [(r.recipe, r.importance) for r in rows] == [
        ("Q2_K", False), ("Q2_K", True), ("Q4_K_M", False), ("Q4_K_M", True), ("Q8_0", False), ("Q8_0", True),
    ]  # fmt: skip
    assert rows[0].found.kl_mean > rows[2].found.kl_mean > rows[4].found.kl_mean == 0  # the source is q8_0
    assert rows[4].errors == {}
    assert rows[0].errors["blk.0.ffn_up.weight"] > rows[2].errors["blk.0.ffn_up.weight"] > 0.01
    assert rows[2].types["output_norm.weight"] == "f32"
    json.dumps([r.as_dict() for r in rows])


def test_relative_error_of_a_known_change(tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    for name, values in (("a", x), ("b", 1.5 * x)):
        with pyggml.gguf.Writer(tmp_path / name) as out:
            out.add_tensor("t", x.shape, "f32", values)
    with pyggml.gguf.open(tmp_path / "a") as a, pyggml.gguf.open(tmp_path / "b") as b:
        assert relative_error(a.tensors["t"], b.tensors["t"]) == pytest.approx(0.5)


@pytest.mark.parametrize(("name", "magic"), [("r.html", b"<!doctype"), ("r.png", b"\x89PNG"), ("r.SVG", b"<?xml")])
def test_report(rows, tmp_path, name, magic):
    pytest.importorskip("matplotlib")
    path = tmp_path / name
    write_report(rows, path, shown="q2_k", title="<a title>")
    content = path.read_bytes()
    assert content.startswith(magic)
    if name == "r.html":
        assert b"&lt;a title&gt;" in content
        assert content.count(b"data:image/png") == 3
        assert b"Q4_K_M" in content
    assert len(list(tmp_path.iterdir())) == 1


def test_errors_come_before_work(rows, tmp_path, monkeypatch):
    with pytest.raises(pyggml.ArgumentError, match=r"\.html"):
        write_report(rows, tmp_path / "r.txt")
    with pytest.raises(pyggml.ArgumentError, match="at least one"):
        survey(BUNDLED, TEXT, [])
    pytest.importorskip("matplotlib")
    with pytest.raises(pyggml.ArgumentError, match="Q2_K, Q4_K_M, Q8_0"):
        write_report(rows, tmp_path / "r.png", shown="Q6_K")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(pyggml.UnsupportedError, match="pip install"):
        check(tmp_path / "r.png")
    assert not list(tmp_path.iterdir())


def test_command(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "t.txt").write_text(TEXT)
    out = tmp_path / "r.html"
    args = ["report", BUNDLED, "--text", tmp_path / "t.txt", "-o", out, "--recipes", "q4_0", "--ctx", "64"]
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == 0, done.output
    assert "q4_0" in done.output
    assert "KL" in done.output
    assert out.stat().st_size > 10000
