"""Sessions, streams and models: what may come beside a running step, in which order they end, and what is left then."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attack import exits, soak

import pyggml
from pyggml import _native
from pyggml.engine.session import Session
from pyggml.model import BUNDLED

LONG = [5 + i % 200 for i in range(500)]
posix = pytest.mark.skipif(os.name != "posix", reason="signals and fork")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def m() -> Iterator[pyggml.Model]:
    with pyggml.load(n_ctx=512, n_threads=2) as model:
        yield model


def run(code: str, status: int = 0) -> str:
    """What a script prints; it must end with status and an empty stderr."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (status, "")
    return done.stdout.strip()


def stepping(s: Session) -> tuple[threading.Thread, list[Any]]:
    """A thread that makes long steps until one fails, and how that failed."""
    ends: list[Any] = []

    def work() -> None:
        try:
            while True:
                s.reset()
                with contextlib.suppress(pyggml.ContextFull):  # the test stepped in between
                    s.step(LONG, 0)
        except BaseException as e:
            ends.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, ends


# ---- beside a running step -------------------------------------------------------------------------------------------


def test_a_second_step_is_refused_and_a_cancel_ends_the_first(m: pyggml.Model) -> None:
    s = m.session()
    thread, ends = stepping(s)
    said = ""
    while not said and thread.is_alive():  # between two steps it is free, and then the other is refused
        try:
            s.step([5], 0)
        except pyggml.ContextFull:
            pass
        except pyggml.ArgumentError as e:
            said = str(e)
    while thread.is_alive():
        s.cancel()
        time.sleep(0.001)
    assert "running in another thread" in (said or str(ends[0]))
    assert isinstance(ends[0], pyggml.Cancelled if said else pyggml.ArgumentError)


def test_reset_and_truncate_wait_and_positions_stay_right(m: pyggml.Model) -> None:
    s = m.session()
    want = s.step([5, 6, 7])
    s.reset()
    for change in (s.reset, lambda: s.truncate(0), lambda: (s.reset(), s.cancel()), lambda: (s.cancel(), s.reset())):
        step = threading.Thread(target=lambda: quietly(lambda: s.step(LONG, 0)))
        step.start()
        for _ in range(3):
            quietly(change)
            assert s.n_past in (0, len(LONG))
        step.join()
        assert s.n_past in (0, len(LONG))
        s.reset()
        assert s.n_past == 0
        np.testing.assert_array_equal(s.step([5, 6, 7]), want)
        s.reset()


def quietly(call: Callable[[], object]) -> None:
    with contextlib.suppress(pyggml.PyggmlError):
        call()


def test_the_core_refuses_positions_that_are_none(m: pyggml.Model) -> None:
    s = m.session(16)
    s.step([5, 6])
    for bad in (-1, 3, -(1 << 40), 1 << 40):
        with pytest.raises(pyggml.ArgumentError, match=r"expected 0 to 2|whole number from 0"):
            s.truncate(bad)
    assert s.n_past == 2


def test_closing_a_session_ends_its_step(m: pyggml.Model) -> None:
    s = m.session()
    before = len(m._engine.caches())
    thread, ends = stepping(s)
    s.close()
    assert len(m._engine.caches()) == before - 1
    thread.join()
    assert isinstance(ends[0], (pyggml.Cancelled, pyggml.ArgumentError))
    s.close()
    s.cancel()
    assert s.kv_bytes == 0
    for use in (s.reset, lambda: s.step([5]), lambda: s.truncate(0), lambda: s.n_past):
        with pytest.raises(pyggml.ArgumentError, match="this session is closed"):
            use()


def test_a_cancel_that_meets_no_step_ends_the_next_one_only(m: pyggml.Model) -> None:
    s = m.session(32)
    s.cancel()
    with pytest.raises(pyggml.Cancelled):
        s.step([5])
    s.step([5])
    s.cancel()
    s.reset()
    s.step([5])


