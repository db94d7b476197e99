# ruff: noqa: E501 - schemas stand on one line
"""Tools as callers have them: schemas of Python functions, and a chat that is given some."""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypedDict

import pytest
from model import tiny

import pyggml
from pyggml import Completion
from pyggml.chat import docstring
from pyggml.chat.functions import Tools, read_tools, schema_of_tool
from pyggml.engine.call import Call
from pyggml.engine.generation import Request
from pyggml.errors import ArgumentError, ArgumentTypeError, TemplateError
from pyggml.schema import schema_of


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Named(TypedDict):
    name: str


class Place(Named, total=False):
    near: list[str]


@dataclass
class Box:
    width: int
    color: Color = Color.RED
    tags: list[str] = field(default_factory=list)


OBJECT = {"type": "object", "additionalProperties": False}


@pytest.mark.parametrize(
    "kind, schema",
    [
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (float, {"type": "number"}),
        (Any, {}),
        (list, {"type": "array"}),
        (list[list[int]], {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (
            tuple[int, str],
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2, "maxItems": 2},
        ),
        (int | str | None, {"type": ["integer", "string", "null"]}),
        (Optional[list[int]], {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}),  # noqa: UP045
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[1, "b"], {"enum": [1, "b"]}),
        (Color, {"type": "string", "enum": ["red", "blue"]}),
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
        (
            Place,
            {**OBJECT, "properties": {"name": {"type": "string"}, "near": {"type": "array", "items": {"type": "string"}}}, "required": ["name"]},
        ),
        (
            Box,
            {**OBJECT, "required": ["width"],
             "properties": {"width": {"type": "integer"}, "color": {"type": "string", "enum": ["red", "blue"]},
                            "tags": {"type": "array", "items": {"type": "string"}}}},
        ),
    ],
)  # fmt: skip
def test_schemas_of_types(kind: Any, schema: dict[str, Any]) -> None:
    assert schema_of(kind) == schema


@dataclass
class Itself:
    inner: Itself | None = None


@pytest.mark.parametrize("kind", [dict[int, str], 5, complex, bytes, Itself, Literal[b"x"], "list[nothing]"])
def test_types_without_a_schema(kind: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="the type"):
        schema_of(kind)


def test_pydantic() -> None:
    pydantic = pytest.importorskip("pydantic", reason="NO PYDANTIC: pip install 'pyggml[test]'")
    inner = pydantic.create_model("Inner", x=(int, ...))
    model = pydantic.create_model("Outer", __doc__="A thing.", one=(inner, ...), n=(int, 3))
    made = schema_of_tool("tools[0]", model)["function"]
    assert (made["name"], made["description"]) == ("Outer", "A thing.")
    assert made["parameters"]["$defs"]["Inner"]["properties"]["x"]["type"] == "integer"

    def use(many: list[model]) -> None:  # type: ignore[valid-type]
        """Uses them."""

    use.__annotations__["many"] = list[model]  # type: ignore[valid-type]
    parameters = schema_of_tool("tools[0]", use)["function"]["parameters"]
    assert "Inner" in parameters["$defs"]
    assert parameters["properties"]["many"]["items"]["properties"]["one"] == {"$ref": "#/$defs/Inner"}


def weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C", note: str | None = None) -> str:
    """Says the weather.

    Of a city, in words.

    Args:
        city (str): where, as in
            "Rome"
        days: for how long
        unit: of degrees: C or F
        note: anything

    Returns:
        str: a sentence
    """
    return city


def test_a_function() -> None:
    assert schema_of_tool("tools[0]", weather) == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Says the weather. Of a city, in words.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": 'where, as in "Rome"'},
                    "days": {"type": "integer", "description": "for how long"},
                    "unit": {"type": "string", "enum": ["C", "F"], "description": "of degrees: C or F"},
                    "note": {"type": "string", "description": "anything"},
                },
                "required": ["city"],
            },
        },
    }


