"""Prefix reuse: what a prompt shares with an idle session is not computed again. Counted in tokens fed, not in time."""

import contextlib
import sys
import threading

import numpy as np
import pytest
from model import tiny

import pyggml
from pyggml.engine import pool, session

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
THINGS = ("fox", "king", "mill", "tree", "wolf", "queen", "ring", "well", "goat", "swan")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("tiny") / "x.gguf", n_ctx=2048)


@pytest.fixture
def fed(monkeypatch):
    """Tokens that went into steps, step by step."""
    counts = []
    for name in ("choose", "rows"):
        call = getattr(session, name)

        def counted(*given, call=call, ids=1 if name == "rows" else 2):
            found = call(*given)
            counts.append(sum(map(len, given[ids])))
            return found

        monkeypatch.setattr(session, name, counted)
    return counts


def load(made, **how):
    return pyggml.load(made.path, kv_type="f32", n_threads=1, **how)


def conversation(m):
    """Ten turns of growing history: -> the completion of each."""
    messages, told = [], []
    for thing in THINGS:
        messages.append({"role": "user", "content": f"Tell me of the {thing}"})
        told.append(m.chat(messages, template=TEMPLATE, max_tokens=12, seed=1))
        messages.append({"role": "assistant", "content": told[-1].text})
    return told


def test_ten_turns_cost_what_is_new(made, fed):
    with load(made) as m:
        told = conversation(m)
        total = sum(fed)
    prompts = [c.usage.prompt_tokens for c in told]
    decoded = sum(len(c.tokens) for c in told)
    for i in range(1, len(told)):
        new = prompts[i] - told[i].usage.cached_tokens
        assert new <= prompts[i] - prompts[i - 1]  # the last answer and the new question at most
    assert prompts[-1] <= total <= prompts[-1] + decoded
    fed.clear()
    with load(made, prefix_reuse=False) as m:
        without = conversation(m)
    assert sum(fed) >= sum(prompts) > 4 * total
    assert all(c.usage.cached_tokens == 0 for c in without)
    assert [c.tokens for c in without] == [c.tokens for c in told]


def test_the_same_prompt_again_feeds_one_token(made, fed):
    ids = list(range(5, 105))
    with load(made) as m:
        first = m.generate(ids, max_tokens=1, temperature=0)
        fed.clear()
        again = m.generate(ids, max_tokens=1, temperature=0)
        assert fed == [1]
        assert again.tokens == first.tokens
        assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, 99)
        shorter = m.generate(ids[:60], max_tokens=1, temperature=0)
        assert shorter.usage.cached_tokens == 59
        assert len(m._engine.caches()) == 1


def test_conversations_in_turns_keep_their_own(made, fed):
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 256, 50).tolist() for _ in range(4)]
    with load(made) as m:
        for turn in range(3):
            for text in texts:
                text += rng.integers(0, 256, 5).tolist()
                c = m.generate(text, max_tokens=2, temperature=0)
                assert c.usage.cached_tokens == (0 if turn == 0 else len(text) - 5)
        assert len(m._engine.caches()) == 4


def test_no_more_are_kept_than_may_be(made):
    rng = np.random.default_rng(0)
    with load(made) as m:
        for _ in range(20):
            m.generate(rng.integers(0, 256, 20).tolist(), max_tokens=1)
            assert len(m._engine.caches()) <= pool._MOST
        assert len(m._engine.caches()) == pool._MOST
        m.generate(rng.integers(0, 256, (12, 9)).tolist(), max_tokens=2)
        assert len(m._engine.caches()) <= pool._MOST
    assert m._engine.caches() == []


def test_what_is_held_decides_how_many_are_kept(made, monkeypatch):
    """Not what a full context would take: of short texts many are kept where one long one would be too much."""
    with load(made) as m:
        s = m.session()
        s.step([1])
        one = m.memory().kv_cache
    monkeypatch.setattr(pool, "free_memory", lambda: 4 * 3 * one)
    with load(made) as m:
        for i in range(6):
            m.generate([i, 2 * i + 1, i], max_tokens=1)
            assert len(m._engine.caches()) == min(i + 1, 3)
            assert m.memory().kv_cache <= 3 * one
    monkeypatch.setattr(pool, "free_memory", lambda: 0)  # not known
    with load(made) as m:
        for i in range(3):
            m.generate([i, 2 * i + 1, i], max_tokens=1)
            assert len(m._engine.caches()) == 1


