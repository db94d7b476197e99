"""Threads, cancel, Ctrl-C, fork, leaks: one loaded model under the conditions of a real program."""

import ctypes
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from model import tiny

import pyggml

PROMPTS = [f"Once upon a time there was {thing}" for thing in ("a king", "a fox", "a mill", "an old tree")] * 2


@pytest.fixture(scope="module")
def model():
    with pyggml.load() as m:
        yield m


def run_python(code, timeout=60, **env):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout,
        env={**os.environ, **env},
    )  # fmt: skip


def test_eight_threads_tell_what_one_tells(model):
    def tell(i):
        return model.generate(PROMPTS[i], max_tokens=40, seed=i).text

    alone = [tell(i) for i in range(8)]
    together = [""] * 8

    def work(i):
        together[i] = tell(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert together == alone


def test_same_seed_same_text_on_any_thread_count():
    texts = set()
    for n in (1, 2, 3):
        with pyggml.load(n_threads=n) as m:
            texts.add(m.generate("The princess", max_tokens=60, seed=5).text)
    assert len(texts) == 1


def test_cancel_from_another_thread_keeps_what_was_there(model):
    stream = model.stream("Once upon a time", max_tokens=None, temperature=0.8, seed=1)
    seen = [next(stream) for _ in range(3)]
    threading.Thread(target=stream.cancel).start()
    seen += list(stream)
    assert stream.result.finish_reason in ("cancelled", "stop")
    assert stream.result.text == "".join(seen)
    assert model.generate("And then", max_tokens=3, seed=1).text


def test_a_session_in_use_refuses_a_second_thread(model):
    s = model.session()
    errors = []
    gate = threading.Barrier(3)
    ids = model.tokenize("word " * 60)

    def work():
        gate.wait()
        for _ in range(3):
            try:
                s.step(ids[:50], 0)
                s.reset()
            except pyggml.PyggmlError as e:
                errors.append(str(e))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads:
        t.start()
    gate.wait()
    for t in threads:
        t.join()
    assert all("another thread" in e or "truncat" in e or "running" in e for e in errors)


LONG_PROMPT = """
    import os, signal, sys, threading, time
    import numpy as np, pyggml
    m = pyggml.load({path!r}, n_threads=1)
    ids = list(np.random.default_rng(0).integers(0, 256, {n}))
    def later():
        time.sleep(0.7)
        print("sent", time.process_time(), flush=True)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=later, daemon=True).start()
    try:
        while True:
            {call}
    except KeyboardInterrupt:
        print("caught", time.process_time(), flush=True)
    print(len(m.generate([1, 2, 3], max_tokens=2, temperature=0).tokens) <= 2)
"""


@pytest.mark.parametrize("call", ["m.logits(ids)", "m.generate(ids[:16], max_tokens=None)", "m.session().step(ids)"])
def test_ctrl_c_stops_within_a_second(tmp_path, call):
    made = tiny.write(tmp_path / "x.gguf", n_embd=512, n_head=8, head_dim=64, n_ff=2048, n_layer=8, n_ctx=4096)
    code = LONG_PROMPT.format(path=str(made.path), n=3000, call=call)
    done = run_python(code, PYGGML_ISA="scalar")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[0] == "sent"
    assert words[2] == "caught"
    assert float(words[3]) - float(words[1]) < 1.0  # of the processor: a busy machine gives it when it can
    assert words[4] == "True"


class MallInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(f"f{i}", ctypes.c_size_t) for i in range(4)]
    _fields_ += [("hblkhd", ctypes.c_size_t), ("f5", ctypes.c_size_t), ("f6", ctypes.c_size_t)]
    _fields_ += [("uordblks", ctypes.c_size_t), ("f8", ctypes.c_size_t), ("f9", ctypes.c_size_t)]


