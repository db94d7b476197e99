"""What a session remembers, from Python: forks share it, files keep it, shifts shorten it, and memory follows use.

The core's own checks are in tests/native/test_state.c; here is what Python adds: files, errors, what memory() says.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from model import tiny

import pyggml
from pyggml.cli.bench import measure
from pyggml.engine.cache_type import CACHE_TYPES
from pyggml.engine.pool import Pool
from pyggml.errors import ArgumentError, GGUFError, PyggmlError, UnsupportedError

IDS = [(i * 37 + 5) % 250 for i in range(700)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = tiny.write(tmp_path_factory.mktemp("states") / "x.gguf", n_ctx=2048, head_dim=32)
    with pyggml.load(made.path, n_threads=1, n_ctx=2048) as m:
        yield m


def test_memory_follows_use(model):
    with closing(model.session()) as s:
        assert model.memory().kv_cache == 0
        s.step(IDS[:4])
        one = model.memory().kv_cache
        s.step(IDS[:600])
        assert model.memory().kv_cache == 3 * one < s.kv_bytes == 8 * one
    assert model.memory().kv_cache == 0


def test_forks_share_and_part(model):
    with closing(model.session()) as root:
        root.step(IDS)
        before = model.memory().kv_cache
        forks = [root.fork() for _ in range(30)]
        assert model.memory().kv_cache == before
        outs = [fork.step([i, i + 1]) for i, fork in enumerate(forks)]
        assert model.memory().kv_cache == before + 30 * before // 3
        for i in (0, 17, 29):
            with closing(root.fork()) as again:
                np.testing.assert_array_equal(again.step([i, i + 1]), outs[i])
        assert {fork.n_past for fork in forks} == {702}
        assert root.n_past == 700
        for fork in forks:
            fork.close()


@pytest.mark.parametrize("kv_type", CACHE_TYPES)
def test_saved_sessions_go_on(model, tmp_path, kv_type):
    path = tmp_path / "x.state"
    a, b = model.session(kv_type=kv_type), model.session(kv_type=kv_type)
    a.step(IDS)
    a.save(path)
    b.step([1, 2, 3])
    b.load(path)
    assert b.n_past == 700
    np.testing.assert_array_equal(b.step([7, 8]), a.step([7, 8]))


def test_no_saved_session(model, tmp_path):
    path, s = tmp_path / "x.state", model.session()
    s.step(IDS[:10])
    s.save(path)
    whole = path.read_bytes()
    for bad in (b"", whole[:50], whole[:-1], whole + b"x", whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
        path.write_bytes(bad)
        with pytest.raises(GGUFError, match=r"x\.state.*load: "):
            s.load(path)
    path.write_bytes(whole[:8] + b"\x09" + whole[9:])
    with pytest.raises(UnsupportedError, match="version 9"):
        s.load(path)
    with pytest.raises(GGUFError):
        s.load(tmp_path / "none")
    path.write_bytes(whole)
    with pytest.raises(ArgumentError, match="cache is f16, the session's f32"):
        model.session(kv_type="f32").load(path)
    with pytest.raises(ArgumentError, match="10 positions, the session holds 9"):
        model.session(9).load(path)
    with pyggml.load(n_threads=1) as other, pytest.raises(PyggmlError):
        other.session().load(path)
    with pytest.raises(GGUFError):
        s.save(model._loaded.file.path)  # the model's own file
    assert s.n_past == 10


def test_shift(model):
    s = model.session()
    s.step(IDS)
    s.shift(100, 400)
    assert s.n_past == 400
    s.step([1])
    with pytest.raises(ArgumentError, match="no stretch of the 401"):
        s.shift(300, 402)
    s.close()
    with pytest.raises(ArgumentError, match="closed"):
        s.shift(0, 1)
    with pytest.raises(ArgumentError, match="closed"):
        s.fork()


# what a type loses when it stores keys, and when they are turned anew
@pytest.mark.parametrize(
    ("kv_type", "bound"),
    [
        ("f32", 5e-3),
        ("bf16", 0.02),
        ("q8_0", 0.02),
        ("q5_1", 0.1),
        ("q5_0", 0.1),
        ("q4_1", 0.2),
        ("q4_0", 0.2),
        ("iq4_nl", 0.2),
    ],
)
def test_every_cache_is_shifted_and_forked(model, kv_type, bound):
    with closing(model.session(kv_type=kv_type)) as s, closing(model.session(kv_type="f16")) as want:
        for each in (s, want):
            each.step(IDS[:300])
        with closing(s.fork()) as twin:
            for each in (s, twin, want):
                each.shift(100, 207)
                assert each.n_past == 193
            got = s.step([3, 4, 5], 3)
            np.testing.assert_array_equal(twin.step([3, 4, 5], 3), got)
        right = want.step([3, 4, 5], 3)
        assert np.abs(got - right).max() < bound * np.abs(right).max()


def test_windows_say_how_far_back(tmp_path):
    made = tiny.write(tmp_path / "w.gguf", window=16, n_ctx=2048)
    with pyggml.load(made.path, n_threads=1, n_ctx=2048) as m, closing(m.session()) as s:
        s.step(IDS)
        s.step(IDS)
        assert 1000 < s.reach <= 1400 - 256
        with pytest.raises(UnsupportedError, match=f"go back to {s.reach}"):
            s.truncate(s.reach - 1)
        s.truncate(s.reach)
        s.reset()
        assert (s.reach, s.n_past) == (0, 0)


def test_bench_stands_at_a_depth_that_windows_have_passed(tmp_path):
    made = tiny.write(tmp_path / "w.gguf", window=16, n_ctx=2048)
    with pyggml.load(made.path, n_threads=1, n_ctx=2048) as m:
        got = measure(m, 700, 2, 2, 100)
        assert len(got["prompt_per_second"]) == 2
        assert m.memory().kv_cache == 0


def test_reuse_forgets_what_a_window_has_passed(tmp_path):
    made = tiny.write(tmp_path / "w.gguf", window=16, n_ctx=2048)
    how = {"max_tokens": 3, "temperature": 0}
    with pyggml.load(made.path, n_threads=1, n_ctx=2048) as m:
        pool = Pool(m._loaded, True)
        seat = pool.take()
        seat.session.step(IDS + IDS)
        seat.ids = IDS + IDS
        pool.give_back(seat)
        again = pool.take((IDS + IDS)[:800])  # more than half of it is alike, but the window is far behind
        assert (again.ids, again.session.n_past) == ([], 0)
        pool.give_back(again)
        assert m.generate(IDS, **how).tokens == m.generate(IDS, **how).tokens
