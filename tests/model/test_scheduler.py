"""Texts that threads and coroutines ask for at once: each is what it is alone, and whoever leaves frees his place."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model import test_qwen35, tiny

import pyggml
from pyggml.engine import scheduler, session
from pyggml.engine.pace import Pace

GREEDY: dict[str, Any] = {"temperature": 0}


@pytest.fixture(scope="module")
def m() -> Iterator[pyggml.Model]:
    with pyggml.load(n_threads=1) as model:
        yield model


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """How many rows each sequence was fed, for each step."""
    steps: list[list[int]] = []
    choose = session.choose

    def watched(sessions: Any, samplers: Any, ids: Any) -> Any:
        steps.append([len(each) for each in ids])
        return choose(sessions, samplers, ids)

    monkeypatch.setattr(session, "choose", watched)
    return steps


def soon(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not true() and time.monotonic() < ends:
        time.sleep(0.002)
    assert true()


def at_rest(m: pyggml.Model) -> bool:
    works = m._engine._scheduler
    return not works._worker and not works._running and not len(works._waiting)


# ---- many at once ----------------------------------------------------------------------------------------------------


def test_threads_and_coroutines_get_the_texts_they_would_get_alone(m: pyggml.Model) -> None:
    rng = random.Random(3)
    asked = [
        {"prompt": [rng.randrange(5, 250) for _ in range(rng.choice((1, 3, 40, 150)))],
         "max_tokens": rng.randrange(1, 25), "temperature": rng.choice((0, 0.9)), "seed": i,
         "logprobs": rng.choice((None, None, 2))}
        for i in range(24)
    ]  # fmt: skip
    with pyggml.load(n_threads=1, prefix_reuse=False) as alone:
        want = [alone.generate(**each).tokens for each in asked]
    got: dict[int, list[int]] = {}

    def work(i: int) -> None:
        got[i] = m.generate(**asked[i]).tokens

    async def all_of(which: range) -> None:
        texts = await asyncio.gather(*(m.agenerate(**asked[i]) for i in which))
        got.update(zip(which, (each.tokens for each in texts), strict=True))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    threads += [threading.Thread(target=lambda: asyncio.run(all_of(range(8, 20))))]
    for thread in threads:
        thread.start()
    streams = [m.stream(**asked[i]) for i in range(20, 24)]
    for i, each in enumerate(streams):
        list(each)
        assert each.result is not None
        got[20 + i] = each.result.tokens
    for thread in threads:
        thread.join()
    assert [got[i] for i in range(24)] == want


def test_they_run_in_the_same_steps(fed: list[list[int]]) -> None:
    with pyggml.load(n_threads=1, n_parallel=3) as m:
        began = threading.Barrier(6)

        def work(i: int) -> None:
            began.wait()
            m.generate([5 + i], max_tokens=60, **GREEDY)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(map(len, fed)) == 3
    assert sum(len(step) == 3 for step in fed) > 30


def test_samples_share_their_prompt(fed: list[list[int]]) -> None:
    ids = [5 + i % 200 for i in range(150)]
    with pyggml.load(n_threads=1, prefix_reuse=False) as m:
        texts = m.generate(ids, n=5, seed=3, max_tokens=8)
        assert sum(map(sum, fed)) == 149 + 5 + 5 * 7  # the prompt but for its last id, once
        assert [each.usage.cached_tokens for each in texts] == [0] + [149] * 4
        assert len({tuple(each.tokens) for each in texts}) > 1
        assert texts[0].tokens == m.generate(ids, seed=3, max_tokens=8).tokens
        again = m.generate([ids, ids[:9]], n=5, seed=3, max_tokens=8)
        assert [each.tokens for each in again[0]] == [each.tokens for each in texts]
        assert [len(each) for each in again] == [5, 5]
        assert len({tuple(each.tokens) for each in m.generate(ids, n=3, max_tokens=4, **GREEDY)}) == 1
        chats = m.chat([{"role": "user", "content": "x"}], template="{{ messages[0].content }}", n=2, max_tokens=2)
        assert isinstance(chats, list)
        assert len(chats) == 2
        for refuse in (m.stream, m.astream):
            with pytest.raises(pyggml.ArgumentError, match="n is 2, and a stream is one text"):
                refuse(ids, n=2)
        with pytest.raises(pyggml.ArgumentError, match="n must be a whole number from 1"):
            m.generate(ids, n=0)


def recurrent(path: Path) -> Path:
    """A gated delta net whose file has a tokenizer."""
    plain = test_qwen35.write(path.with_suffix(".plain"))
    with pyggml.gguf.open(plain) as file, pyggml.gguf.Writer(path) as out:
        out.add_metadata(file.metadata)
        n = file.tensors["token_embd.weight"].shape[0]
        for key, value in {
            "model": "gpt2", "pre": "gpt-2", "tokens": [*tiny.byte_tokens()[: n - 1], "!!"], "merges": ["! !"],
            "token_type": [1] * n, "bos_token_id": 0, "eos_token_id": 1,
        }.items():  # fmt: skip
            out.add(f"tokenizer.ggml.{key}", value)
        for name, info in file.tensors.items():
            out.add_tensor(name, info.shape, info.type, info.data)
    return path


@pytest.mark.parametrize("kind", ["window", "recurrent"])
def test_samples_of_models_that_cannot_go_back(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    recurrent(path) if kind == "recurrent" else tiny.write(path, window=16, n_ctx=512)
    with pyggml.load(path, n_threads=1, prefix_reuse=False) as m:
        ids = np.random.default_rng(1).integers(5, m.n_vocab - 5, 40).tolist()
        want = m.generate(ids, max_tokens=6, **GREEDY).tokens
        got = m.generate(ids, n=3, max_tokens=6, **GREEDY)
    assert [each.tokens for each in got] == [want] * 3
    assert [each.usage.cached_tokens for each in got] == [0, 39, 39]


def test_a_prompt_is_read_in_pieces_and_gives_the_same(fed: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "most", lambda self, decoding: 64 if decoding else 512)
    ids = [5 + i * 7 % 200 for i in range(240)]
    with pyggml.load(n_threads=1, prefix_reuse=False) as m:
        want = m.generate(ids, max_tokens=12, **GREEDY).tokens
        fed.clear()
        talk = m.stream([9], max_tokens=None, **GREEDY)
        next(talk)
        assert m.generate(ids, max_tokens=12, **GREEDY).tokens == want
        talk.close()
    assert [step for step in fed if len(step) == 2][:4] in ([[64, 1]] * 3 + [[48, 1]], [[64, 1]] * 4)


# ---- leaving ---------------------------------------------------------------------------------------------------------


def test_a_timeout_ends_with_the_text_so_far(m: pyggml.Model) -> None:
    whole = m.generate("Once upon a time", max_tokens=None, **GREEDY)
    cut = m.generate("Once upon a time", max_tokens=None, timeout=0.03, **GREEDY)
    if cut.finish_reason == "timeout":  # a fast machine may be done before
        assert whole.text.startswith(cut.text)
        assert len(cut.tokens) < len(whole.tokens)
    none = m.generate(list(range(5, 205)), timeout=1e-9)
    assert (none.finish_reason, none.text) == ("timeout", "")
    for wrong in (0, -1, "1", float("nan")):
        with pytest.raises(pyggml.ArgumentError, match="timeout must be a number above 0"):
            m.generate("a", timeout=wrong)


def test_the_time_of_a_stream_begins_with_its_first_piece(m: pyggml.Model) -> None:
    s = m.stream("Once", timeout=0.01, max_tokens=None)
    time.sleep(0.02)
    assert not s._ticket.late
    text = "".join(s)
    assert s._ticket.late
    assert s.result is not None
    assert s.result.text == text


def test_a_cancel_ends_a_prompt_that_is_read_and_leaves_others_alone() -> None:
    long = [5 + i % 200 for i in range(2000)]
    with pyggml.load(n_threads=1, n_ctx=4096) as m:
        want = m.generate([9], max_tokens=40, **GREEDY).tokens
        other: list[Any] = []
        thread = threading.Thread(target=lambda: other.append(m.generate([9], max_tokens=40, **GREEDY).tokens))
        s = m.stream(long, max_tokens=5)
        threading.Timer(0.02, s.cancel).start()
        thread.start()
        assert list(s) == []
        assert s.result is not None
        thread.join()
        assert (s.result.finish_reason, s.result.tokens, other) == ("cancelled", [], [want])
        soon(lambda: at_rest(m))


def test_a_task_that_is_cancelled_frees_its_place(m: pyggml.Model) -> None:
    async def one(call: Callable[[], Any]) -> None:
        task = asyncio.create_task(call())
        await asyncio.sleep(0.02)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def read() -> None:
        async for _ in m.astream("Once", max_tokens=None):
            await asyncio.sleep(0.001)

    async def work() -> None:
        for _ in range(3):
            await one(lambda: m.agenerate(["Once", "A cat"], max_tokens=None))
            await one(read)
            await one(lambda: m.achat([{"role": "user", "content": "x"}], template="{{ bos_token }}", max_tokens=None))
        assert (await m.agenerate("Once", max_tokens=3)).finish_reason == "length"

    asyncio.run(work())
    gc.collect()
    soon(lambda: at_rest(m))


def test_streams_of_coroutines(m: pyggml.Model) -> None:
    want = m.generate("Once upon a time", max_tokens=30, **GREEDY).text

    async def one() -> str:
        async with m.astream("Once upon a time", max_tokens=30, **GREEDY) as s:
            return "".join([piece async for piece in s])

    async def parts() -> str:
        s = await m.achat(
            [{"role": "user", "content": "Once upon a time"}], template="{{ bos_token }}{{ messages[0].content }}",
            stream=True, max_tokens=30, **GREEDY,
        )  # fmt: skip
        assert isinstance(s, pyggml.engine.stream.Stream)
        return "".join([part.text async for part in s.aparts()])

    async def work() -> None:
        texts = await asyncio.gather(*(one() for _ in range(20)))
        assert set(texts) == {want}
        assert (await parts()).strip() == want.strip()
        early = m.astream("Once", max_tokens=None)
        async for _ in early:
            break
        await early.aclose()
        assert early.result is not None
        assert early.result.finish_reason == "cancelled"
        assert [piece async for piece in early] == []

    asyncio.run(work())
    soon(lambda: at_rest(m))


def test_a_cancelled_coroutine_tells_of_nothing_else(m: pyggml.Model) -> None:
    async def work() -> BaseException:
        task = asyncio.create_task(m.agenerate("Once", max_tokens=None))
        await asyncio.sleep(0.05)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            return error
        raise AssertionError

    error = asyncio.run(work())
    while error.__context__ is not None:
        error = error.__context__
        assert isinstance(error, asyncio.CancelledError)


def test_coroutines_that_asyncio_does_not_run_are_told_so(m: pyggml.Model) -> None:
    for ask in (
        m.agenerate("Once", max_tokens=3),
        m.achat([{"role": "user", "content": "x"}], template="{{ messages[0].content }}"),
        anext(m.astream("Once", max_tokens=3)),
    ):
        with pytest.raises(pyggml.UnsupportedError, match=r"event loop of asyncio.*trio\.to_thread"):
            ask.__await__().send(None)
    gc.collect()
    soon(lambda: at_rest(m))


def test_the_end_wakes_a_reader_that_came_when_another_had_taken_it(m: pyggml.Model) -> None:
    async def work() -> None:
        s = m.astream("Once", max_tokens=2)
        await anext(s)
        while await s._outlet.heard() is not None:
            pass
        other = asyncio.ensure_future(anext(s, "over"))
        await asyncio.sleep(0)  # it waits
        s._end()
        assert await asyncio.wait_for(other, 20) == "over"

    asyncio.run(work())


def test_a_finalizer_in_the_thread_that_makes_texts_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator over a stream that the garbage collector closes, in whichever thread it happens to run."""
    note, seen = Pace.note, []

    def noted(self: Pace, n_prompt: int, n_decode: int, seconds: float) -> None:
        if cycles:
            seen.append(cycles.pop())
            gc.collect()
            with pytest.raises(pyggml.ArgumentError, match="in the middle of making one"):
                next(left)
        note(self, n_prompt, n_decode, seconds)

    with pyggml.load(n_threads=1) as m:

        def told() -> Iterator[str]:
            with m.stream("Once upon a time", max_tokens=300) as s:
                yield from s

        def begin() -> None:
            held: list[Any] = [told()]
            next(held[0])
            held.append(held)  # nothing but the collector frees it

        left, cycles = m.stream("Once"), [1]
        gc.disable()
        try:
            begin()
            soon(lambda: at_rest(m))
            monkeypatch.setattr(Pace, "note", noted)
            assert m.generate("A cat", max_tokens=3).finish_reason == "length"
        finally:
            gc.enable()
        assert seen == [1]
        soon(lambda: at_rest(m) and len(m._engine.caches()) <= 2)


