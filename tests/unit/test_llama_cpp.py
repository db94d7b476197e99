# ruff: noqa: E501 - calls stand on one line
"""llama-cpp-python's interface over this package: its README's examples, its shapes, and what is refused by name."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyggml
from pyggml.compat import llama_cpp as ours
from pyggml.compat.llama_cpp import (
    Llama,
    LlamaGrammar,
    LlamaRAMCache,
    LogitsProcessorList,
    MinTokensLogitsProcessor,
    StoppingCriteriaList,
    chat_formats,
    verdicts,
)
from pyggml.errors import ArgumentError, ArgumentTypeError, ContextFull, PyggmlError, UnsupportedError
from pyggml.model import BUNDLED

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "Once upon a time"
ASKS = [{"role": "user", "content": "A story, please."}]


@pytest.fixture(scope="module")
def llm() -> Iterator[Llama]:
    with Llama(model_path=str(BUNDLED), n_ctx=256, seed=1337, verbose=False) as model:
        yield model


def text_of(answer: Any) -> str:
    return str(answer["choices"][0]["text"])


def test_a_completion(llm: Llama) -> None:
    output = llm(PROMPT, max_tokens=32, stop=["Q:", "\n"], echo=True, temperature=0)
    assert isinstance(output, dict)
    assert output["id"].startswith("cmpl-")
    assert output["object"] == "text_completion"
    assert output["model"] == str(BUNDLED)
    assert set(output) == {"id", "object", "created", "model", "choices", "usage"}
    (choice,) = output["choices"]
    assert set(choice) == {"text", "index", "logprobs", "finish_reason"}
    assert choice["text"].startswith(PROMPT)
    assert "\n" not in choice["text"]
    assert output["usage"]["total_tokens"] == output["usage"]["prompt_tokens"] + output["usage"]["completion_tokens"]
    json.dumps(output)
    assert text_of(llm.create_completion(PROMPT, max_tokens=8, temperature=0)) == text_of(
        llm(llm.tokenize(PROMPT.encode()), max_tokens=8, temperature=0)
    )


def test_a_completion_in_chunks(llm: Llama) -> None:
    whole = llm(PROMPT, max_tokens=12, temperature=0)
    chunks = list(llm(PROMPT, max_tokens=12, temperature=0, stream=True))
    assert "".join(map(text_of, chunks)) == text_of(whole)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "length"
    assert {chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]} == {None}
    assert len({chunk["id"] for chunk in chunks}) == 1
    begun = iter(llm(PROMPT, stream=True))
    next(begun)
    begun.close()  # type: ignore[attr-defined]


def test_log_probabilities(llm: Llama) -> None:
    output = llm(PROMPT, max_tokens=4, temperature=0, logprobs=2)
    assert isinstance(output, dict)
    found = output["choices"][0]["logprobs"]
    assert "".join(found["tokens"]) == text_of(output)
    assert found["text_offset"][0] == len(PROMPT)
    for token, logprob, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        assert top[token] == logprob == max(top.values())


def test_a_chat(llm: Llama) -> None:
    answer = llm.create_chat_completion(messages=ASKS, max_tokens=8, temperature=0, logprobs=True, top_logprobs=1)
    assert isinstance(answer, dict)
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    message = answer["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert len(answer["choices"][0]["logprobs"]["content"]) == 8
    chunks = list(llm.create_chat_completion(messages=ASKS, max_tokens=8, temperature=0, stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant"}
    assert deltas[-1] == {}
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_the_openai_package_takes_it(llm: Llama) -> None:
    pytest.importorskip("openai")
    answer = llm.create_chat_completion_openai_v1(messages=ASKS, max_tokens=4, temperature=0)
    assert answer.choices[0].message.role == "assistant"
    chunks = list(llm.create_chat_completion_openai_v1(messages=ASKS, max_tokens=4, temperature=0, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"


def test_handlers_and_formats(llm: Llama) -> None:
    seen: dict[str, Any] = {}

    def handler(**how: Any) -> dict[str, Any]:
        seen.update(how)
        return {"mine": True}

    with Llama(str(BUNDLED), chat_handler=handler) as other:
        assert other.create_chat_completion(ASKS, temperature=0.5) == {"mine": True}
        assert (seen["llama"], seen["messages"], seen["temperature"]) == (other, ASKS, 0.5)
    with Llama(str(BUNDLED), chat_format="{{ messages[0].content }}") as other:
        chat = other.create_chat_completion(ASKS, max_tokens=5, temperature=0)
        plain = other.create_completion(str(ASKS[0]["content"]), max_tokens=5, temperature=0)
        assert isinstance(chat, dict)
        assert chat["usage"] == plain["usage"]  # type: ignore[index]
    with pytest.raises(ArgumentError, match="chat_format 'obsidian' is not built in: it has chatml"):
        Llama(str(BUNDLED), chat_format="obsidian").create_chat_completion(ASKS)


def test_tokens(llm: Llama) -> None:
    ids = llm.tokenize(PROMPT.encode())
    assert ids[0] == llm.token_bos()
    assert llm.tokenize(PROMPT.encode(), add_bos=False) == ids[1:]
    assert llm.detokenize(ids) == PROMPT.encode()
    assert llm.detokenize(ids[2:], prev_tokens=ids[:2]) == PROMPT.encode()[len(llm.detokenize(ids[:2])) :]
    assert llm.tokenizer().decode(ids) == PROMPT
    assert b"" == llm.detokenize([llm.token_eos()]) != llm.detokenize([llm.token_eos()], special=True)
    assert (llm.n_ctx(), llm.n_vocab()) == (256, llm.pyggml_model.n_vocab)
    assert llm.n_embd() == llm.pyggml_model.config.n_embd
    with pytest.raises(ArgumentError, match="takes bytes"):
        llm.tokenize(PROMPT)  # type: ignore[arg-type]


def test_token_by_token(llm: Llama) -> None:
    """The loop of its README's low-level part, and that what was read is not read again."""
    llm.reset()
    ids = llm.tokenize(PROMPT.encode())
    made: list[int] = []
    for token in llm.generate(ids, top_k=40, top_p=0.95, temp=0, repeat_penalty=1.0):
        made.append(token)
        if len(made) == 8:
            break
    assert llm.detokenize(made).decode() == text_of(llm(PROMPT, max_tokens=8, temperature=0))
    assert llm.input_ids.tolist() == [*ids, *made[:-1]] == list(llm.eval_tokens)
    llm.eval(made[-1:])
    assert llm.n_tokens == len(ids) + 8
    assert llm.scores.shape == (1, llm.n_vocab())
    assert llm.sample(temp=0) == int(llm.scores[-1].argmax())
    sent = llm.generate(ids, temp=0)
    next(sent)
    sent.send(ids[1:3])  # type: ignore[attr-defined]
    assert llm.input_ids.tolist() == [*ids, made[0], *ids[1:3]]


