# ruff: noqa: E501 - rows of a table
"""create_completion and create_chat_completion: llama_cpp's keywords in, a generation, OpenAI's shapes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyggml import _native, keywords
from pyggml.answer import Part
from pyggml.arguments import instance, list_of, mapping, texts, whole_or_none, wrong_type
from pyggml.compat.llama_cpp import chat_formats
from pyggml.compat.llama_cpp.answers import (
    Answer,
    Head,
    chat_logprobs_of,
    deltas_of,
    logprobs_of,
    message_of,
    usage_of,
)
from pyggml.compat.llama_cpp.known import Known
from pyggml.compat.llama_cpp.lists import LogitsProcessor
from pyggml.compat.llama_cpp.llama_grammar import LlamaGrammar
from pyggml.compat.llama_cpp.sampled import settings_of
from pyggml.completion import Completion
from pyggml.engine.prompts import read_prompt
from pyggml.errors import ArgumentError, PyggmlError, UnsupportedError

_COMPLETION: dict[str, Any] = {
    "suffix": None, "max_tokens": 16, "temperature": 0.8, "top_p": 0.95, "min_p": 0.05, "typical_p": 1.0, "logprobs": None,
    "echo": False, "stop": [], "frequency_penalty": 0.0, "presence_penalty": 0.0, "repeat_penalty": 1.0, "top_k": 40,
    "stream": False, "seed": None, "tfs_z": 1.0, "mirostat_mode": 0, "mirostat_tau": 5.0, "mirostat_eta": 0.1,
    "model": None, "stopping_criteria": None, "logits_processor": None, "grammar": None, "logit_bias": None,
}  # fmt: skip
_CHAT: dict[str, Any] = {
    **{name: value for name, value in _COMPLETION.items() if name not in ("suffix", "echo", "stopping_criteria")},
    "functions": None, "function_call": None, "tools": None, "tool_choice": None, "temperature": 0.2, "max_tokens": None,
    "response_format": None, "logprobs": None, "top_logprobs": None,
}  # fmt: skip
_SAMPLED = ("temperature", "top_p", "min_p", "typical_p", "frequency_penalty", "presence_penalty", "repeat_penalty", "top_k",
            "tfs_z", "mirostat_mode", "mirostat_tau", "mirostat_eta")  # fmt: skip


class Stream(Protocol):
    """A text as it is made."""

    result: Completion | None

    def parts(self) -> Iterator[Part]:
        """Its pieces."""
        ...

    def close(self) -> None:
        """Ends it early."""
        ...


def _known(call: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    strange = [name for name in given if name not in defaults]
    if strange:
        raise keywords.unknown(call, strange, list(defaults))
    return {**defaults, **given}


def _settings(
    llama: Known, call: str, how: Mapping[str, Any], logprobs: int | None, stop: Sequence[str]
) -> dict[str, Any]:
    """Settings of a generation."""
    most = whole_or_none("max_tokens", how["max_tokens"], -(2**63))
    made = settings_of(call, {name: how[name] for name in _SAMPLED})
    made |= {"max_tokens": None if most is None or most <= 0 else most, "stop": list(stop), "logprobs": logprobs,
             "seed": llama.next_seed(how["seed"]), "repeat_last_n": llama._how.last_n}  # fmt: skip
    if llama._how.draft is not None:
        made["draft"] = llama._how.draft
    if how["logit_bias"]:
        made["logit_bias"] = how["logit_bias"]
    return made | _hook(llama, how) | _grammar(how["grammar"], how.get("response_format"))


def _grammar(grammar: LlamaGrammar | None, wanted: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings of a grammar."""
    found: dict[str, Any] = {}
    if grammar is not None:
        expected = "a LlamaGrammar, as LlamaGrammar.from_string(text) makes it"
        found = dict(instance("grammar", grammar, LlamaGrammar, expected).settings)
    given = {} if wanted is None else mapping("response_format", wanted)
    kind = given.get("type")
    if found and kind not in (None, "text"):
        raise ArgumentError("grammar and response_format are given: an answer can follow one of them")
    if kind == "json_object":
        found = {"schema": given.get("schema") or {"type": "object"}}
    elif kind == "json_schema":
        named = mapping("response_format['json_schema']", given.get("json_schema"))
        if "schema" not in named:
            raise ArgumentError(
                "response_format has no schema: it looks like "
                '{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}'
            )
        found = {"schema": named["schema"]}
    elif kind not in (None, "text"):
        raise ArgumentError(f"response_format: type must be text, json_object or json_schema, got {kind!r:.60}")
    return found


def choose(
    llama: Known, sampler: _native.Sampler, row: NDArray[np.single], processors: Sequence[LogitsProcessor] | None,
    grammar: LlamaGrammar | None,
) -> int:  # fmt: skip
    """A token of logits that the caller's functions have seen."""
    if grammar is not None:
        raise UnsupportedError("grammar= is not taken token by token: create_completion(grammar=...) takes it")
    return int(sampler.next(_processed(processors or (), llama.input_ids, row)))


def _processed(
    processors: Sequence[LogitsProcessor], ids: NDArray[np.intc], row: NDArray[np.single]
) -> NDArray[np.single]:
    shape = row.shape
    for each in processors:
        row = np.ascontiguousarray(each(ids, row.copy()), np.single)
        if row.shape != shape:
            raise ArgumentError(f"a logits processor gave shape {row.shape}, expected {shape}")
    return row


