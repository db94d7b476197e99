"""Token by token with functions of the caller between: what logits_processor and stopping_criteria ask for.

Slower than a generation of the engine, which nothing here is needed for otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from pyggml.answer import Part
from pyggml.completion import Completion, Timings, Usage
from pyggml.engine.stops import StopStrings
from pyggml.tokenizer import Tokenizer


class Written:
    """A text that is made of tokens as an iterator gives them; `.result` at its end."""

    def __init__(
        self, tokens: Iterator[int], prompt: Sequence[int], tokenizer: Tokenizer, most: int | None, stop: Sequence[str]
    ) -> None:
        self._tokens, self._prompt, self._most = tokens, prompt, most
        self._ends = tokenizer.eog_ids
        self._decoder = tokenizer.stream_decoder(continues=len(prompt) > 1)
        self._stops = StopStrings(stop)
        self.result: Completion | None = None

    def parts(self) -> Iterator[Part]:
        """The text piece by piece."""
        started = time.perf_counter()
        made: list[int] = []
        pieces: list[str] = []
        finish = "length"
        for token in self._limited(made):
            if token in self._ends:
                finish = "stop"
                break
            made.append(token)
            text, stopped = self._stops.push(self._decoder.push(token))
            if text:
                pieces.append(text)
                yield Part("text", text)
            if stopped:
                finish = "stop"
                break
        else:
            finish = "length" if self._most is not None and len(made) >= self._most else "stop"
        text, stopped = self._stops.push(self._decoder.finish())
        text += self._stops.flush()
        if text:
            pieces.append(text)
            yield Part("text", text)
        took = time.perf_counter() - started
        n, m = len(self._prompt), len(made)
        times = Timings(0.0, took, 0.0, m / took if took > 0 else 0.0)
        self.result = Completion("".join(pieces), made, finish, Usage(n, m, n + m), times)

    def _limited(self, made: list[int]) -> Iterator[int]:
        while self._most is None or len(made) < self._most:
            token = next(self._tokens, None)
            if token is None:
                return
            yield token

    def close(self) -> None:
        """Nothing is held."""

    def __iter__(self) -> Iterator[Any]:
        return self.parts()
