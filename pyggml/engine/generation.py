"""Making a text: a request becomes a Generation, which says what is fed, what a chosen token means, and sums up.

Python decodes each piece and looks for stop strings; steps are the loop's, choosing is the core's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyggml.completion import Completion, Timings, TokenLogprob, Usage, token_logprob
from pyggml.engine.loaded import Loaded
from pyggml.engine.pool import AnyKind, Seat
from pyggml.engine.sampling import Sampling
from pyggml.engine.stops import StopStrings
from pyggml.engine.ticket import Feed, Ticket


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and what is wanted of it. continues: the text goes on from the prompt's, else it stands alone.

    reuse: "exact" or "any", as the setting says.
    """

    ids: list[int]
    max_tokens: int | None
    sampling: Sampling
    stop: Sequence[str]
    logprobs: int | None
    continues: bool
    reuse: str = "exact"


class Generation(Ticket):
    """What one prompt becomes."""

    def __init__(self, loaded: Loaded, request: Request) -> None:
        prefix = request.ids[:-1]
        super().__init__(
            AnyKind(prefix) if request.reuse == "any" else prefix
        )  # a last one is fed in any case: logits belong to a step
        self.ids = request.ids
        self._loaded = loaded
        self._request = request
        self._finish = ""
        self._stops = StopStrings(request.stop)
        self._logprobs: list[TokenLogprob] = []
        self.tokens: list[int] = []
        self._text: list[str] = []
        self._told = 0  # pieces that new_text() gave away
        self._stopped = False
        self._n_cached = self._n_decoded = 0
        self._started = self._first = 0.0

    def sit(self, seat: Seat) -> None:
        super().sit(seat)
        self._n_cached = len(seat.ids)
        self._n_decoded = self._n_cached - min(self._n_cached, seat.session.n_prompted)

    def _begin(self) -> None:
        """Starts the clock, the text and the random numbers."""
        self._started = time.perf_counter()
        tokenizer = self._loaded.tokenizer
        self._ends = tokenizer.eog_ids
        self._decoder = tokenizer.stream_decoder(skip_special=True, continues=self._request.continues)
        self._sampler = self._request.sampling.sampler(self._loaded.n_vocab)
        self._sampler.accept(np.asarray(self.ids, np.int32))

    def feed(self) -> Feed | None:
        if self.cancelled or self._finish:
            return None
        if not self._started:
            self._begin()
        seat = self.seat
        tokens = self.tokens[-1:] or self.ids[len(seat.ids) :]
        most = self._request.max_tokens
        enough = most is not None and len(self.tokens) >= most
        if enough or len(seat.ids) + len(tokens) > self._loaded.n_ctx:
            self._finish = "length"
            return None
        sampler = self._sampler if self._request.logprobs is None else None
        return Feed(tokens, 1, sampler, decode=bool(self.tokens))

    def read(self, logits: NDArray[np.float32]) -> None:
        token = int(self._sampler.next(logits[-1]))
        if self._request.logprobs is not None:
            logprob, top = self._sampler.logprobs(logits[-1], token, self._request.logprobs)
            self._logprobs.append(token_logprob(self._loaded.tokenizer, token, logprob, top))
        self.take(token)

    def take(self, token: int) -> None:
        if not self._first:
            self._first = time.perf_counter()
            self.seat.mark()
        if token in self._ends:
            self._finish = "stop"
            return
        self.tokens.append(token)
        text, self._stopped = self._stops.push(self._decoder.push(token))
        if self._stopped:
            self._finish = "stop"
        self._keep(text)

    def end(self) -> None:
        """Adds the text still held back. Without a reason to finish it was cancelled."""
        super().end()
        if self._started and not self._stopped:
            text, self._stopped = self._stops.push(self._decoder.finish())
            if self._stopped:
                self._finish = "stop"
            else:
                text += self._stops.flush()
            self._keep(text)
        self._finish = self._finish or "cancelled"

    def _keep(self, text: str) -> None:
        if text:
            self._text.append(text)

    def new_text(self) -> str:
        """The text that is certain since this was asked last."""
        new = self._text[self._told :]
        self._told = len(self._text)
        return "".join(new)

    def sum_up(self) -> Completion:
        """What there is so far."""
        ended = time.perf_counter()
        n, m = len(self.ids), len(self.tokens)
        prompt_s = (self._first or ended) - (self._started or ended)
        decode_s = ended - self._first if self._first else 0.0
        fed = n - self._n_cached
        return Completion(
            "".join(self._text),
            self.tokens,
            self._finish or "cancelled",
            Usage(n, m, n + m, self._n_cached, self._n_decoded),
            Timings(
                prompt_s,
                decode_s,
                fed / prompt_s if prompt_s > 0 else 0.0,
                max(m - 1, 0) / decode_s if decode_s > 0 else 0.0,
            ),
            self._logprobs[:m] if self._request.logprobs is not None else None,
        )
