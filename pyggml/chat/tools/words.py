"""Tools for a template that knows none: told in words, calls and results as text, in marks that most models know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pyggml.answer import ToolCall
from pyggml.chat.functions import Tools
from pyggml.chat.tools.formats import ANY, Frame
from pyggml.completion import Completion
from pyggml.errors import TemplateError
from pyggml.shown import shown

_TOLD = """\
You can call functions. These are they, each with the JSON schema of its parameters:
{tools}
To call one, write a block of this form and nothing behind it, several blocks for several calls:
{open}
{{"name": "the function's name", "arguments": {{"parameter": "value"}}}}
{close}
Answer in words where no function is needed."""


def in_words(messages: Iterable[Any], tools: Tools, system: bool = True) -> list[dict[str, Any]]:
    """The conversation with its tools told in the system message, or, without system, before the first question.

    Calls become text of the assistant, results text of the user; neighbours of one role are joined, as many templates
    ask for roles in turn. Raises TemplateError.
    """
    made: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        if isinstance(message, Completion):
            message = message.message
        if not isinstance(message, Mapping):
            raise TemplateError(f"messages[{i}] is {shown(message)}, expected a dict with role and content")
        found = _in_words(message)
        if made and found.get("role") == made[-1].get("role") == "user" and _both_text(made[-1], found):
            made[-1]["content"] += "\n\n" + found["content"]
        else:
            made.append(found)
    functions = "\n".join(json.dumps(each["function"], ensure_ascii=False) for each in tools.schemas)
    told = _TOLD.format(tools=functions, open=ANY.open, close=ANY.close)
    first = next((i for i, each in enumerate(made) if each.get("role") == ("system" if system else "user")), None)
    if first is None and system:
        return [{"role": "system", "content": told}, *made]
    at = 0 if first is None else first
    if made and isinstance(made[at].get("content"), str):
        content = made[at]["content"]
        made[at] = {**made[at], "content": f"{content}\n\n{told}" if system else f"{told}\n\n{content}"}
    return made


def calls_in_text(messages: Iterable[Any], frame: Frame) -> list[Any]:
    """The conversation for a template that prints no calls: they stand in the text, within the marks of the family."""
    return [
        _in_text(each, frame) if isinstance(each, Mapping) and each.get("tool_calls") else each for each in messages
    ]


def _both_text(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return isinstance(one.get("content"), str) and isinstance(other.get("content"), str)


def _in_words(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without calls and results."""
    found = dict(message)
    said = found.get("content")
    if isinstance(said, Completion):
        found = {**said.message, **found, "content": said.text}
    if found.get("role") in ("tool", "function"):
        content = found.get("content")
        result = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
        return {"role": "user", "content": f"<tool_response>\n{result}\n</tool_response>"}
    return _in_text(found, ANY)


def _in_text(message: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """A message whose calls are text."""
    found = dict(message)
    calls = found.pop("tool_calls", None)
    if isinstance(calls, list | tuple) and calls:
        blocks = [_block(call, frame) for call in calls]
        said = found.get("content")
        found["content"] = "\n".join([str(said), *blocks] if said else blocks)
    return found


def _block(call: Any, frame: Frame) -> str:
    call = call.openai() if isinstance(call, ToolCall) else call
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping):
        raise TemplateError(f"tool_calls hold {shown(call)}, expected a dict with a function")
    arguments = inner.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    name = json.dumps(inner.get("name"), ensure_ascii=False)
    return f'{frame.open}\n{{"name": {name}, "arguments": {text}}}\n{frame.close}'
