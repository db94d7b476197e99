"""OpenVINO GenAI on an INT4 model with groups of 128 (openvino_export.py writes it). Prompts are token ids.

Its own environment: pip install openvino-genai. Settings as its documents advise for speed on a CPU: activations in
groups of 128, pinned threads. Not the same file as the others: 4-bit matrices, an 8-bit head, larger groups. A pipeline
owns its sequence, so every call is a new generation: prefill is the time to the first token, decode what its own
counters say of the tokens behind it. No depth and no truncation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import worker


class OpenVino(worker.Engine):
    """LLMPipeline.generate with the end token ignored."""

    name = "openvino"

    def __init__(self, path: str, threads: int, n_ctx: int, kv: str = "f16", mmap: bool = True, n_seq: int = 1) -> None:
        import openvino
        import openvino_genai

        self.ov, self.lib = openvino, openvino_genai
        self.path, self.threads = path, threads
        self.prompt: list[int] = []

    def load(self) -> None:
        schedule = self.lib.SchedulerConfig()
        schedule.enable_prefix_caching = False  # a prompt measured twice would cost nothing
        schedule.max_num_batched_tokens = 8192  # no prompt is cut
        self.pipe = self.lib.LLMPipeline(
            self.path,
            "CPU",
            scheduler_config=schedule,
            INFERENCE_NUM_THREADS=self.threads,
            ENABLE_CPU_PINNING=True,
            DYNAMIC_QUANTIZATION_GROUP_SIZE=128,
        )

    def version(self) -> str:
        return f"openvino-genai {self.lib.__version__}"

    def _run(self, rows: list[list[int]], n: int) -> Any:
        """n tokens behind each row -> the library's own times."""
        ids = np.asarray(rows, np.int64)
        inputs = self.lib.TokenizedInputs(self.ov.Tensor(ids), self.ov.Tensor(np.ones_like(ids)))
        how = self.lib.GenerationConfig()
        how.max_new_tokens, how.ignore_eos, how.do_sample, how.eos_token_id = n, True, False, 128001
        return self.pipe.generate(inputs, how)

    def prefill(self, ids: list[int]) -> None:
        self.prompt = ids
        self._run([ids], 1)

    def decode(self, n: int) -> tuple[list[int], float]:
        done = self._run([self.prompt], n + 1)
        return [int(t) for t in done.tokens[0][1:]], _behind_the_first(done)

    def batch(self, size: int, ids: list[list[int]], n: int) -> float:
        return _behind_the_first(self._run(ids, n + 1))


def _behind_the_first(done: Any) -> float:
    """Seconds from the first new token (or row of tokens) to the last."""
    times = done.perf_metrics.raw_metrics.m_new_token_times  # milliseconds
    return float(times[-1] - times[0]) / 1e3


if __name__ == "__main__":
    worker.serve(OpenVino)
