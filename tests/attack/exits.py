"""Short scripts that load a model and end at a random moment, each in its own process; all must end well.

python tests/attack/exits.py [N] [--seed S] [--jobs J] [--model PATH ...]: N scripts (300), in turn from SCRIPTS, over
the bundled model (byte-level BPE), a twin of it with a SentencePiece vocabulary, and every PATH. Prints what did not
end with its status and its (mostly empty) stderr, then one line of counts; status 1 if there was any.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pyggml

HEAD = """
import atexit, os, signal, sys, threading, time, warnings
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process inherits that it is ignored
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of every fork beside threads
def late():  # runs behind the package's own handler, which is registered when it is imported
    if early: early[0]()
early = []
atexit.register(late)
import pyggml
path, wait = sys.argv[1], float(sys.argv[2])
load = lambda: pyggml.load(path, n_ctx=512)
def start(work, daemon):
    thread = threading.Thread(target=work, daemon=daemon)
    thread.start()
    return thread
"""
LONG = "[5 + i % 200 for i in range(500)]"


@dataclass(frozen=True)
class Script:
    """code behind HEAD; how it must end; says: what its stderr must contain, and then nothing of the package's own."""

    code: str
    status: int = 0
    says: str = ""
    posix: bool = False


FOREVER = """
def work():
    while True: m.generate("Once upon a time there was", max_tokens=20)
"""
SCRIPTS = {
    "load": Script("m = load(); time.sleep(wait)"),
    "load, at once": Script("m = load()"),
    "load and drop": Script("load(); time.sleep(wait)"),
    "load, close, drop": Script("m = load(); time.sleep(wait); m.close(); del m"),
    "load in a daemon thread": Script("start(load, True); time.sleep(wait)"),
    "load in a thread": Script("start(load, False); time.sleep(wait / 2)"),
    "load at exit": Script("atexit.register(lambda: load().generate('Once', max_tokens=2)); time.sleep(wait)"),
    "load at exit, late": Script("early.append(lambda: load().generate('Once', max_tokens=2))"),
    "load when dropped": Script("class A:\n    def __del__(self, load=load): load()\na = A(); m = load()"),
    "use at exit": Script("m = load(); atexit.register(lambda: m.generate('Once', max_tokens=3)); time.sleep(wait)"),
    "use at exit, late": Script("m = load(); early.append(lambda: m.generate('Once', max_tokens=3))"),
    "close at exit": Script(
        "m = load(); early.append(m.close)" + FOREVER + "def quiet():\n    try: work()\n"
        "    except pyggml.PyggmlError as e: assert 'closed' in str(e)\nstart(quiet, True); time.sleep(wait)"
    ),
    "close when dropped": Script(
        "m = load()\nclass A:\n    def __init__(self): self.m = m\n    def __del__(self): self.m.close()\na = A()"
    ),
    "generating daemon": Script("m = load()" + FOREVER + "start(work, True); time.sleep(wait)"),
    "generating daemons": Script("m = load()" + FOREVER + "for _ in range(4): start(work, True)\ntime.sleep(wait)"),
    "a thread to its end": Script("m = load(); start(lambda: m.generate('Once', max_tokens=30), False)"),
    "batch in a daemon": Script(
        "m = load()\ndef work():\n    while True: m.generate(['a b', 'c d', 'e'], max_tokens=9)\n"
        "start(work, True); time.sleep(wait)"
    ),
    "step in a daemon": Script(
        f"m = load(); s = m.session()\ndef work():\n    while True: s.reset(); s.step({LONG})\n"
        "start(work, True); time.sleep(wait)"
    ),
    "tokenizing daemons": Script(
        "m = load(); m.tokenizer\ndef work():\n    while True: m.tokenize('Once upon a time ' * 200)\n"
        "for _ in range(3): start(work, True)\ntime.sleep(wait)"
    ),
    "joined late": Script(  # a handler that waits for a daemon which needs the tokenizer
        "m = load(); go = threading.Event()\ndef work(): go.wait(); m.generate('Once', max_tokens=2)\n"
        "t = start(work, True); early.append(lambda: (go.set(), t.join()))"
    ),
    "stream alive": Script("m = load(); s = m.stream('Once', max_tokens=50); next(s); time.sleep(wait)"),
    "stream behind close": Script("m = load(); s = m.stream('Once', max_tokens=50); next(s); m.close()"),
    "generator alive": Script(
        "m = load()\ndef tell():\n    with m:\n        yield from m.stream('Once', max_tokens=50)\ng = tell(); next(g)"
    ),
    "stream in a daemon": Script(
        "m = load()\ndef work():\n    while True: list(m.stream('Once', max_tokens=50))\n"
        "start(work, True); time.sleep(wait)"
    ),
    "pool": Script(
        "from concurrent.futures import ThreadPoolExecutor\nm = load(); pool = ThreadPoolExecutor(3)\n"
        "for _ in range(6): pool.submit(m.generate, 'Once', max_tokens=5)\ntime.sleep(wait / 4)"
    ),
    "daemon pool": Script(
        "from multiprocessing.pool import ThreadPool\nm = load(); pool = ThreadPool(3)\n"
        "for _ in range(6): pool.apply_async(m.generate, ('Once',), dict(max_tokens=5))\ntime.sleep(wait / 4)"
    ),
    "exit in a thread": Script("m = load(); start(lambda: sys.exit(3), False); time.sleep(wait / 2)"),
    "exit with 3": Script("m = load()" + FOREVER + "start(work, True); time.sleep(wait); sys.exit(3)", 3),
    "error": Script(
        "m = load()" + FOREVER + "start(work, True); time.sleep(wait); raise ValueError('boom')", 1, "boom"
    ),
    "hard exit": Script("m = load()" + FOREVER + "start(work, True); time.sleep(wait); os._exit(7)", 7),
    "writing daemon": Script(
        "import numpy as np, shutil, tempfile\nfolder = tempfile.mkdtemp()\ndef work():\n    while True:\n"
        "        with pyggml.gguf.Writer(folder + '/x.gguf', behind=True) as w:\n"
        "            w.add('general.architecture', 'llama'); x = np.zeros((500, 1000), np.float32)\n"
        "            w.add_tensor('a', x.shape, 'f32', lambda: (x[i:i + 10] for i in range(0, 500, 10)))\n"
        "start(work, True); time.sleep(wait); threading.excepthook = lambda *_: None\n"
        "shutil.rmtree(folder, ignore_errors=True)"
    ),
    "Ctrl-C": Script(
        f"m = load(); s = m.session()\ntry:\n    threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        f"    while True: s.reset(); s.step({LONG})\nexcept KeyboardInterrupt: print(s.step([5]).shape)",
        posix=True,
    ),
    "Ctrl-C, not caught": Script(
        f"m = load(); s = m.session(); threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        f"while True: s.reset(); s.step({LONG})",
        -int(signal.SIGINT),
        "KeyboardInterrupt",
        posix=True,
    ),
    "SIGTERM": Script(
        "m = load()" + FOREVER + "start(work, True); time.sleep(wait); os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(60)",
        -int(signal.SIGTERM),
        posix=True,
    ),
    "closed by a handler": Script(
        f"m = load(); s = m.session()\ndef end(*_): m.close()\nsignal.signal(signal.SIGUSR1, end)\n"
        "threading.Timer(wait, os.kill, (os.getpid(), signal.SIGUSR1)).start()\ntry:\n"
        f"    while True: s.reset(); s.step({LONG})\nexcept pyggml.PyggmlError as e: assert 'closed' in str(e), e",
        posix=True,
    ),
    "fork, child exits": Script(
        "m = load()" + FOREVER + "start(work, True); time.sleep(wait)\npid = os.fork()\n"
        "if pid == 0: sys.exit(0)\nassert os.waitpid(pid, 0)[1] == 0",
        posix=True,
    ),
    "fork, child works": Script(
        "m = load()" + FOREVER + "start(work, True); time.sleep(wait)\npid = os.fork()\n"
        "if pid == 0: signal.alarm(60); m.generate('Once', max_tokens=3); m.close(); sys.exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0",
        posix=True,
    ),
    "fork in a thread": Script(
        "m = load()\ndef work():\n    pid = os.fork()\n    if pid == 0: m.generate('a', max_tokens=2); os._exit(0)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\nt = start(work, False); m.generate('Once', max_tokens=20); t.join()",
        posix=True,
    ),
    "multiprocessing": Script(
        "import multiprocessing\nm = load()\np = multiprocessing.get_context('fork').Process(target=m.generate, "
        "args=('Once',), kwargs=dict(max_tokens=2))\np.start(); p.join(); assert p.exitcode == 0",
        posix=True,
    ),
}


