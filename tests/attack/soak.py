"""Many threads that mix the public calls with cancel, close, Ctrl-C, fork and abandoned streams, for a stated time.

python tests/attack/soak.py [SECONDS] [--threads N] [--seed S] [--model PATH] [--without ACT ...]: 60 s, 16 threads, the
bundled model, every act (in an ASan build --without fork: the allocator of gcc 12's ASan may be locked in the child).
The work is done by a process of its own; it must end with status 0 and print nothing on stderr. Only errors that
other threads cause may be raised, every greedy text must be the one that its prompt gives alone, every child must end
well, and in the end no session, descriptor, map or thread is left and the memory is about what it was in the middle.
Prints what was wrong and one line; status 1 if there was any.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

import pyggml
from pyggml.model import BUNDLED
from pyggml.threads import begun

TEXT = "Once upon a time there was a king who had three sons. "
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
EXPECTED = (pyggml.PyggmlError, pyggml.ArgumentError, pyggml.Cancelled, pyggml.ContextFull)
"""What another thread can make of a call: closed, busy, cancelled, full."""
GROWTH = 200 << 20  # bytes of resident memory between the middle and the end, allocators' habits included


class Soak:
    """What the threads share, and what they did."""

    def __init__(
        self, seconds: float, n_threads: int, seed: int, path: Path, folder: Path, without: Collection[str]
    ) -> None:
        self.until = time.monotonic() + seconds
        self.seconds, self.n_threads, self.seed, self.path, self.folder = seconds, n_threads, seed, path, folder
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.models = [self.load() for _ in range(3)]
        with pyggml.load(path, n_ctx=512, prefix_reuse=False) as alone:
            self.alone = {n: alone.generate(TEXT[:n], max_tokens=12, temperature=0).tokens for n in range(1, len(TEXT))}
        self.session = self.models[0].session(256)  # one that all threads use
        self.forking = threading.Semaphore(2)
        self.acts = [act for act in self.ACTS if act.__name__ not in without]
        self.armed: list[int] = []
        self.middle = 0

    def load(self) -> pyggml.Model:
        how: dict[str, Any] = {"mmap": random.random() < 0.8, "prefix_reuse": random.random() < 0.5}
        return pyggml.load(self.path, n_ctx=512, n_threads=random.choice([1, 2, 2]), **how)

    # ---- the acts: (chance, model) -> None ------------------------------------------------------------------

    def generate(self, r: random.Random, m: pyggml.Model) -> None:
        m.generate(TEXT, max_tokens=r.randrange(12), temperature=r.choice([0, 1.0]))

    def same(self, c: pyggml.Completion, n: int) -> None:
        """A greedy text of the first n characters is what it is alone, as far as it came."""
        if c.tokens != self.alone[n][: len(c.tokens)]:
            self.wrong.append(f"{TEXT[:n]!r} gave {c.tokens}, alone {self.alone[n]}")

    def samples(self, r: random.Random, m: pyggml.Model) -> None:
        n, late = r.randrange(1, len(TEXT)), r.choice([None, 0.002, 0.1])
        for c in m.generate(TEXT[:n], n=r.randrange(2, 5), timeout=late, max_tokens=r.randrange(12), temperature=0):
            self.same(c, n)

    def coroutines(self, r: random.Random, m: pyggml.Model) -> None:
        async def whole(n: int) -> None:
            self.same(await m.agenerate(TEXT[:n], max_tokens=r.randrange(12), temperature=0), n)

        async def pieces(n: int) -> None:
            async with m.astream(TEXT[:n], max_tokens=12, temperature=0) as s:
                async for _ in s:
                    if r.random() < 0.05:
                        break
            assert s.result is not None
            self.same(s.result, n)

        async def all_of() -> None:
            work = [r.choice((whole, pieces))(r.randrange(1, len(TEXT))) for _ in range(r.randrange(1, 12))]
            tasks = [asyncio.ensure_future(each) for each in work]
            for task in tasks:
                if r.random() < 0.2:
                    asyncio.get_running_loop().call_later(r.random() * 0.05, task.cancel)
            for end in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(end, Exception):  # a CancelledError is none
                    raise end

        # Not in the main thread, where a second Ctrl-C meets asyncio as it ends its tasks after the first.
        if threading.current_thread() is not threading.main_thread():
            asyncio.run(all_of())

    def unread(self, r: random.Random, m: pyggml.Model) -> None:
        n = r.randrange(1, len(TEXT))
        s = m.stream(TEXT[:n], max_tokens=None, temperature=0)
        next(s, "")
        time.sleep(r.random() * 0.1)
        if r.random() < 0.5:
            list(s)

    def batch(self, r: random.Random, m: pyggml.Model) -> None:
        m.generate([TEXT[: r.randrange(9)] for _ in range(r.randrange(1, 20))], max_tokens=4)

    def chat(self, r: random.Random, m: pyggml.Model) -> None:
        m.chat([{"role": "user", "content": "hi"}], template=CHAT, max_tokens=3)

    def stream(self, r: random.Random, m: pyggml.Model) -> None:
        s = m.stream(TEXT, max_tokens=8)
        end = r.choice([None, s.cancel, s.close])
        if end is not None:
            when, then = r.random() * 0.02, end
            begun(lambda: (time.sleep(when), then()))  # a Timer's start() cannot take the Ctrl-C of the main thread
        for _ in s:
            pass
        s.close()

    def abandon(self, r: random.Random, m: pyggml.Model) -> None:
        s = m.stream(TEXT, max_tokens=50)
        for _ in range(r.randrange(3)):
            next(s, "")

    def own_session(self, r: random.Random, m: pyggml.Model) -> None:
        s = m.session(128)
        s.step(list(range(5, 5 + r.randrange(1, 90))), 0)
        s.truncate(r.randrange(s.n_past + 1))
        s.step([5])
        if r.random() < 0.5:
            s.close()

    def shared_session(self, r: random.Random, m: pyggml.Model) -> None:
        s = self.session
        act: Callable[[], Any] = r.choice([s.reset, s.cancel, lambda: s.truncate(3), lambda: s.step([5] * 40), s.close])
        if act == s.close and r.random() < 0.9:
            act = s.reset
        act()
        if s.kv_bytes == 0:
            self.session = m.session(256)
        elif not 0 <= s.n_past <= s.n_ctx:
            self.wrong.append(f"position {s.n_past}")

    def numbers(self, r: random.Random, m: pyggml.Model) -> None:
        ids = m.tokenize(TEXT)
        m.detokenize(ids)
        m.logits(ids[:5])
        m.score(ids)
        m.perplexity(TEXT * 4, n_ctx=16)
        m.memory()

    def tensors(self, r: random.Random, m: pyggml.Model) -> None:
        name = r.choice(list(m.tensors))
        m.tensors[name].dequantize()
        x = np.ones((4, 256), np.float32)
        w = pyggml.quantize(x, r.choice(["q4_k", "q8_0", "iq4_xs", "f16"]))
        _ = w @ x[0]

    def files(self, r: random.Random, m: pyggml.Model) -> None:
        target = self.folder / f"{threading.get_ident()}.gguf"
        with pyggml.gguf.open(self.path) as file, pyggml.gguf.Writer(target, behind=r.random() < 0.7) as out:
            out.add_metadata(file.metadata)
            for info in list(file.tensors.values())[:8]:
                out.add_tensor(info.name, info.shape, info.type, lambda info=info: iter([info.data]))
        file.close()

    def reload(self, r: random.Random, m: pyggml.Model) -> None:
        if r.random() < 0.3:
            at = r.randrange(len(self.models))
            old, self.models[at] = self.models[at], self.load()
            old.close()
            if old._engine.caches():
                self.wrong.append(f"a closed model has {len(old._engine.caches())} sessions")
        else:  # never used, never closed
            self.load()

    def fork(self, r: random.Random, m: pyggml.Model) -> None:
        # Not in the main thread, where Python itself prints a Ctrl-C that meets one of its handlers for fork.
        if not hasattr(os, "fork") or threading.current_thread() is threading.main_thread():
            return
        if not self.forking.acquire(blocking=False):
            return
        try:
            pid = os.fork()
            if pid == 0:
                code = 1
                with contextlib.suppress(BaseException):
                    signal.signal(signal.SIGINT, signal.SIG_IGN)
                    signal.alarm(200)
                    with contextlib.suppress(pyggml.PyggmlError):  # closed by the parent before
                        m.generate("Once", max_tokens=2)
                        m.close()
                    code = 0
                os._exit(code)
            how = os.waitpid(pid, 0)[1]
            if how:
                self.wrong.append(f"a child ended with {how:#x}")
        finally:
            self.forking.release()

    ACTS = (
        generate, generate, samples, coroutines, coroutines, unread, batch, chat, stream, stream, abandon, abandon,
        own_session, own_session, shared_session, shared_session, shared_session, numbers, tensors, files, reload, fork,
    )  # fmt: skip

    # ---- running them ---------------------------------------------------------------------------------------

    def act(self, r: random.Random) -> None:
        what = r.choice(self.acts)
        try:
            what(self, r, r.choice(self.models))
            self.counts[what.__name__] += 1
        except pyggml.PyggmlError as e:
            self.counts[type(e).__name__] += 1
            if type(e) not in EXPECTED and not str(e).endswith(" is closed"):  # a tensor of a file is its file's
                self.wrong.append(f"{what.__name__}: {traceback.format_exc()}")
        except KeyboardInterrupt:
            self.counts["KeyboardInterrupt"] += 1
        except BaseException:
            self.wrong.append(f"{what.__name__}: {traceback.format_exc()}")

    def work(self, number: int) -> None:
        r = random.Random(self.seed * 1000 + number)
        while time.monotonic() < self.until and not self.wrong:
            self.act(r)

    def interrupt(self) -> None:
        """Sends Ctrl-C to the main thread while it acts, sometimes more than once."""
        r = random.Random(self.seed)
        while time.monotonic() < self.until:
            time.sleep(r.random() * 0.2)
            for _ in range(r.choice([1, 1, 2, 3])):
                if self.armed:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(r.random() * 0.001)

    def main_thread(self) -> None:
        """The same acts and long steps, with Ctrl-C in between."""
        r = random.Random(self.seed * 1000 - 1)
        acts = 0
        while time.monotonic() < self.until and not self.wrong:
            try:
                self.armed.append(1)
                if r.random() < 0.5:
                    self.act(r)
                else:
                    with contextlib.suppress(pyggml.PyggmlError):
                        r.choice(self.models).generate([5 + i % 99 for i in range(500)], max_tokens=2)
                self.armed.clear()
                time.sleep(0.01)  # what was sent arrives here
            except KeyboardInterrupt:
                self.counts["KeyboardInterrupt"] += 1
                self.armed.clear()
                with contextlib.suppress(KeyboardInterrupt):
                    time.sleep(0.05)
            acts += 1
            if not self.middle and time.monotonic() > self.until - self.seconds / 2:
                self.middle = resident()

    def run(self) -> None:
        threads = [threading.Thread(target=self.work, args=(i,)) for i in range(self.n_threads - 1)]
        threads.append(threading.Thread(target=self.interrupt))
        for thread in threads:
            thread.start()
        self.main_thread()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for thread in threads:
            thread.join(300)
            if thread.is_alive():
                self.wrong.append(f"{thread.name} hangs")
        for model in self.models:
            model.close()
            model.close()


def resident() -> int:
    with contextlib.suppress(OSError), open("/proc/self/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS"))
    return 0


def held(path: Path) -> tuple[int, int, int]:
    """Descriptors, maps of the model's file, threads of Python."""
    with contextlib.suppress(OSError):
        maps = Path("/proc/self/maps").read_text().count(path.name)
        return len(os.listdir("/proc/self/fd")), maps, threading.active_count()
    return 0, 0, threading.active_count()


