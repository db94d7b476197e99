"""llama.cpp through llama-cpp-python, for compare.py. `pip install llama-cpp-python` (the oracle extra).

Its low-level calls are used (llama_decode on a batch), which is the fastest way from Python: no completion layer, no
copied logits. Same threads, f16 cache, prompts in batches of 512; flash attention is left to the library ("auto").
"""

from __future__ import annotations

import ctypes

import numpy as np
import worker


class LlamaCpp:
    """Greedy steps through llama_decode."""

    name = "llama.cpp"

    def __init__(self, path: str, n_threads: int, n_ctx: int) -> None:
        import llama_cpp

        self.lib = llama_cpp
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept: C holds the pointer
        llama_cpp.llama_log_set(self.quiet, None)
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), model_params)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = n_threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError("llama.cpp makes no context")
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.last = 0

    def version(self) -> str:
        """Version and what llama.cpp says it was built with."""
        return f"llama-cpp-python {self.lib.__version__} ({self.lib.llama_print_system_info().decode().strip()})"

    def _feed(self, ids: list[int]) -> None:
        for start in range(0, len(ids), 512):
            part = ids[start : start + 512]
            tokens = (self.lib.llama_token * len(part))(*part)  # a batch borrows it
            if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(tokens, len(part))):
                raise RuntimeError("llama_decode failed")
        logits = self.lib.llama_get_logits_ith(self.context, -1)
        view = np.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (self.n_vocab,))
        self.last = int(np.argmax(view))

    def prefill(self, ids: list[int]) -> None:
        """Feeds ids to the empty cache."""
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        self._feed(ids)

    def decode(self, n: int) -> list[int]:
        """n steps of one token, the likeliest each time."""
        tokens = []
        for _ in range(n):
            self._feed([self.last])
            tokens.append(self.last)
        return tokens


if __name__ == "__main__":
    worker.serve(LlamaCpp)
