"""A loaded model: file, plan and tokenizer together, and the calls users make on it.

The way of the data: path -> gguf -> Config + Weights -> arch.build(Graph) -> Plan -> Session.step -> logits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pyggml import _native, arch, display, gguf, keywords, leaving
from pyggml.arguments import (
    MAX_THREADS,
    PathLike,
    flag,
    function,
    list_of,
    mapping,
    text,
    text_or_none,
    whole,
    whole_or_none,
)
from pyggml.arguments import ids as read_ids
from pyggml.chat import named as chat_named
from pyggml.completion import Completion
from pyggml.config import MAX_VOCAB
from pyggml.engine import batch, scoring
from pyggml.engine.generate import Continuation, Stream, complete
from pyggml.engine.memory import Memory
from pyggml.engine.plan_file import export_plan
from pyggml.engine.prompts import Ids, Prompt, Prompts, check_length, read_prompt, read_prompts
from pyggml.engine.session import Session
from pyggml.engine.settings import DEFAULTS, read_settings, spelled_out
from pyggml.engine.weights import Progress, Tensors, Weights
from pyggml.errors import ArgumentError, Cancelled, GGUFError, NumericError, PyggmlError, UnsupportedError
from pyggml.files.texts import Text, is_text, text_of
from pyggml.graph import Graph
from pyggml.pickling import Held
from pyggml.quant.tensor import Tensor
from pyggml.quant.types import QuantType, QuantTypeLike

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pyggml.chat.template import ChatTemplate
    from pyggml.engine.settings import ChatSettings, Settings
    from pyggml.tokenizer import Tokenizer

log = logging.getLogger("pyggml")

BUNDLED = Path(__file__).parent / "data" / "tales.gguf"
_PADDING = 1 << 16  # rows that a vocabulary may have beyond its tokens, or as many as it has tokens
N_BATCH = 512
"""Most tokens computed at once; longer prompts are cut into such pieces."""
MAX_CTX = 1 << 30

Messages = Iterable[Mapping[str, Any]]


@keywords.known_only
def load(
    path: PathLike | None = None,
    *,
    n_ctx: int | None = None,
    n_threads: int | None = None,
    device: str = "auto",
    kv_type: QuantTypeLike = "f16",
    mmap: bool = True,
    progress: Progress | None = None,
) -> Model:
    """Loads a GGUF file (or, without a path, the bundled story teller).

    path: ~ is expanded. n_ctx: positions a sequence may hold; None: what the model was trained for, or less if memory
    asks for it.
    n_threads: None: the cores this process may use. kv_type: type of the key/value cache, "f32", "f16", "bf16", "q8_0"
    or, at some loss, "q4_0". mmap: True maps the file, False copies it into memory on huge pages;
    progress(bytes_done, bytes_total) follows the copy. A mapped file must not shrink while a step runs: it is compared
    with load before each step (GGUFError), but pages that go away within one end the process with SIGBUS; replace files
    by renaming, or copy. Raises GGUFError for a broken file (for a missing one FileNotFoundError too), UnsupportedError
    for a model or device that cannot be run, ArgumentError for the rest.

    >>> import pyggml
    >>> with pyggml.load() as m:
    ...     m.config.arch
    'llama'
    """
    if path is None:
        log.info("no path given: loading the bundled model %s", BUNDLED.name)
        path = BUNDLED
    return Model(path, n_ctx, n_threads, device, kv_type, mmap, progress)


class Model(Held):
    """Weights and plan of a file, shared by any number of threads. Made by `pyggml.load`; a context manager."""

    _instead = "pass its path and load it in each process; processes that map one file share its weights"

    def __init__(
        self,
        path: PathLike,
        n_ctx: int | None = None,
        n_threads: int | None = None,
        device: str = "auto",
        kv_type: QuantTypeLike = "f16",
        mmap: bool = True,
        progress: Progress | None = None,
    ) -> None:
        _native.isa()  # a PYGGML_ISA that cannot be had fails here, before anything is read
        if text("device", device).lower() not in ("auto", "cpu"):
            raise UnsupportedError(f"device {device!r:.60} is not available in this build; use 'auto' or 'cpu'")
        self.n_threads = whole_or_none("n_threads", n_threads, 1, MAX_THREADS) or _native.default_threads()
        self.kv_type = QuantType.parse(kv_type, "kv_type").name
        n_ctx = whole_or_none("n_ctx", n_ctx, 1, MAX_CTX)
        mmap, progress = flag("mmap", mmap), function("progress", progress)
        self._closed = False
        self._idle: list[_native.Session] = []  # at most one; pop and append need no lock
        self._file = gguf.open(path)
        try:
            self.metadata: Mapping[str, gguf.MetadataValue] = self._file.metadata
            self.config = leaving.whole(arch.config, self.metadata)
            self._text = leaving.Made(partial(leaving.whole, _tokenizer, self.metadata))
            tensors, n_layer = self._file.tensors, self.config.n_layer
            graph = Graph()
            built = arch.build(graph, self.config, Weights(tensors, n_layer))
            if self.config.unknown:
                log.info("keys that are not known and not used: %s", ", ".join(self.config.unknown)[:1000])
            self._mapped = mmap
            self.n_vocab = built.out.cols
            self._check_vocab()
            self.n_ctx = n_ctx or self.config.n_ctx_train
            if built.n_ctx and self.n_ctx > built.n_ctx:
                self.n_ctx = self._exact(n_ctx, built.n_ctx)
            if not mmap:  # only what was found good is worth its memory
                graph = Graph()
                built = arch.build(graph, self.config, Weights(tensors, n_layer, copy=True, progress=progress))
            self._plan = graph.finish(built.out, min(N_BATCH, self.n_ctx), self.n_ctx)
            if n_ctx is None:
                self.n_ctx = self._fitting(self.n_ctx)
            elif n_ctx > self.config.n_ctx_train:
                log.warning("n_ctx %d is more than the %d the model was trained for", n_ctx, self.config.n_ctx_train)
            if self._plan.kv_bytes(QuantType.parse(self.kv_type).id, self.n_ctx) == 0:
                raise UnsupportedError(
                    f"kv_type {self.kv_type!r} cannot hold this model's heads of {self.config.head_dim_k} values; "
                    "use f32, f16 or bf16, or q8_0 and q4_0 where the head size is a multiple of 32"
                )
            self._n_weights = sum(t.n_elements for t in self._file.tensors.values())
        except BaseException:
            self._file.close()
            raise

    # ---- text ------------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Tokenizer:
        """Built beside loading; first use waits. GGUFError or UnsupportedError if the file has no usable one."""
        return self._text.get()

    def tokenize(self, text: str, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Text -> ids; add_special puts BOS/EOS where the model wants them, parse_special reads `<|...|>` as tokens."""
        self._check_open()
        special = flag("add_special", add_special), flag("parse_special", parse_special)
        return self.tokenizer.encode(text, *special)

    def detokenize(self, ids: Ids, skip_special: bool = False) -> str:
        """The inverse of tokenize(..., add_special=False)."""
        self._check_open()
        return self.tokenizer.decode(read_ids("ids", ids).tolist(), skip_special=flag("skip_special", skip_special))

    def render_chat(
        self,
        messages: Messages,
        *,
        template: str | None = None,
        template_args: Mapping[str, Any] | None = None,
        **variables: Any,
    ) -> str:
        """The prompt that the model's own chat template makes of messages.

        messages: [{"role": ..., "content": text or a list of text parts}, ...]. template: the name of another in the
        file, or a Jinja text to use instead. variables reach the template (tools=, enable_thinking=...) and must be
        what it reads; template_args reach it unasked. With tools, a template called tool_use is taken where there is
        one. Raises TemplateError when the file has no such template or it refuses the messages, ArgumentTypeError for
        a variable that the template does not read.
        """
        return self._render("render_chat", messages, template, template_args, variables)

    def _render(
        self,
        call: str,
        messages: Messages,
        template: str | None,
        template_args: Mapping[str, Any] | None,
        variables: Mapping[str, Any],
    ) -> str:
        self._check_open()
        given = {} if template_args is None else mapping("template_args", template_args)
        if "messages" in given:
            raise ArgumentError("template_args must not hold messages: they are the first argument")
        tools = variables.get("tools", given.get("tools"))
        tools = None if tools is None else list_of("tools", tools)
        source, name = chat_named.choose(self.metadata, text_or_none("template", template), tools)
        made = leaving.whole(_template, source, name)
        tok = self.tokenizer
        ids = {"bos_token": tok.bos_id, "eos_token": tok.eos_id, "unk_token": tok.unk_id, "pad_token": tok.pad_id}
        marks = {key: tok.token_text(i) for key, i in ids.items() if i is not None}
        read = made.variables() | {"add_generation_prompt", *ids}
        strange = [name for name, value in variables.items() if name not in read and value is not None]
        if strange:
            own = [*DEFAULTS, "stream"] if call == "chat" else []
            known = [*own, "template", "template_args", *sorted(read - {"messages", *ids})]
            raise keywords.unknown(call, strange, known, "nor does the chat template read it")
        return made.render(messages, **{**marks, **given, **variables})  # type: ignore[arg-type] # judged there

    # ---- generation ------------------------------------------------------------------------------------------

    @overload
    def generate(  # type: ignore[overload-overlap] # a str is an iterable of str
        self, prompt: Prompt = "", **settings: Unpack[Settings]
    ) -> Completion: ...

    @overload
    def generate(self, prompt: Prompts, **settings: Unpack[Settings]) -> list[Completion]: ...

    @keywords.known_only
    @spelled_out()
    def generate(self, prompt: Prompt | Prompts = "", **settings: Unpack[Settings]) -> Completion | list[Completion]:
        """Continues a prompt: text, a list of token ids (used as they are), or a list of prompts (-> a list).

        Prompts of a list run together, so that weights are read once for all of them.

        max_tokens None: until the model ends or the context is full. temperature 0: always the likeliest token.
        seed None or -1: another one at each call. stop: a text or texts that end the generation and are cut off.
        logprobs: keep the log-probabilities of every token and of this many alternatives. -> Completion. Raises
        ContextFull when the prompt is longer than the context, ArgumentError for settings out of range, NumericError
        when logits are not finite.

        >>> import pyggml
        >>> with pyggml.load() as m:
        ...     c = m.generate("Once upon a time", max_tokens=5, temperature=0)
        >>> len(c.tokens), c.finish_reason, str(c) == c.text
        (5, 'length', True)
        """
        prompts, one = read_prompts("prompt", prompt)
        how = read_settings(settings)
        if one:
            return complete(self._start(self._ids("prompt", prompts[0]), how))
        return batch.complete_all(self, [self._continue(self._ids("prompt", each), how) for each in prompts])

    @keywords.known_only
    @spelled_out()
    def stream(self, prompt: Prompt = "", **settings: Unpack[Settings]) -> Stream:
        """As generate, piece by piece: iterate for text, `.cancel()` to stop, `.result` at the end."""
        return self._start(self._ids("prompt", prompt), read_settings(settings))

    @overload
    def chat(
        self, messages: Messages, *, stream: Literal[False] = False, template: str | None = None,
        template_args: Mapping[str, Any] | None = None, **settings: Unpack[ChatSettings],
    ) -> Completion: ...  # fmt: skip

    @overload
    def chat(
        self, messages: Messages, *, stream: Literal[True], template: str | None = None,
        template_args: Mapping[str, Any] | None = None, **settings: Unpack[ChatSettings],
    ) -> Stream: ...  # fmt: skip

    @overload
    def chat(
        self, messages: Messages, *, stream: bool, template: str | None = None,
        template_args: Mapping[str, Any] | None = None, **settings: Unpack[ChatSettings],
    ) -> Completion | Stream: ...  # fmt: skip

    @spelled_out(max_tokens=None)
    def chat(
        self,
        messages: Messages,
        *,
        stream: bool = False,
        template: str | None = None,
        template_args: Mapping[str, Any] | None = None,
        **variables: Any,
    ) -> Completion | Stream:
        """Answers a conversation [{"role": "user", "content": "..."}] with the model's chat template.

        -> Completion, or a Stream with stream=True. Settings are those of generate. Further keywords must be variables
        that the template reads (tools=, enable_thinking=); template_args holds others. See render_chat.
        """
        streams = flag("stream", stream)
        how = read_settings({name: variables.pop(name) for name in DEFAULTS if name in variables}, max_tokens=None)
        rendered = self._render("chat", messages, template, template_args, variables)
        ids = self._encode(rendered, add_special=False)
        bos = self.tokenizer.bos_id
        if self.tokenizer.add_bos and bos is not None and ids[:1] != [bos]:
            ids = [bos, *ids]
        made = self._start(ids, how, answers=True)
        return made if streams else complete(made)

    # ---- numbers ---------------------------------------------------------------------------------------------

    @keywords.known_only
    def session(self, n_ctx: int | None = None, kv_type: QuantTypeLike | None = None) -> Session:
        """A sequence of its own: `.step(ids)` -> logits, `.n_past`, `.truncate(n)`, `.reset()`."""
        self._check_open()
        return Session(self, n_ctx, kv_type)

    def logits(self, ids: Ids) -> NDArray[np.float32]:
        """Logits at every position of ids, which are used as they are: -> (len(ids), n_vocab) float32."""
        tokens = read_ids("ids", ids)
        session = self._borrow()
        try:
            return session.step(tokens, len(tokens)).reshape(len(tokens), -1)
        finally:
            self._give_back(session)

    def score(self, text: Text | Prompt) -> NDArray[np.float32]:
        """Natural log-probability of every token but the first, given those before it: -> (n - 1,) float32.

        text: a str is the text, a pathlib.Path a file of it; or ids.
        """
        return scoring.score(self, self._ids("text", text_of(text) if is_text(text) else text))

    def perplexity(self, text: Text | Prompt, n_ctx: int = 512, progress: Progress | None = None) -> float:
        """Perplexity over chunks of n_ctx tokens, the second half of each scored (as llama.cpp counts it).

        text: a str is the text, a pathlib.Path a file of it; or ids. Raises ArgumentError for fewer than n_ctx tokens.
        """
        return scoring.perplexity(self, text, whole("n_ctx", n_ctx, 4), function("progress", progress))

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The file's tensors by name. Each access makes a Tensor, which reads its bytes from the file when it is used.

        Raises GGUFError then, where the file was changed after it was loaded or the model is closed.
        """
        self._check_open()
        return Tensors(self._file.tensors)

    def memory(self) -> Memory:
        """Bytes held now: weights, the caches of open sessions, scratch.

        >>> import pyggml
        >>> with pyggml.load() as m:
        ...     held = m.memory()
        >>> held.total == held.weights + held.kv_cache + held.scratch, held.kv_cache
        (True, 0)
        """
        self._check_open()
        weights = sum(info.nbytes for info in self._file.tensors.values())
        return Memory(weights, sum(self._sessions), self._plan.arena_bytes)

    @property
    def _sessions(self) -> list[int]:
        """Bytes of each open session's cache, the idle one's too."""
        return self._plan.caches()

    def export_plan(self, path: str | os.PathLike[str]) -> None:
        """Writes the forward pass as a file, for C programs: pgg_model_open(gguf, plan) runs it without Python.

        The plan holds no weights and belongs to this very GGUF file: it keeps its size and a hash of its header.
        Raises UnsupportedError for a split file, GGUFError where path cannot be written.

        >>> import os, pyggml, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "tales.plan")
        >>> with pyggml.load() as m:
        ...     m.export_plan(path)
        >>> open(path, "rb").read(7)
        b'PGGPLAN'
        """
        self._check_open()
        export_plan(path, self._plan, self._file, self.tokenizer.eog_ids)

    # ---- life ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Frees everything at once; from any thread, any number of times. What uses the model later raises PyggmlError.

        Steps that run in other threads are cancelled and waited for; their callers see the same PyggmlError.
        """
        self._closed = True
        self._plan.close()
        self._idle.clear()
        self._text.wait()
        self._file.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Names the cure where another library's name is asked for."""
            raise keywords.no_attribute("a Model", name, dir(self), self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._n_weights:,} parameters, n_ctx {self.n_ctx}"
        return f"<pyggml.Model {self.config.arch} {self._file.path} ({state})>"

    def _repr_html_(self) -> str:
        if self._closed:
            return display.preformatted(repr(self))
        c = self.config
        return display.facts(
            os.path.basename(self._file.path),
            {"architecture": c.arch, "parameters": self._n_weights, "layers": c.n_layer, "n_embd": c.n_embd,
             "n_vocab": self.n_vocab, "n_ctx": self.n_ctx, "bytes": self._file.size, "threads": self.n_threads},
        )  # fmt: skip

    def _ids(self, name: str, prompt: object, *, fits: bool = True) -> list[int]:
        """fits: the whole must fit the context; what is far from it is refused before it is tokenized."""
        self._check_open()
        found = read_prompt(name, prompt)
        ids = self._encode(found, True, fits) if isinstance(found, str) else found
        if not ids:
            start = self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id
            if start is None:
                raise ArgumentError("an empty prompt needs a model with a BOS or EOS token; this one has neither")
            ids = [start]
        return ids

    def _encode(self, text: str, add_special: bool, fits: bool = True) -> list[int]:
        tokenizer = self.tokenizer
        if fits:
            check_length(text, tokenizer.encode, self.n_ctx)
        return tokenizer.encode(text, add_special=add_special, parse_special=True)

    def _start(self, ids: Sequence[int], how: Mapping[str, Any], answers: bool = False) -> Stream:
        return Stream(self, self._continue(ids, how, answers))

    def _continue(self, ids: Sequence[int], how: Mapping[str, Any], answers: bool = False) -> Continuation:
        return Continuation(self, ids, **how, continues=not answers and len(ids) > 1)

    def _borrow(self) -> Session:
        """An empty session: a kept one, whose memory is warm, or a new one."""
        self._check_open()
        try:
            return Session(self, native=self._idle.pop())
        except IndexError:
            return Session(self)

    def _give_back(self, session: Session) -> None:
        """The end of a borrowed session, which nobody uses any more; never raises."""
        native = session._native
        if self._closed or self._idle:
            native.close()
            return
        try:
            session.reset()
        except PyggmlError:  # the model was closed meanwhile
            native.close()
            return
        self._idle.append(native)

    def _check_open(self) -> None:
        if self._closed:
            raise PyggmlError("this model is closed")

    def _check_alive(self) -> None:
        """Before every step: open, and the mapped file still the one that was loaded."""
        self._check_open()
        if self._mapped:
            try:
                self._file.check_unchanged()
            except GGUFError:
                self._check_open()
                raise

    def _stepping(self) -> _Stepping:
        """Around every step: `_check_alive`, and the errors of the core in the model's words."""
        return _Stepping(self)

    def _check_vocab(self) -> None:
        """Rows of the embedding and the output (they are as many) against tokens."""
        key = "tokenizer.ggml.tokens"
        n = (self._file.metadata.array_length(key) if key in self.metadata else 0) or 0
        if n > self.n_vocab:
            self._check_beyond(key, n)
        most = max(2 * n, n + _PADDING) if n else MAX_VOCAB
        if self.n_vocab > most:
            raise GGUFError(
                f"token_embd.weight has {self.n_vocab} rows, expected at most {most} for "
                + (f"the {n} tokens that {key} lists" if n else "any vocabulary")
            )

    def _check_beyond(self, key: str, n: int) -> None:
        """Tokens without a row: only such as were added and never trained."""
        rows = f"{key} lists {n} tokens, but the output has only {self.n_vocab} rows"
        types = self.metadata.get("tokenizer.ggml.token_type")
        rest = list(types[self.n_vocab :]) if isinstance(types, np.ndarray) and len(types) == n else []
        if not rest or not {2, 3, 4, 5}.issuperset(rest):  # pieces of words: not tokens added and never trained
            raise GGUFError(rows)
        log.warning("%s: the added tokens beyond them cannot be used", rows)

    def _exact(self, wanted: int | None, n_ctx: int) -> int:
        """n_ctx, up to which the context is computed as the file says; refuses more than that where it is wanted."""
        keys = ", ".join(f"{each.key} = {each.shown}" for each in self.config.said if each.n_ctx == n_ctx)
        if wanted is not None:
            raise UnsupportedError(
                f"n_ctx {wanted}: the file says {keys}, and architecture {self.config.arch} lets every token see all "
                f"before it; up to n_ctx={n_ctx} that is the same"
            )
        log.info("n_ctx is %d, because of %s", n_ctx, keys)
        return n_ctx

    def _fitting(self, n_ctx: int) -> int:
        """n_ctx, halved until the cache takes no more than half of the free memory."""
        kind = QuantType.parse(self.kv_type).id
        free = _free_memory()
        while free and n_ctx > 512 and self._plan.kv_bytes(kind, n_ctx) > free // 2:
            n_ctx //= 2
        if n_ctx < self.config.n_ctx_train:
            log.info("n_ctx is %d of %d so that the cache fits into memory", n_ctx, self.config.n_ctx_train)
        return n_ctx

    def _blame(self, message: str) -> str:
        """message, and the first tensor that holds something non-finite (looked for only now)."""
        for name, info in self._file.tensors.items():
            if info.type.is_weight and not scoring.finite(info):
                return f"{message}: tensor {name} ({info.type.name}) holds NaN or infinity; the file is damaged"
        return f"{message}, though every weight is finite: values overflowed on the way"


class _Stepping:
    """A class and not a generator, because it is in the way of every token."""

    __slots__ = ("_model",)

    def __init__(self, model: Model) -> None:
        self._model = model

    def __enter__(self) -> None:
        self._model._check_alive()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._model._closed and isinstance(error, (ArgumentError, Cancelled)):  # in the middle of it
            raise PyggmlError("this model is closed") from None
        if isinstance(error, NumericError):
            raise NumericError(self._model._blame(str(error))) from None


# Both import what they need and are called whole: a child forked meanwhile would wait for the locks of modules that a
# thread it does not have is importing.


def _template(source: str, name: str) -> ChatTemplate:
    from pyggml.chat.template import ChatTemplate

    return ChatTemplate(source, name=name)


def _tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    from pyggml.tokenizer import from_metadata

    return from_metadata(metadata)


def _free_memory() -> int:
    """Bytes that can be had without swapping; 0 where the system does not say."""
    try:
        with open("/proc/meminfo") as f:
            for line in f:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
