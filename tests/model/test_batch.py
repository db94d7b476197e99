"""Several sequences in one step against each alone: logits of every architecture, and generate with a list."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from model import test_forward, tiny

import pyggml
from pyggml import _native
from pyggml.engine import loop, pool, session
from pyggml.quant.types import QuantType

PROMPTS = ["Once upon a time", "The fox", "A king and his three daughters went", "It was", "Snow"]
ROUNDS = [(7, 1, 12, 3), (1, 1, 1, 1), (2, 9, 1, 20)]


@pytest.fixture(scope="module", params=test_forward.MODELS)
def made(request, tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("tiny") / "x.gguf", **test_forward.MODELS[request.param])


@pytest.fixture(scope="module")
def model():
    with pyggml.load(n_ctx=256) as m:
        yield m


def sequences(m, n):
    return [_native.Session(m._engine.plan, m.n_ctx, QuantType.parse("f32").id) for _ in range(n)]


def test_logits_of_a_batch_are_those_of_each_alone(made):
    rng = np.random.default_rng(3)
    with pyggml.load(made.path, kv_type="f32") as m:
        alone, together = sequences(m, 4), sequences(m, 4)
        for counts in ROUNDS:
            ids = [rng.integers(0, 256, n).astype(np.int32) for n in counts]
            got = m._engine.plan.step(together, ids, counts, 2)
            for i, n in enumerate(counts):
                want = alone[i].step(ids[i], n, 1)
                assert got[i].shape == want.shape
                assert test_forward.relative(got[i], want) < 1e-5
        assert [s.n_past for s in together] == [s.n_past for s in alone]
        del alone, together


def test_refused_steps_move_nobody(made):
    ids = [np.array([1, 2], np.int32), np.array([3], np.int32)]
    with pyggml.load(made.path) as m:
        a, b = pair = sequences(m, 2)
        m._engine.plan.step(pair, ids, [0, 0])
        for sessions, tokens, wanted, match in [
            ([a, a], ids, [1, 1], "twice"),
            ([a], ids, [1], "1 sessions"),
            (pair, ids, [1, 2], "wanted"),
            (pair, ids, [1, -1], "wanted"),
            (pair, [ids[0], ids[1][:0]], [1, 0], "tokens for each"),
            (pair, [ids[0], np.array([m.n_vocab], np.int32)], [1, 1], "sequence 1: id at position 0"),
            ([a, None], ids, [1, 1], "session 1 is None"),
        ]:
            with pytest.raises(pyggml.ArgumentError, match=match):
                m._engine.plan.step(sessions, tokens, wanted)
        b.cancel()
        with pytest.raises(pyggml.Cancelled):
            m._engine.plan.step(pair, ids, [1, 1])
        b.cancel(False)
        assert (a.n_past, b.n_past) == (2, 1)
        assert [x.shape for x in m._engine.plan.step(pair, ids, [2, 0])] == [(2, m.n_vocab), (0, m.n_vocab)]
        del a, b, pair


def told(completions):
    return [(c.text, c.tokens, c.finish_reason, c.usage.prompt_tokens, c.usage.completion_tokens) for c in completions]


@pytest.mark.parametrize(
    "how",
    [
        dict(temperature=0, max_tokens=30),
        dict(seed=5, max_tokens=30),
        dict(seed=5, max_tokens=40, repeat_penalty=1.2, stop=["and", "."]),
        dict(temperature=0, max_tokens=0),
        dict(temperature=0, max_tokens=5, logprobs=2),
    ],
)
def test_a_list_tells_what_each_prompt_tells_alone(made, how):
    with pyggml.load(made.path, kv_type="f32", n_ctx=64) as m:
        prompts = [*PROMPTS, [256, 5, 6], "", "Snow"]
        together = m.generate(prompts, **how)
        assert told(together) == told([m.generate(p, **how) for p in prompts])
        assert [len(c.logprobs or ()) for c in together] == [
            len(c.tokens) if "logprobs" in how else 0 for c in together
        ]


def test_more_prompts_than_places(model, monkeypatch):
    prompts = [[10 + i, 20, 30] for i in range(2 * loop.PLACES + 3)]
    seen = []
    choose = session.choose

    def watched(sessions, samplers, ids):
        seen.append(len(sessions))
        return choose(sessions, samplers, ids)

    monkeypatch.setattr(session, "choose", watched)
    together = model.generate(prompts, max_tokens=12, temperature=0)
    monkeypatch.undo()
    assert max(seen) == loop.PLACES
    assert len(seen) < sum(len(c.tokens) + 1 for c in together) / 4
    assert [c.tokens for c in together] == [model.generate(p, max_tokens=12, temperature=0).tokens for p in prompts]
    assert all(c.usage.prompt_tokens == 3 and c.timings.prompt_seconds > 0 for c in together)


def test_a_full_context_ends_one_and_not_the_others(model):
    long = [40] * (model.n_ctx - 3)
    a, b = model.generate([long, [10, 20]], max_tokens=20, temperature=0)
    assert len(a.tokens) <= 4
    assert a.finish_reason in ("length", "stop")
    assert len(b.tokens) == 20 or b.finish_reason == "stop"


def test_one_bad_prompt_is_refused_before_any_work(model, monkeypatch):
    def no(*_):
        raise AssertionError("a step was made")

    monkeypatch.setattr(session, "choose", no)
    monkeypatch.setattr(session, "rows", no)
    for more in ({}, {"logprobs": 1}):
        with pytest.raises(pyggml.ContextFull):
            model.generate([[1, 2], [5] * (model.n_ctx + 1)], max_tokens=3, **more)
        with pytest.raises(pyggml.ArgumentError, match="outside the vocabulary"):
            model.generate([[1, 2], [model.n_vocab]], max_tokens=3, **more)
        with pytest.raises(pyggml.ArgumentError, match="max_tokens"):
            model.generate([[1, 2], [3]], max_tokens=-1, **more)
    monkeypatch.undo()
    assert len(model.generate([[10, 20]], max_tokens=2, temperature=0)) == 1


def test_log_probabilities_of_a_list_are_wanted_rows_of_the_same_steps(model, monkeypatch):
    """The same tokens as without them, to the last draw, in as many steps."""
    steps = []
    for name in ("choose", "rows"):
        call = getattr(session, name)
        monkeypatch.setattr(session, name, lambda *a, call=call, name=name: steps.append(name) or call(*a))
    prompts = [[10 + i] * (1 + i % 7) for i in range(loop.PLACES + 5)]
    plain = model.generate(prompts, max_tokens=9, seed=4)
    n = len(steps)
    told = model.generate(prompts, max_tokens=9, seed=4, logprobs=2)
    assert steps == ["choose"] * n + ["rows"] * n
    assert [c.tokens for c in told] == [c.tokens for c in plain]
    for c in told:
        assert [each.id for each in c.logprobs] == c.tokens
        assert all(each.logprob <= 0 and len(each.top) == 2 for each in c.logprobs)


def test_where_memory_ends_fewer_run_at_a_time(model, monkeypatch):
    """Nobody is refused while others run; alone, it is an error."""
    places = []
    take, choose = pool.Pool.take, session.choose

    def few(self, prefix=()):
        if len(self._loaded.plan.caches()) - len(self._idle) >= 3:
            raise pyggml.OutOfMemory("no more")
        return take(self, prefix)

    def watched(sessions, samplers, ids):
        places.append(len(sessions))
        return choose(sessions, samplers, ids)

    monkeypatch.setattr(pool.Pool, "take", few)
    monkeypatch.setattr(session, "choose", watched)
    with pyggml.load(n_ctx=64) as m:
        assert [len(c.tokens) for c in m.generate([[10 + i] for i in range(9)], max_tokens=4, temperature=0)] == [4] * 9
        assert max(places) == 3
        others = [m.session() for _ in range(3)]
        with pytest.raises(pyggml.OutOfMemory):
            m.generate([[10], [11]], max_tokens=2)
        del others


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_ctrl_c_ends_a_batch():
    code = """
        import os, signal, threading, pyggml
        from pyggml.engine import loop, pool, session
        m = pyggml.load(n_ctx=512)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            while True:
                m.generate([[10, 20], [30]] * 8, max_tokens=None)
        except KeyboardInterrupt:
            print("interrupted", len(m.generate([[10, 20]] * 3, max_tokens=4)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "interrupted 3"
