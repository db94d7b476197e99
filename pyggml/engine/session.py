"""One sequence over a model: tokens in, logits out, the key/value cache between.

Adds to the native session what only Python can: the file behind the weights is compared with load before every step,
and a non-finite result is traced to the tensor that caused it. Who may touch a session while a step runs is decided by
the core (native/core/turn.c): there is no lock here that a signal or the end of the interpreter could leave taken.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.arguments import choice, flag, instance, whole, whole_or_none, wrong_type
from pyggml.arguments import ids as read_ids
from pyggml.engine.cache_type import cache_type
from pyggml.engine.loaded import Loaded
from pyggml.engine.prompts import Ids
from pyggml.errors import ArgumentError, GGUFError, PyggmlError
from pyggml.files.atomic_file import replacing
from pyggml.files.regular_file import RegularFile
from pyggml.keywords import methods_known_only
from pyggml.pickling import Held
from pyggml.quant.types import QuantType, QuantTypeLike
from pyggml.shown import clip

T = TypeVar("T")

_STATE_HEAD = 1 << 16  # bytes of a saved session beside its rows, at most
_MOST_MARKS = _native.MOST_MARKS
_WIDEST = QuantType.F32  # of the types of caches


class HasLoaded(Protocol):
    """A Model, as far as a session knows it."""

    _loaded: Loaded


@methods_known_only
class Session(Held):
    """The state of one sequence. Use one session from one thread at a time; a model may have many.

    While a step runs, another thread may cancel() and close(), which end it, and truncate() or reset(), which wait for
    its end; a second step is refused with ArgumentError. Ctrl-C ends a step of the main thread. However a step ends
    but well, the session is as before it. Of a closed one n_ctx stays and kv_bytes is 0; cancel() and close() do
    nothing, and all else raises ArgumentError, or PyggmlError where the model is closed.

    >>> import pyggml
    >>> with pyggml.load() as m:
    ...     s = m.session()
    ...     logits = s.step(m.tokenize("Once upon a"))
    ...     s.n_past == len(m.tokenize("Once upon a")), logits.shape == (m.n_vocab,)
    (True, True)
    """

    _instead = "pass its ids, and feed them to a session of the model that is loaded there"

    def __init__(
        self,
        model: HasLoaded | Loaded,
        n_ctx: int | None = None,
        kv_type: QuantTypeLike | None = None,
        output: str | None = None,
    ) -> None:
        loaded = model if isinstance(model, Loaded) else getattr(model, "_loaded", None)
        if not isinstance(loaded, Loaded):
            raise wrong_type("model", "a Model", model, "m.session() makes a session")
        loaded.check_open()
        kind = loaded.kv_type if kv_type is None else cache_type(kv_type)
        n_ctx = whole_or_none("n_ctx", n_ctx, 1, loaded.n_ctx) or loaded.n_ctx
        output = None if output is None else choice("output", output, loaded.outputs)
        self._loaded = loaded
        self._kv_type = kind
        self._kv_bytes = loaded.check_kv_type(kind, n_ctx)
        self._mark_bytes = loaded.mark_bytes(kind, n_ctx)
        try:
            self._native = _native.Session(loaded.plan, n_ctx, kind.id, loaded.outputs.index(output) if output else 0)
        except ArgumentError:
            loaded.check_open()  # closed meanwhile
            raise

    def __repr__(self) -> str:
        try:
            return f"<pyggml.Session {self._native.n_past} of {self._native.n_ctx} positions>"
        except ArgumentError:
            return "<pyggml.Session closed>"

    @property
    def n_past(self) -> int:
        """Positions held in the cache. They change when a step has ended."""
        try:
            return self._native.n_past
        except ArgumentError:
            self._loaded.check_open()  # closed with it: say that
            raise

    @property
    def n_ctx(self) -> int:
        """Most positions the cache can hold; of a closed session, could."""
        return self._native.n_ctx

    @property
    def kv_bytes(self) -> int:
        """Bytes of the cache when all positions are filled, the most it takes; 0 when closed."""
        return 0 if self._native.closed else self._kv_bytes

    @property
    def n_prompted(self) -> int:
        """Positions from the first on that prompt rows made, none of another kind before them; see step()."""
        _ = self.n_past  # raises when closed
        return self._native.prompted

    def step(self, ids: Ids, n_wanted: int = 1, *, draft: bool = False) -> NDArray[np.float32]:
        """Feeds ids at the next positions and returns the logits of the last n_wanted.

        ids are rows of a prompt: their logits have the same bits in whatever pieces a text is fed. draft: they are
        decode rows, as generated tokens are: one is fast, and several together have the bits of one after another.
        Between the two kinds last bits differ (docs/adr/0007); in a model loaded as deterministic all are prompt rows.
        Shapes: -> (n_vocab,) for n_wanted=1, else (n_wanted, n_vocab).
        Raises ContextFull when they do not fit, NumericError when logits are not finite; the session is then as before.

        >>> import pyggml
        >>> with pyggml.load() as m:
        ...     a, b = m.session(), m.session()
        ...     ids = m.tokenize("Once upon a time")
        ...     whole = a.step(ids)
        ...     pieces = [b.step(ids[i : i + 1]) for i in range(len(ids))]
        ...     drafts = a.step([5, 6, 7], 3, draft=True)
        ...     singles = [b.step([id], draft=True) for id in (5, 6, 7)]
        ...     bool((whole == pieces[-1]).all()), bool((drafts == singles).all())
        (True, True)
        """
        n_wanted = whole("n_wanted", n_wanted, 0)
        out = self._feed(ids, draft, lambda tokens: self._native.step(tokens, n_wanted, self._loaded.n_threads))
        return out[0] if n_wanted == 1 else out

    def next(self, sampler: _native.Sampler, ids: Ids, *, draft: bool = False) -> int:
        """Feeds ids and chooses the token behind them. draft: as step() says; True for a token that was chosen."""
        instance("sampler", sampler, _native.Sampler, "a Sampler, as Sampling(...).sampler(n_vocab) makes it")
        return self._feed(ids, draft, lambda tokens: self._native.next(sampler, tokens, self._loaded.n_threads))

    def _feed(self, ids: Ids, draft: bool, call: Callable[[NDArray[np.int32]], T]) -> T:
        draft = flag("draft", draft)
        tokens = self.check(ids)
        if not self._loaded.config.causal and self.n_past:
            raise ArgumentError(
                f"step behind position {self.n_past}: the tokens of this model see each other and are fed at once; "
                "reset() first"
            )
        with self._loaded.stepping():
            self._native.feeds(draft and not self._loaded.deterministic)
            return call(tokens)

    def truncate(self, n_past: int) -> None:
        """Forgets everything from position n_past on, after a step that runs in another thread; what was encoded stays.

        Raises UnsupportedError where n_past was not marked and a window has passed what it looks at, or the model has
        recurrent layers; back() says where it can go, and 0 always can be.
        """
        n_past = whole("n_past", n_past, 0)
        try:
            self._native.truncate(n_past)
        except ArgumentError:
            self._loaded.check_open()  # closed with it: say that
            raise

    def reset(self) -> None:
        """Forgets everything, what was encoded and a cancel that met no step too.

        As truncate, it waits: cancel() first to start over.
        """
        self._checked(self._native.reset)
        forget_cancel(self)

    def encode(self, ids: Ids) -> None:
        """Reads another text, the source of a model with an encoder; steps attend to it, and need one.

        It takes the place of what was encoded before. truncate() leaves it, reset() does not; fork() and save() take it
        along. Raises UnsupportedError in a model without an encoder, ArgumentError where the session is not at position
        0, ids are not of the vocabulary or more than can be read at once; the session is then as before.
        """
        _ = self.n_past  # raises when closed
        wide = read_ids("ids", ids)
        wrong = wide[(wide < 0) | (wide >= 2**31)]
        if wrong.size:
            raise ArgumentError(f"encode: {wrong[0]} is no token id")
        tokens = wide.astype(np.int32)
        with self._loaded.stepping():
            self._native.encode(tokens, self._loaded.n_threads)

    @property
    def n_source(self) -> int:
        """Tokens that were encoded."""
        _ = self.n_past  # raises when closed
        return self._native.n_source

    @property
    def reach(self) -> int:
        """The lowest position, but 0, that truncate() can go back to: 0 where no window has passed anything.

        The first mark where there is one; else, in a model with recurrent layers, n_past.
        """
        _ = self.n_past  # raises when closed
        return self._native.reach

    def back(self, n_past: int) -> int:
        """The highest position, at most n_past, that truncate() can go back to.

        >>> import pyggml
        >>> with pyggml.load() as m:
        ...     s = m.session()
        ...     _ = s.step(m.tokenize("Once upon a"))
        ...     s.back(2), s.back(100) == s.n_past
        (2, True)
        """
        n_past = whole("n_past", n_past, 0)
        _ = self.n_past  # raises when closed
        return self._native.back(n_past)

    def mark(self) -> None:
        """Keeps what recurrent layers remember and windows look at here: truncate() can come back to this position.

        Of other layers nothing needs to be kept: a model without recurrent ones goes back to any position that its
        windows have not passed, marked or not. fork() and save() take the marks along, shift() drops them. Raises
        ArgumentError beyond 64.
        """
        self._checked(self._native.mark)

    def unmark(self, n_past: int) -> None:
        """Lets the mark of a position go, if there is one."""
        n_past = whole("n_past", n_past, 0)
        self._checked(lambda: self._native.unmark(n_past))

    def fork(self) -> Session:
        """Another session at the same position, which goes its own way from there.

        What both remember takes memory once; the first to write into a part of it gets a copy of that part.

        >>> import pyggml
        >>> with pyggml.load() as m:
        ...     s = m.session()
        ...     _ = s.step(m.tokenize("Once upon a"))
        ...     other = s.fork()
        ...     bool((other.step([7]) == s.step([7])).all()), other.n_past == s.n_past
        (True, True)
        """
        native = self._checked(self._native.fork)
        twin = Session(self._loaded, self.n_ctx, self._kv_type)
        twin._native.close()
        twin._native = native
        return twin

    def shift(self, first: int, last: int) -> None:
        """Forgets positions first to last - 1; later ones move down to them, their keys turned back by the distance.

        What later positions have taken in of the forgotten ones stays in their values, so logits are near to those of
        the shorter text, not equal. Raises UnsupportedError, by name, where keys were not turned by a rope, or a window
        would look at what it has forgotten; ArgumentError where there is no such stretch.
        """
        first, last = whole("first", first, 0), whole("last", last, 1)
        self._checked(lambda: self._native.shift(first, last))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what the session remembers as a file, for load() over the same model and kv_type.

        Raises GGUFError where path cannot be written or is a file of the model; what lay there before is then kept.

        >>> import os, pyggml, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "tale.state")
        >>> with pyggml.load() as m:
        ...     s, other = m.session(), m.session()
        ...     _ = s.step(m.tokenize("Once upon a"))
        ...     s.save(path)
        ...     other.load(path)
        ...     bool((other.step([7]) == s.step([7])).all()), other.n_past == s.n_past
        (True, True)
        """
        data = self._checked(self._native.save)
        with replacing(path, sources=self._loaded.file.paths) as out:
            out.write(data.data)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Remembers what save() wrote, instead of what it did; n_past is then that of the saved session.

        Raises GGUFError where the file is cut or altered, UnsupportedError for another version, ArgumentError for
        another model or kv_type, or more positions than n_ctx. On any failure the session is as before.
        """
        _ = self.n_past  # raises when closed
        with contextlib.closing(RegularFile(path, "a saved session")) as file:
            # as much as any session of the model writes; the core says what another kv_type or n_ctx has to do with it
            rows = max(self._kv_bytes, self._loaded.plan.kv_bytes(_WIDEST.id, self._loaded.n_ctx))
            if file.size > rows + _STATE_HEAD + _MOST_MARKS * self._mark_bytes:
                raise GGUFError(f"{clip(file.path)} is no saved session of this model: {file.size} bytes are too many")
            data = file.copy(0, file.size)
        try:
            self._checked(lambda: self._native.load(data))
        except PyggmlError as error:
            _ = self.n_past  # closed meanwhile
            raise type(error)(f"{clip(file.path)}: {error}") from None

    def _checked(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except ArgumentError:
            self._loaded.check_open()  # closed with it: say that
            raise

    def cancel(self) -> None:
        """Stops a running step from any thread: it raises Cancelled, and the session is as before the step.

        Where no step runs, the next one is stopped. On a closed session it does nothing.
        """
        self._native.cancel(True)

    def close(self) -> None:
        """Frees the cache; a running step is cancelled first. From any thread, any number of times.

        Later steps raise ArgumentError.
        """
        self._native.close()

    def check(self, ids: Ids) -> NDArray[np.int32]:
        """ids as int32, refused unless they are tokens of the vocabulary and fit behind n_past."""
        # a single token: the short way
        one = type(ids) is list and len(ids) == 1 and type(ids[0]) is int
        if one and 0 <= ids[0] < self._loaded.n_vocab and self.n_past < self.n_ctx:
            return np.array(ids, np.int32)
        return self._loaded.check_ids(ids, self.n_past, self.n_ctx)


def forget_cancel(session: Session) -> None:
    """Takes a cancel back that met no step."""
    session._native.cancel(False)


# ---- several together: ids were judged before, and weights are read once for all ------------------------------------


def feeds(session: Session, decode: bool) -> None:
    """Says what its next step is fed: decode rows, or rows of a prompt."""
    with session._loaded.stepping():
        session._native.feeds(decode and not session._loaded.deterministic)


def choose(
    sessions: Sequence[Session], samplers: Sequence[_native.Sampler | None], ids: Sequence[Sequence[int]]
) -> list[int]:
    """One step of sessions of one model, each fed its ids: -> the token that each one's sampler chooses behind them.

    Where there is no sampler, -1. Those that are fed one kind of rows stand beside each other, or weights are read more
    often. On any failure all are as before, but for the samplers.
    """
    loaded = sessions[0]._loaded
    tokens = [np.asarray(each, np.int32) for each in ids]
    with loaded.stepping():
        return loaded.plan.next([each._native for each in sessions], samplers, tokens, loaded.n_threads)


def rows(
    sessions: Sequence[Session], ids: Sequence[Sequence[int]], n_wanted: Sequence[int]
) -> list[NDArray[np.float32]]:
    """One step of sessions of one model: -> the logits of the last n_wanted ids of each, (n_wanted, n_vocab)."""
    loaded = sessions[0]._loaded
    tokens = [np.asarray(each, np.int32) for each in ids]
    with loaded.stepping():
        return loaded.plan.step([each._native for each in sessions], tokens, n_wanted, loaded.n_threads)