def spm_twin(path: Path) -> Path:
    """The bundled model with a SentencePiece vocabulary, whose library is the one that aborts."""
    from pyggml.model import BUNDLED

    with pyggml.gguf.open(BUNDLED) as file, pyggml.gguf.Writer(path) as out:
        n = int(file.metadata.array_length("tokenizer.ggml.tokens") or 0)
        out.add_metadata(file.metadata, [key for key in file.metadata if key.startswith("tokenizer.")])
        plain = [f"\u2581w{i}" for i in range(n - 259)]
        out.add("tokenizer.ggml.model", "llama")
        out.add("tokenizer.ggml.tokens", ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *plain])
        out.add("tokenizer.ggml.scores", np.arange(n, dtype=np.float32) * -1)
        out.add("tokenizer.ggml.token_type", np.array([2, 3, 3] + [6] * 256 + [1] * (n - 259), np.int32))
        for name, info in file.tensors.items():
            out.add_tensor(name, info.shape, info.type, info.data)
    return path


def end_of(script: Script, path: Path, wait: float) -> str:
    """ "" if it ended as it should, else what was wrong."""
    code = HEAD + textwrap.dedent(script.code)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(pyggml.__file__).parents[1]), *sys.path[1:]])}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(wait)], capture_output=True, text=True, timeout=300, env=env,
            restore_signals=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        return f"hung: {late.stderr!r}"
    noise = done.stderr.strip() if not script.says else ""
    bad = any(word in done.stderr for word in ("Exception ignored", "terminate called", "FATAL", "Fatal"))
    if done.returncode == script.status and not noise and not bad and script.says in done.stderr:
        return ""
    return f"status {done.returncode}, expected {script.status}; stderr: {done.stderr[-2000:]!r}"


