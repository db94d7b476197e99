"""Making a text: a request becomes a Generation, which says what is fed, what a chosen token means, and sums up.

Python decodes each piece and looks for stop strings; steps are the loop's, choosing is the core's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyggml.answer import Part
from pyggml.chat.speech import PLAIN, Speech
from pyggml.completion import Completion, Timings, TokenLogprob, Usage, token_logprob
from pyggml.engine.drafts import Draft, drafts_of
from pyggml.engine.following import Following
from pyggml.engine.hook import LogitsHook, hooked
from pyggml.engine.loaded import Loaded
from pyggml.engine.loops import Loops
from pyggml.engine.outlet import Bell, Outlet
from pyggml.engine.pool import AnyKind, Seat
from pyggml.engine.sampling import Sampling
from pyggml.engine.stops import StopStrings
from pyggml.engine.ticket import Feed, Ticket
from pyggml.errors import UnsupportedError

if TYPE_CHECKING:
    from pyggml.constrain import Wanted


log = logging.getLogger("pyggml")

_FIRST = 4  # positions that a shift leaves: attention falls on them whatever they hold


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and what is wanted of it. continues: the text goes on from the prompt's, else it stands alone.

    reuse: "exact" or "any", as the setting says. timeout: seconds after it was first asked for, when it ends.
    deterministic: what is generated is fed as a prompt is. shared: others of the same prompt follow. draft: what
    guesses how it goes on. speech: how what is generated is to be read. thinking_budget: most tokens of its reasoning;
    None: any. wanted: what the answer must be, None: anything. logits_hook: changes logits before a token is chosen.
    overflow: "shift" makes room in a full context. n_cut: ids that were taken from the prompt before.
    """

    ids: list[int]
    max_tokens: int | None
    sampling: Sampling
    stop: Sequence[str]
    logprobs: int | None
    continues: bool
    reuse: str = "exact"
    timeout: float | None = None
    deterministic: bool = False
    shared: bool = False
    draft: Draft | None = None
    overflow: str = "error"
    n_cut: int = 0
    detect_loops: bool = False
    speech: Speech = PLAIN
    thinking_budget: int | None = None
    wanted: Wanted | None = None
    logits_hook: LogitsHook | None = None