def opened() -> list[str]:
    """What every descriptor leads to, where the system tells."""
    if not os.path.isdir("/proc/self/fd"):
        return []
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}")
    return found


def soak(seconds: float, n_threads: int, seed: int, path: Path, without: Collection[str]) -> int:
    """In the process that works."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process inherits that it is ignored
    pyggml.load(path).close()
    before = held(path)
    with tempfile.TemporaryDirectory() as folder:
        s = Soak(seconds, n_threads, seed, path, Path(folder), without)
        s.run()
        wrong, counts, middle = s.wrong, s.counts, s.middle
        del s
        gc.collect()
        after, grown = held(path), resident() - middle
    if after != before and not wrong:
        wrong.append(f"descriptors, maps, threads: {after}, at the beginning {before}; open: {opened()}")
    if middle and grown > GROWTH:
        wrong.append(f"{grown >> 20} MiB more than in the middle")
    acts = " ".join(f"{name}={count}" for name, count in sorted(counts.items()))
    print(*wrong, f"{sum(counts.values())} acts, {grown >> 20} MiB since the middle; {acts}", sep="\n")
    return 1 if wrong else 0


def run(
    seconds: float, n_threads: int = 16, seed: int = 1, path: Path = BUNDLED, without: Collection[str] = ()
) -> tuple[str, bool]:
    """-> what the process said, and whether all was well."""
    command = [sys.executable, __file__, str(seconds), "--threads", str(n_threads), "--seed", str(seed)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(pyggml.__file__).parents[1]), *sys.path[1:]])}
    command += ["--model", str(path), "--here", *(["--without", *without] if without else [])]
    flags = [] if sys.version_info < (3, 12) else ["-W", "ignore::DeprecationWarning"]  # of every fork beside threads
    done = subprocess.run(command[:1] + flags + command[1:], capture_output=True, text=True, env=env)
    acts = f", without {' '.join(without)}" if without else ""
    said = (
        f"soak: {seconds:g} s, {n_threads} threads, seed {seed}{acts}: status {done.returncode}, {done.stdout.strip()}"
    )
    return said + (f"\nstderr: {done.stderr}" if done.stderr else ""), done.returncode == 0 and not done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=60)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--without", nargs="+", default=[], choices=sorted({act.__name__ for act in Soak.ACTS}))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        return soak(args.seconds, args.threads, args.seed, args.model, args.without)
    said, well = run(args.seconds, args.threads, args.seed, args.model, args.without)
    print(said)
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
