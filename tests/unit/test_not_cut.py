"""What is asked for is done or refused: no setting of a measurement or a command is silently cut to fit, or ignored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model import tiny

import pyggml
from pyggml.cli.app import invoke
from pyggml.cli.usage import Usage
from pyggml.errors import ArgumentError
from pyggml.model import BUNDLED
from pyggml.recipes import costs
from pyggml.recipes.survey import survey

IDS = [1, 2, 3, 4, 5, 6, 7] * 30
MEASURES: dict[str, Any] = {
    "perplexity": lambda m, n_ctx: m.perplexity(IDS, n_ctx),
    "compare": lambda m, n_ctx: pyggml.compare(m, m, IDS, n_ctx=n_ctx),
    "imatrix": lambda m, n_ctx: pyggml.imatrix(m, IDS, n_ctx=n_ctx).chunk_size,
    "sensitivity": lambda m, n_ctx: pyggml.sensitivity(m, IDS, types=["q8_0"], n_kl=1, n_ctx=n_ctx).tensors,
    "survey": lambda m, n_ctx: survey(m._loaded.file.path, IDS, ["Q8_0"], n_ctx=n_ctx)[0].found,
}


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tiny.write(tmp_path_factory.mktemp("cut") / "x.gguf", n_layer=1, n_ctx=64).path
    with pyggml.load(path, n_threads=1) as model:
        yield model


@pytest.mark.parametrize("name", MEASURES)
def test_a_chunk_that_the_context_cannot_hold_is_refused(m: Any, name: str) -> None:
    measure = MEASURES[name]
    for n_ctx in (65, 2**40):
        with pytest.raises(ArgumentError, match=rf"^n_ctx is {n_ctx}: .* the model's context of 64; take at most 64"):
            measure(m, n_ctx)
    for bad in (True, 0, -1, 3, 8.0, "8"):
        with pytest.raises(ArgumentError, match=r"^n_ctx must be a whole number from 4"):
            measure(m, bad)
    assert measure(m, None) == measure(m, np.int64(64)) != measure(m, 32)


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "survey"])
def test_a_context_without_room_for_a_chunk_is_told(m: Any, name: str) -> None:
    with (
        pyggml.load(m._loaded.file.path, n_ctx=3) as short,
        pytest.raises(ArgumentError, match="the model's context of 3 is too short to measure on: 4 positions"),
    ):
        MEASURES[name](short, None)


def test_the_shorter_context_of_two_counts(m: Any) -> None:
    with pyggml.load(m._loaded.file.path, n_ctx=32) as short:
        for a, b in ((m, short), (short, m)):
            with pytest.raises(ArgumentError, match=r"n_ctx is 33: .* context of 32"):
                pyggml.compare(a, b, IDS, n_ctx=33)
            assert pyggml.compare(a, b, IDS) == pyggml.compare(m, m, IDS, n_ctx=32)


def test_as_many_chunks_are_measured_as_were_asked_for(m: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(n_chunk: int | None) -> dict[str, Any]:
        return pyggml.sensitivity(m, IDS, types=["q4_0"], n_kl=1, n_ctx=16, n_chunk=n_chunk).tensors

    four, three, one = measure(None), measure(3), measure(1)
    assert four == measure(4) != three
    monkeypatch.setattr(costs, "_KEPT_LOGITS", 1)
    assert measure(3) == three
    few = measure(None)  # what is read for the imatrix is the same as for four
    assert few["output.weight"].error == four["output.weight"].error
    assert few["output.weight"].kl != four["output.weight"].kl
    assert one["output.weight"].kl.keys() == few["output.weight"].kl.keys()


def test_a_text_for_costs_that_are_given_is_told(m: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    src = m._loaded.file.path
    known = pyggml.sensitivity(m, IDS, types=["q4_0", "q8_0"], n_kl=0)
    for how, told in (({"text": IDS}, "text is not used: sensitivity says"), ({}, "")):
        caplog.clear()
        pyggml.quantize_file(src, tmp_path / "y.gguf", target_bpw=6.5, sensitivity=known, **how)
        assert ("is not used" in caplog.text) == bool(told)
        assert told in caplog.text


@pytest.mark.parametrize(
    ("layers", "told"),
    [("0", ""), ("last 1", ""), ("-1", ""), ("7", "'ffn_up' in layers 7 meets nothing: 1 layers"),
     ("1-3", "meets nothing")],
)  # fmt: skip
@pytest.mark.parametrize("match", ["ffn_up", "feed_forward_up"])
def test_layers_that_a_model_does_not_have_are_told(
    m: Any, match: str, layers: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    rule = pyggml.Rule(match, "q8_0", layers)
    pyggml.quantize_file(m._loaded.file.path, "", "F32", rules=[rule], dry_run=True)
    assert told.replace("ffn_up", match) in caplog.text
    assert bool(caplog.text) == bool(told)


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["compare", "imatrix", "sensitivity", "report", "perplexity"])
def test_commands_refuse_a_chunk_beyond_the_context(m: Any, command: str, tmp_path: Path) -> None:
    if command == "report":
        pytest.importorskip("matplotlib")
    (tmp_path / "t.txt").write_text("Once upon a time there was a king. " * 9)
    out = [] if command in ("compare", "perplexity") else ["-o", str(tmp_path / "out.html")]
    models = [m._loaded.file.path] * (2 if command == "compare" else 1)
    with pytest.raises(ArgumentError, match=r"^--ctx-size is 65: .*; take at most 64"):
        invoke([command, *models, "-f", str(tmp_path / "t.txt"), *out, "--ctx-size", "65"])
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_bench_measures_what_was_asked_for_or_says_why_not(m: Any) -> None:
    path = m._loaded.file.path
    for args, told in (
        (["-n", "0"], r"^-n must be a whole number from 1"),
        (["--batch", "65"], r"^--batch must be a whole number from 1 to 64, got 65"),
        (["-d", "-1"], r"^-d must be"),
        (["--batch", "2", "-p", "1", "-n", "50"], "batch of 2: 16 tokens and generate of 50 in each: 66 tokens"),
        (["-p", "60", "-n", "9"], "depth of 0, prompt of 60 and generate of 9: 69 tokens do not fit the context of 64"),
    ):
        with pytest.raises(ArgumentError, match=told):
            invoke(["bench", str(path), "-r", "1", *args])


def test_threads_are_given_once(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="threads are given twice: 2 as an argument, 3 with --threads"):
        pyggml.cli.app.files.quantize(BUNDLED, tmp_path / "x.gguf", "Q8_0", 2, threads=3)
