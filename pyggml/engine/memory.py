"""Bytes a loaded model holds, as the library counts them. What the process has beside it is the system's to say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Memory:
    """weights: the file's tensors, mapped or copied; kv_cache: of all open sessions; scratch: of steps.

    A cache holds spans of 256 positions, which come as positions fill; what forks share is counted once. The
    tokenizer's tables and Python itself are not counted.
    """

    weights: int
    kv_cache: int
    scratch: int

    @property
    def total(self) -> int:
        """All three together."""
        return self.weights + self.kv_cache + self.scratch