def test_states(llm: Llama) -> None:
    ids = llm.tokenize(PROMPT.encode())
    llm.reset()
    llm.eval(ids)
    state = pickle.loads(pickle.dumps(llm.save_state()))
    after = []
    for token in llm.generate(ids, temp=0):
        after.append(token)
        if len(after) == 4:
            break
    with Llama(str(BUNDLED), n_ctx=256) as other:
        other.load_state(state)
        assert other.n_tokens == len(ids)
        assert other.sample(temp=0) == after[0]
        other.eval(after[:1])
        assert other.sample(temp=0) == after[1]
    cache = LlamaRAMCache(capacity_bytes=2 * state.llama_state_size)
    cache[ids] = state
    assert ids in cache
    assert cache[[*ids, 5]] is state
    cache[ids[:-1]] = state
    cache[[7, 8]] = state
    assert cache.cache_size <= cache.capacity_bytes
    llm.set_cache(cache)
    with pytest.raises(KeyError):
        LlamaRAMCache()[ids]


def test_logits_of_every_token() -> None:
    with Llama(str(BUNDLED), n_ctx=64, logits_all=True) as llm:
        ids = llm.tokenize(PROMPT.encode())
        llm.eval(ids)
        np.testing.assert_array_equal(llm.scores, llm.pyggml_model.logits(ids))
        assert llm.sample(temp=0, idx=1) == int(llm.scores[1].argmax())
        logprobs = Llama.logits_to_logprobs(llm.scores)
        np.testing.assert_allclose(np.exp(logprobs).sum(-1), 1, rtol=1e-4)


