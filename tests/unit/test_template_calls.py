# ruff: noqa: E501 - rows of a table
"""What published chat templates print of calls is read back as the same calls.

The templates are no part of this tree: PYGGML_TEMPLATES names a folder of *.jinja (llama.cpp's source has one).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import pyggml
from pyggml.chat.functions import Tools, read_tools
from pyggml.chat.render import Rendered
from pyggml.chat.speech import speech_of
from pyggml.errors import TemplateError

pytestmark = pytest.mark.slow

FOLDER = os.environ.get("PYGGML_TEMPLATES", "")
TEMPLATES = sorted(Path(FOLDER).glob("*.jinja")) if FOLDER else []

PROPERTIES = {"city": {"type": "string"}, "days": {"type": "integer"}, "wind": {"type": "boolean"}, "more": {"type": "object"},
              "tags": {"type": "array", "items": {"type": "string"}}}  # fmt: skip
NUMBERS = {"a": {"type": "number"}, "b": {"type": "number"}}


def tool(name: str, properties: dict[str, dict[str, Any]]) -> dict[str, Any]:
    described = {key: {**value, "description": "x"} for key, value in properties.items()}
    schema = {"type": "object", "properties": described, "required": []}
    return {"type": "function", "function": {"name": name, "description": "x", "parameters": schema}}


SCHEMAS = [tool("weather", PROPERTIES), tool("add", NUMBERS)]
CALLS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "one": [("weather", {"city": "Rome", "days": 3})],
    "two": [("weather", {"city": "Rome", "days": 3}), ("add", {"a": 1, "b": 2.5})],
    "none": [("weather", {})],
    "odd": [
        ("weather", {"city": 'He said "no" {x} [y]', "more": {"k": [1, {"z": ""}]}, "wind": True, "tags": ["a", "b"]})
    ],
}
# What a template itself does not print, or prints so that it cannot be told: (template, calls).
LOST = {
    ("openai-gpt-oss-120b", "two"),  # the first call alone
    ("MiniMax-M3", "odd"),  # objects as elements without quotes
    ("GigaChat3-10B-A1.8B", "*"),  # each call is a message behind the token that ends an answer
    ("GigaChat3.1-10B-A1.8B", "two"),
    ("NVIDIA-Nemotron-Nano-v2", "*"),  # the answer stands within its thoughts
}
ENDS = ("</s>", "<|im_end|>", "<|eot_id|>", "<|call|>", "<|END_OF_TURN_TOKEN|>", "<turn|>", "<|tool_response>",
        "<|end_of_text|>", "<seed:eos>", "[e~[", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<|calls|>", "<end_of_sentence>",
        "</assistant>", "<|role_end|>", "<SPECIAL_12>", "<sep>", "<|assistant_end|>", "<|end_of_msg|>", "<|eot|>",
        "<\uff5chy_eos:opensource\uff5c>", "<|end|>\n", "<end_of_turn>", "<|eom_id|>", "<|message_sep|>")  # fmt: skip


class NoTokens:
    def has_special(self, text: str) -> bool:
        return False


def test_there_are_templates() -> None:
    if not TEMPLATES:
        pytest.skip("NO TEMPLATES: name a folder of *.jinja in PYGGML_TEMPLATES")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("which", CALLS)
def test_calls_are_read_back(path: Path, which: str) -> None:
    source = path.read_text("utf-8")
    calls = CALLS[which]
    if (path.stem, which) in LOST or (path.stem, "*") in LOST:
        pytest.skip("the template prints this otherwise")
    asks = {"role": "user", "content": "UUU"}
    made = [
        {"id": f"callid{i:03}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
        for i, (name, given) in enumerate(calls)
    ]
    answers = {"role": "assistant", "content": "", "tool_calls": made}
    tools = read_tools(SCHEMAS)
    assert isinstance(tools, Tools)
    with pyggml.load() as m:
        try:
            full = m.render_chat(
                [asks, answers], template=source, template_args={"tools": SCHEMAS, "add_generation_prompt": False}
            )
            begun = m.render_chat([asks], template=source, template_args={"tools": SCHEMAS})
        except TemplateError as error:
            pytest.skip(f"the template refuses: {str(error)[:100]}")
    at, begins = full.rfind("UUU"), begun.rfind("UUU")
    before = os.path.commonprefix([full[at:], begun[begins:]])  # noqa: RUF071 - of texts
    if before.rfind("<") > before.rfind(">"):
        before = before[: before.rfind("<")]  # within a token that both begin with
    answer = full[at + len(before) :]
    answer = answer[: min((found for end in ENDS if (found := answer.find(end)) >= 0), default=len(answer))]
    speech, _ = speech_of(Rendered(before, source), NoTokens(), None, tools)  # type: ignore[arg-type]
    for pieces in ([answer], list(answer)):
        reader = speech.reader()
        parts = [part for piece in pieces for part in reader.push(piece)] + reader.finish()
        assert [(call.name, call.arguments) for call in reader.calls] == calls, answer
        assert "".join(part.text for part in parts if part.kind == "text").strip() == "", answer