def test_what_ends_badly_leaves_what_is_right(made):
    ids = list(range(9, 80))
    with load(made, prefix_reuse=False) as m:
        want = m.generate(ids, max_tokens=8, temperature=0).tokens
    with load(made) as m:
        for stop in (lambda s: s.close(), lambda s: s.cancel(), lambda s: None):
            stream = m.stream(ids, max_tokens=20, temperature=0.9)
            next(stream)
            stop(stream)
            list(stream)
            assert m.generate(ids, max_tokens=8, temperature=0).tokens == want
        with contextlib.closing(m.stream(ids, max_tokens=None, temperature=0)) as stream:
            next(stream)
            stream._ticket.seat.session.cancel()  # by somebody else: a step is made again
            assert len(list(stream)) > 30
        with pytest.raises(pyggml.ContextFull):
            m.generate([5] * 3000)
        assert m.generate(ids, max_tokens=8, temperature=0).tokens == want


def test_numbers_are_what_they_are_without(made):
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 256, 90).tolist()
    with load(made, prefix_reuse=False) as plain, load(made) as m:
        m.generate(ids, max_tokens=5, temperature=0)
        m.generate(ids[:70], max_tokens=5, temperature=0)
        for _ in range(2):
            np.testing.assert_array_equal(m.logits(ids), plain.logits(ids))
            np.testing.assert_array_equal(m.score(ids), plain.score(ids))
            assert m.perplexity(ids, n_ctx=20) == plain.perplexity(ids, n_ctx=20)


def test_lists_share_a_prefix_one_after_another(made, fed):
    shared = list(range(3, 203))
    prompts = [[*shared, 7 + i] for i in range(40)]
    with load(made, prefix_reuse=False) as m:
        want = [c.tokens for c in m.generate(prompts, max_tokens=3, temperature=0)]
    fed.clear()
    with load(made) as m:
        told = m.generate(prompts, max_tokens=3, temperature=0)
    assert [c.tokens for c in told] == want
    assert sum(c.usage.cached_tokens == 200 for c in told) >= 24  # all but those of the first sixteen places
    assert sum(fed) < 17 * 201 + 40 * 4


def test_threads_find_their_own(made):
    rng = np.random.default_rng(5)
    prompts = [rng.integers(0, 256, 30 + i).tolist() for i in range(6)]
    with load(made, prefix_reuse=False) as m:
        want = [m.generate(p, max_tokens=6, temperature=0).tokens for p in prompts]
    wrong = []
    with load(made) as m:

        def work(i):
            for _ in range(6):
                got = m.generate(prompts[i], max_tokens=6, temperature=0).tokens
                if got != want[i]:
                    wrong.append((i, got))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_where_memory_ends_an_idle_one_is_taken(made, monkeypatch):
    with load(made) as m:
        m.generate(list(range(50)), max_tokens=1)

        def no(*_, **__):
            raise pyggml.OutOfMemory("no more")

        monkeypatch.setattr(pool, "Session", no)
        assert m.generate([200, 201, 202], max_tokens=1).usage.cached_tokens == 0
        held = m.stream([1, 2], max_tokens=None)
        next(held)
        with pytest.raises(pyggml.OutOfMemory):
            m.generate([3, 4], max_tokens=1)
        held.close()


def test_many_threads_take_and_give_back_at_once() -> None:
    """Whoever looks for a beginning sees sessions that others take, change and close meanwhile."""
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for _ in range(40):
                m.generate([5, *rng.integers(5, 9, rng.integers(1, 6)).tolist()], max_tokens=1, temperature=0)
        except BaseException as e:
            errors.append(e)

    before = sys.getswitchinterval()
    with pyggml.load(n_threads=1, n_ctx=64) as m:
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        finally:
            sys.setswitchinterval(before)
    assert not errors, errors[0]
