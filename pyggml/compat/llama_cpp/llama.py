"""Llama, as llama-cpp-python's callers know it, over pyggml.load, m.generate, m.chat, m.embed and m.session."""

from __future__ import annotations

import logging
import random
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml import keywords
from pyggml.arguments import instance, texts, wrong_type
from pyggml.compat.llama_cpp import completing, embedding, hub, loading
from pyggml.compat.llama_cpp.answers import Answer
from pyggml.compat.llama_cpp.lists import LogitsProcessor, StoppingCriteria
from pyggml.compat.llama_cpp.llama_cache import BaseLlamaCache
from pyggml.compat.llama_cpp.llama_grammar import LlamaGrammar
from pyggml.compat.llama_cpp.llama_tokenizer import LlamaTokenizer
from pyggml.compat.llama_cpp.sampled import sampler_of, settings_of
from pyggml.compat.llama_cpp.state import LlamaState
from pyggml.compat.llama_cpp.verdicts import METHODS
from pyggml.engine.prompts import read_prompt
from pyggml.engine.session import Session
from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.model import Model

log = logging.getLogger("pyggml")

Handler = Callable[..., Any]


class Llama:
    """A model with the methods of llama_cpp.Llama. Its parameters and what becomes of each: docs/LLAMA_CPP.md.

    One sequence: eval(), sample() and generate() go on where the last call ended. create_completion() and
    create_chat_completion() stand alone, and may be called from several threads. pyggml_model is the Model below it.

    >>> from pyggml.model import BUNDLED
    >>> llm = Llama(str(BUNDLED), verbose=False)
    >>> out = llm("Once upon a time", max_tokens=4, temperature=0)
    >>> out["object"], out["usage"]["completion_tokens"]
    ('text_completion', 4)
    >>> llm.close()
    """

    def __init__(self, model_path: str, **parameters: Any) -> None:
        self._given = dict(parameters)
        how = loading.read_parameters(parameters)
        self.model_path = str(model_path)
        self.verbose: bool = how.verbose
        self.chat_format: str | None = how.chat_format
        self.chat_handler: Handler | None = how.chat_handler
        self.cache: BaseLlamaCache | None = None
        self._how = how
        self._seed = how.seed
        self._opened, self._tokenizer, self.metadata = loading.open_model(model_path, how)
        self._session: Session | None = None
        self._ids: list[int] = []
        self._rows: list[NDArray[np.float32]] = []

    # ---- what it is ------------------------------------------------------------------------------------------

    @property
    def pyggml_model(self) -> Model:
        """The model itself. Raises UnsupportedError where only its vocabulary was loaded."""
        if self._opened is None:
            raise UnsupportedError("this Llama was made with vocab_only=True: it has no weights")
        return self._opened

    def n_ctx(self) -> int:
        """Positions a sequence may hold."""
        return self.pyggml_model.n_ctx

    def n_embd(self) -> int:
        """Width of the model."""
        return self.pyggml_model.config.n_embd

    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        return self._tokenizer.n_vocab if self._opened is None else self._opened.n_vocab

    def tokenizer(self) -> LlamaTokenizer:
        """Text to ids and back."""
        return LlamaTokenizer(self)

    def token_bos(self) -> int:
        """The id that begins a text; -1: none."""
        return -1 if self._tokenizer.bos_id is None else self._tokenizer.bos_id

    def token_eos(self) -> int:
        """The id that ends a text; -1: none."""
        return -1 if self._tokenizer.eos_id is None else self._tokenizer.eos_id

    def token_nl(self) -> int:
        """The id of a line break; -1: none."""
        found = self._tokenizer.encode("\n", False, False)
        return found[-1] if found else -1

    def pooling_type(self) -> int:
        """As llama.h numbers it; 0: a vector for each token."""
        return embedding.pooling_number(self.pyggml_model, self._how.pooling)

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """The ids of UTF-8 bytes."""
        if not isinstance(text, bytes | bytearray):
            raise ArgumentError(f"tokenize takes bytes, as llama_cpp's does: text.encode(), got {type(text).__name__}")
        return self.tokenizer().tokenize(bytes(text), add_bos, special)

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """The bytes of ids."""
        return self.tokenizer().detokenize(tokens, prev_tokens, special)

    # ---- texts -----------------------------------------------------------------------------------------------

    def __call__(self, prompt: str, **how: Any) -> Answer | Iterator[Answer]:
        """create_completion."""
        return self.create_completion(prompt, **how)

    def create_completion(self, prompt: str | Sequence[int], **how: Any) -> Answer | Iterator[Answer]:
        """Continues a prompt: a dict as OpenAI's completions, or, with stream=True, an iterator of chunks.

        Keywords and defaults are llama_cpp's. Raises UnsupportedError for suffix=, and for grammar= and
        response_format= where grammars are not built in.
        """
        return completing.complete(self, prompt, how)

    def create_chat_completion(self, messages: Sequence[Any], **how: Any) -> Answer | Iterator[Answer]:
        """Answers a conversation: a dict as OpenAI's, or, with stream=True, an iterator of chunks.

        The template is chat_format's, else the file's own, else llama-2's. chat_handler, where one was given, does it
        all itself, called with llama=, messages= and every keyword.
        """
        return completing.chat(self, messages, how)

    def create_chat_completion_openai_v1(self, messages: Sequence[Any], **how: Any) -> Any:
        """The same as objects of the openai package, which must be installed."""
        try:
            from openai.types.chat import ChatCompletion, ChatCompletionChunk
        except ImportError:
            raise UnsupportedError(
                "create_chat_completion_openai_v1 needs the openai package: pip install openai"
            ) from None
        found = self.create_chat_completion(messages, **how)
        if isinstance(found, dict):
            return ChatCompletion(**found)
        return (ChatCompletionChunk(**chunk) for chunk in found)

    def next_seed(self, seed: int | None) -> int:
        """The seed of a text: the one given, else one that follows from the last."""
        self._seed = random.Random(self._seed).randint(0, 2**32 - 1) if seed is None else seed
        return self._seed

    def set_seed(self, seed: int) -> None:
        """The seed that the next ones follow from."""
        self._seed = int(seed)

    # ---- vectors ---------------------------------------------------------------------------------------------

    def embed(
        self, input: str | Sequence[str], normalize: bool = False, truncate: bool = True, return_count: bool = False
    ) -> Any:
        """Vectors as lists of float: one for a text, a list for a list; of each token where the pooling is none.

        return_count: (vectors, tokens).
        """
        found, n = embedding.embed(self.pyggml_model, input, self._how.pooling, normalize, truncate)
        return (found, n) if return_count else found

    def create_embedding(self, input: str | Sequence[str], model: str | None = None) -> Answer:
        """Vectors as OpenAI's embeddings."""
        found, n = self.embed(texts("input", input, or_one=True), return_count=True)
        data = [{"object": "embedding", "embedding": each, "index": i} for i, each in enumerate(found)]
        usage = {"prompt_tokens": n, "total_tokens": n}
        return {"object": "list", "data": data, "model": model or self.model_path, "usage": usage}

    # ---- token by token --------------------------------------------------------------------------------------

    @property
    def n_tokens(self) -> int:
        """Tokens that were read."""
        return len(self._ids)

    @property
    def input_ids(self) -> NDArray[np.intc]:
        """The tokens that were read: (n_tokens,)."""
        return np.asarray(self._ids, np.intc)

    @property
    def scores(self) -> NDArray[np.single]:
        """Logits: (n_tokens, n_vocab) with logits_all, else those of the last token alone: (1, n_vocab)."""
        return np.stack(self._rows) if self._rows else np.zeros((0, self.n_vocab()), np.single)

    @property
    def eval_tokens(self) -> deque[int]:
        """The tokens that were read."""
        return deque(self._ids, maxlen=self.n_ctx())

    @property
    def eval_logits(self) -> deque[list[float]]:
        """Logits as lists."""
        return deque(self.scores.tolist(), maxlen=self.n_ctx() if self._how.logits_all else 1)

    def reset(self) -> None:
        """Begins anew."""
        self._ids, self._rows = [], []

    def eval(self, tokens: Sequence[int]) -> None:
        """Reads tokens. Raises ContextFull where they do not fit."""
        new = _ids("tokens", tokens)
        session = self._at(len(self._ids))
        if not new:
            return
        every = self._how.logits_all
        rows = session.step(new, len(new) if every else 1)
        found = list(rows) if every and len(new) > 1 else [rows]
        self._rows = self._rows + found if every else found[-1:]
        self._ids += new

    def _at(self, n: int) -> Session:
        """The session, holding n tokens."""
        if self._session is None:
            self._session = self.pyggml_model.session()
        if self._session.n_past > n:
            back = self._session.back(n)
            self._session.truncate(back)
            if back < n:
                self._session.step(self._ids[back:n])
        return self._session

    def sample(
        self, *, logits_processor: Sequence[LogitsProcessor] | None = None, grammar: LlamaGrammar | None = None,
        idx: int | None = None, **how: Any,
    ) -> int:  # fmt: skip
        """A token to follow. Keywords are llama_cpp's (temp, top_k, ...)."""
        if not self._rows:
            raise ArgumentError("sample() has no logits to choose from: eval() tokens first")
        sampler = sampler_of(self, settings_of("sample", how))
        return completing.choose(self, sampler, self._rows[-1 if idx is None else idx], logits_processor, grammar)

    def generate(
        self, tokens: Sequence[int], *, reset: bool = True, stopping_criteria: Sequence[StoppingCriteria] | None = None,
        logits_processor: Sequence[LogitsProcessor] | None = None, grammar: LlamaGrammar | None = None, **how: Any,
    ) -> Iterator[int]:  # fmt: skip
        """Tokens without end, each read before the next; send() puts more behind one. What was read is kept."""
        new = _ids("tokens", tokens)
        settings = settings_of("generate", how)
        if reset:
            shared = self.longest_token_prefix(self._ids, new[:-1])
            self._ids, self._rows = self._ids[:shared], self._rows[:shared] if self._how.logits_all else []
            new = new[shared:]
        sampler = sampler_of(self, settings)
        sampler.accept(np.asarray(self._ids, np.int32))
        while True:
            self.eval(new)
            sampler.accept(np.asarray(new, np.int32))
            row = self._rows[-1]
            if stopping_criteria is not None and any(each(self.input_ids, row.copy()) for each in stopping_criteria):
                return
            token = completing.choose(self, sampler, row, logits_processor, grammar)
            more = yield token
            new = [token, *map(int, more or ())]

    # ---- states ----------------------------------------------------------------------------------------------

    def save_state(self) -> LlamaState:
        """What was read, with the bytes of its cache. It can be pickled; another Llama of the same file loads it."""
        data = b""
        if self._ids:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "state"
                self._at(len(self._ids)).save(path)
                data = path.read_bytes()
        return LlamaState(self.input_ids, self.scores, len(self._ids), data, len(data), self._seed)

    def load_state(self, state: LlamaState) -> None:
        """Goes on from a state."""
        instance("state", state, LlamaState, "a LlamaState, as save_state() makes it")
        if state.llama_state:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "state"
                path.write_bytes(state.llama_state)
                self._at(0).load(path)
        self._ids, self._rows = state.input_ids.tolist(), list(state.scores)
        self._seed = state.seed

    def set_cache(self, cache: BaseLlamaCache | None) -> None:
        """Keeps a cache and asks it nothing: prompts that begin as earlier ones go on from there without one."""
        self.cache = cache

    # ---- life ------------------------------------------------------------------------------------------------

    @staticmethod
    def logits_to_logprobs(logits: Any, axis: int = -1) -> NDArray[np.single]:
        """Log-softmax."""
        values = np.asarray(logits, np.single)
        most = np.max(values, axis=axis, keepdims=True)
        shifted = values - np.where(np.isfinite(most), most, 0)
        with np.errstate(divide="ignore"):
            found: NDArray[np.single] = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
        return found

    @staticmethod
    def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
        """How many tokens two texts begin with alike."""
        least = min(len(a), len(b))
        return next((i for i in range(least) if a[i] != b[i]), least)

    @classmethod
    def from_pretrained(cls, repo_id: str, filename: str | None, **parameters: Any) -> Llama:
        """Downloads a file of a model by its name or a pattern of it, and loads it. Needs huggingface_hub."""
        path, left = hub.download(repo_id, filename, parameters)
        return cls(path, **left)

    def close(self) -> None:
        """Frees everything."""
        self._session = None
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> Llama:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.model_path, self._given)

    def __getattr__(self, name: str) -> Any:
        """Says why a name of llama_cpp.Llama is not here."""
        found = METHODS.get(name)
        if found is not None and not found.here:
            raise AttributeError(f"Llama has no {name!r} here: {found.said}", name=name, obj=self)
        raise keywords.no_attribute("a Llama", name, sorted(METHODS), self)

    def __repr__(self) -> str:
        return f"<Llama {self.model_path}, over {self.__dict__.get('_opened')!r}>"


def _ids(name: str, given: object) -> list[int]:
    found = read_prompt(name, given)
    if isinstance(found, str):
        raise wrong_type(name, "a list of token ids", given, "tokenize(text.encode()) makes them")
    return found


def _again(kind: type[Llama], path: str, parameters: dict[str, Any]) -> Llama:
    return kind(path, **parameters)