class Generation(Ticket):
    """What one prompt becomes. outlet: who hears of it."""

    def __init__(self, loaded: Loaded, request: Request, outlet: Outlet[Any]) -> None:
        prefix = request.ids[:-1]
        super().__init__(
            AnyKind(prefix) if request.reuse == "any" else prefix
        )  # a last one is fed in any case: logits belong to a step
        self.ids = request.ids
        self.outlet = outlet
        self.parked = True  # in nobody's hands: not asked for yet, or far ahead of its reader
        self._loaded = loaded
        self._request = request
        self._finish = ""
        self._stops = StopStrings(request.stop)
        self._logprobs: list[TokenLogprob] = []
        self.tokens: list[int] = []
        self._parts: list[Part] = []
        self._told = 0  # parts that new_parts() gave away
        self._reader = request.speech.reader()
        self._n_thought = self._n_reasoning = 0
        self._drafts = drafts_of(loaded, request.draft)
        self._guess: list[int] = []  # read in the step that runs
        self._loops = Loops() if request.detect_loops else None
        self._follows: Following | None = None
        if request.wanted is not None:
            self._follows = Following(request.wanted, request.speech, self._reader, loaded.tokenizer, loaded.n_vocab)
        self._stopped = False
        self._n_cached = self._n_decoded = 0
        self._gone = 0  # positions that were shifted out
        self._asked = self._started = self._first = self._over = 0.0

    def sit(self, seat: Seat) -> None:
        super().sit(seat)
        self._gone = 0
        if not self._started:
            self._n_cached = len(seat.ids)
            self._n_decoded = self._n_cached - min(self._n_cached, seat.session.n_prompted)

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        most = self._request.timeout
        return most is not None and self._asked > 0 and time.perf_counter() - self._asked >= most

    def ask(self) -> None:
        """It is asked for: its time begins, the first time."""
        self._asked = self._asked or time.perf_counter()

    @property
    def most_positions(self) -> int:
        """Positions that it may come to take."""
        more = self._request.max_tokens
        return self._loaded.n_ctx if more is None else min(len(self.ids) + more, self._loaded.n_ctx)

    @property
    def seated(self) -> bool:
        """Whether it has a session."""
        return self._seat is not None

    @property
    def shifted(self) -> bool:
        """Whether its session remembers what no reading of its ids gives."""
        return self._gone > 0

    def twin_of(self, other: Generation) -> bool:
        """Whether both are samples of one prompt."""
        return self._request.shared and self.ids is other.ids

    @property
    def n_unread(self) -> int:
        """Ids of the prompt that are still to be fed; all of them before it has a session."""
        return max(len(self.ids) - self._held, 0)

    @property
    def _held(self) -> int:
        """Ids of the prompt and the text that were fed, those that were forgotten since too."""
        return self._gone if self._seat is None else len(self._seat.ids) + self._gone

    def _begin(self) -> None:
        """Starts the clock, the text and the random numbers."""
        self._started = time.perf_counter()
        tokenizer = self._loaded.tokenizer
        self._ends = tokenizer.eog_ids
        shown = tokenizer.spelling(self._request.speech.marks)
        continues = self._request.continues or self._follows is not None  # a grammar knows of every blank
        self._decoder = tokenizer.stream_decoder(skip_special=True, continues=continues, shown=shown)
        self._sampler = self._request.sampling.sampler(self._loaded.n_vocab, tokenizer)
        self._sampler.accept(np.asarray(self.ids, np.int32))

    def feed(self) -> Feed | None:
        if not self.cancelled and not self._finish and self.late:
            self._finish = "timeout"
        if self.cancelled or self._finish:
            return None
        if not self._started:
            self._begin()
        held = self._held
        if held < len(self.ids):
            piece = self._piece(held)
            if held + len(piece) < len(self.ids) or self.tokens:
                return Feed(piece, 0)
            tokens = piece
        else:
            tokens = self.tokens[held - len(self.ids) :]
        full = held - self._gone + len(tokens) > self._loaded.n_ctx
        if (self._enough and not self._unread) or (full and not self._shifted(len(tokens))):
            self._finish = "length"
            return None
        decode = bool(self.tokens) and not self._request.deterministic
        if self._follows is not None:
            self._follows.bind(self._sampler)
        n_rows = len(tokens) if self.tokens and self._request.logprobs is not None else 1
        self._guess = self._guessed(held - self._gone + len(tokens)) if self.tokens else []
        if self._guess:
            return Feed([*tokens, *self._guess], n_rows + len(self._guess), decode=decode)
        chooses = self._request.logprobs is None and self._request.logits_hook is None
        return Feed(tokens, n_rows, self._sampler if chooses else None, decode)

    def _shifted(self, n: int) -> bool:
        """Makes room for n positions at least: forgets the older half of all but the first ones, which many look at.

        False where that was not asked for, or a window still looks there: then the text ends, which is told.
        """
        if self._request.overflow != "shift":
            return False
        seat = self.seat
        first = min(_FIRST, len(self.ids))
        last = first + max((len(seat.ids) - first) // 2, n)
        try:
            seat.session.shift(first, last)
        except UnsupportedError as error:
            log.warning("the text ends, for its context is full and cannot be shifted: %s", error)
            return False
        del seat.ids[first:last]
        seat.marked = None if seat.marked is None else []
        self._gone += last - first
        return True

    def _check_shift(self) -> None:
        """Before the text begins: raises UnsupportedError where its context will be full and cannot be shifted."""
        most = self._request.max_tokens
        if self._request.overflow == "shift" and (most is None or len(self.ids) + most > self._loaded.n_ctx):
            self.seat.session.fork().shift(0, 1)

    def _guessed(self, held: int) -> list[int]:
        """What may follow, where it can be taken back. held: positions that the session has without it."""
        if self._drafts is None or self.seat.session.reach:
            return []
        room, most = self._loaded.n_ctx - held, self._request.max_tokens
        room = room if most is None else min(room, most - len(self.tokens) - 1)
        return self._drafts.guess([*self.ids, *self.tokens], room)

    @property
    def _enough(self) -> bool:
        most = self._request.max_tokens
        return most is not None and len(self.tokens) >= most

    @property
    def _unread(self) -> list[int]:
        """Tokens that were forced, whose log-probabilities are asked for and not known yet."""
        return self.tokens[len(self._logprobs) :] if self._request.logprobs is not None else []

    def _piece(self, held: int) -> Sequence[int]:
        """What of the prompt comes next. A shared one is cut before its last id, where others go on from it."""
        end = len(self.ids) if self.share is None else min(held + max(self.share, 1), len(self.ids))
        if self._request.shared and held < len(self.ids) - 1:
            end = min(end, len(self.ids) - 1)
        elif self._request.shared:
            self.seat.mark()
        return self.ids[held:end]

    def read(self, logits: NDArray[np.float32]) -> None:
        for row, token in zip(logits, self._unread, strict=False):
            self._logprob(row, token)
        if self._enough:
            return
        guess, right = self._guess, 0
        for row, guessed in zip(logits[-1 - len(guess) :], [*guess, None], strict=True):
            if right and self._follows is not None:
                self._follows.bind(self._sampler)
            token, n = int(self._sampler.next(self._hooked(row))), len(self.tokens)
            self._logprob(row, token)
            self.take(token)
            if token != guessed or self._finish or self._enough or len(self.tokens) > n + 1:
                break
            right += 1
        if guess and self._drafts is not None:
            self._drafts.learn(len(guess), right)
            self.seat.keep(len(self.seat.ids) - len(guess) + right)

    def _hooked(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        hook = self._request.logits_hook
        return row if hook is None else hooked(hook, [*self.ids, *self.tokens], row)

    def _logprob(self, row: NDArray[np.float32], token: int) -> None:
        if self._request.logprobs is not None:
            logprob, top = self._sampler.logprobs(row, token, self._request.logprobs)
            self._logprobs.append(token_logprob(self._loaded.tokenizer, token, logprob, top))

    def take(self, token: int) -> None:
        if not self._first:
            self._first = time.perf_counter()
            self.seat.mark()
            self._check_shift()
        if token in self._ends:
            self._finish = "stop"
            if self._follows is not None:
                self._follows.end()
            return
        self._add(token)
        if self._reader.thinking and self._n_thought == self._request.thinking_budget:
            self._end_thoughts()
        if self._follows is not None and not self._finish:
            self._force(self._follows.forced())
            if self._follows.whole and not self._unread:  # else the next step reads them; only an end can follow
                self._finish = "stop"
        if not self._finish and self._loops is not None and self._loops.closed_by(token):
            self._finish = "loop"

    def _add(self, token: int) -> None:
        """A token of the text, chosen or forced."""
        self.tokens.append(token)
        before = self._reader.thinking
        parts = self._reader.push(self._decoder.push(token))
        if self._follows is not None:
            self._follows.take(token, self._reader.answering, parts)
        self._keep(parts)
        self._n_thought += before
        self._n_reasoning += before or self._reader.thinking

    def _end_thoughts(self) -> None:
        """Says for the model that it has thought enough."""
        self._force(self._loaded.tokenizer.encode(self._request.speech.closing, add_special=False))

    def _force(self, said: Sequence[int]) -> None:
        """Says something for the model, as far as there is room. It reads that with the token before."""
        most = self._request.max_tokens
        room = self._loaded.n_ctx - len(self.ids) - len(self.tokens) + self._gone
        room = room if most is None else min(room, most - len(self.tokens))
        said = said[: max(room, 0)]
        for token in said:
            if not self._stopped:
                self._add(token)
        self._sampler.accept(np.asarray(said, np.int32))

    def end(self) -> None:
        """Adds the text still held back. Without a reason to finish it was cancelled."""
        super().end()
        if self._started and not self._stopped:
            self._keep(self._reader.push(self._decoder.finish()))
            self._keep(self._reader.finish())
            if not self._stopped:
                self._tell(Part("text", self._stops.flush()))
        self._finish = self._finish or "cancelled"
        self._over = time.perf_counter()

    def _keep(self, parts: Sequence[Part]) -> None:
        """Stop strings end the answer; reasoning they leave alone."""
        for part in parts:
            if part.kind != "text" or self._stopped:
                self._tell(part)
                continue
            text, self._stopped = self._stops.push(part.text)
            if self._stopped:
                self._finish = "stop"
            self._tell(Part("text", text))

    def _tell(self, part: Part) -> None:
        if part.text:
            self._parts.append(part)

    def tell(self) -> list[Bell]:
        """Puts what is certain since the last time into its outlet -> the bells to ring."""
        parts = self.new_parts() if self.outlet.in_pieces else []
        return [bell for part in parts for bell in self.outlet.put(part)]

    def new_parts(self) -> list[Part]:
        """The parts of the answer that are certain since this was asked last."""
        new = self._parts[self._told :]
        self._told = len(self._parts)
        return new

    def _joined(self, kind: str) -> str:
        return "".join(part.text for part in self._parts if part.kind == kind)

    def sum_up(self) -> Completion:
        """What there is so far."""
        ended = self._over or time.perf_counter()
        if self._finish == "stop" and self._reader.calls:
            self._finish = "tool_calls"
        n, m = len(self.ids), len(self.tokens)
        prompt_s = (self._first or ended) - (self._started or ended)
        decode_s = ended - self._first if self._first else 0.0
        fed = n - self._n_cached
        return Completion(
            self._joined("text"),
            self.tokens,
            self._finish or "cancelled",
            Usage(
                n,
                m,
                n + m,
                self._n_cached,
                self._n_decoded,
                self._n_reasoning,
                *self._guesses(),
                self._request.n_cut,
                self._gone,
            ),
            Timings(
                prompt_s,
                decode_s,
                fed / prompt_s if prompt_s > 0 else 0.0,
                max(m - 1, 0) / decode_s if decode_s > 0 else 0.0,
            ),
            self._logprobs[:m] if self._request.logprobs is not None else None,
            self._joined("reasoning") or None,
            self._reader.calls,
            _parsed=self._parsed(),
        )

    def _guesses(self) -> tuple[int, int]:
        return (0, 0) if self._drafts is None else (self._drafts.n_guessed, self._drafts.n_right)

    def _parsed(self) -> Any:
        """What the answer stands for, where it is whole."""
        if self._follows is None or not self._follows.whole or self._stopped or self._finish != "stop":
            return None
        return self._follows.parsed(self._joined("text"))
