"""Calls that must be made: what a model has to write, as a grammar around the schema of the arguments.

Knows no parser of grammars: text in its language (Lark), from the frame of the family and the tools' schemas.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pyggml.chat.functions import Tools
from pyggml.chat.tools.bodies import BAR, UNDER
from pyggml.chat.tools.formats import Frame

Cut = Callable[[str], list[str | int]]
"""A text as parts and the ids of its control tokens."""

_ARGUMENTS = "\0"
_ONE = f'{{open}}\n{{"name": "{{name}}", "arguments": {_ARGUMENTS}}}\n{{close}}'
_LISTED = f'{{open}}[{{"name": "{{name}}", "arguments": {_ARGUMENTS}}}]{{close}}'

# By the opening mark: how a call is written, {name} and the arguments in it. Others are written as JSON in their marks.
_FORMS: dict[str, str] = {
    "<|tool_call>": f"{{open}}call:{{name}}{_ARGUMENTS}{{close}}",
    "<|python_tag|>": f'{{"name": "{{name}}", "parameters": {_ARGUMENTS}}}',
    f"<{BAR}tool{UNDER}calls{UNDER}begin{BAR}>":
        f"{{open}}<{BAR}tool{UNDER}call{UNDER}begin{BAR}>function<{BAR}tool{UNDER}sep{BAR}>{{name}}\n```json\n{_ARGUMENTS}\n```"
        f"<{BAR}tool{UNDER}call{UNDER}end{BAR}>{{close}}",
    "<|tool_calls_section_begin|>":
        f"{{open}}<|tool_call_begin|>functions.{{name}}:0<|tool_call_argument_begin|>{_ARGUMENTS}<|tool_call_end|>{{close}}",
    "<|START_ACTION|>":
        f'{{open}}[\n    {{"tool_call_id": "0", "tool_name": "{{name}}", "parameters": {_ARGUMENTS}}}\n]{{close}}',
    "<|tools_prefix|>": f'{{open}}[{{"{{name}}": {_ARGUMENTS}}}]{{close}}',
    "<|tool_call|>": _LISTED, "<TOOLCALL>": _LISTED, "<tool_calls>": _LISTED, "functools": _LISTED,
    "<|tool_calls|>":
        f"{{open}}<|tool_call:begin|>call0<|tool_call:name|>{{name}}<|tool_call:args|>{_ARGUMENTS}<|tool_call:end|>",
    "<|function_call|>": f'{{open}}{{"name": "{{name}}", "arguments": {_ARGUMENTS}}}',
    "<function=": f"<function={{name}}>{_ARGUMENTS}{{close}}",
    '<function name="': f'<function name="{{name}}">{_ARGUMENTS}{{close}}',
    ">>>": f"{{open}}{{name}}\n{_ARGUMENTS}",
}  # fmt: skip
_MISTRAL = {True: f"{{open}}{{name}}[ARGS]{_ARGUMENTS}", False: _LISTED}


def form(frame: Frame, template: str) -> str:
    """How a family writes a call: {name}, and NUL where the arguments are.

    >>> form(Frame("[TOOL_CALLS]"), "[TOOL_CALLS]...[ARGS]").replace("\\0", "...")
    '[TOOL_CALLS]{name}[ARGS]...'
    """
    found = _MISTRAL["[ARGS]" in template] if frame.open == "[TOOL_CALLS]" else _FORMS.get(frame.open, _ONE)
    return found.replace("{open}", frame.open).replace("{close}", frame.close)


def lark(
    frames: tuple[Frame, ...], template: str, tools: Tools, opened: bool, cut: Cut, clean: Mapping[str, Any]
) -> str:
    """The grammar of one call of the chosen tool, or, where any must be called, of one of them.

    opened: the prompt ends with the opening mark. clean: name -> the schema of its arguments, judged.
    """
    frame = frames[0]
    names = list(tools.parameters) if tools.choice == "required" else [tools.choice]
    rules = []
    for i, name in enumerate(names):
        before, after = (
            form(frame, template).replace("{name}", json.dumps(name, ensure_ascii=False)[1:-1]).split(_ARGUMENTS)
        )
        before = before.removeprefix(frame.open) if opened else before
        rules.append(f"call_{i}: {_terms(before, cut)} args_{i} {_terms(after, cut)}".rstrip())
        rules.append(f"args_{i}: %json {json.dumps(clean[name])}")
    return "\n".join(["start: " + " | ".join(f"call_{i}" for i in range(len(names))), *rules])


def _terms(text: str, cut: Cut) -> str:
    """A text as a grammar spells it: strings, and control tokens by their ids."""
    return " ".join(
        f"<[{part}]>" if isinstance(part, int) else json.dumps(part, ensure_ascii=False) for part in cut(text)
    )