def _functions(name: str, given: object) -> list[Callable[..., Any]]:
    """A function, or a list of them."""
    found = given if isinstance(given, list | tuple) else [] if given is None else [given]
    for each in found:
        if not callable(each):
            raise wrong_type(name, "a function or a list of functions", each)
    return list(found)


def _hook(llama: Known, how: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's functions as the setting of a generation: those that end a text leave nothing but its end."""
    processors = _functions("logits_processor", how["logits_processor"])
    criteria = _functions("stopping_criteria", how.get("stopping_criteria"))
    if not processors and not criteria:
        return {}
    ends = sorted(llama._tokenizer.eog_ids)
    if criteria and not ends:
        raise UnsupportedError("stopping_criteria need a vocabulary with a token that ends a text")

    def hook(ids: list[int], row: NDArray[np.single]) -> NDArray[np.single]:
        told = np.asarray(ids, np.intc)
        if any(each(told, row.copy()) for each in criteria):
            row[:] = -np.inf
            row[ends[0]] = 0
            return row
        return _processed(processors, told, row)

    return {"logits_hook": hook}


# ---- completions ---------------------------------------------------------------------------------------------------


def complete(llama: Known, prompt: str | Sequence[int], given: Mapping[str, Any]) -> Answer | Iterator[Answer]:
    """create_completion."""
    how = _known("create_completion", given, _COMPLETION)
    if how["suffix"]:
        raise UnsupportedError(
            "suffix= (filling in the middle) is not built in; write the model's own marks into the prompt"
        )
    if how["echo"] and how["logprobs"] is not None:
        raise UnsupportedError("echo=True with logprobs: m.score(text) of pyggml has the log-probabilities of a prompt")
    m = llama.pyggml_model
    stop = [text for text in texts("stop", how["stop"] or [], or_one=True) if text]
    found = read_prompt("prompt", prompt)
    ids = m.tokenize(found) if isinstance(found, str) else found
    before = found if isinstance(found, str) else m.detokenize(ids)
    settings = _settings(llama, "create_completion", how, how["logprobs"], stop)
    head = Head(how["model"] or llama.model_path)
    if not how["stream"]:
        return _completion(head, m.generate(ids, **settings), before, how["echo"])
    return _completion_chunks(head, m.stream(ids, **settings), before)


def _finished(stream: Stream) -> Completion:
    for _ in stream.parts():
        pass
    if stream.result is None:
        raise PyggmlError("the text ended before it began")
    return stream.result


def _completion(head: Head, done: Completion, before: str, echo: bool) -> Answer:
    logprobs = None if done.logprobs is None else logprobs_of(done.logprobs, len(before))
    text = before + done.text if echo else done.text
    return head.text(text, done.finish_reason, logprobs, usage=usage_of(done))


def _completion_chunks(head: Head, stream: Stream, before: str) -> Iterator[Answer]:
    try:
        for part in stream.parts():
            yield head.text(part.text, None)
        done = _finished(stream)
        logprobs = None if done.logprobs is None else logprobs_of(done.logprobs, len(before))
        yield head.text("", done.finish_reason, logprobs)
    finally:
        stream.close()


# ---- chats ---------------------------------------------------------------------------------------------------------


def chat(llama: Known, messages: Sequence[Any], given: Mapping[str, Any]) -> Answer | Iterator[Answer]:
    """create_chat_completion."""
    how = _known("create_chat_completion", given, _CHAT)
    if llama.chat_handler is not None:
        found: Answer | Iterator[Answer] = llama.chat_handler(llama=llama, messages=messages, **how)
        return found
    m = llama.pyggml_model
    template, stop = _format(llama)
    stop = (*texts("stop", how["stop"] or [], or_one=True), *stop)
    logprobs = (how["top_logprobs"] or 0) if how["logprobs"] else None
    settings = _settings(llama, "create_chat_completion", how, logprobs, [text for text in stop if text])
    tools, choice = _tools(how)
    head = Head(how["model"] or llama.model_path)
    answer: Callable[..., Any] = m.chat
    answered: Completion | Stream = answer(
        messages, template=template, tools=tools, tool_choice=choice, stream=bool(how["stream"]), **settings
    )
    if isinstance(answered, Completion):
        said = None if answered.logprobs is None else chat_logprobs_of(answered.logprobs)
        return head.chat(answered.finish_reason, said, message=message_of(answered), usage=usage_of(answered))
    return _chat_chunks(head, answered)


def _format(llama: Known) -> tuple[str | None, tuple[str, ...]]:
    """(template, ends): chat_format's, the file's own, or llama-2's, as llama_cpp falls back."""
    if llama.chat_format is not None:
        return chat_formats.named(llama.chat_format)
    if "tokenizer.chat_template" in llama.metadata:
        return None, ()
    return chat_formats.named("llama-2")


def _tools(how: Mapping[str, Any]) -> tuple[Any, Any]:
    """Tools and which must be called, of the older keywords too."""
    tools, choice = how["tools"], how["tool_choice"]
    if how["functions"] is not None:
        tools = [{"type": "function", "function": each} for each in list_of("functions", how["functions"])]
    if how["function_call"] is not None:
        choice = how["function_call"]
    return tools, "auto" if choice is None else choice


def _chat_chunks(head: Head, stream: Stream) -> Iterator[Answer]:
    try:
        yield head.chat(None, delta={"role": "assistant"})
        for delta in deltas_of(stream.parts()):
            yield head.chat(None, delta=delta)
        done = _finished(stream)
        said = None if done.logprobs is None else chat_logprobs_of(done.logprobs)
        yield head.chat(done.finish_reason, said, delta={})
    finally:
        stream.close()
