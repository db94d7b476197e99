"""What an answer is made of: parts as they come, and calls of tools. Made in chat/ and engine/; knows no model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from pyggml.arguments import wrong_type

Kind = Literal["text", "reasoning", "tool_call"]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an answer, as a stream's parts() gives them.

    kind "text": the answer itself; the texts joined are `.text` of the Completion. "reasoning": what the model thinks
    before it answers, `.reasoning` of the Completion. "tool_call": a piece of the JSON text of a call's arguments;
    index counts the calls, id and name are the call's and stand in each of its pieces. A call that turns out malformed
    comes once more as text, and the Completion's tool_calls do not have its id.

    >>> str(Part("text", " king")), Part("reasoning", "Who?").kind
    (' king', 'reasoning')
    """

    kind: Kind
    text: str
    index: int = 0
    id: str = ""
    name: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for. arguments: by name. raw: the text that it was read from.

    id: nine letters and digits, or what the model itself gave; a message of role "tool" answers to it.

    >>> call = ToolCall("a1b2c3d4e", "weather", {"city": "Rome"})
    >>> call.message("sunny")
    {'role': 'tool', 'tool_call_id': 'a1b2c3d4e', 'name': 'weather', 'content': 'sunny'}
    """

    id: str
    name: str
    arguments: dict[str, Any]
    raw: str = field(default="", repr=False, compare=False)

    @property
    def arguments_json(self) -> str:
        """The arguments as a JSON text, as OpenAI's API gives them."""
        return json.dumps(self.arguments, ensure_ascii=False)

    def openai(self) -> dict[str, Any]:
        """As a message of an assistant holds it."""
        function = {"name": self.name, "arguments": self.arguments_json}
        return {"id": self.id, "type": "function", "function": function}

    def message(self, result: Any) -> dict[str, Any]:
        """The message that tells the model what came of it. A result that is no text is written as JSON."""
        try:
            said = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
        except Exception:  # a stranger's object may raise anything
            raise wrong_type("result", "text, or what JSON can say", result) from None
        return {"role": "tool", "tool_call_id": self.id, "name": self.name, "content": said}
