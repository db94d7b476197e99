"""tool_choice "required" or a name, as what an answer must be: the grammar of a call, judged and compiled as others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyggml.chat import harmony
from pyggml.chat.speech import Speech
from pyggml.chat.tools.forcing import lark
from pyggml.errors import ArgumentError

if TYPE_CHECKING:
    from pyggml.constrain import Wanted
    from pyggml.tokenizer import Tokenizer

_SPACES = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": False}


def forced(speech: Speech, template: str, tokenizer: Tokenizer, other: Wanted | None) -> Wanted | None:
    """What the answer must be where a tool must be called, else other. Raises ArgumentError where both are given."""
    tools = speech.tools
    if tools is not None and tools.choice == "auto" and other is not None:
        raise ArgumentError(
            f"{other.name}= and tools= are given: an answer that follows it can be no call; say tool_choice='none'"
        )
    if tools is None or tools.choice == "auto":
        return other
    if other is not None:
        raise ArgumentError(
            f"{other.name}= and tool_choice={tools.choice!r} are given: an answer can follow one of them"
        )
    from pyggml.constrain import Wanted, schema

    names = tools.parameters if tools.choice == "required" else [tools.choice]
    chosen = {name: _closed(tools.parameters[name]) for name in names}

    def judge() -> str | schema.Judged:
        if speech.channels:
            return schema.judge(chosen[tools.choice])
        clean = {name: {"x-guidance": _SPACES, **_mapping(schema.judge(each).clean)} for name, each in chosen.items()}
        return lark(speech.frames, template, tools, speech.called is not None, tokenizer.control_parts, clean)

    key = repr((template if not speech.channels else harmony.CHANNEL, tools.choice, chosen))
    return Wanted("tool_choice", judge, key)


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema whose objects have the properties that it names and no others, where it does not say otherwise."""
    return {"additionalProperties": False, **schema} if "properties" in schema else dict(schema)


def _mapping(clean: object) -> dict[str, object]:
    return clean if isinstance(clean, dict) else {}
