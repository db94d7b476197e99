"""Marks of sessions with windows: what a marked position looks at is held back when windows have passed it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model import tiny
from numpy.typing import NDArray

import pyggml
from pyggml import _native
from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.graph import Graph, Rope
from pyggml.quant.types import QuantType

N, HEADS, K = 2600, 2, 16
COLS = HEADS * K
X = np.random.default_rng(4).normal(0, 1, (N, COLS)).astype(np.float32)
SPAN = 256 * COLS * 2 * 4  # of one layer, f32


def plan_of(windows: tuple[int, ...] = (300, 700, 0), n_batch: int = 512) -> _native.Plan:
    """Layers side by side, each with a window of its own; 0: none."""
    g = Graph()
    x = g.input(COLS)
    y = x
    for layer, window in enumerate(windows):
        y = y + g.attention(x, x, x, layer=layer, n_head=HEADS, n_head_kv=HEADS, scale=0.3, window=window)
    return g.finish(y, n_batch, N)


PLAN = plan_of()


def at(n: int, plan: _native.Plan = PLAN) -> _native.Session:
    session = _native.Session(plan, N, 0)
    feed(session, n)
    return session


def feed(session: _native.Session, n: int) -> NDArray[np.float32]:
    """The rows at the next n positions."""
    begin = session.n_past
    return session.step(None, min(n, 3), 2, rows=X[begin : begin + n])


def same_from(session: _native.Session, n: int) -> None:
    """Truncated to n, it goes on as one that never went further, and forgets as that does."""
    session.truncate(n)
    fresh = at(n)
    for count in (1, 40, 600):
        assert np.array_equal(feed(session, count), feed(fresh, count))
    assert session.reach <= fresh.reach


@pytest.mark.parametrize("cut", [1, 255, 256, 257, 511, 513, 700])
def test_a_mark_is_reached_when_windows_have_passed(cut: int) -> None:
    session = at(cut)
    session.mark()
    feed(session, 1900)
    assert session.back(cut) == session.reach == cut
    assert session.back(cut - 1) == 0
    with pytest.raises(
        UnsupportedError, match=f"position {cut + 1} looks at, which was not marked; .* to {cut}, a mark"
    ):
        session.truncate(cut + 1)
    same_from(session, cut)
    same_from(session, cut)  # and again, though it went on from there


def test_without_a_mark_it_is_refused() -> None:
    session = at(1900)
    reach = session.reach
    assert 700 < reach < 1900
    with pytest.raises(UnsupportedError, match=f"which was not marked; the session can go back to {reach}, or to 0"):
        session.truncate(reach - 1)
    session.truncate(reach)


def test_marks_hold_together_what_they_look_at_once() -> None:
    plan = plan_of((300,))
    session = at(1000, plan)
    session.mark()
    held = [plan.cache_bytes]
    feed(session, 10)
    session.mark()
    feed(session, 1400)
    held.append(plan.cache_bytes)
    session.unmark(1000)
    held.append(plan.cache_bytes)
    assert (session.back(1005), session.back(1010)) == (0, 1010)
    session.unmark(1010)
    held.append(plan.cache_bytes)
    fresh = at(2410, plan)
    assert held[3] == plan.cache_bytes - held[3]
    assert held[1] == held[2] == held[3] + 2 * SPAN  # positions 701 to 999 lie in two, those to 1009 too
    assert plan.memory(0, N)["mark"] == 3 * SPAN
    fresh.close()
    session.truncate(0)
    assert plan.cache_bytes <= SPAN


def test_forks_and_saved_states_hold_what_marks_look_at() -> None:
    session = at(530)
    session.mark()
    feed(session, 270)
    session.mark()
    feed(session, 1500)
    state = session.save()
    loaded, fork = at(3), session.fork()
    loaded.load(state)
    session.close()
    assert np.array_equal(loaded.save(), state)
    for each in (fork, loaded):
        assert (each.n_past, each.reach, each.back(900)) == (2300, 530, 800)
    assert np.array_equal(feed(loaded, 100), feed(fork, 100))
    for each in (fork, loaded):
        same_from(each, 800)
        same_from(each, 530)
    for at_byte in (60, 68, 76, 84, 92, len(state) // 2):
        bad = state.copy()
        bad[at_byte] ^= 1
        with pytest.raises(Exception, match="load: "):
            loaded.load(bad)


def test_a_mark_behind_the_text_is_gone_and_a_shift_drops_all() -> None:
    session = at(600)
    session.mark()
    feed(session, 100)
    session.mark()
    feed(session, 20)
    session.truncate(650)
    feed(session, 1500)
    assert (session.back(900), session.back(599)) == (600, 0)
    g = Graph()
    x = g.input(COLS)
    how = dict(n_head=HEADS, n_head_kv=HEADS)
    turned = g.rope(x, Rope("neox", K), HEADS, K)
    plan = g.finish(g.attention(x, turned, x, layer=0, scale=0.3, window=300, **how), 512, N)
    session = at(600, plan)
    session.mark()
    feed(session, 200)
    session.shift(790, 795)
    assert session.back(600) == 600  # no window has passed it
    feed(session, 1500)
    assert session.back(600) == 0


def test_models_with_neither_take_no_marks() -> None:
    plan = plan_of((0,))
    session = at(300, plan)
    for _ in range(100):
        feed(session, 1)
        session.mark()
    assert plan.memory(0, N)["mark"] == 0
    session.truncate(7)
    session = at(1)
    for _ in range(63):
        session.mark()
        feed(session, 1)
    session.mark()
    feed(session, 1)
    with pytest.raises(ArgumentError, match="has 64 marks"):
        session.mark()


def test_a_model_with_windows_goes_back_to_marks_of_a_file(tmp_path: Path) -> None:
    made = tiny.write(tmp_path / "x.gguf", window=300, n_ctx=2000)
    ids = np.random.default_rng(2).integers(0, 256, 1700).tolist()
    with pyggml.load(made.path) as model:
        session, other, fresh = (model.session(kv_type="f32") for _ in range(3))
        session.step(ids[:700])
        session.mark()
        session.step(ids[700:])
        with pytest.raises(UnsupportedError, match="position 500 looks at, which was not marked"):
            session.truncate(500)
        session.save(tmp_path / "marked.state")
        other.load(tmp_path / "marked.state")
        other.truncate(700)
        fresh.step(ids[:700])
        assert np.array_equal(other.step(ids[:90]), fresh.step(ids[:90]))
        loaded = model._loaded
        of_f32, of_f16 = (loaded.mark_bytes(QuantType.parse(name), 2000) for name in ("f32", "f16"))
        assert of_f32 == 2 * of_f16 > 0