def test_threads_may_share_a_stream(m: pyggml.Model) -> None:
    s = m.stream("Once upon a time", max_tokens=40, temperature=0)
    pieces: list[str] = []
    threads = [threading.Thread(target=lambda: pieces.extend(s)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert s.result is not None
    assert Counter(pieces) == Counter(m.stream("Once upon a time", max_tokens=40, temperature=0))
    assert len(s.result.text) == sum(map(len, pieces))


@posix
@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_ends_the_step_before_it_is_seen(n_threads: int) -> None:
    """Also when it comes again and again; then the session is as before the step, and nothing works on."""
    said = run(f"""
        import os, signal, threading, time, pyggml
        m = pyggml.load(n_ctx=512, n_threads={n_threads})
        s = m.session()
        want = s.step([5, 6])
        came = []
        def handler(*_):
            came.append(1)
            if len(came) < 4: raise KeyboardInterrupt
        signal.signal(signal.SIGINT, handler)
        def fire():
            time.sleep(0.3)
            while len(came) < 4:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.005)
        killer = threading.Thread(target=fire)
        killer.start()
        try:
            while True:
                s.reset()
                s.step({LONG})
        except KeyboardInterrupt: pass
        for _ in range(5):
            try: time.sleep(0.1)
            except KeyboardInterrupt: pass
        killer.join()
        print(s.n_past in (0, {len(LONG)}))
        s.reset()
        assert (s.step([5, 6]) == want).all()
        print(s.n_past)
    """)
    assert said.split() == ["True", "2"]


@posix
def test_a_handler_may_close_what_is_running() -> None:
    said = run(f"""
        import os, signal, threading, time, pyggml
        def end(*_):
            try: m.generate("no step inside a step")
            except pyggml.ArgumentError as e: print("signal handler" in str(e))
            m.close()
            print(m._engine.caches())
        signal.signal(signal.SIGALRM, end)
        m = pyggml.load(n_ctx=512)
        s = m.session()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            while True: s.reset(); s.step({LONG})
        except pyggml.PyggmlError as e: print(e)
        m.close()
    """)
    told = said.splitlines()
    assert told[-2:] == ["[]", "this model is closed"]


@posix
def test_a_forked_child_may_use_all_that_runs_in_the_parent(m: pyggml.Model) -> None:
    s = m.session()
    thread, _ = stepping(s)
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(60)
                s.reset()
                s.step([5, 6])
                m.generate("Once", max_tokens=2)
                m.close()
                code = 0 if gc.isenabled() else 2
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
    s.close()
    thread.join()


# ---- ends ------------------------------------------------------------------------------------------------------------


def refusals(model: pyggml.Model, session: Session, file: pyggml.gguf.GGUFFile) -> list[Callable[[], object]]:
    """Uses of closed things."""
    return [
        lambda: model.generate("Once"), lambda: model.logits([1]), lambda: model.session(), lambda: model.memory(),
        lambda: session.step([1]), lambda: session.reset(), lambda: model.tensors, lambda: model.tokenize("a"),
        lambda: file.tensors["output_norm.weight"].data, lambda: model.stream("Once"), lambda: model.score("a b c"),
    ]  # fmt: skip


def test_every_order_of_closing() -> None:
    for order in itertools.permutations(range(4)):
        model = pyggml.load(n_ctx=128)
        session, stream, file = model.session(), model.stream("Once", max_tokens=30), pyggml.gguf.open(BUNDLED)
        next(stream)
        things = [model, session, stream, file]
        for i in (*order, *order):
            things[i].close()
        assert stream.result is not None
        assert stream.result.finish_reason == "cancelled"
        assert list(stream) == []
        stream.cancel()
        session.cancel()
        assert model._engine.caches() == []
        for use in refusals(model, session, file):
            with pytest.raises(pyggml.PyggmlError, match="closed"):
                use()


def test_a_stream_over_a_closed_model_says_so_once() -> None:
    model = pyggml.load(n_ctx=128)
    stream = model.stream("Once", max_tokens=30)
    next(stream)
    model.close()
    with pytest.raises(pyggml.PyggmlError, match="this model is closed"):
        next(stream)
    assert list(stream) == []


def uses(model: pyggml.Model, shared: Session) -> list[Callable[[], object]]:
    """What threads do to a model that others close."""
    return [
        lambda: model.generate("Once", max_tokens=30),
        lambda: list(model.stream("Once", max_tokens=30)),
        lambda: model.logits([1, 2, 3]),
        lambda: model.session(n_ctx=16).step([1]),
        lambda: (model.memory(), model.tensors),
        lambda: model.generate(["a", "b"], max_tokens=9),
        lambda: (shared.reset(), shared.step([5] * 50)),
    ]


def test_closing_races() -> None:
    """Whoever uses a model that others close sees one kind of error, and nothing is left."""
    ends: Counter[str] = Counter()

    def work(use: Callable[[], object]) -> None:
        try:
            while True:
                use()
        except pyggml.PyggmlError as e:
            ends["closed" if "closed" in str(e) else repr(e)] += 1
        except BaseException as e:
            ends[repr(e)] += 1

    for i in range(12):
        model = pyggml.load(n_ctx=128)
        threads = [threading.Thread(target=work, args=(use,)) for use in uses(model, model.session())]
        closers = [threading.Thread(target=model.close) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(random.Random(i).random() * 0.05)
        for thread in closers:
            thread.start()
        for thread in [*closers, *threads]:
            thread.join(120)
            assert not thread.is_alive()
        assert model._engine.caches() == []
    assert set(ends) == {"closed"}


@linux
def test_what_is_closed_holds_nothing_even_while_it_is_referenced() -> None:
    before = soak.held(BUNDLED)
    model = pyggml.load(n_ctx=128)
    session, stream = model.session(), model.stream("Once", max_tokens=9)
    next(stream)
    assert soak.held(BUNDLED)[:2] > before[:2]
    model.close()
    assert soak.held(BUNDLED) == before
    assert session.kv_bytes == 0
    stream.close()


def soon(true: Callable[[], bool]) -> None:
    """Waits for what the thread that makes texts sees with its next step."""
    ends = time.monotonic() + 20
    while not true() and time.monotonic() < ends:
        time.sleep(0.001)
    assert true()


@linux
def test_what_is_dropped_is_freed_at_once_without_the_collector() -> None:
    pyggml.load(n_ctx=128).close()
    gc.collect()  # what earlier tests left behind
    before = soak.held(BUNDLED)
    gc.disable()
    try:
        model = pyggml.load(n_ctx=128)
        model.tokenizer  # noqa: B018 - its thread has ended
        works = weakref.ref(model._engine._scheduler)
        for k in range(3):  # not begun, half read, all read
            stream = model.stream("Once", max_tokens=5)
            list(itertools.islice(stream, k * 3))
            gone = weakref.ref(stream)
            del stream
            assert gone() is None
            soon(lambda: not works()._worker)
            assert len(model._engine.caches()) <= k  # those that were given back stay warm
        session = model.session()
        held = len(model._engine.caches())
        del session
        assert len(model._engine.caches()) == held - 1
        plan = weakref.ref(model._engine.plan)
        gone_model = weakref.ref(model)
        del model
        soon(lambda: (gone_model(), plan()) == (None, None))
        assert soak.held(BUNDLED) == before
    finally:
        gc.enable()


def test_dropping_prints_nothing() -> None:
    said = run("""
        import gc, pyggml
        def f():
            with pyggml.load() as m:
                for piece in m.stream("Once upon", max_tokens=50): raise ValueError("the user's own")
        try: f()
        except ValueError as e: print("caught", e)
        gc.collect()
        m = pyggml.load(); s = m.stream("Once", max_tokens=50); next(s); m.close(); del s; gc.collect()
        m = pyggml.load(); s = m.stream("Once", max_tokens=50); next(s)
        def tell():
            with m: yield from m.stream("Once")
        g = tell(); next(g)
    """)
    assert said == "caught the user's own"


def test_a_broken_tokenizer_is_freed_too(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    with pyggml.gguf.open(BUNDLED) as file, pyggml.gguf.Writer(path) as out:
        out.add_metadata(file.metadata, ["tokenizer.ggml.model"])
        out.add("tokenizer.ggml.model", "nobody's")
        for name, info in file.tensors.items():
            out.add_tensor(name, info.shape, info.type, info.data)
    gc.collect()
    gc.disable()
    try:
        model = pyggml.load(path)
        for _ in range(2):
            with pytest.raises(pyggml.UnsupportedError, match="nobody's"):
                model.tokenize("a")
        gone = weakref.ref(model._engine.plan)
        del model
        assert gone() is None
    finally:
        gc.enable()


# ---- ends of the interpreter, and all at once ------------------------------------------------------------------------


TELLING = (
    "load, at once", "load in a daemon thread", "load at exit, late", "use at exit, late", "generating daemons",
    "tokenizing daemons", "step in a daemon", "joined late", "generator alive", "fork, child works", "writing daemon",
    "load when dropped", "close when dropped",
)  # fmt: skip


def test_scripts_end_as_they_should() -> None:
    said, wrong = exits.run(len(TELLING), seed=7, jobs=4, kinds=TELLING, longest=0.1)
    assert not wrong, "\n".join([*wrong, said])


@pytest.mark.slow
def test_many_scripts_end_as_they_should() -> None:
    said, wrong = exits.run(4 * len(exits.SCRIPTS), seed=8, jobs=2)
    assert not wrong, "\n".join([*wrong, said])


@linux
def test_a_short_soak() -> None:
    said, well = soak.run(3, n_threads=6, seed=3)
    assert well, said


@pytest.mark.slow
@linux
def test_a_longer_soak() -> None:
    said, well = soak.run(60, seed=4)
    assert well, said


def test_waiting_has_an_end() -> None:
    assert _native.wait_empty(set()) is True
    assert _native.wait_empty({1}, 0.005) is False
    assert _native.wait_empty({1}, 0.005, 1) is True