def test_functions_of_the_caller(llm: Llama) -> None:
    wanted = llm.tokenize(b"king", add_bos=False)[-1]
    seen = []

    def only(ids: Any, scores: Any) -> Any:
        seen.append((len(ids), scores.shape))
        scores[:] = -np.inf
        scores[wanted] = 0
        return scores

    output = llm(PROMPT, max_tokens=3, logits_processor=LogitsProcessorList([only]))
    assert isinstance(output, dict)
    assert text_of(output) == llm.detokenize([wanted] * 3).decode()
    n = len(llm.tokenize(PROMPT.encode()))
    chat = llm.create_chat_completion(ASKS, max_tokens=3, logits_processor=LogitsProcessorList([only]))
    assert isinstance(chat, dict)
    assert chat["choices"][0]["message"]["content"].strip() == text_of(output).strip()
    assert seen[:3] == [(n + i, (llm.n_vocab(),)) for i in range(3)]
    stops = StoppingCriteriaList([lambda ids, logits: len(ids) >= n + 2])
    for streams in (False, True):
        output = llm(PROMPT, max_tokens=9, temperature=0, stopping_criteria=stops, stream=streams)
        chunks = [output] if isinstance(output, dict) else list(output)
        assert "".join(map(text_of, chunks)) == text_of(llm(PROMPT, max_tokens=2, temperature=0))
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    least = LogitsProcessorList([MinTokensLogitsProcessor(4, llm.token_eos())])
    bias = {llm.token_eos(): 100.0}
    assert llm(PROMPT, max_tokens=9, temperature=0, logit_bias=bias)["usage"]["completion_tokens"] == 0  # type: ignore[index]
    assert len(llm.tokenize(text_of(llm(PROMPT, max_tokens=3, temperature=0, logits_processor=least)).encode())) > 1
    with pytest.raises(ArgumentError, match="a logits processor gave shape"):
        llm(PROMPT, logits_processor=[lambda ids, scores: scores[:5]])


def test_seeds(llm: Llama) -> None:
    def text(**how: Any) -> str:
        return text_of(llm(PROMPT, max_tokens=12, temperature=1.5, **how))

    assert text(seed=5) == text(seed=5)
    llm.set_seed(7)
    first, second = text(), text()
    llm.set_seed(7)
    assert (text(), text()) == (first, second)
    assert first != second


def test_vectors(llm: Llama) -> None:
    with Llama(str(BUNDLED), embedding=True, pooling_type=ours.LLAMA_POOLING_TYPE_MEAN) as other:
        one = other.embed(PROMPT)
        many, n = other.embed([PROMPT, "a cat"], normalize=True, return_count=True)
        assert len(one) == other.n_embd() == len(many[1])
        assert n == len(other.tokenize(PROMPT.encode())) + len(other.tokenize(b"a cat"))
        assert np.linalg.norm(many[0]) == pytest.approx(1)
        made = other.create_embedding(["a", "b"])
        assert [each["index"] for each in made["data"]] == [0, 1]
        json.dumps(made)
        assert other.pooling_type() == 1
    assert llm.pooling_type() == 0
    assert np.shape(llm.embed("a cat")) == (len(llm.tokenize(b"a cat")), llm.n_embd())
    with pytest.raises(ContextFull):
        llm.embed("cat " * 400, truncate=False)
    assert len(llm.embed("cat " * 400)) == llm.n_ctx()


