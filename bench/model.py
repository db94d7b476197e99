"""pyggml as an engine of bench/run.py. The public API, but for `batch` and `native`, which time the steps alone."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import worker


class Pyggml(worker.Engine):
    """Greedy steps through a Session: one native call a token, sampling included, as generate() does."""

    name = "pyggml"

    def __init__(self, path: str, threads: int, n_ctx: int, kv: str = "f16", mmap: bool = True, n_seq: int = 1) -> None:
        import pyggml

        self.lib = pyggml
        self.path = path
        self.options: dict[str, Any] = dict(n_threads=threads, n_ctx=n_ctx, kv_type=kv, mmap=mmap)
        self.last: int = 0
        self.fed: list[int] = []

    def load(self) -> None:
        from pyggml.engine.sampling import Sampling

        self.model = self.lib.load(self.path, **self.options)
        self.session = self.model.session()
        self.sampler = Sampling(temperature=0).sampler(self.model.n_vocab)

    def version(self) -> str:
        return f"pyggml {self.lib.__version__} ({self.lib.info()['isa']})"

    def prefill(self, ids: list[int]) -> None:
        self.session.reset()
        self.fed = []
        self.feed(ids)

    def feed(self, ids: list[int]) -> None:
        self.last = self.session.next(self.sampler, ids)
        self.fed += ids

    def truncate(self, n: int) -> None:
        """Behind a window, and in recurrent layers, nothing leads back: from where it can, ids are fed again."""
        back, fed = self.session.back(n), self.fed
        self.session.truncate(back)
        self.fed = fed[:back]
        if back < n:
            self.feed(fed[back:n])
        if n < len(fed):
            self.last = fed[n]  # every round continues with the same token

    def decode(self, n: int) -> list[int]:
        tokens = []
        for _ in range(n):
            self.feed([self.last])
            tokens.append(self.last)
        return tokens

    def batch(self, size: int, ids: list[list[int]], n: int) -> float:
        from pyggml import _native
        from pyggml.engine.sampling import Sampling
        from pyggml.quant.types import QuantType

        plan, threads = self.model._engine.plan, self.model.n_threads
        kind = QuantType.parse(self.model.kv_type).id
        sessions = [_native.Session(plan, self.model.n_ctx, kind) for _ in range(size)]
        samplers = [Sampling(temperature=0).sampler(self.model.n_vocab) for _ in range(size)]
        chosen = plan.next(sessions, samplers, [np.asarray(i, np.int32) for i in ids], threads)
        start = time.perf_counter()
        for _ in range(n):
            chosen = plan.next(sessions, samplers, [np.array([token], np.int32) for token in chosen], threads)
        return time.perf_counter() - start

    def first(self, text: str) -> None:
        self.model.generate(text, max_tokens=1, temperature=0)

    def generate(self, prompt: str, n: int) -> int:
        return len(self.model.generate(prompt, max_tokens=n, temperature=0).tokens)

    def native(self, prompt: str, n: int) -> float:
        from pyggml import _native
        from pyggml.engine.sampling import Sampling
        from pyggml.quant.types import QuantType

        session = _native.Session(self.model._engine.plan, self.model.n_ctx, QuantType.parse(self.model.kv_type).id)
        sampler = Sampling(temperature=0).sampler(self.model.n_vocab)
        ids = np.asarray(self.model.tokenize(prompt), np.int32)
        one = np.zeros(1, np.int32)
        step, threads = session.next, self.model.n_threads
        start = time.perf_counter()
        one[0] = step(sampler, ids, threads)
        for _ in range(n - 1):
            one[0] = step(sampler, one, threads)
        return time.perf_counter() - start

    def memory(self) -> dict[str, int]:
        held = self.model.memory()
        return {"weights": held.weights, "kv_cache": held.kv_cache, "scratch": held.scratch}


def tokenizer_bytes(path: str) -> int:
    """How much this process grows by a file's vocabulary and the tokenizer built from it."""
    import pyggml
    from pyggml.tokenizer import from_metadata

    before = worker.rss()["anonymous"]
    with pyggml.gguf.open(path) as file:
        made = from_metadata(file.metadata)
        made.encode("Once upon a time")
        return int(worker.rss()["anonymous"] - before)


if __name__ == "__main__":
    if sys.argv[1] == "--tokenizer":
        print(json.dumps({"bytes": tokenizer_bytes(sys.argv[2])}))
    else:
        worker.serve(Pyggml)
