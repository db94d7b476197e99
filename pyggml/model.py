"""A loaded model: the calls that users make on a file, its engine and its tokenizer.

The way of a prompt: generate -> ids -> Engine.submit -> the loop -> Session -> the core; docs/MAP.md draws it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pyggml import _native, display, gguf, keywords
from pyggml.arguments import MAX_THREADS, PathLike, choice, flag, function, text, whole, whole_or_none
from pyggml.arguments import ids as read_ids
from pyggml.arguments import texts as read_texts
from pyggml.chat.functions import ToolLike, Tools, read_tools
from pyggml.chat.render import Messages, Rendered, render
from pyggml.chat.speech import speech_of
from pyggml.completion import Completion
from pyggml.engine import embedding, ranking, scoring
from pyggml.engine.cache_type import cache_type
from pyggml.engine.call import Call, Completions
from pyggml.engine.context import MAX_CTX
from pyggml.engine.engine import Engine
from pyggml.engine.file_settings import file_settings
from pyggml.engine.forcing import forced
from pyggml.engine.generation import Request
from pyggml.engine.loaded import Loaded
from pyggml.engine.memory import Memory
from pyggml.engine.plan_file import export_plan
from pyggml.engine.prompts import Ids, Prompt, Prompts, check_length, read_prompts
from pyggml.engine.requests import answer_ids, ids_of_each, prompt_ids, samples
from pyggml.engine.session import Session
from pyggml.engine.settings import DEFAULTS, read_settings, spelled_out
from pyggml.engine.stream import Stream
from pyggml.engine.weights import Progress, Tensors
from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.files.texts import Text, check_no_name, is_text, text_of, too_short
from pyggml.pickling import Held
from pyggml.quant.tensor import Tensor
from pyggml.quant.types import QuantTypeLike

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pyggml.engine.embedding import EmbedSettings
    from pyggml.engine.settings import ChatSettings, OneSettings, Settings
    from pyggml.tokenizer import Tokenizer

log = logging.getLogger("pyggml")

_OF_CHAT = ("stream", "tools", "tool_choice", "thinking_budget")
BUNDLED = Path(__file__).parent / "data" / "tales.gguf"


@keywords.known_only
def load(
    path: PathLike | None = None,
    *,
    n_ctx: int | None = None,
    n_threads: int | None = None,
    device: str = "auto",
    kv_type: QuantTypeLike | None = None,
    mmap: bool = True,
    progress: Progress | None = None,
    prefix_reuse: bool = True,
    deterministic: bool = False,
    n_parallel: int = 16,
    max_queue: int = 1000,
) -> Model:
    """Loads a GGUF file (or, without a path, the bundled story teller).

    path: ~ is expanded. n_ctx: positions a sequence may hold; None: what the model was trained for, or less if memory
    asks for it.
    n_threads: None: the cores this process may use. kv_type: type of the key/value cache, "f32", "f16", "bf16", "q8_0"
    or, at some loss, "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl" (heads of 32 values and their multiples); None: "f16", or
    "f32" in an encoder, which keeps nothing between calls.
    mmap: True maps the file, False copies it into memory on huge pages; progress(bytes_done, bytes_total) follows the
    copy. A mapped file must not shrink while a step runs: it is compared with load before each step (GGUFError), but
    pages that go away within one end the process with SIGBUS; replace files by renaming, or copy.
    prefix_reuse: keep what up to eight idle sequences hold, so that a prompt that begins as an earlier one did (a chat)
    costs only what is new; texts are the same, to the bit.
    deterministic: generated tokens are computed as those of a prompt are, which is slower; the logits behind a text
    then have the same bits whether it was read or generated.
    n_parallel: texts that are made at once, whatever threads and coroutines ask for them. max_queue: requests that may
    wait for one of these places; more raise QueueFull.
    Raises GGUFError for a broken file (for a missing one FileNotFoundError too),
    UnsupportedError for a model or device that cannot be run, ArgumentError for the rest.

    >>> import pyggml
    >>> with pyggml.load() as m:
    ...     m.config.arch
    'llama'
    """
    if path is None:
        log.info("no path given: loading the bundled model %s", BUNDLED.name)
        path = BUNDLED
    return Model(
        path, n_ctx, n_threads, device, kv_type, mmap, progress, prefix_reuse, deterministic, n_parallel, max_queue
    )


@keywords.methods_known_only
class Model(Held):
    """Weights and plan of a file, shared by any number of threads. Made by `pyggml.load`; a context manager."""

    _instead = "pass its path and load it in each process; processes that map one file share its weights"

    def __init__(
        self,
        path: PathLike,
        n_ctx: int | None = None,
        n_threads: int | None = None,
        device: str = "auto",
        kv_type: QuantTypeLike | None = None,
        mmap: bool = True,
        progress: Progress | None = None,
        prefix_reuse: bool = True,
        deterministic: bool = False,
        n_parallel: int = 16,
        max_queue: int = 1000,
    ) -> None:
        _native.isa()  # a PYGGML_ISA that cannot be had fails here, before anything is read
        if text("device", device).lower() not in ("auto", "cpu"):
            raise UnsupportedError(f"device {device!r:.60} is not available in this build; use 'auto' or 'cpu'")
        self.n_threads = whole_or_none("n_threads", n_threads, 1, MAX_THREADS) or _native.default_threads()
        kind = None if kv_type is None else cache_type(kv_type)
        n_ctx = whole_or_none("n_ctx", n_ctx, 1, MAX_CTX)
        mmap, progress = flag("mmap", mmap), function("progress", progress)
        prefix_reuse, deterministic = flag("prefix_reuse", prefix_reuse), flag("deterministic", deterministic)
        n_parallel, max_queue = whole("n_parallel", n_parallel, 1, 1024), whole("max_queue", max_queue, 1)
        self._loaded = Loaded(path, n_ctx, self.n_threads, kind, mmap, progress, deterministic)
        self._engine = Engine(self._loaded, prefix_reuse, n_parallel, max_queue)
        self.config = self._loaded.config
        self.metadata: Mapping[str, gguf.MetadataValue] = self._loaded.file.metadata
        self.suggested = file_settings(self.metadata)  # settings in place of the defaults
        self.n_vocab, self.n_ctx, self.kv_type = self._loaded.n_vocab, self._loaded.n_ctx, self._loaded.kv_type.name

    # ---- text ------------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Tokenizer:
        """Built beside loading; first use waits. GGUFError or UnsupportedError if the file has no usable one.

        It needs the model no more, and stays when that is closed.
        """
        return self._loaded.tokenizer

    def tokenize(self, text: str | Completion, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Text -> ids; add_special puts BOS/EOS where the model wants them, parse_special reads `<|...|>` as tokens.

        A Completion stands for its text. Half surrogates are read as U+FFFD. Ctrl-C waits for the end of the text,
        which is seconds for megabytes.
        """
        self._loaded.check_open()
        special = flag("add_special", add_special), flag("parse_special", parse_special)
        return self.tokenizer.encode(text.text if isinstance(text, Completion) else text, *special)

    def detokenize(self, ids: Ids, skip_special: bool = False) -> str:
        """The inverse of tokenize(..., add_special=False)."""
        self._loaded.check_open()
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
        return self._render("render_chat", messages, template, template_args, variables).prompt

    def _render(
        self, call: str, messages: Messages, template: str | None, template_args: Mapping[str, Any] | None,
        variables: Mapping[str, Any], own: tuple[str, ...] = (), tools: Tools | None = None,
    ) -> Rendered:  # fmt: skip
        self._loaded.check_open()
        return render(
            call, messages, self.metadata, self.tokenizer,
            template=template, template_args=template_args, variables=variables, own=own, tools=tools,
        )  # fmt: skip

    # ---- generation ------------------------------------------------------------------------------------------

    @overload
    def generate(  # type: ignore[overload-overlap] # a str is an iterable of str
        self, prompt: Prompt = "", *, n: Literal[1] = 1, **settings: Unpack[OneSettings]
    ) -> Completion: ...

    @overload
    def generate(  # type: ignore[overload-overlap]
        self, prompt: Prompts, *, n: Literal[1] = 1, **settings: Unpack[OneSettings]
    ) -> list[Completion]: ...

    @overload
    def generate(  # type: ignore[overload-overlap]
        self, prompt: Prompt = "", *, n: int, **settings: Unpack[OneSettings]
    ) -> list[Completion]: ...

    @overload
    def generate(self, prompt: Prompts, *, n: int, **settings: Unpack[OneSettings]) -> list[list[Completion]]: ...

    @keywords.known_only
    @spelled_out()
    def generate(self, prompt: Prompt | Prompts = "", **settings: Any) -> Completions:
        """Continues a prompt: text, a list of token ids (used as they are), or a list of prompts (-> a list).

        Prompts of a list run together with all that other threads and coroutines ask for, so that weights are read once
        for all of them; a text is the one that its prompt gives alone. Ctrl-C ends it.

        n: so many texts of each prompt, which is read once (-> a list of them); their seeds follow from seed.
        max_tokens None: until the model ends or the context is full. temperature 0: always the likeliest token.
        seed None or -1: another one at each call. stop: a text or texts that end the generation and are cut off.
        timeout: seconds after which it ends with the text that there is, finish_reason "timeout".
        schema (a JSON schema, a pydantic model, a dataclass, a TypedDict), regex, grammar (GBNF), lark or choices: what
        the text must be; no other token can be chosen, and `.parsed` is the object. What cannot be enforced raises
        GrammarError with its place. In a chat it binds the answer, not the reasoning. Needs the extra `constrain`.
        logits_hook: f(ids, logits) is called before each choice, with a copy of the logits (n_vocab,) that it may
        change or replace; that costs the copy and a call of Python for each token.
        logprobs: keep the log-probabilities of every token and of this many alternatives. reuse: "exact" gives the text
        of a prompt that is read whole; "any" also takes what lies in an idle sequence because it was generated, not
        read: faster where a prompt repeats an answer, and near to that text; usage tells how much was taken.
        draft: "ngram" (what followed such words before) or another model guesses tokens that are read together with the
        one before; the text is the same, to the bit, and usage tells how many were right. deterministic: what is
        generated is computed as a prompt is, which is slower; see load.
        -> Completion. Raises ContextFull when the prompt is longer than the context, ArgumentError for settings out of
        range, QueueFull where too many wait, NumericError when logits are not finite.

        >>> import pyggml
        >>> with pyggml.load() as m:
        ...     c = m.generate("Once upon a time", max_tokens=5, temperature=0)
        >>> len(c.tokens), c.finish_reason, str(c) == c.text
        (5, 'length', True)
        """
        return self._generation(prompt, settings).run()

    @keywords.known_only
    @spelled_out()
    async def agenerate(self, prompt: Prompt | Prompts = "", **settings: Any) -> Completions:
        """As generate, for a coroutine. Cancelling it ends the generation.

        >>> import asyncio, pyggml
        >>> with pyggml.load() as m:
        ...     c = asyncio.run(m.agenerate("Once upon a time", max_tokens=5, temperature=0))
        >>> len(c.tokens), c.finish_reason
        (5, 'length')
        """
        return await self._generation(prompt, settings).arun()

    @keywords.known_only
    @spelled_out()
    def stream(self, prompt: Prompt = "", **settings: Unpack[Settings]) -> Stream:
        """As generate, piece by piece: iterate for text, `.cancel()` to stop, `.result` at the end."""
        how, n = read_settings(settings, **self.suggested)
        ids = self._ids("prompt", prompt, fits=how["overflow"] == "error")
        return self._stream(samples(self._loaded, ids, how, n, continues=len(ids) > 1))

    @keywords.known_only
    @spelled_out()
    def astream(self, prompt: Prompt = "", **settings: Unpack[Settings]) -> Stream:
        """The same Stream as stream gives, for `async for`.

        >>> import asyncio, pyggml
        >>> async def tell(m):
        ...     async with m.astream("Once upon a time", max_tokens=5) as s:
        ...         return "".join([piece async for piece in s]) == s.result.text
        >>> with pyggml.load() as m:
        ...     asyncio.run(tell(m))
        True
        """
        return self.stream(prompt, **settings)

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
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        thinking_budget: int | None = None,
        **variables: Any,
    ) -> Completions | Stream:
        """Answers a conversation [{"role": "user", "content": "..."}] with the model's chat template.

        -> Completion (with n a list of them), or a Stream with stream=True. Settings are those of generate. Further
        keywords must be variables that the template reads (enable_thinking=); template_args holds others. See
        render_chat.

        tools: functions with annotations and a docstring, or schemas (OpenAI's, Anthropic's), that the model may call;
        what it calls is `.tool_calls`, with finish_reason "tool_calls", and text that does not read as a call stays
        text. Go on with messages + [c.message, c.tool_calls[0].message(result)]. tool_choice: "auto", "none",
        "required" (one of them is called), or the name of the one that must be: its arguments then follow its schema,
        which needs the extra pyggml[constrain].

        What a model thinks before it answers is `.reasoning`, not part of the text; a Stream's parts() gives both.
        thinking_budget: most tokens of it, after which the model is made to answer; ArgumentError for a model whose
        template shows no marks of reasoning.
        """
        streams = flag("stream", stream)
        requests = self._conversation(messages, template, template_args, tools, tool_choice, thinking_budget, variables)
        return self._stream(requests) if streams else Call(self._engine, [requests], one=True).run()

    @spelled_out(max_tokens=None)
    async def achat(
        self,
        messages: Messages,
        *,
        stream: bool = False,
        template: str | None = None,
        template_args: Mapping[str, Any] | None = None,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        thinking_budget: int | None = None,
        **variables: Any,
    ) -> Completions | Stream:
        """As chat, for a coroutine: await m.achat(messages), or async for piece in await m.achat(..., stream=True)."""
        streams = flag("stream", stream)
        requests = self._conversation(messages, template, template_args, tools, tool_choice, thinking_budget, variables)
        return self._stream(requests) if streams else await Call(self._engine, [requests], one=True).arun()

    # ---- numbers ---------------------------------------------------------------------------------------------

    @keywords.known_only
    def session(self, n_ctx: int | None = None, kv_type: QuantTypeLike | None = None) -> Session:
        """A sequence of its own: `.step(ids)` -> logits, `.n_past`, `.truncate(n)`, `.reset()`."""
        return Session(self, n_ctx, kv_type)

    @overload
    def embed(  # type: ignore[overload-overlap] # a str is an iterable of str
        self, texts: Prompt, *, pooling: str | None = None, **settings: Unpack[EmbedSettings]
    ) -> NDArray[np.float32]: ...

    @overload
    def embed(  # type: ignore[overload-overlap] # "none" is a str
        self, texts: Prompts, *, pooling: Literal["none"], **settings: Unpack[EmbedSettings]
    ) -> list[NDArray[np.float32]]: ...

    @overload
    def embed(
        self, texts: Prompts, *, pooling: str | None = None, **settings: Unpack[EmbedSettings]
    ) -> NDArray[np.float32]: ...

    def embed(
        self,
        texts: Prompt | Prompts,
        *,
        pooling: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        prompt: str = "",
        overflow: str = "error",
    ) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        """A vector for each text: (n, n_embd) float32, or (n_embd,) for a single text. Texts of a list run together.

        texts: text, token ids (used as they are), or a list of either. pooling: "mean", "cls" (the first token),
        "last", or "none", a vector for each token: (tokens, n_embd), in a list for a list of texts; None: what the file
        says, else "last" in a model whose tokens see only those before them, "mean" in an encoder. normalize: to a
        length of 1. dimensions: only so many first columns, for models that were trained to bear it. prompt: put before
        each text ("search_query: "); models that need one say which in their description. A text longer than n_ctx
        tokens raises ContextFull; overflow="truncate" reads its beginning, and a warning counts the texts. Any model
        has vectors: those of a decoder are its last norm's. Raises NumericError when they are not finite.

        >>> import pyggml
        >>> with pyggml.load() as m:
        ...     x = m.embed(["a cat", "a dog", "the moon"])
        >>> x.shape == (3, m.config.n_embd), x.dtype
        (True, dtype('float32'))
        """
        self._loaded.check_open()
        self._loaded.output("embedding")
        how = embedding.How(
            embedding.pooling_of(self._engine, pooling),
            flag("normalize", normalize),
            embedding.check_dimensions(self._engine, dimensions),
        )
        overflow, prompt = choice("overflow", overflow, embedding.OVERFLOWS), text("prompt", prompt)
        found, one = read_prompts("texts", texts)
        if prompt and not all(isinstance(each, str) for each in found):
            raise ArgumentError("prompt is put before texts, but texts holds token ids: put its ids before them")
        ids = [
            self._ids("texts", prompt + each if isinstance(each, str) else each, fits=overflow == "error")
            for each in found
        ]
        vectors = embedding.embed(self._engine, embedding.fitted(self._engine, ids, overflow), how)
        if one:
            return vectors[0]
        if how.pooling == "none":
            return vectors
        return np.stack(vectors) if vectors else np.zeros((0, how.dimensions or self.config.n_embd), np.float32)

    def rerank(self, query: str, docs: Sequence[str], *, overflow: str = "error") -> NDArray[np.float32]:
        """How well each of docs answers query, in the order of docs: (n,) float32; higher is better.

        Of a model with one label its score as it is, of one that says yes or no the probability of yes. A pair longer
        than n_ctx tokens raises ContextFull; overflow="truncate" cuts the document's end, and a warning counts them.
        Raises UnsupportedError for a model that does not rank; m.embed() vectors can be compared instead.

        >>> import pyggml
        >>> with pyggml.load() as m:
        ...     m.rerank("a cat", ["a dog"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        pyggml.errors.UnsupportedError: this model (llama) makes no score: it has no head for ranking ...
        """
        self._loaded.check_open()
        ranking.check(self._loaded)
        query, overflow = text("query", query), choice("overflow", overflow, embedding.OVERFLOWS)
        given = read_texts("docs", docs)
        for each in (query, *given) if overflow == "error" else (query,):
            check_length(each, self.tokenizer.encode, self.n_ctx)
        found = ranking.pairs(self._loaded, query, given)
        return ranking.rank(self._engine, ranking.fitted(self._engine, found, overflow), found.n_first)

    def logits(self, ids: Ids) -> NDArray[np.float32]:
        """Logits at every position of ids, which are used as they are: -> (len(ids), n_vocab) float32."""
        found: list[NDArray[np.float32]] = []
        self._engine.read(read_ids("ids", ids).tolist(), lambda at, rows: found.append(rows))
        return found[0]

    def score(self, text: Text | Prompt) -> NDArray[np.float32]:
        """Natural log-probability of every token but the first, given those before it: -> (n - 1,) float32.

        text: a str is the text, a pathlib.Path a file of it; or ids. Raises ArgumentError for a str that is the name of
        a file.
        """
        if isinstance(text, str):
            check_no_name("score", text)
        return scoring.score(self._engine, self._ids("text", text_of(text) if is_text(text) else text))

    def perplexity(self, text: Text | Prompt, n_ctx: int | None = None, progress: Progress | None = None) -> float:
        """Perplexity over chunks of n_ctx tokens, the second half of each scored (as llama.cpp counts it).

        text: a str is the text, a pathlib.Path a file of it; or ids. n_ctx None: 512, or the context where that is
        less. Raises ArgumentError for fewer than n_ctx tokens, and for an n_ctx beyond the context.
        """
        n_ctx, progress = scoring.chunk(n_ctx, self.n_ctx), function("progress", progress)
        if isinstance(text, str):
            check_no_name("perplexity", text)
        ids = self._ids("text", text_of(text) if is_text(text) else text, fits=False)
        if len(ids) < n_ctx:
            raise too_short(f"perplexity in chunks of n_ctx = {n_ctx}", text, len(ids), n_ctx)
        return scoring.perplexity(self._engine, ids, n_ctx, progress)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The file's tensors by name. Each access makes a Tensor, which reads its bytes from the file when it is used.

        Raises GGUFError then, where the file was changed after it was loaded or the model is closed.
        """
        self._loaded.check_open()
        return Tensors(self._loaded.file.tensors)

    def memory(self) -> Memory:
        """Bytes held now: weights, the caches of open sessions, scratch.

        >>> import pyggml
        >>> with pyggml.load() as m:
        ...     held = m.memory()
        >>> held.total == held.weights + held.kv_cache + held.scratch, held.kv_cache
        (True, 0)
        """
        return self._engine.memory()

    def export_plan(self, path: str | os.PathLike[str]) -> None:
        """Writes the forward pass as a file, for C programs: pgg_model_open(gguf, plan) runs it without Python.

        The plan holds no weights and belongs to this very GGUF file: it keeps its size and a hash of its header, those
        of every part where it is split; gguf is then the path of any part. Raises UnsupportedError where a weight is
        not used as it lies in the file, GGUFError where path cannot be written.

        >>> import os, pyggml, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "tales.plan")
        >>> with pyggml.load() as m:
        ...     m.export_plan(path)
        >>> open(path, "rb").read(7)
        b'PGGPLAN'
        """
        self._loaded.check_open()
        export_plan(path, self._loaded.plan, self._loaded.file, self.tokenizer.eog_ids)

    # ---- life ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Frees everything at once; from any thread, any number of times. What uses the model later raises PyggmlError.

        What describes it stays: config, n_ctx, n_vocab, n_threads, kv_type, tokenizer, and metadata but for arrays.
        Steps that run in other threads are cancelled and waited for; their callers see the same PyggmlError.
        """
        self._engine.close()

    def __enter__(self) -> Model:
        self._loaded.check_open()
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
        state = "closed" if self._loaded.closed else f"{self._n_weights:,} parameters, n_ctx {self.n_ctx}"
        return f"<pyggml.Model {self.config.arch} {self._loaded.file.path} ({state})>"

    def _repr_html_(self) -> str:
        if self._loaded.closed:
            return display.preformatted(repr(self))
        c, file = self.config, self._loaded.file
        return display.facts(
            os.path.basename(file.path),
            {"architecture": c.arch, "parameters": self._n_weights, "layers": c.n_layer, "n_embd": c.n_embd,
             "n_vocab": self.n_vocab, "n_ctx": self.n_ctx, "bytes": file.size, "threads": self.n_threads},
        )  # fmt: skip

    @property
    def _n_weights(self) -> int:
        return sum(info.n_elements for info in self._loaded.file.tensors.values())

    def _ids(self, name: str, prompt: object, *, fits: bool = True) -> list[int]:
        return prompt_ids(self._loaded, name, prompt, fits=fits)

    def _generation(self, prompt: object, settings: Mapping[str, Any]) -> Call:
        self._loaded.check_open()
        prompts, one = read_prompts("prompt", prompt)
        how, n = read_settings(settings, **self.suggested)
        found = ids_of_each(self._loaded, "prompt", prompts, one, fits=how["overflow"] == "error")
        return Call(self._engine, [samples(self._loaded, ids, how, n, continues=len(ids) > 1) for ids in found], one)

    def _conversation(
        self, messages: Messages, template: str | None, template_args: Mapping[str, Any] | None,
        tools: Sequence[ToolLike] | None, tool_choice: str | Mapping[str, Any], thinking_budget: int | None,
        variables: dict[str, Any],
    ) -> list[Request]:  # fmt: skip
        """What chat is given -> a request for each answer."""
        budget = whole_or_none("thinking_budget", thinking_budget, 0)
        offered = read_tools(tools, tool_choice)
        self._loaded.check_open()
        self._loaded.output("logits")
        given = {name: variables.pop(name) for name in DEFAULTS if name in variables}
        how, n = read_settings(given, **self.suggested, max_tokens=None)
        rendered = self._render("chat", messages, template, template_args, variables, (*DEFAULTS, *_OF_CHAT), offered)
        speech, prompt = speech_of(rendered, self.tokenizer, budget, offered)
        wanted = forced(speech, rendered.template, self.tokenizer, how["wanted"])
        how.update(speech=speech, thinking_budget=budget, wanted=wanted)
        ids = answer_ids(self._loaded, prompt, fits=how["overflow"] == "error")
        return samples(self._loaded, ids, how, n, continues=False)

    def _stream(self, requests: list[Request]) -> Stream:
        if len(requests) > 1:
            raise ArgumentError(
                f"n is {len(requests)}, and a stream is one text: take a stream for each, or generate without one"
            )
        return Stream(self._engine, requests[0])
