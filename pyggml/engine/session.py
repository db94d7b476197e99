"""One sequence over a model: tokens in, logits out, the key/value cache between.

Adds to the native session what only Python can: the file behind the weights is compared with load before every step,
and a non-finite result is traced to the tensor that caused it. Who may touch a session while a step runs is decided by
the core (native/core/turn.c): there is no lock here that a signal or the end of the interpreter could leave taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.arguments import ids as read_ids
from pyggml.arguments import instance, whole, whole_or_none, wrong_type
from pyggml.errors import ArgumentError, ContextFull, UnsupportedError
from pyggml.pickling import Held
from pyggml.quant.types import QuantType, QuantTypeLike

if TYPE_CHECKING:
    from pyggml.engine.prompts import Ids
    from pyggml.model import Model

T = TypeVar("T")


class Session(Held):
    """The state of one sequence. Use one session from one thread at a time; a model may have many.

    While a step runs, another thread may cancel() and close(), which end it, and truncate() or reset(), which wait for
    its end; a second step is refused with ArgumentError. Ctrl-C ends a step of the main thread. However a step ends
    but well, the session is as before it.

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
        model: Model,
        n_ctx: int | None = None,
        kv_type: QuantTypeLike | None = None,
        native: _native.Session | None = None,
    ) -> None:
        """native: one that exists, of the model's own n_ctx and kv_type; an empty one is made without it."""
        if not hasattr(model, "_plan"):
            raise wrong_type("model", "a Model", model, "m.session() makes a session")
        if native is not None:
            instance("native", native, _native.Session, "a session of the core")
        kind = QuantType.parse(model.kv_type if kv_type is None else kv_type, "kv_type")
        n_ctx = whole_or_none("n_ctx", n_ctx, 1, model.n_ctx) or model.n_ctx
        self._model = model
        self._kv_bytes = model._plan.kv_bytes(kind.id, n_ctx)
        if not self._kv_bytes:
            model._check_open()
            raise UnsupportedError(
                f"kv_type {kind.name!r} cannot hold heads of {model.config.head_dim_k} values; use f32, f16 or bf16"
            )
        try:
            self._native = native or _native.Session(model._plan, n_ctx, kind.id)
        except ArgumentError:
            model._check_open()  # closed meanwhile
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
            self._model._check_open()  # closed with it: say that
            raise

    @property
    def n_ctx(self) -> int:
        """Most positions the cache can hold."""
        return self._native.n_ctx

    @property
    def kv_bytes(self) -> int:
        """Bytes of the cache; 0 when closed."""
        return 0 if self._native.closed else self._kv_bytes

    def step(self, ids: Ids, n_wanted: int = 1) -> NDArray[np.float32]:
        """Feeds ids at the next positions and returns the logits of the last n_wanted.

        Shapes: -> (n_vocab,) for n_wanted=1, else (n_wanted, n_vocab).
        Raises ContextFull when they do not fit, NumericError when logits are not finite; the session is then as before.
        """
        n_wanted = whole("n_wanted", n_wanted, 0)
        out = self._feed(ids, lambda tokens: self._native.step(tokens, n_wanted, self._model.n_threads))
        return out[0] if n_wanted == 1 else out

    def next(self, sampler: _native.Sampler, ids: Ids) -> int:
        """Feeds ids and chooses the token behind them."""
        instance("sampler", sampler, _native.Sampler, "a Sampler, as Sampling(...).sampler(n_vocab) makes it")
        return self._feed(ids, lambda tokens: self._native.next(sampler, tokens, self._model.n_threads))

    def _feed(self, ids: Ids, call: Callable[[NDArray[np.int32]], T]) -> T:
        tokens = self.check(ids)
        with self._model._stepping():
            return call(tokens)

    def truncate(self, n_past: int) -> None:
        """Forgets everything from position n_past on, after a step that runs in another thread."""
        n_past = whole("n_past", n_past, 0)
        try:
            self._native.truncate(n_past)
        except ArgumentError:
            self._model._check_open()  # closed with it: say that
            raise

    def reset(self) -> None:
        """Forgets everything, a cancel that met no step too. As truncate, it waits: cancel() first to start over."""
        self.truncate(0)
        self._native.cancel(False)

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
        # every token but a prompt's: the short way
        one = type(ids) is list and len(ids) == 1 and type(ids[0]) is int
        if one and 0 <= ids[0] < self._model.n_vocab and self.n_past < self.n_ctx:
            return np.array(ids, np.int32)
        wide = read_ids("ids", ids)
        if wide.size == 0:
            raise ArgumentError("ids is empty: at least one token is needed")
        bad = np.flatnonzero((wide < 0) | (wide >= self._model.n_vocab))
        if bad.size:
            raise ArgumentError(
                f"token id {wide[bad[0]]} at position {bad[0]} is outside the vocabulary of {self._model.n_vocab}"
            )
        if self.n_past + wide.size > self.n_ctx:
            raise ContextFull(
                f"{wide.size} tokens behind {self.n_past} do not fit the context of {self.n_ctx}; shorten the prompt "
                f"or load with n_ctx >= {self.n_past + wide.size} "
                f"(the model was trained for {self._model.config.n_ctx_train})"
            )
        return np.ascontiguousarray(wide, dtype=np.int32)
