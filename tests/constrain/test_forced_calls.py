# ruff: noqa: E501 - calls stand on one line
"""tool_choice "required" or a name: whatever the model, the answer is a call whose arguments follow the schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from model import tiny

import pyggml
from pyggml.chat.functions import read_tools
from pyggml.chat.tools.bodies import read
from pyggml.chat.tools.forcing import form, lark
from pyggml.chat.tools.formats import FRAMES
from pyggml.chat.tools.reader import CallReader
from pyggml.errors import ArgumentError, GrammarError, UnsupportedError

pytest.importorskip("llguidance", reason="NO LLGUIDANCE: pip install 'pyggml[constrain]'")

TOKENS = [
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|call|>",
]
ASKS = [{"role": "user", "content": "Rome?"}]
SHOWS = "{{% for t in tools %}}{{{{ t.function.name }}}}{{% endfor %}}{{{{ messages[0].content }}}}{0}"


def weather(city: Literal["Rome", "Oslo"], days: Literal[1, 2] = 1) -> None:
    """The weather."""


def add(a: bool) -> None:
    """Adds."""


@pytest.fixture(scope="module", params=["control", "plain"])
def m(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pyggml.Model]:
    """Random weights over bytes; the marks of calls are control tokens, or text."""
    more = TOKENS if request.param == "control" else []
    tokens = [*tiny.byte_tokens(), "<s>", "</s>", *more, "th"]
    extra = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": ["t h"],
        "tokenizer.ggml.token_type": [1] * 256 + [3] * (2 + len(more)) + [1],
    }
    path: Path = tmp_path_factory.mktemp("forced") / "x.gguf"
    tiny.write(path, n_vocab=len(tokens), extra=extra, n_ctx=512)
    with pyggml.load(path) as model:
        yield model


FAMILIES = [
    "<tool_call>",
    "[TOOL_CALLS]",
    "[TOOL_CALLS][ARGS]",
    "<|python_tag|>",
    "<function=",
    "<|tool_call>",
    "functools[",
]


@pytest.mark.parametrize("shown", FAMILIES)
@pytest.mark.parametrize("choice", ["required", "weather", {"type": "function", "function": {"name": "add"}}])
def test_an_answer_is_a_call(m: pyggml.Model, shown: str, choice: Any) -> None:
    name = choice["function"]["name"] if isinstance(choice, dict) else choice
    for seed in range(3):
        how: dict[str, Any] = {
            "tools": [weather, add],
            "tool_choice": choice,
            "template": SHOWS.format("{# " + shown + " #}"),
        }
        c = m.chat(ASKS, **how, temperature=2.0, top_k=0, seed=seed)
        assert (c.text, c.finish_reason) == ("", "tool_calls")
        (call,) = c.tool_calls
        assert call.name == name or name == "required"
        if call.name == "weather":
            assert call.arguments["city"] in ("Rome", "Oslo")
            assert call.arguments.get("days", 1) in (1, 2)
        else:
            assert call.arguments["a"] in (True, False)


def test_reasoning_comes_before(m: pyggml.Model) -> None:
    template = SHOWS.format("{# <tool_call> </think> #}<think>")
    c = m.chat(ASKS, tools=[add], tool_choice="required", template=template, temperature=2.0, seed=1, thinking_budget=4)
    assert c.reasoning
    assert [call.name for call in c.tool_calls] == ["add"]


def test_channels(m: pyggml.Model) -> None:
    template = SHOWS.format("{# <|channel|> <|message|> #}<|start|>assistant")
    for choice, tools in (("add", [add, weather]), ("required", [add])):
        c = m.chat(ASKS, tools=tools, tool_choice=choice, template=template, temperature=2.0, seed=1)
        assert [call.name for call in c.tool_calls] == ["add"]
        assert c.finish_reason == "tool_calls"
    with pytest.raises(UnsupportedError, match="begins with the tool's name; give one name"):
        m.chat(ASKS, tools=[add, weather], tool_choice="required", template=template)


def test_what_cannot_be_forced(m: pyggml.Model) -> None:
    template = SHOWS.format("{# <tool_call> #}")
    with pytest.raises(ArgumentError, match=r"regex= and tool_choice='add' are given"):
        m.chat(ASKS, tools=[add], tool_choice="add", template=template, regex="a")
    with pytest.raises(ArgumentError, match=r"regex= and tools= are given: .* say tool_choice='none'"):
        m.chat(ASKS, tools=[add], template=template, regex="a")
    odd = {"name": "odd", "parameters": {"type": "object", "properties": {"x": {"not": {"type": "string"}}}}}
    with pytest.raises(GrammarError, match="properties/x/not"):
        m.chat(ASKS, tools=[odd], tool_choice="odd", template=template)
    assert m.chat(ASKS, tools=[odd], template=template, max_tokens=1)  # read back, never forced
    c = m.chat(ASKS, tools=[weather], tool_choice="weather", template=template, max_tokens=5)
    assert (c.finish_reason, c.tool_calls) == ("length", [])


def test_every_frame_reads_what_it_writes() -> None:
    tools = read_tools([weather, add])
    assert tools is not None
    for frame in FRAMES:
        for shown in ("", "[ARGS]"):
            text = form(frame, shown).replace("{name}", "add").replace("\0", '{"a": true}')
            reader = CallReader([frame], tools.parameters)
            parts = [part for char in text for part in reader.push(char)] + reader.finish()
            assert [(call.name, call.arguments) for call in reader.calls] == [("add", {"a": True})], frame.open
            assert not [part for part in parts if part.kind == "text"]
    assert read("add()", tools.parameters)
    chosen = tools._replace(choice="add")
    made = lark((FRAMES[1],), "", chosen, True, lambda text: [text], {"add": {}})
    assert made.splitlines()[1] == 'call_0: "\\n{\\"name\\": \\"add\\", \\"arguments\\": " args_0 "}\\n</tool_call>"'
