"""How a token is chosen: the settings, checked once. The choosing itself is native (core/sample.c)."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from pyggml import _native
from pyggml.arguments import number, whole

_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 1e4),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (1e-3, 1e3),
    "frequency_penalty": (-1e3, 1e3),
    "presence_penalty": (-1e3, 1e3),
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of the chain penalties -> top_k -> top_p -> min_p -> temperature -> draw.

    temperature 0 takes the likeliest token. top_k 0, top_p 1, min_p 0, repeat_penalty 1 and penalties 0 are off.
    seed None or -1 draws one; the same seed gives the same text on any number of threads.

    >>> Sampling(temperature=-1)
    Traceback (most recent call last):
    ...
    pyggml.errors.ArgumentError: temperature must be a number from 0 to 10000, got -1
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repeat_last_n: int = 64
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            object.__setattr__(self, name, number(name, getattr(self, name), low, high))
        for name, least in (("top_k", 0), ("repeat_last_n", -1)):
            object.__setattr__(self, name, whole(name, getattr(self, name), least, 2**31 - 1))
        if self.seed is not None:
            seed = whole("seed", self.seed, -1, 2**64 - 1, other="None")
            object.__setattr__(self, "seed", None if seed == -1 else seed)

    def sampler(self, n_vocab: int) -> _native.Sampler:
        """A native sampler at the beginning of its random numbers."""
        seed = int.from_bytes(os.urandom(8), "little") if self.seed is None else self.seed
        how = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "seed"}
        return _native.Sampler(n_vocab, seed=seed, **how)
