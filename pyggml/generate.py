"""The token loop: prompt ids in, text pieces out, and the Completion that sums them up.

One native call a token (step and sample); Python decodes the piece and looks for stop strings.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyggml import _native
from pyggml.errors import ArgumentError, Cancelled, PyggmlError
from pyggml.sample import Sampling
from pyggml.session import Session
from pyggml.stops import StopStrings

if TYPE_CHECKING:
    from pyggml.model import Model


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted: given, generated (the end token not included), both."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds: prompt until the first token was chosen, then the rest."""

    prompt_seconds: float
    decode_seconds: float
    prompt_per_second: float
    decode_per_second: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A chosen token, its natural log-probability before penalties and cuts, and the likeliest alternatives."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """What a generation gave. str() is the text.

    finish_reason: "stop" (end token or stop string), "length" (max_tokens, or the context is full), "cancelled".
    tokens: generated ids without the end token. logprobs: one entry per token when asked for, else None.
    """

    text: str
    tokens: list[int]
    finish_reason: str
    usage: Usage
    timings: Timings
    logprobs: list[TokenLogprob] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.text


class Stream:
    """Text pieces as they come; never half a character. After the last piece `.result` is the Completion.

    continues: the text goes on from the prompt's, so a blank before its first word stays. Raises like generate.
    Closing or dropping it frees the sequence's cache.
    """

    def __init__(
        self,
        model: Model,
        prompt: Sequence[int],
        *,
        max_tokens: int | None,
        sampling: Sampling,
        stop: str | Sequence[str],
        logprobs: int | None,
        continues: bool,
        session: Session | None = None,
    ) -> None:
        if max_tokens is not None and (
            isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 0
        ):
            raise ArgumentError(f"max_tokens must be a whole number >= 0 or None, got {max_tokens!r}")
        if logprobs is not None and not 0 <= logprobs <= 1000:
            raise ArgumentError(f"logprobs must be from 0 to 1000 or None, got {logprobs!r}")
        self.result: Completion | None = None
        self._model = model
        self._prompt = list(prompt)
        self._max_tokens = max_tokens
        self._sampling = sampling
        self._stops = StopStrings([stop] if isinstance(stop, str) else list(stop))
        self._n_logprobs = logprobs
        self._continues = continues
        self._logprobs: list[TokenLogprob] = []
        self._tokens: list[int] = []
        self._text: list[str] = []
        self._finish = ""
        self._cancelled = False
        self._lock = threading.Lock()
        self._own = session is None
        used = session or model._borrow()
        self._session: Session | None = used
        try:
            used.check(self._prompt)
        except BaseException:
            self._release()
            raise
        self._pieces = self._run(used)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def cancel(self) -> None:
        """Ends the generation from any thread; `.result` then holds what was there, finish_reason "cancelled"."""
        self._cancelled = True
        with self._lock:
            if self._session is not None:
                self._session.cancel()

    def close(self) -> None:
        """Stops early and frees the cache."""
        self._pieces.close()
        self._release()

    def _release(self) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session is not None and self._own:
            self._model._give_back(session)

    def _run(self, session: Session) -> Generator[str, None, None]:
        started = time.perf_counter()
        first = 0.0
        try:
            decoder = self._model.tokenizer.stream_decoder(skip_special=True, continues=self._continues)
            sampler = self._sampling.sampler(self._model.n_vocab)
            sampler.accept(np.asarray(self._prompt, np.int32))
            feed = self._prompt
            stopped = False
            try:
                while not self._cancelled:
                    if self._max_tokens is not None and len(self._tokens) >= self._max_tokens:
                        self._finish = "length"
                        break
                    if session.n_past + len(feed) > session.n_ctx:
                        self._finish = "length"
                        break
                    token = self._choose(session, sampler, feed)
                    first = first or time.perf_counter()
                    if token in self._model.tokenizer.eog_ids:
                        self._finish = "stop"
                        break
                    self._tokens.append(token)
                    feed = [token]
                    text, stopped = self._stops.push(decoder.push(token))
                    if text:
                        self._text.append(text)
                        yield text
                    if stopped:
                        self._finish = "stop"
                        break
            except Cancelled:
                if not self._cancelled:
                    raise
            if not stopped:
                text, stopped = self._stops.push(decoder.finish())
                text += "" if stopped else self._stops.flush()
                if stopped:
                    self._finish = "stop"
                if text:
                    self._text.append(text)
                    yield text
            self._finish = self._finish or "cancelled"
        finally:
            self.result = self._sum_up(started, first, time.perf_counter())
            self._release()

    def _choose(self, session: Session, sampler: _native.Sampler, feed: list[int]) -> int:
        if self._n_logprobs is None:
            return session.next(sampler, feed)
        logits = session.step(feed)
        token = int(sampler.next(logits))
        wide = logits.astype(np.float64)
        wide -= wide.max()
        wide -= np.log(np.exp(wide).sum())
        best = np.argsort(-wide, kind="stable")[: self._n_logprobs]
        self._logprobs.append(TokenLogprob(token, float(wide[token]), tuple((int(i), float(wide[i])) for i in best)))
        return token

    def _sum_up(self, started: float, first: float, ended: float) -> Completion:
        n, m = len(self._prompt), len(self._tokens)
        prompt_s = (first or ended) - started
        decode_s = ended - first if first else 0.0
        return Completion(
            "".join(self._text),
            self._tokens,
            self._finish or "cancelled",
            Usage(n, m, n + m),
            Timings(
                prompt_s,
                decode_s,
                n / prompt_s if prompt_s > 0 else 0.0,
                max(m - 1, 0) / decode_s if decode_s > 0 else 0.0,
            ),
            self._logprobs[:m] if self._n_logprobs is not None else None,
        )


def complete(stream: Stream) -> Completion:
    """Runs a stream to its end."""
    for _ in stream:
        pass
    if stream.result is None:
        raise PyggmlError("the stream was closed before it began")
    return stream.result
