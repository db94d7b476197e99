"""What loading a file gives: the file, the plan over its weights, the tokenizer, the numbers that all sequences share.

Knows no sequence. Every step asks here first whether the model is open and the file still the one that was loaded, and
what the core says of a step is put into the model's words here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyggml import arch, gguf, leaving
from pyggml.arguments import PathLike
from pyggml.arguments import ids as read_ids
from pyggml.engine import context
from pyggml.engine.blame import blame
from pyggml.engine.build import N_BATCH, build, check_vocab
from pyggml.engine.cache_type import usual
from pyggml.engine.weights import Progress
from pyggml.errors import (
    ArgumentError,
    Cancelled,
    ContextFull,
    GGUFError,
    NumericError,
    PyggmlError,
    UnsupportedError,
)
from pyggml.files import foreign
from pyggml.quant.types import QuantType

if TYPE_CHECKING:
    from pyggml.tokenizer import Tokenizer

log = logging.getLogger("pyggml")


class Loaded:
    """A file that is open, and its plan. close() may come from any thread, any number of times.

    deterministic: all rows are rows of a prompt (docs/adr/0007), generated ones too. recurrent: some layers remember
    what cannot be taken back.
    """

    def __init__(
        self,
        path: PathLike,
        n_ctx: int | None,
        n_threads: int,
        kv_type: QuantType | None,
        mmap: bool,
        progress: Progress | None,
        deterministic: bool,
    ) -> None:
        self.closed = False
        self.deterministic = deterministic
        self.n_threads = n_threads
        self.file = gguf.open(path)
        self._mapped = mmap
        try:
            metadata = self.file.metadata
            with foreign.reading(self.file.path, "model"):
                self.config = leaving.whole(arch.config, metadata)
                self.kv_type = kv_type or usual(self.config.causal)
                self._text = leaving.Made(partial(leaving.whole, _tokenizer, self.file.path, metadata))
                made = build(self.file, self.config)
                self.n_vocab, self.outputs = made.n_vocab, made.outputs.names
                self.recurrent = made.graph.recurrent
            check_vocab(metadata, self.n_vocab)
            if self.config.unknown:
                log.info("keys that are not known and not used: %s", ", ".join(self.config.unknown)[:1000])
            most = context.exact(self.config, n_ctx, made.n_ctx, made.graph.n_near)
            if not mmap:  # only what was found good is worth its memory
                made = build(self.file, self.config, copy=True, progress=progress)
            self.plan = made.freeze(N_BATCH, most)
            self.n_ctx = most if n_ctx else context.fitting(self.config, most, self._cache_of)
            if self.n_ctx > self.config.n_ctx_train:
                log.warning(
                    "n_ctx %d is more than the %d the model was trained for", self.n_ctx, self.config.n_ctx_train
                )
            self.check_kv_type(self.kv_type, self.n_ctx)
        except BaseException:
            self.file.close()
            raise

    @property
    def tokenizer(self) -> Tokenizer:
        """Built beside loading; first use waits. GGUFError or UnsupportedError if the file has no usable one."""
        return self._text.get()

    def close(self) -> None:
        """Frees everything; steps that run are cancelled and waited for."""
        self.closed = True
        self.plan.close()
        self._text.wait()
        self.file.close()

    def output(self, name: str) -> int:
        """The number of an output, for a session that returns it. Raises UnsupportedError where the model has none."""
        if name in self.outputs:
            return self.outputs.index(name)
        cures = {"logits": "m.embed(texts) makes embeddings", "score": "it has no head for ranking (cls.output.weight)"}
        cure = cures.get(name, f"it has {', '.join(self.outputs)}")
        raise UnsupportedError(f"this model ({self.config.arch}) makes no {name}: {cure}")

    def check_open(self) -> None:
        """Raises PyggmlError when closed."""
        if self.closed:
            raise PyggmlError("this model is closed")

    def check_alive(self) -> None:
        """Before every step: open, and the mapped file still the one that was loaded."""
        self.check_open()
        if self._mapped:
            try:
                self.file.check_unchanged()
            except GGUFError:
                self.check_open()
                raise

    def stepping(self) -> _Stepping:
        """Around every step: `check_alive`, and the errors of the core in the model's words."""
        return _Stepping(self)

    def check_ids(self, ids: object, n_past: int, n_ctx: int) -> NDArray[np.int32]:
        """ids as int32, refused unless they are tokens of the vocabulary and fit behind n_past into n_ctx."""
        wide = read_ids("ids", ids)
        if wide.size == 0:
            raise ArgumentError("ids is empty: at least one token is needed")
        bad = np.flatnonzero((wide < 0) | (wide >= self.n_vocab))
        if bad.size:
            raise ArgumentError(
                f"token id {wide[bad[0]]} at position {bad[0]} is outside the vocabulary of {self.n_vocab}"
            )
        if n_past + wide.size > n_ctx:
            raise ContextFull(
                f"{wide.size} tokens behind {n_past} do not fit the context of {n_ctx}; shorten the prompt "
                f"or load with n_ctx >= {n_past + wide.size} "
                f"(the model was trained for {self.config.n_ctx_train})"
            )
        return np.ascontiguousarray(wide, dtype=np.int32)

    def check_kv_type(self, kind: QuantType, n_ctx: int) -> int:
        """Bytes of a cache of n_ctx positions. Raises UnsupportedError where the type cannot hold the model's heads."""
        found = self.plan.kv_bytes(kind.id, n_ctx)
        if not found:
            self.check_open()
            raise UnsupportedError(
                f"kv_type {kind.name!r} cannot hold this model's heads of {self.config.heads.k} values; "
                "use f32, f16 or bf16; types of blocks need head sizes that are multiples of 32"
            )
        return found

    def mark_bytes(self, kind: QuantType, n_ctx: int) -> int:
        """Most that a mark holds in a session: what recurrent layers remember and windows look at; 0 without either."""
        return self.plan.memory(kind.id, n_ctx)["mark"]

    def _cache_of(self, n_ctx: int) -> int:
        return self.plan.kv_bytes(self.kv_type.id, n_ctx)


class _Stepping:
    """A class and not a generator, because it is in the way of every token."""

    __slots__ = ("_loaded",)

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def __enter__(self) -> None:
        self._loaded.check_alive()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loaded.closed and isinstance(error, (ArgumentError, Cancelled)):  # in the middle of it
            raise PyggmlError("this model is closed") from None
        if isinstance(error, NumericError):
            raise NumericError(blame(str(error), self._loaded.file.tensors)) from None


# It imports what it needs and is called whole: a child forked meanwhile would wait for the locks of modules that a
# thread it does not have is importing.
def _tokenizer(path: str, metadata: Mapping[str, Any]) -> Tokenizer:
    from pyggml.tokenizer import from_metadata

    with foreign.reading(path, "tokenizer"):
        return from_metadata(metadata)
