"""A value made beside other work: waited for, made without a thread, made in a child; and the door before a fork."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from converters import checkpoint
from converters.vocabularies import metadata, sentencepiece_model

import pyggml
from pyggml import leaving
from pyggml.converters import export_tokenizer, tokenizer_check, tokenizer_files
from pyggml.tokenizer import library


def test_it_is_made_once_by_another_thread() -> None:
    seen: list[int] = []

    def make() -> int:
        seen.append(threading.get_ident())
        time.sleep(0.01)
        return 7

    made = leaving.Made(make)
    assert [made.get(), made.get()] == [7, 7]
    assert len(seen) == 1
    assert seen[0] != threading.get_ident()


def test_a_module_is_imported_where_no_ctrl_c_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "late_one.py").write_text("import threading\nwhere = threading.get_ident()\n")
    (tmp_path / "late_bad.py").write_text("raise ImportError('not today')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        leaving.imported("late_one")
    assert sys.modules["late_one"].where != threading.get_ident()
    for _ in range(2):
        with pytest.raises(ImportError, match="not today"):
            leaving.imported("late_bad")


def test_the_end_waits_for_what_is_made_whole() -> None:
    code = """if True:
        import functools, threading, time
        from pyggml import leaving
        inside = threading.Event()
        def make():
            inside.set()
            time.sleep(0.3)
            print("made", flush=True)
        made = leaving.Made(functools.partial(leaving.whole, make))
        inside.wait()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (0, "made\n", "")


def test_what_is_dropped_at_the_end_may_wait_for_what_is_made() -> None:
    """In every order of the two; without whole() too, before and behind which a thread may be met."""
    code = """if True:
        import random, sys, time
        from pyggml import leaving
        wait = float(sys.argv[1])
        class Waits:
            def __init__(self): self.made = leaving.Made(lambda: time.sleep(wait) or "made")
            def __del__(self): print(self.made.wait(), self.made.get(), flush=True)
        waits = Waits()
    """
    for wait in ("0", "0.001", "0.01", "0.3"):
        done = subprocess.run([sys.executable, "-c", code, wait], capture_output=True, text=True, timeout=90)
        assert (done.returncode, done.stdout, done.stderr) == (0, "None made\n", "")


def test_errors_are_raised_each_time() -> None:
    made = leaving.Made(lambda: int("x"))
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            made.get()


def test_without_a_thread_get_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    made = leaving.Made(threading.get_ident)
    made.wait()
    assert made.get() == threading.get_ident()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_makes_what_its_parent_had_not_finished() -> None:
    go = threading.Event()
    made = leaving.Made(lambda: go.wait(60) and os.getpid())
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        go.set()
        os._exit(0 if made.get() == os.getpid() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    go.set()
    assert made.get() == os.getpid()


SLOW_IMPORT = """if True:
    import os, signal, sys, threading, time
    import pyggml
    begun = threading.Event()

    class Slow:
        def find_spec(self, name, path, target=None):
            if name == sys.argv[1]:
                begun.set()
                time.sleep(0.3)

    sys.meta_path.insert(0, Slow())
    ask = eval(sys.argv[2])
    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(60)
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        os._exit(0 if ask() else 1)
    thread.join()
    sys.exit(os.waitpid(pid, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("module", "ask"),
    [
        ("pyggml.tokenizer.vocab", "lambda: pyggml.load().tokenize('a')"),
        ("pyggml.arch.decoders", "lambda: pyggml.load().tokenize('a')"),
        ("pyggml.chat.template", "lambda: pyggml.load().render_chat([], template='{{ 1 }}')"),
        ("pyggml.recipes.costs", "lambda: pyggml.quantize_file"),
    ],
)
def test_a_child_forked_within_an_import_can_import_it_too(module: str, ask: str) -> None:
    subprocess.run([sys.executable, "-c", SLOW_IMPORT, module, ask], check=True, timeout=90)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_waits_for_calls_that_must_not_be_cut() -> None:
    inside, done = threading.Event(), []

    def call() -> None:
        inside.set()
        time.sleep(0.05)
        done.append(1)

    thread = threading.Thread(target=leaving.whole, args=(call,))
    thread.start()
    inside.wait()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if done and not leaving._inside and not leaving._shut else 1)
    assert os.waitpid(pid, 0)[1] == 0
    thread.join()
    assert leaving.whole(leaving.whole, max, 1, 2) == 2
    assert not leaving._inside
    assert not leaving._shut


class Watched:
    """Of a library: every call of it must come from inside the door."""

    def __init__(self, library: Any, seen: list[str]) -> None:
        self._library, self._seen = library, seen

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._library, name)
        if name not in ("encode", "encode_batch_fast", "decode"):
            return found

        def call(*args: Any) -> Any:
            assert threading.get_ident() in leaving._inside, name
            self._seen.append(name)
            return found(*args)

        return call


def test_a_conversion_calls_the_libraries_from_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon thread that converts is cut at the interpreter's end: never within their C++ and Rust."""
    import sentencepiece

    seen: list[str] = []
    build, processor = library.built, sentencepiece.SentencePieceProcessor

    def built(description: str) -> Any:
        return Watched(build(description), seen)

    def pieces(**given: Any) -> Any:
        assert threading.get_ident() in leaving._inside
        return Watched(processor(**given), seen)

    monkeypatch.setattr(tokenizer_files, "built", lambda table: built(tokenizer_files.text_of(table)))
    plain = tokenizer_check.without_special  # takes the library's own alone
    monkeypatch.setattr(tokenizer_check, "without_special", lambda made: Watched(plain(made._library), seen))
    table = checkpoint.tokenizer_json()
    metadata(tmp_path / "json", {"tokenizer.json": table})
    assert {*seen} == {"encode", "decode"}
    seen.clear()
    monkeypatch.setattr(sentencepiece, "SentencePieceProcessor", pieces)
    metadata(tmp_path / "pieces", {"tokenizer.model": sentencepiece_model()}, 320)
    assert {*seen} == {"encode", "decode"}
    seen.clear()
    monkeypatch.setattr(export_tokenizer, "built", built)
    with pyggml.load() as model:
        assert "tokenizer.json" in export_tokenizer.files_of(model.metadata, None)
    assert {*seen} == {"encode"}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("before", "status"), [("", -signal.SIGINT), ("sys.ps1 = '> '", 1)], ids=["a script", "a prompt that goes on"]
)
def test_ctrl_c_that_nobody_caught_ends_by_the_signal(before: str, status: int) -> None:
    """The interpreter itself forgets it where a thread evaluates a text meanwhile, as imports beside loading do."""
    code = f"import pyggml, sys, threading, time\n{before}\n"
    code += "threading.Thread(target=lambda: (time.sleep(0.2), eval('1'))).start()\nraise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
