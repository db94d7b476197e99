"""The token loop: prompt ids in, text pieces out, and the Completion that sums them up.

One native call a token (step and sample); Python decodes the piece and looks for stop strings.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyggml.completion import Completion, Timings, TokenLogprob, Usage, token_logprob
from pyggml.engine.sampling import Sampling
from pyggml.engine.session import Session
from pyggml.engine.stops import StopStrings
from pyggml.errors import Cancelled, PyggmlError
from pyggml.pickling import Held

if TYPE_CHECKING:
    from pyggml.model import Model


class Continuation:
    """What one prompt becomes: which tokens to feed next, what a chosen token means, the sums. Runs no model.

    feed() says what goes into the sequence next, take(token) what came out; end() closes the text. A batch drives many.
    """

    def __init__(
        self,
        model: Model,
        prompt: Sequence[int],
        *,
        max_tokens: int | None,
        sampling: Sampling,
        stop: Sequence[str],
        logprobs: int | None,
        continues: bool,
    ) -> None:
        self.prompt = list(prompt)
        self.finish = ""
        self.n_logprobs = logprobs
        self._model = model
        self._max_tokens = max_tokens
        self._sampling = sampling
        self._stops = StopStrings(stop)
        self._continues = continues
        self._logprobs: list[TokenLogprob] = []
        self.tokens: list[int] = []
        self._text: list[str] = []
        self._stopped = False
        self._started = self._first = 0.0

    def begin(self) -> None:
        """Starts the clock, the text and the random numbers."""
        self._started = time.perf_counter()
        self._decoder = self._model.tokenizer.stream_decoder(skip_special=True, continues=self._continues)
        self.sampler = self._sampling.sampler(self._model.n_vocab)
        self.sampler.accept(np.asarray(self.prompt, np.int32))

    def feed(self, session: Session) -> list[int] | None:
        """The tokens that come next; None at the end, and then `finish` says why."""
        if self.finish:
            return None
        tokens = self.tokens[-1:] or self.prompt
        enough = self._max_tokens is not None and len(self.tokens) >= self._max_tokens
        if enough or session.n_past + len(tokens) > session.n_ctx:
            self.finish = "length"
        return None if self.finish else tokens

    def choose(self, session: Session, feed: list[int]) -> int:
        """One step of this sequence alone, keeping log-probabilities where they are wanted."""
        if self.n_logprobs is None:
            return session.next(self.sampler, feed)
        logits = session.step(feed)
        token = int(self.sampler.next(logits))
        logprob, top = self.sampler.logprobs(logits, token, self.n_logprobs)
        self._logprobs.append(token_logprob(self._model.tokenizer, token, logprob, top))
        return token

    def take(self, token: int) -> str:
        """A chosen token; returns the text that is certain now."""
        self._first = self._first or time.perf_counter()
        if token in self._model.tokenizer.eog_ids:
            self.finish = "stop"
            return ""
        self.tokens.append(token)
        text, self._stopped = self._stops.push(self._decoder.push(token))
        if self._stopped:
            self.finish = "stop"
        return self._keep(text)

    def end(self) -> str:
        """The text still held back. Without a reason to finish it was cancelled."""
        text = ""
        if not self._stopped:
            text, self._stopped = self._stops.push(self._decoder.finish())
            if self._stopped:
                self.finish = "stop"
            else:
                text += self._stops.flush()
        self.finish = self.finish or "cancelled"
        return self._keep(text)

    def _keep(self, text: str) -> str:
        if text:
            self._text.append(text)
        return text

    def sum_up(self) -> Completion:
        """What there is so far."""
        ended = time.perf_counter()
        n, m = len(self.prompt), len(self.tokens)
        prompt_s = (self._first or ended) - (self._started or ended)
        decode_s = ended - self._first if self._first else 0.0
        return Completion(
            "".join(self._text),
            self.tokens,
            self.finish or "cancelled",
            Usage(n, m, n + m),
            Timings(
                prompt_s,
                decode_s,
                n / prompt_s if prompt_s > 0 else 0.0,
                max(m - 1, 0) / decode_s if decode_s > 0 else 0.0,
            ),
            self._logprobs[:m] if self.n_logprobs is not None else None,
        )


class Stream(Held):
    """Text pieces as they come; never half a character. After the last piece `.result` is the Completion.

    Raises like generate; a model closed meanwhile ends it with PyggmlError. Threads may share it: each piece goes to
    one of them. Closing or dropping it frees the sequence's cache at once; no code of its own runs when it is dropped.
    As a context manager it closes itself.

    >>> import pyggml
    >>> with pyggml.load() as m, m.stream("Once upon a time", max_tokens=4) as s:
    ...     "".join(s) == s.result.text
    True
    """

    _instead = "its .result can, once it has ended"

    def __init__(self, model: Model, what: Continuation) -> None:
        self.result: Completion | None = None
        self._model = model
        self._what = what
        self._cancelled = self._begun = False
        # Taken again by a signal handler of the thread that has them: both must be reentrant.
        self._reading = threading.RLock()  # one piece at a time
        self._swap = threading.RLock()  # a session that was given back must not be cancelled
        session = model._borrow()
        try:
            session.check(what.prompt)
        except BaseException:
            model._give_back(session)
            raise
        self._session: Session | None = session

    def __repr__(self) -> str:
        done, n = self.result, len(self._what.tokens)
        return f"<pyggml.Stream {done.finish_reason if done else 'open'}, {n} tokens>"

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        with self._reading:
            session = self._session
            if session is None:
                raise StopIteration
            try:
                text, ended = self._advance(session)
            except BaseException:
                self._end()
                raise
            if ended:
                self._end()
            if text:
                return text
            raise StopIteration

    def cancel(self) -> None:
        """Ends the generation from any thread; `.result` then holds what was there, finish_reason "cancelled"."""
        self._cancelled = True
        with self._swap:
            if self._session is not None:
                self._session.cancel()

    def close(self) -> None:
        """Stops early and frees the cache; from any thread, any number of times."""
        self.cancel()
        with self._reading:
            self._end()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()

    def _advance(self, session: Session) -> tuple[str, bool]:
        """The next piece, and whether it is the last (and perhaps empty)."""
        what = self._what
        if not self._begun:
            self._begun = True
            what.begin()
        try:
            while not self._cancelled and (feed := what.feed(session)) is not None:
                text = what.take(what.choose(session, feed))
                if text:
                    return text, False
        except Cancelled:
            if not self._cancelled:
                raise
        return what.end(), True

    def _end(self) -> None:
        """Sums up and gives the session back, once."""
        with self._swap:
            session, self._session = self._session, None
        if session is not None:
            self.result = self._what.sum_up()
            self._model._give_back(session)


def complete(stream: Stream) -> Completion:
    """Runs a stream to its end."""
    for _ in stream:
        pass
    if stream.result is None:
        raise PyggmlError("the stream was closed before it began")
    return stream.result