def test_a_handler_of_a_signal_may_close_what_its_thread_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be begun the caller works himself, and waits for nobody in what a signal calls."""
    monkeypatch.setattr(scheduler, "begun", lambda work: False)
    with pyggml.load(n_threads=1) as m:
        s = m.stream("Once upon a time", max_tokens=None, **GREEDY)
        old = signal.signal(signal.SIGALRM, lambda *_: s.close())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            for _ in s:
                time.sleep(0.001)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        assert s.result is not None
        assert s.result.finish_reason == "cancelled"


def test_a_stream_runs_ahead_by_some_pieces_and_waits(fed: list[list[int]]) -> None:
    with pyggml.load(n_threads=1) as m:
        want = m.generate("Once", max_tokens=150, **GREEDY).text
        fed.clear()
        s = m.stream("Once", max_tokens=150, **GREEDY)
        assert fed == []  # not begun
        got = next(s)
        soon(lambda: at_rest(m))
        assert 20 < len(fed) < 80
        n = len(fed)
        assert m.generate("A cat", max_tokens=3).finish_reason == "length"  # its place is free
        assert len(fed) == n + 3
        assert got + "".join(s) == want
        left = m.stream("Once", max_tokens=150)
        next(left)
        soon(lambda: at_rest(m))
        held = len(m._engine.caches())
        del left  # nobody works: it is freed with its ticket
        assert len(m._engine.caches()) == held - 1


def test_an_error_is_told_to_whom_it_concerns(m: pyggml.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session of one sequence fails; those beside it go on."""
    choose = session.choose
    want = m.generate("A cat", max_tokens=20, **GREEDY).text

    def failing(sessions: Any, samplers: Any, ids: Any) -> Any:
        if any(each.n_past > 250 for each in sessions):
            raise pyggml.NumericError("not finite")
        return choose(sessions, samplers, ids)

    monkeypatch.setattr(session, "choose", failing)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(m.generate("A cat", max_tokens=20, **GREEDY).text))
    with pytest.raises(pyggml.NumericError, match="not finite"):
        thread.start()
        m.generate([5 + i % 200 for i in range(248)], max_tokens=None, **GREEDY)
    thread.join()
    assert got == [want]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_goes_on_with_the_stream_it_has() -> None:
    with pyggml.load(n_threads=1) as m:
        want = m.generate("Once upon a time", max_tokens=120, **GREEDY).text
        s = m.stream("Once upon a time", max_tokens=120, **GREEDY)
        first = next(s)
        child = os.fork()
        if not child:
            try:
                same = (
                    first + "".join(s) == want and m.generate("Once upon a time", max_tokens=120, **GREEDY).text == want
                )
                os._exit(0 if same else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert first + "".join(s) == want


def test_generated_tokens_may_be_computed_as_a_prompt(m: pyggml.Model) -> None:
    with pyggml.load(n_threads=1, deterministic=True) as other:
        want = other.generate("Once upon a time", max_tokens=40, logprobs=0, **GREEDY)
    got = m.generate("Once upon a time", max_tokens=40, logprobs=0, deterministic=True, **GREEDY)
    assert got.tokens == want.tokens
    assert [each.logprob for each in got.logprobs or ()] == [each.logprob for each in want.logprobs or ()]
