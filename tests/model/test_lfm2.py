"""LFM2 against transformers' logits (golden/lfm2.json), and what recurrent layers mean for sessions from Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from golden import make_lfm2 as golden

import pyggml
from pyggml.engine.pool import Pool
from pyggml.errors import ArgumentError, GGUFError, ShapeError, UnsupportedError

GOLDEN = json.loads(golden.PATH.read_text())
IDS = golden.IDS


def write(path: Path, drop: tuple[str, ...] = (), **changed: object) -> Path:
    with pyggml.gguf.Writer(path) as out:
        for key, value in {**golden.metadata(), **changed}.items():
            out.add(key, value)
        for name, values in golden.weights().items():
            if name not in drop:
                out.add_tensor(name, values.shape, "f32", values)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pyggml.Model]:
    path = write(tmp_path_factory.mktemp("lfm2") / "x.gguf")
    with pyggml.load(path, kv_type="f32") as m:
        yield m


def test_logits_are_those_of_transformers(model: pyggml.Model, isa: str) -> None:
    want = np.array(GOLDEN["logits"])
    s = model.session()
    ways = [model.logits(IDS), np.stack([s.step([each]) for each in IDS])]
    s.reset()
    ways.append(np.concatenate([s.step(IDS[:5], 5), s.step(IDS[5:6], 1)[None], s.step(IDS[6:], len(IDS) - 6)]))
    for got in ways:
        assert np.abs(got[list(golden.ROWS)][:, golden.COLS] - want).max() < 2e-5 * np.abs(want).max()


def test_greedy_goes_on_as_transformers(model: pyggml.Model) -> None:
    with closing(model.session()) as s:
        token, made = int(s.step(IDS).argmax()), []
        for _ in GOLDEN["greedy"]:
            made.append(token)
            token = int(s.step([token]).argmax())
    assert made == GOLDEN["greedy"]


def test_estimate_and_memory_count_recurrent_states(model: pyggml.Model, tmp_path: Path) -> None:
    got = pyggml.estimate(write(tmp_path / "x.gguf"), kv_type="f32")
    plan = model._loaded.plan.memory(0, model.n_ctx)
    mark = golden.LAYERS.count("conv") * (golden.L_CACHE - 1) * golden.N_EMBD * 4
    position = golden.LAYERS.count("full_attention") * golden.N_HEAD_KV * 2 * 16 * 4
    assert (plan["mark"], plan["position"]) == (mark, position)
    assert (got.kv_cache, got.scratch, got.weights) == (plan["cache"], plan["scratch"], plan["weights"])
    assert not got.note
    with pytest.raises(ArgumentError, match="lies on device 1"):
        model._loaded.plan.memory(0, 8, 1)


def test_reuse_goes_back_to_the_end_of_a_prompt(model: pyggml.Model) -> None:
    pool = Pool(model._loaded, True)
    seat = pool.take()
    seat.session.step(IDS)
    seat.ids = list(IDS)
    seat.mark()
    seat.session.step([7, 8, 9])
    seat.ids += [7, 8, 9]
    pool.give_back(seat)
    again = pool.take([*IDS, 7, 3])
    assert (again.ids, again.session.n_past) == (IDS, len(IDS))
    pool.give_back(again)
    whole = pool.take([*IDS, 7, 3])
    assert whole.ids == IDS
    for i in range(9):  # so many are kept, and the last ones
        whole.session.step([i])
        whole.ids.append(i)
        whole.mark()
    assert len(whole.marked or ()) == 4
    assert whole.session.reach == len(IDS) + 6


def test_wrong_files(tmp_path: Path) -> None:
    for changed, error, message in (
        (
            {"lfm2.shortconv.l_cache": 4},
            ShapeError,
            r"blk\.0\.shortconv\.conv\.weight is \(64, 3\), expected \(64, 4\)",
        ),
        ({"lfm2.shortconv.l_cache": 1}, GGUFError, "l_cache is 1, expected an integer from 2 to 16"),
        ({"lfm2.attention.head_count_kv": [0, 0, 3, 0, 2, 0]}, GGUFError, "which is 3, in layer 2"),
        ({"lfm2.attention.head_count_kv": [0] * 6}, GGUFError, r"blk\.2\.shortconv\.in_proj\.weight is missing"),
        ({"lfm2.expert_count": 4, "lfm2.expert_used_count": 2}, UnsupportedError, "expert_count"),
    ):
        with pytest.raises(error, match=message), pyggml.load(write(tmp_path / "x.gguf", **changed)):
            pass
    with (
        pytest.raises(GGUFError, match=r"blk\.1\.shortconv\.conv\.weight is missing"),
        pyggml.load(write(tmp_path / "y.gguf", drop=("blk.1.shortconv.conv.weight",))),
    ):
        pass