def test_tools(llm: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    call = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
    seen: dict[str, Any] = {}

    def chat(self: object, messages: object, **how: Any) -> Any:
        seen.update(how)
        from pyggml.chat.functions import read_tools
        from pyggml.chat.tools.formats import ANY
        from pyggml.chat.tools.reader import CallReader
        from pyggml.completion import Completion, Timings, Usage

        tools = read_tools(how["tools"])
        reader = CallReader([ANY], tools.parameters if tools else {})
        parts = [part for char in call for part in reader.push(char)] + reader.finish()
        done = Completion("", [], "tool_calls", Usage(1, 1, 2), Timings(0, 0, 0, 0), None, "Hm.", reader.calls)

        class Stream:
            result = done

            def parts(self) -> Iterator[Any]:
                yield from parts
                parts.clear()

            def close(self) -> None:
                pass

        return Stream() if how["stream"] else done

    monkeypatch.setattr(pyggml.Model, "chat", chat)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    answer = llm.create_chat_completion(ASKS, tools=tools, tool_choice="auto")
    assert isinstance(answer, dict)
    message = answer["choices"][0]["message"]
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x": 1}'}
    assert message["reasoning_content"] == "Hm."
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    chunks = list(llm.create_chat_completion(ASKS, tools=tools, stream=True))
    deltas = [each for chunk in chunks for each in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert deltas[0] == {
        "index": 0,
        "id": deltas[0]["id"],
        "type": "function",
        "function": {"name": "f", "arguments": "{"},
    }
    assert "".join(each["function"]["arguments"] for each in deltas) == '{"x": 1}'
    llm.create_chat_completion(ASKS, functions=[tools[0]["function"]], function_call={"name": "f"})
    assert (seen["tools"], seen["tool_choice"]) == (tools, {"name": "f"})


# ---- what is not here ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how, message",
    [
        ({"lora_path": "x.gguf"}, r"lora_path='x.gguf'\) is not taken: adapters"),
        ({"draft_model": len}, "draft_model=.* is not taken"),
        ({"rope_freq_scale": 0.5}, "what the file says is used"),
        ({"type_k": 8}, "keys and values have one type"),
        ({"pooling_type": 4}, "ranks"),
    ],
)
def test_parameters_that_are_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        Llama(str(BUNDLED), **how)


def test_parameters_that_do_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        Llama(
            str(BUNDLED), n_gpu_layers=-1, n_batch=64, flash_attn=True, rope_freq_scale=0.0, n_ctx=0, type_k=8, type_v=8
        ) as llm,
    ):
        assert llm.pyggml_model.kv_type == "q8_0"
        assert llm.n_ctx() == 512
        again = pickle.loads(pickle.dumps(llm))
        assert again.pyggml_model.kv_type == "q8_0"
        again.close()
    assert "n_gpu_layers" in caplog.text
    with pytest.raises(ArgumentTypeError, match=r"Llama\(\) has no argument 'n_context'"):
        Llama(str(BUNDLED), n_context=5)
    with pytest.raises(PyggmlError):
        Llama("nowhere.gguf")


