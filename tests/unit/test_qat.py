"""docs/qat.py on a tiny model: two steps of everything, and a rounding that serves several steps. Needs torch and
transformers; without them it says so and is skipped."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converters import checkpoint

import pyggml

torch = pytest.importorskip("torch", reason="QAT is not tested: no torch (pip install 'pyggml[torch]')")


@pytest.fixture(scope="module")
def qat(repo_root: Path) -> Any:
    pytest.importorskip("transformers", reason="docs/qat.py is not tested: no transformers (the oracle extra)")
    spec = importlib.util.spec_from_file_location("qat", repo_root / "docs" / "qat.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_steps_of_the_experiment(qat: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    folder = checkpoint.folder(tmp_path / "model")
    checkpoint.safetensors(folder / "model.safetensors", checkpoint.tensors())
    book, valid, out = tmp_path / "book.txt", tmp_path / "valid.txt", tmp_path / "figures.json"
    valid.write_text("the king and the fox " * 20 + "\n\nOnce more.")
    fox = "the fox saw the hen and ran " * 20
    book.write_text(f"licence\n\n*** START OF THE BOOK ***\n\n{fox}\n\nOnce more.\n\n*** END OF IT")
    assert "Once more" not in qat.training_text([book], valid.read_text())
    assert "licence" not in qat.training_text([book], valid.read_text())
    monkeypatch.setattr(qat, "LENGTH", 16)
    monkeypatch.setattr(qat, "BATCH", 2)
    monkeypatch.setattr(
        "sys.argv",
        ["qat.py", *map(str, (folder, valid, book)), "--type", "q4_0", "--steps", "2", "--json", str(out)],
    )
    qat.main()
    figures = json.loads(out.read_text())
    assert figures["card"]["torch"] == torch.__version__
    rows = figures["results"]["rows"]
    assert [(row["against"], row["loss"]) for row in rows] == [
        (None, None), ("f32", "text"), ("q4_0", "text"), ("q4_0", "teacher"),
    ]  # fmt: skip
    monkeypatch.setattr(qat, "train", None)  # with the same settings nothing is done twice
    qat.main()
    assert json.loads(out.read_text()) == figures
    values = [value for row in rows for value in row["perplexity"].values()]
    assert len(values) == 6
    assert len(set(values)) == 6  # every training changed the file
    assert all(np.isfinite(values))
    assert capsys.readouterr().out.count("\n| as published |") == 2


def test_the_page_shows_the_recorded_figures(qat: Any, repo_root: Path) -> None:
    recorded = json.loads((repo_root / "bench" / "results" / "qat-2026-11-21.json").read_text())
    assert qat.table(recorded["results"]) in (repo_root / "docs" / "QAT.md").read_text()


def test_the_part_taken_back(qat: Any) -> None:
    assert qat.part(10.0, 12.0, 12.0) == 0
    assert qat.part(10.0, 12.0, 10.0) == pytest.approx(1)
    assert qat.part(10.0, 12.0, 13.0) < 0


def test_one_rounding_for_several_steps() -> None:
    from pyggml.torch import FakeQuantize, prepare

    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    rounding = FakeQuantize("q4_0", every=2).train()

    def exact() -> Any:
        return torch.from_numpy(pyggml.quantize(weight.detach().numpy(), "q4_0").dequantize())

    def move() -> None:
        with torch.no_grad():
            weight.add_(0.01)

    first = exact()
    assert torch.equal(rounding(weight), first)  # made anew
    move()
    shared = rounding(weight)
    assert torch.allclose(shared, first + 0.01, atol=1e-6)  # the error of before
    assert not torch.equal(shared, exact())
    (shared * 3).sum().backward()
    assert torch.equal(weight.grad, torch.full_like(weight, 3))
    assert torch.equal(rounding(weight), exact())  # anew again
    move()
    rounding.eval()
    assert torch.equal(rounding(weight), exact())  # not training: always exact

    net = torch.nn.Sequential(torch.nn.Linear(64, 8))
    prepare(net, "q4_0", every=3)
    assert net[0].parametrizations["weight"][0].every == 3
    with pytest.raises(pyggml.ArgumentError, match="every"):
        FakeQuantize("q4_0", every=0)