@pytest.mark.parametrize(
    "text",
    [
        "Adds.\n\nArgs:\n    a: first\n      of two\n    b (int): second",
        "Adds.\n\n    Parameters:\n        a (int, optional): first of two\n        b: second\n\n    Raises:\n        x: y\n",
        "Adds.\n\nParameters\n----------\na : int\n    first\n    of two\nb\n    second\n\nReturns\n-------\nint\n    sum",
        "Adds.\n\n:param a: first\n    of two\n:type a: int\n:param int b: second\n:returns: sum\n",
        "Adds.\n\n@param a: first of two\n@param b: second\n@return: sum",
    ],
)
def test_docstrings(text: str) -> None:
    assert docstring.read(text) == ("Adds.", {"a": "first of two", "b": "second"})


def test_docstrings_of_all_sorts() -> None:
    assert docstring.read(None) == ("", {})
    assert docstring.read("One line: with a colon.") == ("One line: with a colon.", {})
    assert docstring.read("A.\n\nArgs:\n\nB") == ("A.", {})
    assert docstring.read("\n    Args:\n        x: y\n    ") == ("", {"x": "y"})


def test_functions_of_all_sorts() -> None:
    class Shop:
        def buy(self, what: str, *, n: int = 1, **more: int) -> None:
            """Buys."""

        def __call__(self, x: int) -> None:
            """Calls."""

        async def later(self, x: int) -> None:
            """Later."""

    shop = Shop()
    made = schema_of_tool("t", shop.buy)["function"]
    assert made["name"] == "buy"
    assert made["parameters"] == {
        "type": "object",
        "properties": {"what": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["what"],
        "additionalProperties": {"type": "integer"},
    }
    assert schema_of_tool("t", shop)["function"]["parameters"]["required"] == ["x"]
    assert schema_of_tool("t", shop.later)["function"]["description"] == "Later."
    partial = schema_of_tool("t", functools.partial(weather, "Rome"))["function"]
    assert partial["name"] == "weather"
    assert "city" not in partial["parameters"]["properties"]


def without(x):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    return x


@pytest.mark.parametrize(
    "tools, message",
    [
        ([lambda x: x], r"tools\[0\] is a lambda"),
        ([lambda: 1], "lambda"),
        ([5], r"tools\[0\] must be a function or a dict like"),
        ([{"parameters": {}}], "it has no name"),
        ([{"name": ""}], "the name is empty"),
        ([{"name": 5}], "the name must be text"),
        ([{"name": "f", "parameters": 5}], "parameters must be a JSON schema"),
        ([weather, {"name": "weather"}], r"tools\[1\] is called 'weather' as another before it"),
        (weather, "put it into a list"),
        ({"name": "f"}, "put it into a list"),
        ([max], "its parameters are not known|takes values without names|no name to callers"),
        ([print], r"\*args"),
    ],
)  # fmt: skip
def test_no_tools(tools: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        read_tools(tools)


def test_schemas_as_others_write_them() -> None:
    inner = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}}
    forms: list[Any] = [
        inner,
        {"type": "function", "function": inner},
        {"type": "function", **inner},
        {"name": "f", "description": "d", "input_schema": inner["parameters"]},
        {"name": "f", "description": "d", "parameters": {"properties": {"x": {"type": "string"}}}},
    ]
    for form in forms:
        assert schema_of_tool("t", form) == {"type": "function", "function": inner}
    assert schema_of_tool("t", {"name": "f", "strict": True})["function"]["strict"] is True
    assert schema_of_tool("t", without)["function"]["parameters"] == {
        "type": "object",
        "properties": {"x": {}},
        "required": ["x"],
    }


def test_choices() -> None:
    assert read_tools(None) is None
    assert read_tools([]) is None
    assert read_tools([weather], "none") is None
    found = read_tools([weather], None)
    assert found is not None
    assert found.choice == "auto"
    with pytest.raises(ArgumentError, match="no tools are given"):
        read_tools(None, "required")
    with pytest.raises(ArgumentError, match="or the name of a tool"):
        read_tools([weather], "wether")
    with pytest.raises(ArgumentTypeError, match="tool_choice"):
        read_tools([weather], 5)


# ---- in a chat -----------------------------------------------------------------------------------------------------

