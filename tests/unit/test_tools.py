# ruff: noqa: E501 - answers stand as models write them
"""Calls of tools read back: every family's form, however it is cut; what is malformed stays text and loses nothing."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyggml.answer import Part, ToolCall
from pyggml.chat.functions import read_tools
from pyggml.chat.harmony import Harmony
from pyggml.chat.render import Rendered
from pyggml.chat.speech import Reader, speech_of
from pyggml.chat.tools import bodies, values
from pyggml.chat.tools.formats import ANY, FRAMES
from pyggml.chat.tools.reader import CallReader

WEATHER = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "wind": {"type": "boolean"},
            "more": {"type": "object"}, "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["city"],
    },
}  # fmt: skip
ADD = {
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
}
TOOLS = read_tools([WEATHER, ADD])
assert TOOLS is not None

ROME: tuple[str, dict[str, Any]] = ("weather", {"city": "Rome", "days": 3})
SUM: tuple[str, dict[str, Any]] = ("add", {"a": 1, "b": 2.5})
J_ROME = '{"name": "weather", "arguments": {"city": "Rome", "days": 3}}'
J_SUM = '{"name": "add", "arguments": {"a": 1, "b": 2.5}}'
A_ROME, A_SUM = '{"city": "Rome", "days": 3}', '{"a": 1, "b": 2.5}'
D = "\uff5c"
U = "\u2581"

# (family, what its template shows, an answer with both calls)
FAMILIES: list[tuple[str, str, str]] = [
    ("hermes", "<tool_call>", f"<tool_call>\n{J_ROME}\n</tool_call>\n<tool_call>\n{J_SUM}\n</tool_call>"),
    ("without an end", "<tool_call>", f"<tool_call>\n{J_ROME}\n<tool_call>\n{J_SUM}"),
    ("qwen-coder", "<tool_call> <function=",
     "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>"
     "\n</tool_call>\n<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n2.5\n</parameter>\n"
     "</function>\n</tool_call>"),
    ("qwen-coder without its first mark", "<tool_call> <function=",
     "<function=weather>\n<parameter=city>\nRome\n<parameter=days>\n3\n</parameter>\n</function>"
     "<function=add><parameter=a>1</parameter><parameter=b>2.5</parameter></function>"),
    ("seed", "<seed:tool_call>",
     "<seed:tool_call>\n<function=weather>\n<parameter=city>Rome</parameter>\n<parameter=days>3</parameter>\n</function>\n"
     "</seed:tool_call>\n<seed:tool_call>\n<function=add>\n<parameter=a>1</parameter>\n<parameter=b>2.5</parameter>\n"
     "</function>\n</seed:tool_call>"),
    ("glm", "<tool_call>",
     "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3"
     "</arg_value>\n</tool_call>\n<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>b</arg_key>"
     "<arg_value>2.5</arg_value></tool_call>"),
    ("minimax", "<minimax:tool_call>",
     '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Rome</parameter>\n<parameter name="days">3'
     '</parameter>\n</invoke>\n<invoke name="add">\n<parameter name="a">1</parameter>\n<parameter name="b">2.5</parameter>'
     "\n</invoke>\n</minimax:tool_call>"),
    ("minicpm", '<function name="',
     '<function name="weather"><param name="city">Rome</param><param name="days">3</param></function>\n'
     '<function name="add"><param name="a">1</param><param name="b">2.5</param></function>'),
    ("mistral", "[TOOL_CALLS]", f"[TOOL_CALLS][{J_ROME}, {J_SUM}]"),
    ("mistral, newer", "[TOOL_CALLS]", f"[TOOL_CALLS]weather[ARGS]{A_ROME}[TOOL_CALLS]add[ARGS]{A_SUM}"),
    ("mistral, with ids", "[TOOL_CALLS]",
     f"[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{A_ROME}[TOOL_CALLS]add[CALL_ID]123456789[ARGS]{A_SUM}"),
    ("llama", "<|python_tag|>",
     '{"name": "weather", "parameters": {"city": "Rome", "days": 3}}; {"name": "add", "parameters": {"a": 1, "b": 2.5}}'),
    ("llama, python", "<|python_tag|>", '<|python_tag|>weather(city="Rome", days=3); add(a=1, b=2.5)'),
    ("llama 4", "<|python_start|>", '<|python_start|>[weather(city="Rome", days=3), add(a=1, b=2.5)]<|python_end|>'),
    ("single quotes", "<tool_call>", "<tool_call>{'name': 'weather', 'arguments': {'city': 'Rome', 'days': 3,}}</tool_call>"
     "<tool_call>{'name': 'add', 'arguments': {'a': 1, 'b': 2.5}}</tool_call>"),
    ("pythonic", "", "[weather(city='Rome', days=3), add(a=1, b=2.5)]"),
    ("lfm2", "<|tool_list_start|>", '<|tool_call_start|>[weather(city="Rome", days=3), add(a=1, b=2.5)]<|tool_call_end|>'),
    ("olmo", "<function_calls>", '<function_calls>\nweather(city="Rome", days=3)\nadd(a=1, b=2.5)\n</function_calls>'),
    ("gemma 3", "", "```tool_code\nweather(city='Rome', days=3)\nadd(a=1, b=2.5)\n```"),
    ("gemma 4", "<|tool_call>",
     '<|tool_call>call:weather{city:<|"|>Rome<|"|>,days:3}<tool_call|><|tool_call>call:add{a:1,b:2.5}<tool_call|>'),
    ("deepseek", f"<{D}tool{U}calls{U}begin{D}>",
     f"<{D}tool{U}calls{U}begin{D}><{D}tool{U}call{U}begin{D}>function<{D}tool{U}sep{D}>weather\n```json\n{A_ROME}\n```"
     f"<{D}tool{U}call{U}end{D}>\n<{D}tool{U}call{U}begin{D}>function<{D}tool{U}sep{D}>add\n```json\n{A_SUM}\n```"
     f"<{D}tool{U}call{U}end{D}><{D}tool{U}calls{U}end{D}>"),
    ("deepseek 3.1", f"<{D}tool{U}calls{U}begin{D}>",
     f"<{D}tool{U}calls{U}begin{D}><{D}tool{U}call{U}begin{D}>weather<{D}tool{U}sep{D}>{A_ROME}<{D}tool{U}call{U}end{D}>"
     f"<{D}tool{U}call{U}begin{D}>add<{D}tool{U}sep{D}>{A_SUM}<{D}tool{U}call{U}end{D}><{D}tool{U}calls{U}end{D}>"),
    ("deepseek 3.2", f"{D}DSML{D}",
     f'<{D}DSML{D}function_calls>\n<{D}DSML{D}invoke name="weather">\n<{D}DSML{D}parameter name="city" string="true">Rome'
     f'</{D}DSML{D}parameter>\n<{D}DSML{D}parameter name="days" string="false">3</{D}DSML{D}parameter>\n</{D}DSML{D}invoke>'
     f'\n<{D}DSML{D}invoke name="add">\n<{D}DSML{D}parameter name="a" string="false">1</{D}DSML{D}parameter>\n'
     f'<{D}DSML{D}parameter name="b" string="false">2.5</{D}DSML{D}parameter>\n</{D}DSML{D}invoke>\n'
     f"</{D}DSML{D}function_calls>"),
    ("kimi", "<|tool_calls_section_begin|>",
     f"<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{A_ROME}"
     f"<|tool_call_end|><|tool_call_begin|>functions.add:1<|tool_call_argument_begin|>{A_SUM}<|tool_call_end|>"
     "<|tool_calls_section_end|>"),
    ("kimi 3", "open_tag('tools')",
     '<|open|>tools<|sep|><|open|>call tool="weather" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Rome'
     '<|close|>argument<|sep|><|open|>argument key="days" type="number"<|sep|>3<|close|>argument<|sep|><|close|>call<|sep|>'
     '<|open|>call tool="add" index="2"<|sep|><|open|>argument key="a" type="number"<|sep|>1<|close|>argument<|sep|>'
     '<|open|>argument key="b" type="number"<|sep|>2.5<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>'),
    ("command", "<|START_ACTION|>",
     '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "weather", "parameters": {"city": "Rome", "days": 3}},\n'
     '    {"tool_call_id": "1", "tool_name": "add", "parameters": {"a": 1, "b": 2.5}}\n]<|END_ACTION|>'),
    ("granite 3", "<|tool_call|>", f"<|tool_call|>[{J_ROME}, {J_SUM}]"),
    ("phi 4", "<|tool_call|>", f"<|tool_call|>[{J_ROME}, {J_SUM}]<|/tool_call|>"),
    ("nemotron", "<TOOLCALL>", f"<TOOLCALL>[{J_ROME}, {J_SUM}]</TOOLCALL>"),
    ("minimax 1", "<tool_calls>", f"<tool_calls>\n{J_ROME}\n{J_SUM}\n</tool_calls>"),
    ("apertus", "tools_prefix",
     '<|tools_prefix|>[{"weather": {"city": "Rome", "days": 3}}, {"add": {"a": 1, "b": 2.5}}]<|tools_suffix|>'),
    ("solar", "<|tool_calls|>",
     f"<|tool_calls|><|tool_call:begin|>x0<|tool_call:name|>weather<|tool_call:args|>{A_ROME}<|tool_call:end|>"
     f"<|tool_call:begin|>x1<|tool_call:name|>add<|tool_call:args|>{A_SUM}<|tool_call:end|>"),
    ("functionary", "<function=", f"<function=weather>{A_ROME}</function><function=add>{A_SUM}</function>"),
    ("firefunction", "functools[", f"functools[{J_ROME}, {J_SUM}]"),
    ("hunyuan 3", "'<tool_calls{}>'.format",
     "<tool_calls:opensource>\n<tool_call:opensource>weather<tool_sep:opensource>\n<arg_key:opensource>city"
     "</arg_key:opensource>\n<arg_value:opensource>Rome</arg_value:opensource>\n<arg_key:opensource>days"
     "</arg_key:opensource>\n<arg_value:opensource>3</arg_value:opensource>\n</tool_call:opensource>\n"
     "<tool_call:opensource>add<tool_sep:opensource>\n<arg_key:opensource>a</arg_key:opensource>\n"
     "<arg_value:opensource>1</arg_value:opensource>\n<arg_key:opensource>b</arg_key:opensource>\n"
     "<arg_value:opensource>2.5</arg_value:opensource>\n</tool_call:opensource>\n</tool_calls:opensource>"),
    ("openai", "", '{"tool_calls": [{"id": "a", "type": "function", "function": {"name": "weather", "arguments": '
     '"{\\"city\\": \\"Rome\\", \\"days\\": 3}"}}, {"function": {"name": "add", "arguments": {"a": 1, "b": 2.5}}}]}'),
    ("json in a fence", "", f"```json\n[{J_ROME}, {J_SUM}]\n```"),
]  # fmt: skip


class NoTokens:
    def has_special(self, text: str) -> bool:
        return False


def reader_of(template: str, prompt: str = "") -> Reader:
    return speech_of(Rendered(prompt, template), NoTokens(), None, TOOLS)[0].reader()  # type: ignore[arg-type]


def read(reader: Reader, pieces: list[str]) -> tuple[str, list[tuple[str, dict[str, Any]]], list[Part]]:
    """(text, calls, parts)."""
    parts = [part for piece in pieces for part in reader.push(piece)] + reader.finish()
    text = "".join(part.text for part in parts if part.kind == "text")
    return text, [(call.name, call.arguments) for call in reader.calls], parts


def told(parts: list[Part]) -> list[tuple[str, Any]]:
    """(id, arguments) of the calls as a stream tells them."""
    found: dict[str, str] = {}
    for part in parts:
        if part.kind == "tool_call":
            found[part.id] = found.get(part.id, "") + part.text
    return [(key, json.loads(text)) for key, text in found.items()]


@pytest.mark.parametrize("template, answer", [row[1:] for row in FAMILIES], ids=[row[0] for row in FAMILIES])
def test_every_family(template: str, answer: str) -> None:
    for before in ("", "I look.\n") if not answer.startswith(("{", "[w", "```")) else ("", "\n"):
        for pieces in ([before + answer], list(before + answer), [before, answer[:40], answer[40:]]):
            reader = reader_of(template)
            text, calls, parts = read(reader, pieces)
            assert (text, calls) == (before.strip(), [ROME, SUM])
            assert told(parts) == [(call.id, call.arguments) for call in reader.calls]
            assert len({call.id for call in reader.calls}) == 2
            assert all(call.raw and call.raw in before + answer for call in reader.calls)


ODD = {
    "city": 'He said "a\\b", it\'s\nfine {x} [y] </tool_call>',
    "wind": True,
    "more": {"k": [1, None, {"z": ""}]},
    "tags": [],
}


@pytest.mark.parametrize(
    "template, answer",
    [
        ("<tool_call>", f'<tool_call>\n{{"name": "weather", "arguments": {json.dumps(ODD)}}}\n</tool_call>'),
        ("<tool_call>",
         f"<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>{ODD['city']}</arg_value>\n<arg_key>wind</arg_key>\n"
         f"<arg_value>true</arg_value>\n<arg_key>more</arg_key>\n<arg_value>{json.dumps(ODD['more'])}</arg_value>\n"
         "<arg_key>tags</arg_key>\n<arg_value>[]</arg_value>\n</tool_call>"),
        ("<tool_call>",
         f"<tool_call>\n<function=weather>\n<parameter=city>\n{ODD['city']}\n</parameter>\n<parameter=wind>\nTrue\n"
         f"</parameter>\n<parameter=more>\n{ODD['more']}\n</parameter>\n<parameter=tags>\n[]\n</parameter>\n</function>\n"
         "</tool_call>"),
        ("[TOOL_CALLS]", f"[TOOL_CALLS]weather[ARGS]{json.dumps(ODD)}"),
        ("<|tool_call>", f'<|tool_call>call:weather{{city:<|"|>{ODD["city"]}<|"|>,wind:true,more:{{k:[1,null,{{z:<|"|><|"|>'
         "}]},tags:[]}<tool_call|>"),
        ("<|tool_list_start|>", f"<|tool_call_start|>[weather(city={ODD['city']!r}, wind=True, more={ODD['more']!r}, tags=[])]"
         "<|tool_call_end|>"),
    ],
)  # fmt: skip
def test_odd_values(template: str, answer: str) -> None:
    for pieces in ([answer], list(answer)):
        text, calls, parts = read(reader_of(template), pieces)
        assert (text, calls) == ("", [("weather", ODD)])
        assert [arguments for _, arguments in told(parts)] == [ODD]


def test_without_arguments() -> None:
    for answer in ('{"name": "weather"}', '{"name": "weather", "arguments": null}', '{"name": "weather", "arguments": ""}',
                   "<function=weather>\n</function>", "weather", "weather()", "weather{}"):  # fmt: skip
        assert read(reader_of("<tool_call>"), [f"<tool_call>{answer}</tool_call>"])[1] == [("weather", {})]


def test_text_around_and_between() -> None:
    answer = f" A \n<tool_call>{J_ROME}</tool_call> B <tool_call>{J_SUM}</tool_call>\nC\n"
    for pieces in ([answer], list(answer)):
        text, calls, _ = read(reader_of("<tool_call>"), pieces)
        assert (text, calls) == (" A B\nC", [ROME, SUM])


def test_functionary_speaks_of_all() -> None:
    for answer, text in ((f"all\nI look.>>>weather\n{A_ROME}>>>add\n{A_SUM}", "I look."),
                         (f"weather\n{A_ROME}>>>add\n{A_SUM}", "")):  # fmt: skip
        for pieces in ([answer], list(answer)):
            assert read(reader_of(">>>all", "assistant\n>>>"), pieces)[:2] == (text, [ROME, SUM])
    assert read(reader_of(">>>all", "assistant\n>>>"), list("all\nHello."))[0] == "Hello."


def test_thoughts_and_calls() -> None:
    reader = reader_of("</think><tool_call>")
    text, calls, parts = read(reader, list(f"<think>\nHm.\n</think>\n\nI look.\n<tool_call>{J_ROME}</tool_call>"))
    assert (text, calls) == ("I look.", [ROME])
    assert "".join(part.text for part in parts if part.kind == "reasoning") == "Hm."


def test_a_token_of_calls_ends_thoughts() -> None:
    section = FAMILIES[[row[0] for row in FAMILIES].index("kimi")][2]
    reader = reader_of("</think><|tool_calls_section_begin|>", "<think>")
    text, calls, parts = read(reader, list("Hm. " + section))
    assert (text, calls) == ("", [ROME, SUM])
    assert "".join(part.text for part in parts if part.kind == "reasoning") == "Hm."
    assert [call.id for call in reader.calls] == ["functions.weather:0", "functions.add:1"]


# ---- malformed -----------------------------------------------------------------------------------------------------

MALFORMED = [
    '<tool_call>{"name": "weather", "arguments": {"city": "Rome"</tool_call>',
    '<tool_call>{"name": "weather", "arguments": {"city": "Rome}}</tool_call>',
    '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>',
    '<tool_call>{"arguments": {}}</tool_call>', '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
    '<tool_call>{"name": "", "arguments": {}}</tool_call>', "<tool_call></tool_call>", "<tool_call>", "</tool_call>",
    "<tool_call>\n</tool_call>\n", "<tool_call>Rome, please</tool_call>", "<tool_call>[]</tool_call>",
    f"<tool_call>[{J_ROME}, 7]</tool_call>", f"<tool_call>{J_ROME} and more</tool_call>", "<tool_call><tool_call>",
    "<tool_call><function=weather><parameter=city>Rome</parameter> hm </function></tool_call>",
    "<tool_call><function=></function></tool_call>", "<tool_call>weather(city=)</tool_call>",
    "<tool_call>weather(1, 2, 3, 4, 5, 6)</tool_call>", "<tool_call>__import__('os').system('x')</tool_call>",
    '<tool_call>{"name": "weather", "arguments": {"days": NaN}}</tool_call>',
    '<tool_call>{"name": "weather", "arguments": {"days": ' + "9" * 5000 + "}}</tool_call>",
    "<tool_call>" + "[" * 5000 + "</tool_call>", "<tool_call>" + '{"a":' * 3000 + "</tool_call>",
    "<tool_call>weather(city=" + "(" * 3000 + "</tool_call>", '{"name": "unknown", "arguments": {}}', "{}", "[]", "[", "{",
    '{"name": "weather"', '[{"name": "weather"}', "[1, 2, 3]", "[weather", "[weather(", "[other(a=1)]", "```json", "``",
    "```json\n{\"name\": \"weather\"\n```", "```python\nprint(1)\n```", '{"answer": 42}', '"<tool_call>"', "\ud800<tool_call>",
    "<function=weather>", "<tool_call>\x00</tool_call>", "[TOOL_CALLS]", "<|python_tag|>import os", "\n\n  ", "a" * 1000,
    "{ \n" + " " * 1000 + '"name": 1}', "<tool_call>" * 200, "<tool_call>{" * 200, "</tool_call>" * 200,
]  # fmt: skip


@pytest.mark.parametrize("answer", MALFORMED, ids=lambda text: ascii(text)[:40])
@pytest.mark.parametrize("template", ["<tool_call> <function=", "[TOOL_CALLS] <|python_tag|>"])
def test_what_is_malformed_stays_text(template: str, answer: str) -> None:
    for pieces in ([answer], list(answer)):
        assert read(reader_of(template), pieces)[:2] == (answer, [])
        text, calls, _ = read(reader_of(template), ["I look. ", *pieces, f"<tool_call>{J_ROME}</tool_call>"])
        assert answer.strip() in text or calls  # a section without an end may hold the next


def test_a_good_call_behind_a_bad_one() -> None:
    for bad in ('{"name": "weather", "arguments": {"city": "Rome}}', "nonsense", "<arg_value>1"):
        answer = f"<tool_call>{bad}</tool_call>\n<tool_call>{J_SUM}</tool_call>"
        for pieces in ([answer], list(answer)):
            assert read(reader_of("<tool_call>"), pieces)[:2] == (f"<tool_call>{bad}</tool_call>", [SUM])


def test_a_call_that_is_cut_was_told_and_is_text() -> None:
    answer = '<tool_call>{"name": "weather", "arguments": {"city": "Ro'
    text, calls, parts = read(reader_of("<tool_call>"), list(answer))
    assert (text, calls) == (answer, [])
    assert "".join(part.text for part in parts if part.kind == "tool_call") == '{"city": "Ro'


def test_arguments_come_piece_by_piece() -> None:
    for template, before, after in (("<tool_call>", '<tool_call>{"name": "weather", "arguments": ', "}</tool_call>"),
                                    ("[TOOL_CALLS]", "[TOOL_CALLS]weather[ARGS]", "")):  # fmt: skip
        _, calls, parts = read(reader_of(template), [before, *A_ROME, after])
        assert calls == [ROME]
        assert len([part for part in parts if part.kind == "tool_call"]) == len(A_ROME)
        assert {part.name for part in parts} == {"weather"}


BITS = ["<tool_call>", "</tool_call>", J_ROME, A_SUM, '{"name": "weather", "arguments": ', "}", "[", "]", '"', "'", "\\",
        "<function=weather>", "</function>", "<parameter=city>", "</parameter>", "<arg_key>city</arg_key>", "<arg_value>",
        "weather(", "city='x'", ")", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "```", "```json\n", " ", "\n", ";", ",", "a",
        "call:", "<|tool_call>", '<|"|>', "<tool_call|>", "<th", "[TO", "<|channel|>", "<|message|>", "<|end|>", "<|start|>",
        "analysis", "final", " to=functions.weather", "assistant"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(BITS) | st.text("<>{}[]()\"'\\:=,atool_cal", max_size=5), max_size=14))
def test_pieces_do_not_matter_and_nothing_is_lost(pieces: list[str]) -> None:
    answer = "".join(pieces)
    for frames in ([ANY, FRAMES[2], FRAMES[3], FRAMES[4]], list(FRAMES)):
        found = []
        for cut in ([answer], pieces, list(answer)):
            reader = CallReader(frames, TOOLS.parameters if TOOLS else {})
            text, calls, parts = read(reader, cut)
            found.append((text, calls))
            assert all(call.raw in answer for call in reader.calls)
            assert {call.id for call in reader.calls} <= {part.id for part in parts if part.kind == "tool_call"}
        assert found[0] == found[1] == found[2]
        if not found[0][1]:
            assert found[0][0] == answer


@settings(max_examples=300, deadline=None)
@given(text=st.text("{}[]()\"'\\:=,<|>tnuf0129.eE+-ax \n", max_size=60))
def test_values_are_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        values.loads(text)
    bodies.read(text, {})


@settings(max_examples=300, deadline=None)
@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
                          lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)))  # fmt: skip
def test_values_of_json_and_python(value: object) -> None:
    assert values.loads(json.dumps(value)) == value
    found, end = values.value_at(repr(value), 0)
    assert (found, end) == (value, len(repr(value)))
    balance = values.Balance()
    if isinstance(value, list | dict):
        text = json.dumps(value)
        assert [balance.push(char) for char in text][-1] == 1
        assert values.Balance().push(text + "]") == len(text)


# ---- channels ------------------------------------------------------------------------------------------------------

CHANNELS = "<|channel|><|message|>"


def test_channels() -> None:
    answer = (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
        f"<|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{A_ROME}<|call|>"
        f"<|start|>assistant to=functions.add<|channel|>commentary json<|message|>{A_SUM}"
    )
    for pieces in ([answer], list(answer)):
        reader = reader_of(CHANNELS)
        text, calls, parts = read(reader, pieces)
        assert (text, calls) == ("I look.", [ROME, SUM])
        assert "".join(part.text for part in parts if part.kind == "reasoning") == "Hm."
        assert told(parts) == [(call.id, call.arguments) for call in reader.calls]


@pytest.mark.parametrize(
    "answer, text",
    [
        ("<|channel|>final<|message|>Yes. \n", "Yes. \n"),
        ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>\nYes.", "Yes."),
        ("<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Yes.", "Yes."),
        ("Yes, without a channel.", "Yes, without a channel."),
        ("<|message|>Yes.", "Yes."),
        ("", ""),
        ("<|channel|>final", "<|channel|>final"),
        (
            "<|channel|>commentary to=functions.weather<|message|>{bad",
            "<|channel|>commentary to=functions.weather<|message|>{bad",
        ),
        ("<|channel|>final<|message|>A<|end|><|start|>assistant<|channel|>final<|message|>B<|end|>", "A\n\nB"),
    ],
)
def test_channels_of_all_sorts(answer: str, text: str) -> None:
    for pieces in ([answer], list(answer)):
        assert read(reader_of(CHANNELS), pieces)[:2] == (text, [])


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(BITS), max_size=12))
def test_channels_do_not_care_for_pieces(pieces: list[str]) -> None:
    answer = "".join(pieces)
    whole, byte = (read(Harmony({}), cut) for cut in ([answer], list(answer)))
    assert whole[:2] == byte[:2]


def test_a_call_answers_for_itself() -> None:
    call = ToolCall("a", "f", {"x": "\u00e9"})
    assert call.openai() == {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": "\u00e9"}'}}
    assert call.message({"n": 1})["content"] == '{"n": 1}'