def run(
    n: int, seed: int, jobs: int, models: Sequence[Path] = (), kinds: Iterable[str] = SCRIPTS, longest: float = 0.4
) -> tuple[str, list[str]]:
    """-> the summary, and what went wrong."""
    chance = random.Random(seed)
    names = [name for name in kinds if os.name == "posix" or not SCRIPTS[name].posix]
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        paths = [pyggml.model.BUNDLED, spm_twin(Path(folder) / "spm.gguf"), *models]
        drawn = [
            (names[i % len(names)], paths[(i + i // len(names)) % len(paths)], chance.random() ** 2 * longest)
            for i in range(n)
        ]
        ends = list(pool.map(lambda d: end_of(SCRIPTS[d[0]], d[1], d[2]), drawn))
    for (name, path, wait), end in zip(drawn, ends, strict=True):
        if end:
            wrong.append(f"{name} ({path.name}, {wait:.3f} s): {end}")
    counts = Counter(SCRIPTS[name].status for name, _, _ in drawn)
    told = ", ".join(f"{count} with status {status}" for status, count in sorted(counts.items()))
    return f"exits: {n} scripts of {len(names)} kinds, seed {seed}: {n - len(wrong)} as expected ({told})", wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, nargs="?", default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--model", type=Path, action="append", default=[])
    args = parser.parse_args()
    summary, wrong = run(args.n, args.seed, args.jobs, args.model)
    print(*wrong, summary, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