def test_calls_that_are_refused(llm: Llama) -> None:
    for how, message in (
        ({"suffix": "x"}, "filling in the middle"),
        ({"tfs_z": 0.5}, "tfs_z is not built in"),
        ({"echo": True, "logprobs": 1}, "echo=True with logprobs"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            llm(PROMPT, **how)
    with pytest.raises(ArgumentTypeError, match=r"create_completion\(\) has no argument 'max_token'"):
        llm(PROMPT, max_token=5)
    with pytest.raises(AttributeError, match="there is no context of"):
        _ = llm.ctx
    with pytest.raises(ArgumentError, match="eval"):
        llm.reset()
        llm.sample()
    with pytest.raises(ArgumentError, match="type must be text"):
        llm.create_chat_completion(ASKS, response_format={"type": "xml"})


def test_drafts(llm: Llama) -> None:
    from pyggml.compat.llama_cpp.llama_speculative import LlamaPromptLookupDecoding

    expected = text_of(llm(PROMPT, max_tokens=40, temperature=0))
    for draft in (LlamaPromptLookupDecoding(num_pred_tokens=2), llm):
        with Llama(str(BUNDLED), n_ctx=256, draft_model=draft) as other:
            assert text_of(other(PROMPT, max_tokens=40, temperature=0)) == expected


def test_grammars(llm: Llama, tmp_path: Path) -> None:
    pytest.importorskip("llguidance", reason="NO LLGUIDANCE: pip install 'pyggml[constrain]'")
    text = 'root ::= "true" | "false"'
    (tmp_path / "x.gbnf").write_text(text)
    for grammar in (LlamaGrammar.from_string(text), LlamaGrammar.from_file(tmp_path / "x.gbnf")):
        assert text_of(llm(PROMPT, grammar=grammar, max_tokens=9)) in ("true", "false")
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    made = llm(PROMPT, grammar=LlamaGrammar.from_json_schema(json.dumps(schema)), max_tokens=40)
    assert json.loads(text_of(made)) in ({"a": 1}, {"a": 2})
    for wanted in (
        {"type": "json_object", "schema": schema},
        {"type": "json_schema", "json_schema": {"schema": schema}},
    ):
        answer = llm.create_chat_completion(ASKS, response_format=wanted, max_tokens=60)
        assert isinstance(answer, dict)
        assert json.loads(answer["choices"][0]["message"]["content"]) in ({"a": 1}, {"a": 2})


def test_names_that_are_refused() -> None:
    for name in (
        "Llava15ChatHandler",
        "llama_decode",
        "ChatCompletionChunk",
        "LlamaDiskCache",
    ):
        with pytest.raises(AttributeError, match=f"has no '{name}': ."):
            getattr(ours, name)
    assert ours.LLAMA_SPLIT_MODE_LAYER == 1
    with pytest.raises(ImportError):
        importlib.import_module("pyggml.compat.llama_cpp.llava_cpp")


def test_the_table_is_printed_from_the_verdicts() -> None:
    path = ROOT / "docs" / "LLAMA_CPP.md"
    if not path.exists():
        pytest.skip("NO DOCS: only the installed package is here")
    assert path.read_text("utf-8") == verdicts.table()
    for name, each in verdicts.NAMES.items():
        assert hasattr(ours, name) == each.here, name
    for name, each in verdicts.METHODS.items():
        assert hasattr(Llama, name) == each.here, name


def test_vocab_only(shared: Path) -> None:
    """Its own test-suite's first test."""
    with Llama(str(shared / "vocab" / "ggml-vocab-llama-spm.gguf"), vocab_only=True, verbose=False) as llm:
        assert llm.tokenize(b"Hello World") == [1, 15043, 2787]
        assert llm.detokenize([1, 15043, 2787]) == b"Hello World"
        assert llm.tokenize(b"Hello World", add_bos=False) == [15043, 2787]
        assert llm.detokenize([15043, 2787]) != b"Hello World"
        assert llm.tokenize(b"Hello World</s>") == [1, 15043, 2787, 829, 29879, 29958]
        assert llm.tokenize(b"Hello World</s>", special=True) == [1, 15043, 2787, 2]
        assert llm.tokenize(b"", add_bos=True, special=True) == [1]
        with pytest.raises(UnsupportedError, match="vocab_only"):
            llm("x")


# ---- beside the real package ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_name_of_the_package_has_a_verdict() -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    public = [name for name in dir(llama_cpp) if name[0] != "_" and not inspect.ismodule(getattr(llama_cpp, name))]
    own = [name for name in public if getattr(getattr(llama_cpp, name), "__module__", "").startswith("llama_cpp")]
    assert [name for name in own if verdicts.verdict_of(name) is None] == []
    parameters = set(inspect.signature(llama_cpp.Llama.__init__).parameters) - {"self", "kwargs"}
    assert parameters == set(verdicts.PARAMETERS)
    methods = {name for name in dir(llama_cpp.Llama) if name[0] != "_"} | {"__call__"}
    assert methods == set(verdicts.METHODS)
    for name, number in verdicts.CONSTANTS.items():
        assert getattr(llama_cpp, name) == number, name


@pytest.mark.slow
@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("n", [1, 3])
def test_formats_print_what_the_package_prints(system: bool, n: int) -> None:
    theirs = pytest.importorskip("llama_cpp.llama_chat_format")
    functions = {"chatml": "format_chatml", "qwen": "format_qwen", "zephyr": "format_zephyr", "openchat": "format_openchat",
                 "alpaca": "format_alpaca", "llama-2": "format_llama2", "llama-3": "format_llama3", "vicuna": "format",
                 "gemma": "format_gemma", "mistral-instruct": "format_mistral_instruct"}  # fmt: skip
    assert set(functions) == set(chat_formats.FORMATS)
    talk = [{"role": "system", "content": "Be kind."}] * system
    talk += [{"role": ("user", "assistant")[i % 2], "content": f"Text {i}."} for i in range(n)]
    with Llama(str(BUNDLED)) as llm:
        for name, function in functions.items():
            found = getattr(theirs, function)(messages=talk)
            template, stop = chat_formats.named(name)
            assert llm.pyggml_model.render_chat(talk, template=template) == found.prompt, name
            stops = found.stop if isinstance(found.stop, list) else [found.stop] if found.stop else []
            assert list(stop) == stops, name


@pytest.mark.slow
def test_answers_have_the_shapes_of_the_package(llama_cpp: Any) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(each) for key, each in value.items()}
        if isinstance(value, list):
            return [shape(each) for each in value[:1]]
        return type(value).__name__

    with Llama(str(BUNDLED), n_ctx=256, logits_all=True) as llm:
        other = llama_cpp.Llama(str(BUNDLED), n_ctx=256, logits_all=True, verbose=False, embedding=False)
        same: Any = {"max_tokens": 6, "temperature": 0}
        ours_, theirs = (each(PROMPT, **same, logprobs=2) for each in (llm, other))
        assert shape({**ours_, "choices": []}) == shape({**theirs, "choices": []})
        assert text_of(ours_) == text_of(theirs)
        assert ours_["usage"] == theirs["usage"]
        logs, their_logs = ours_["choices"][0]["logprobs"], theirs["choices"][0]["logprobs"]
        assert logs.keys() == their_logs.keys()
        assert logs["tokens"] == their_logs["tokens"]
        np.testing.assert_allclose(logs["token_logprobs"], their_logs["token_logprobs"], atol=0.1)
        chunks, their_chunks = (list(each(PROMPT, **same, stream=True)) for each in (llm, other))
        assert [shape(chunk) for chunk in chunks] == [shape(chunk) for chunk in their_chunks]
        chat, their_chat = (each.create_chat_completion(ASKS, **same) for each in (llm, other))
        assert shape(chat) == shape(their_chat)
        assert chat["usage"] == their_chat["usage"]
        parts, their_parts = (list(each.create_chat_completion(ASKS, **same, stream=True)) for each in (llm, other))
        assert [shape(part) for part in (parts[0], parts[1], parts[-1])] == [
            shape(part) for part in (their_parts[0], their_parts[1], their_parts[-1])
        ]
        for text in (b"", b"Once", b" two  blanks", "\u00e9\u4e16".encode()):
            assert llm.tokenize(text) == other.tokenize(text)
            assert llm.tokenize(text, add_bos=False) == other.tokenize(text, add_bos=False)
            assert llm.detokenize(llm.tokenize(text)) == other.detokenize(other.tokenize(text))
        assert (llm.token_bos(), llm.token_eos(), llm.n_vocab(), llm.n_ctx()) == (
            other.token_bos(), other.token_eos(), other.n_vocab(), other.n_ctx(),
        )  # fmt: skip
        other.close()


FUNCTION = {"name": "f", "parameters": {}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_tokens": "5"}, "max_tokens must be a whole number or None, got '5'"),
        ({"temperature": "hot"}, "temperature must be a number"), ({"top_k": None, "min_p": []}, "min_p must be a number"),
        ({"logit_bias": {"a": 1.0}}, "logit_bias"), ({"grammar": "root ::= x"}, "grammar must be a LlamaGrammar"),
        ({"logit_bias": {1 << 20: 1.0}}, "logit_bias has token 1048576, which is outside the vocabulary"),
        ({"logits_processor": 5}, "logits_processor must be a function or a list of functions, got 5"),
        ({"logits_processor": [5]}, "logits_processor must be a function or a list of functions, got 5"),
        ({"stop": 5}, "stop must be"), ({"seed": "x"}, "seed must be"), ({"prompt": 5}, "prompt must be text"),
        ({"prompt": b"Once"}, "prompt must be text"), ({"prompt": ["Once"]}, "several prompts stand in one list"),
        ({"stopping_criteria": "x"}, "stopping_criteria must be a function or a list"),
        ({"response_format": "json"}, "response_format must be a dict, got 'json'"),
        ({"response_format": {"type": "json_schema"}}, r"response_format\['json_schema'\] must be a dict, got None"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format has no schema: it looks like"),
        ({"functions": 5}, "functions must be a list"), ({"functions": FUNCTION}, "functions must be a list"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(llm: Llama, given: dict[str, Any], said: str) -> None:
    of_chat = given.keys() & {"response_format", "functions"}
    with pytest.raises(ArgumentError, match=said):
        if of_chat:
            llm.create_chat_completion(ASKS, **given)
        else:
            llm.create_completion(**{"prompt": PROMPT, **given})


def test_tokens_and_states_that_cannot_be_used_are_named(llm: Llama) -> None:
    wrong: Any
    for wrong in (5, "Once", ["Once"], b"Once"):
        for call in (llm.eval, lambda tokens: next(llm.generate(tokens))):
            with pytest.raises(ArgumentTypeError, match="tokens must be"):
                call(wrong)
    for wrong in (5, b"Once", [5]):
        with pytest.raises(ArgumentTypeError, match="input"):
            llm.create_embedding(wrong)
    with pytest.raises(ArgumentTypeError, match="state must be a LlamaState"):
        llm.load_state(wrong)


def test_one_function_is_as_good_as_a_list(llm: Llama) -> None:
    want = llm(PROMPT, max_tokens=4, temperature=0)["choices"][0]["text"]
    seen: list[int] = []
    got = llm(
        PROMPT, max_tokens=4, temperature=0, logits_processor=lambda ids, row: row,
        stopping_criteria=lambda ids, row: seen.append(len(ids)),
    )  # fmt: skip
    assert got["choices"][0]["text"] == want
    assert len(seen) == 4