HERMES = (
    "{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    '{% for c in m.tool_calls or [] %}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": '
    "{{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
KNOWS_NO_TOOLS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
ASKS = [{"role": "user", "content": "Rome?"}]
SPECIAL = ["<tool_call>", "</tool_call>", "<|im_start|>", "<|im_end|>", "<|hidden|>"]


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pyggml.Model]:
    """A vocabulary of bytes, <s>, </s> and control tokens; its answers are nonsense, so that tests write them."""
    tokens = [*tiny.byte_tokens(), "<s>", "</s>", *SPECIAL, "th"]
    extra = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 256 + [3] * (2 + len(SPECIAL)) + [1],
        "tokenizer.ggml.merges": ["t h"],
        "tokenizer.chat_template": HERMES,
        "tokenizer.ggml.eot_token_id": tokens.index("<|im_end|>"),
    }
    path: Path = tmp_path_factory.mktemp("tools") / "x.gguf"
    tiny.write(path, n_vocab=len(tokens), extra=extra, n_ctx=2048)
    with pyggml.load(path) as model:
        yield model


class Seat:
    """Where a generation that is written by a test sits: nothing is computed."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.session = self
        self.n_prompted = 0

    def mark(self) -> None:
        pass


def written(m: pyggml.Model, monkeypatch: pytest.MonkeyPatch, answer: str, **how: Any) -> Completion:
    """What chat() makes of an answer, whose tokens are chosen here."""

    def run(self: Call) -> Any:
        for ticket in self._tickets:
            seat, left = Seat(), m.tokenize(answer, add_special=False)
            ticket.sit(seat)  # type: ignore[arg-type]
            while (feed := ticket.feed()) is not None:
                seat.ids.extend(feed.ids)
                if feed.n_rows and not left:
                    break
                if feed.n_rows:
                    ticket.take(left.pop(0))
            ticket.end()
        return self._done()

    with monkeypatch.context() as patch:
        patch.setattr(Call, "run", run)
        found = m.chat(ASKS, **how)
    assert isinstance(found, Completion)
    return found


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "days": 2}}\n</tool_call>'


def test_a_chat_with_tools(m: pyggml.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    c = written(m, monkeypatch, f"I look.{CALL}<|im_end|>", tools=[weather])
    assert (c.text, c.finish_reason) == ("I look.", "tool_calls")
    assert [(call.name, call.arguments) for call in c.tool_calls] == [("weather", {"city": "Rome", "days": 2})]
    assert len(c.tool_calls[0].id) == 9
    again = m.render_chat([*ASKS, c.message, c.tool_calls[0].message("sunny")])
    assert f"I look.{CALL}<|im_end|>" in again
    assert "<|im_start|>tool\nsunny" in again
    assert m.render_chat([*ASKS, c]) == m.render_chat([*ASKS, c.message])  # type: ignore[list-item]


def test_control_tokens_are_seen_where_they_mean_something(m: pyggml.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "a<|hidden|>b<tool_call>nonsense</tool_call>c"
    assert written(m, monkeypatch, answer, tools=[weather]).text == "ab<tool_call>nonsense</tool_call>c"
    assert written(m, monkeypatch, answer).text == "abnonsensec"  # as ever, without tools
    c = written(m, monkeypatch, f"{CALL}<|im_end|>", tools=[weather], tool_choice="none")
    assert (c.tool_calls, c.finish_reason) == ([], "stop")


def test_stops_and_limits(m: pyggml.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    c = written(m, monkeypatch, f"One. Two.{CALL}", tools=[weather], stop=". ")
    assert (c.text, c.finish_reason, c.tool_calls) == ("One", "stop", [])
    n = len(m.tokenize(CALL, add_special=False))
    c = written(m, monkeypatch, CALL, tools=[weather], stop="Rome", max_tokens=n)
    assert (c.text, c.finish_reason, len(c.tool_calls)) == ("", "length", 1)  # a stop string is none within a call
    c = written(m, monkeypatch, CALL, tools=[weather], max_tokens=n // 2)
    assert (c.text, c.finish_reason, c.tool_calls) == (m.detokenize(c.tokens), "length", [])


def test_a_template_that_knows_no_tools(m: pyggml.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    c = written(m, monkeypatch, f"{CALL}</s>", tools=[weather], template=KNOWS_NO_TOOLS)
    assert [call.name for call in c.tool_calls] == ["weather"]
    told = read_tools([weather])
    talk = [{"role": "system", "content": "Be kind."}, *ASKS, c.message, c.tool_calls[0].message({"sun": 1})]
    prompt = m._render("chat", talk, KNOWS_NO_TOOLS, None, {}, (), told).prompt
    assert prompt.startswith("[system]Be kind.\n\nYou can call functions.")
    assert '"Says the weather. Of a city, in words."' in prompt
    assert prompt.endswith(f'[user]Rome?[assistant]{CALL}[user]<tool_response>\n{{"sun": 1}}\n</tool_response>')
    refuses = KNOWS_NO_TOOLS.replace("[{{", "{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}[{{")
    assert m._render("chat", ASKS, refuses, None, {}, (), told).prompt.startswith("[user]You can call functions.")


def test_calls_that_a_template_does_not_print(m: pyggml.Model) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    prompt = m.render_chat(
        [*ASKS, {"role": "assistant", "content": None, "tool_calls": [call]}], template=KNOWS_NO_TOOLS
    )
    assert (
        prompt == '[user]Rome?[assistant]<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    )


@pytest.mark.parametrize("given", [{"city": "Rome"}, '{"city": "Rome"}'])
def test_arguments_are_what_the_template_reads(m: pyggml.Model, given: object) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": given}}
    talk = [*ASKS, {"role": "assistant", "content": "", "tool_calls": [call]}]
    items = "{% for m in messages %}{% for c in m.tool_calls or [] %}%s{% endfor %}{% endfor %}"
    for inner, expected in (
        ("{{ c.function.arguments | tojson }}", '{"city": "Rome"}'),
        ("{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}", "city=Rome"),
        ("{{ '<' + c.function.arguments + '>' }}", '<{"city": "Rome"}>'),
        ("{{ c.function.arguments }}", '{"city": "Rome"}'),
    ):
        assert m.render_chat(talk, template=items.replace("%s", "{{ c.function.name }}:" + inner)).endswith(expected)
    with pytest.raises(TemplateError, match=r"messages\[1\]: tool_calls\[0\]: the arguments are no JSON"):
        bad = {"type": "function", "function": {"name": "weather", "arguments": "{"}}
        m.render_chat([*ASKS, {"role": "assistant", "content": "", "tool_calls": [bad]}])


def test_ids_are_as_long_as_a_template_asks(m: pyggml.Model) -> None:
    """Of a conversation that came from elsewhere: the call's and the result's stay the same."""
    template = (
        "{% for x in messages %}{% for c in x.tool_calls or [] %}{% if c.id|length != 9 %}{{ raise_exception('no') }}{% endif %}"
        "{{ c.function.name }}={{ c.id }};{% endfor %}{{ x.tool_call_id or '' }}{% endfor %}"
    )
    call = {"id": "call_0123456789abcdef", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    talk = [*ASKS, {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "sunny", "tool_call_id": call["id"]}]  # fmt: skip
    said = m.render_chat(talk, template=template).removeprefix("weather=").split(";")
    assert said[0] == said[1]
    assert len(said[0]) == 9
    assert "call_0123456789abcdef;" in m.render_chat(talk, template=template.replace("!= 9", "< 9"))


def test_reasoning_has_the_name_that_a_template_reads(m: pyggml.Model) -> None:
    for name in ("reasoning_content", "thinking", "reasoning"):
        template = "{% for m in messages %}{{ m." + name + " or '' }}{% endfor %}"
        for given in ("reasoning_content", "thinking", "reasoning"):
            assert m.render_chat([{"role": "assistant", "content": "", given: "Hm."}], template=template) == "Hm."


def test_types_of_requests() -> None:
    assert Request.__dataclass_fields__["speech"].default.marks == ()
    assert Tools([], {}).choice == "auto"


def test_choices_that_are_not_there(m: pyggml.Model) -> None:
    with pytest.raises(ArgumentTypeError, match=r"'functions'.*called tools here"):
        m.chat(ASKS, functions=[weather])
