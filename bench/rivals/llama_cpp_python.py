"""llama.cpp through llama-cpp-python. `pip install llama-cpp-python` (the oracle extra).

Steps use its low-level calls (llama_decode on a batch), which is the fastest way from Python: no completion layer, no
copied logits. Same threads, prompts in batches of 512; flash attention is left to the library ("auto") for an f16 cache
and on for a quantized one, which needs it. `first` and `generate` go through `Llama`, as users do.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np
import worker

UBATCH = 512
CACHES = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}  # GGML ids


class LlamaCpp(worker.Engine):
    """Greedy steps through llama_decode."""

    name = "llama.cpp"

    def __init__(self, path: str, threads: int, n_ctx: int, kv: str = "f16", mmap: bool = True, n_seq: int = 1) -> None:
        import llama_cpp

        self.lib = llama_cpp
        self.path, self.threads, self.n_ctx, self.kv, self.mmap, self.n_seq = path, threads, n_ctx, kv, mmap, n_seq
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept: C holds the pointer
        llama_cpp.llama_log_set(self.quiet, None)
        self.last = 0

    def load(self) -> None:
        lib = self.lib
        model_params = lib.llama_model_default_params()
        model_params.n_gpu_layers = 0
        model_params.use_mmap = self.mmap
        self.model = lib.llama_model_load_from_file(self.path.encode(), model_params)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {self.path}")
        params = lib.llama_context_default_params()
        params.n_ctx = self.n_ctx * self.n_seq
        params.n_batch = params.n_ubatch = UBATCH
        params.n_seq_max = max(self.n_seq, 2)  # fill() borrows the second
        params.kv_unified = self.n_seq == 1
        params.n_threads = params.n_threads_batch = self.threads
        params.type_k = params.type_v = CACHES[self.kv]
        if self.kv != "f16":
            params.flash_attn_type = 1
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError("llama.cpp makes no context")
        self.n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))

    def version(self) -> str:
        return f"llama-cpp-python {self.lib.__version__} ({self.lib.llama_print_system_info().decode().strip()})"

    def _likeliest(self, row: int = -1) -> int:
        logits = self.lib.llama_get_logits_ith(self.context, row)
        view = np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (self.n_vocab,))
        return int(np.argmax(view))

    def feed(self, ids: list[int]) -> None:
        for start in range(0, len(ids), UBATCH):
            part = ids[start : start + UBATCH]
            tokens = (self.lib.llama_token * len(part))(*part)  # a batch borrows it
            if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(tokens, len(part))):
                raise RuntimeError("llama_decode failed")
        self.last = self._likeliest()

    def fill(self, ids: list[int]) -> None:
        # Each piece alone, as a second sequence at its own positions, then handed to the first: decoding and prompts
        # behind it cost the same, and filling 8k positions does not take minutes.
        memory = self.lib.llama_get_memory(self.context)
        past = self.lib.llama_memory_seq_pos_max(memory, 0) + 1
        batch = self.lib.llama_batch_init(UBATCH, 0, 1)
        try:
            for start in range(0, len(ids), UBATCH):
                part = ids[start : start + UBATCH]
                self._step(batch, [(token, past + start + i, 1) for i, token in enumerate(part)])
                self.lib.llama_memory_seq_cp(memory, 1, 0, -1, -1)
                self.lib.llama_memory_seq_rm(memory, 1, -1, -1)
        finally:
            self.lib.llama_batch_free(batch)
        self.last = ids[-1]

    def logits(self, ids: list[int], first: int) -> Any:
        """(len(ids) - first, vocabulary) of one prompt, from position `first` on; at most UBATCH ids."""
        self._clear()
        batch = self.lib.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, i >= first
                batch.seq_id[i][0] = 0
            if self.lib.llama_decode(self.context, batch):
                raise RuntimeError("llama_decode failed")
        finally:
            self.lib.llama_batch_free(batch)
        rows = ctypes.cast(self.lib.llama_get_logits(self.context), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(rows, (len(ids) - first, self.n_vocab)).copy()

    def close(self) -> None:
        """Frees the context and the model."""
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)

    def _clear(self) -> None:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def prefill(self, ids: list[int]) -> None:
        self._clear()
        self.feed(ids)

    def truncate(self, n: int) -> None:
        if not self.lib.llama_memory_seq_rm(self.lib.llama_get_memory(self.context), 0, n, -1):
            raise RuntimeError("llama.cpp keeps the cache")

    def decode(self, n: int) -> list[int]:
        tokens = []
        for _ in range(n):
            self.feed([self.last])
            tokens.append(self.last)
        return tokens

    def batch(self, size: int, ids: list[list[int]], n: int) -> float:
        self._clear()
        most = max(size * len(ids[0]), size)
        batch = self.lib.llama_batch_init(most, 0, 1)
        try:
            self._step(batch, [(token, at, seq) for seq, row in enumerate(ids) for at, token in enumerate(row)])
            chosen = [self._likeliest((seq + 1) * len(ids[0]) - 1) for seq in range(size)]
            past = len(ids[0])
            start = time.perf_counter()
            for i in range(n):
                self._step(batch, [(token, past + i, seq) for seq, token in enumerate(chosen)])
                chosen = [self._likeliest(seq) for seq in range(size)]
            return time.perf_counter() - start
        finally:
            self.lib.llama_batch_free(batch)

    def _step(self, batch: Any, rows: list[tuple[int, int, int]]) -> None:
        """Rows (token, position, sequence); logits of the last row of each sequence."""
        batch.n_tokens = len(rows)
        for i, (token, at, seq) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, at, 1
            batch.seq_id[i][0] = seq
            batch.logits[i] = i + 1 == len(rows) or rows[i + 1][2] != seq
        if self.lib.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")


class LlamaPublic(LlamaCpp):
    """The same library as its users meet it: `Llama` and its `__call__`."""

    def load(self) -> None:
        self.llama = self.lib.Llama(
            self.path,
            n_ctx=self.n_ctx,
            n_threads=self.threads,
            n_threads_batch=self.threads,
            use_mmap=self.mmap,
            n_gpu_layers=0,
            verbose=False,
        )

    def first(self, text: str) -> None:
        self.generate(text, 1)

    def generate(self, prompt: str, n: int) -> int:
        self.llama.reset()
        done = self.llama(prompt, max_tokens=n, temperature=0.0)
        return int(done["usage"]["completion_tokens"])


if __name__ == "__main__":
    worker.serve(LlamaCpp)
