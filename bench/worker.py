"""An engine in a process of its own, driven by lines of JSON, so that engines alternate while each keeps its model.

model.py and the scripts of rivals/ derive from `Engine` and end with `worker.serve(TheirClass)`; the other side is
`Worker`. Seconds are measured in the engine's process. An engine that lacks a way raises NotImplementedError, and the
answer then names it as missing instead of failing. Standard library only: rivals run in environments of their own.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Engine:
    """What a rival implements. options: path, threads, n_ctx, kv ("f16", "q8_0"), mmap, n_seq."""

    name = ""

    def __init__(self, **options: Any) -> None:
        """Imports the library: not a part of loading."""
        raise NotImplementedError

    def load(self) -> None:
        """Opens the model and makes what a first token needs; timed as loading."""
        raise NotImplementedError

    def version(self) -> str:
        """Name and version of the library."""
        raise NotImplementedError

    def prefill(self, ids: list[int]) -> None:
        """Feeds ids to an empty sequence and computes the logits of the last."""
        raise NotImplementedError

    def feed(self, ids: list[int]) -> None:
        """Feeds ids behind what is there and computes the logits of the last."""
        raise NotImplementedError

    def fill(self, ids: list[int]) -> None:
        """Brings the cache to hold len(ids) more positions, by the shortest way; not timed."""
        self.feed(ids)

    def truncate(self, n: int) -> None:
        """Forgets everything from position n on; not timed, so an engine that cannot go there may feed n ids again."""
        raise NotImplementedError

    def decode(self, n: int) -> Any:
        """Continues the sequence greedily by n tokens, one step each: tokens, or (tokens, seconds) it measured."""
        raise NotImplementedError

    def batch(self, size: int, ids: list[list[int]], n: int) -> float:
        """Decodes n tokens of size sequences behind ids: seconds of the steps alone."""
        raise NotImplementedError

    def first(self, text: str) -> None:
        """Text to the first chosen token, through the public API: what a user waits for behind loading."""
        raise NotImplementedError

    def generate(self, prompt: str, n: int) -> int:
        """Greedy generation through the public API: tokens that came."""
        raise NotImplementedError

    def native(self, prompt: str, n: int) -> float:
        """Seconds of n native steps with sampling, without the layers above."""
        raise NotImplementedError

    def memory(self) -> dict[str, int]:
        """Bytes the library says it holds: weights, kv_cache, scratch."""
        raise NotImplementedError


def serve(engine_type: type[Engine]) -> None:
    """Reads requests from stdin until it ends; argv: the options as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the engine prints goes to stderr, not into the answers
    start = time.perf_counter()
    engine = engine_type(**json.loads(sys.argv[1]))
    imported = time.perf_counter()
    engine.load()
    loaded = time.perf_counter()
    answer: dict[str, Any] = {
        "name": engine.name,
        "version": engine.version(),
        "import_seconds": imported - start,
        "load_seconds": loaded - imported,
    }
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # without the libraries' own teardown, which some do not survive
        request = json.loads(line)
        try:
            answer = _answer(engine, request.pop("do"), request)
        except NotImplementedError:
            answer = {"missing": True}


def _answer(engine: Engine, do: str, request: dict[str, Any]) -> dict[str, Any]:
    if do == "rss":
        return rss()
    if do == "memory":
        return {**rss(), "parts": engine.memory()}
    start = time.perf_counter()
    got = getattr(engine, do)(**request)
    seconds = time.perf_counter() - start
    if do == "decode":
        if isinstance(got, tuple):
            got, seconds = got
        return {"seconds": seconds, "tokens": got}
    if do in ("batch", "native"):
        return {"seconds": got}
    return {"seconds": seconds, "n": got} if do == "generate" else {"seconds": seconds}


def rss() -> dict[str, Any]:
    """Bytes resident in this process: now, at most so far, anonymous and of mapped files. Zeros where unknown."""
    found = dict.fromkeys(("rss", "peak", "anonymous", "mapped"), 0)
    names = {"VmRSS": "rss", "VmHWM": "peak", "RssAnon": "anonymous", "RssFile": "mapped"}
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return found
    for line in lines:
        key, _, rest = line.partition(":")
        if key in names:
            found[names[key]] = int(rest.split()[0]) * 1024
    return found


class Missing(RuntimeError):
    """The engine has no such way, or cannot run here."""


class Worker:
    """The other end: starts a script and asks it. Missing when it does not start, ends early or takes too long."""

    def __init__(self, script: Path, python: str | None = None, patience: float = 120, **options: Any) -> None:
        self._patience = patience
        self._rest = b""
        self._process = subprocess.Popen(
            [python or sys.executable, str(script), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": _path()},
        )
        hello = self._answer()
        self.name: str = hello["name"]
        self.version: str = hello["version"]
        self.import_seconds: float = hello["import_seconds"]
        self.load_seconds: float = hello["load_seconds"]

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """One request, one answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise Missing(f"the engine is gone: {error}") from None
        answer = self._answer()
        if answer.get("missing"):
            raise Missing(f"{self.name} has no {do}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        """The next line, waited for no longer than patience."""
        assert self._process.stdout is not None
        end = time.monotonic() + self._patience
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not ready.select(max(end - time.monotonic(), 0)):
                    self._process.kill()
                    self._process.wait()
                    raise Missing(f"no answer within {self._patience:g} s")
                got = os.read(self._process.stdout.fileno(), 1 << 16)
                if not got:
                    raise Missing(f"the engine ended with status {self._process.wait()}; its stderr is above")
                self._rest += got
        line, self._rest = self._rest.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer


def _path() -> str:
    """bench/ first, so that engines find this module; then what the caller had."""
    return os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