def held():
    """Bytes in use in the C heap and in mappings of it: resident size alone drifts with fragmentation."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("needs glibc's mallinfo2")
    libc.mallinfo2.restype = MallInfo
    gc.collect()
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd


def mapped():
    """Bytes of address space, which our own mappings (caches, arenas, files) would add to."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loads_and_closes_leak_nothing():
    def once():
        with pyggml.load() as m:
            m.generate("Once", max_tokens=2, seed=0)

    for _ in range(20):
        once()
    before, space, files = held(), mapped(), len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        once()
    assert held() - before < 2 << 20
    assert mapped() - space < 256 << 20  # heaps of threads are 64 MiB each; 200 leaked files would be 1.2 GB
    assert len(os.listdir("/proc/self/fd")) <= files


def test_a_model_without_references_is_freed():
    import weakref

    m = pyggml.load()
    m.generate("Once", max_tokens=2)
    gone = weakref.ref(m)
    del m
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_forked_child_works(n_threads):
    done = run_python(
        f"""
        import os, pyggml, sys
        m = pyggml.load(n_threads={n_threads})
        ids = list(range(2, 300))
        want = m.generate(ids, max_tokens=8, temperature=0).tokens
        pid = os.fork()
        if pid == 0:
            try:
                ok = m.generate(ids, max_tokens=8, temperature=0).tokens == want
            except pyggml.PyggmlError:
                ok = True
            os._exit(0 if ok else 3)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


def test_closed_models_say_so(model):
    m = pyggml.load()
    s = m.session()
    stream = m.stream("Once", max_tokens=5)
    m.close()
    m.close()
    for call in (
        lambda: m.generate("x"),
        lambda: m.tokenize("x"),
        lambda: s.step([1]),
        lambda: list(stream),
        m.session,
    ):
        with pytest.raises(pyggml.PyggmlError, match="closed"):
            call()


def test_close_while_another_thread_generates():
    m = pyggml.load()
    outcome = []

    def work():
        try:
            outcome.append(m.generate("Once upon a time", max_tokens=None, temperature=0.8, seed=3))
        except pyggml.PyggmlError as e:
            outcome.append(e)

    t = threading.Thread(target=work)
    t.start()
    time.sleep(0.05)
    m.close()
    t.join(10)
    assert not t.is_alive()
    assert outcome


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import torch, pyggml", "import pyggml, torch"])
def test_torch_beside_us_changes_nothing(order):
    pytest.importorskip("torch")
    code = f"""
        {order}
        torch.randn(512, 512) @ torch.randn(512, 512)
        m = pyggml.load(n_threads=2)
        torch.randn(512, 512) @ torch.randn(512, 512)
        print(m.generate(list(range(2, 200)), max_tokens=20, temperature=0).tokens)
    """
    done = run_python(code, timeout=120)
    assert done.returncode == 0, done.stderr
    with pyggml.load(n_threads=2) as m:
        want = m.generate(list(range(2, 200)), max_tokens=20, temperature=0).tokens
    assert done.stdout.strip() == str(want)


def test_interrupt_signal_is_left_alone():
    handler = signal.getsignal(signal.SIGINT)
    with pyggml.load() as m:
        m.generate("Once", max_tokens=2)
    assert signal.getsignal(signal.SIGINT) is handler


def test_damaged_weights_are_named(tmp_path):
    made = tiny.write(tmp_path / "x.gguf")
    raw = bytearray(made.path.read_bytes())
    with pyggml.gguf.open(made.path) as file:
        at = file.tensors["blk.1.ffn_up.weight"].offset
    raw[at + 400 : at + 404] = np.float32(np.nan).tobytes()
    made.path.write_bytes(raw)
    with pyggml.load(made.path) as m:
        for call in (lambda: m.generate([1, 2, 3]), lambda: m.logits([1, 2, 3]), lambda: m.perplexity([1, 2] * 9, 8)):
            with pytest.raises(pyggml.PyggmlError, match=r"blk\.1\.ffn_up\.weight"):
                call()


def test_a_file_cut_after_load_is_an_error(tmp_path):
    made = tiny.write(tmp_path / "x.gguf")
    with pyggml.load(made.path) as m:
        m.logits([1, 2, 3])
        os.truncate(made.path, made.path.stat().st_size // 2)
        with pytest.raises(pyggml.GGUFError):
            m.logits([1, 2, 3])
