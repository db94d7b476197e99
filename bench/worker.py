"""An engine in a process of its own, driven by lines of JSON, so that engines alternate while each keeps its model.

An engine is a class with name, __init__(path, n_threads, n_ctx), version(), prefill(ids), decode(n); a script offers
it with `worker.serve(Engine)`, and compare.py drives it through `Worker`. Seconds are measured in the engine's process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).resolve().parent


class Engine(Protocol):
    """What a rival implements."""

    name: str

    def __init__(self, path: str, n_threads: int, n_ctx: int) -> None: ...

    def version(self) -> str:
        """Name and version of the library."""

    def prefill(self, ids: list[int]) -> None:
        """Feeds ids to an empty sequence and computes the logits of the last."""

    def decode(self, n: int) -> list[int]:
        """Continues the sequence greedily by n tokens, one step each."""


def serve(engine_type: type[Engine]) -> None:
    """Reads requests from stdin until it ends; argv: MODEL THREADS N_CTX."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the engine prints goes to stderr, not into the answers
    path, n_threads, n_ctx = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    start = time.perf_counter()
    engine = engine_type(path, n_threads, n_ctx)
    answer: dict[str, Any] = {"name": engine.name, "version": engine.version(), "seconds": time.perf_counter() - start}
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = sys.stdin.readline()
        if not line:
            return
        request = json.loads(line)
        if request["do"] == "prefill":
            ids = request["ids"]
            start = time.perf_counter()
            engine.prefill(ids)
            answer = {"seconds": time.perf_counter() - start}
        elif request["do"] == "decode":
            start = time.perf_counter()
            tokens = engine.decode(request["n"])
            answer = {"seconds": time.perf_counter() - start, "tokens": tokens}
        else:
            answer = {"peak_mb": peak_mb()}


def peak_mb() -> float:
    """Peak resident size of this process."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
        return int(text.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Worker:
    """The other end: starts a script and asks it."""

    def __init__(self, script: Path, path: str, n_threads: int, n_ctx: int) -> None:
        command = [sys.executable, str(script), path, str(n_threads), str(n_ctx)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": _path()}
        )
        hello = self._answer()
        self.name: str = hello["name"]
        self.version: str = hello["version"]
        self.load_seconds: float = hello["seconds"]

    def ask(self, **request: Any) -> dict[str, Any]:
        """One request, one answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the engine ended with status {self._process.wait()}; its stderr is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _path() -> str:
    """bench/ first, so that rivals find this module; then what the caller had."""
    return os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
