"""Messages as people have them, made what templates read: parts of text joined, None where nothing was said.

Knows no template; whether one reads parts itself is asked of a function.
"""

from __future__ import annotations

import json
import string
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pyggml.answer import ToolCall
from pyggml.arguments import list_of
from pyggml.completion import Completion
from pyggml.errors import ArgumentTypeError, TemplateError
from pyggml.shown import shown

_THOUGHTS = ("reasoning_content", "thinking", "reasoning")  # names of it in messages, by how usual they are
_EXAMPLE = '[{"role": "user", "content": "..."}]'


def items_of(messages: object) -> list[Any]:
    """The messages as a list, from any iterable of them. Raises TemplateError for what is none."""
    try:
        return list_of("messages", messages)
    except ArgumentTypeError:
        raise TemplateError(f"messages must be a list of dicts like {_EXAMPLE}, got {shown(messages)}") from None


def lacking(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the first message lacks that nearly every template reads; "" where nothing is missing.

    >>> lacking([{"role": "user", "content": "hi"}, {"role": "user"}])
    'messages[1] has no content, expected a dict like {"role": "user", "content": "..."}'
    """
    for i, message in enumerate(messages):
        missing = [key for key in ("role", "content") if key not in message]
        if message.get("tool_calls"):
            missing = [key for key in missing if key != "content"]
        if missing:
            return f"messages[{i}] has no {' and no '.join(missing)}, expected a dict like {_EXAMPLE[1:-1]}"
    return ""


class Reads(Protocol):
    """What a template is asked about."""

    def parts(self) -> bool:
        """Whether a content may be a list of parts."""
        ...

    def arguments_as_text(self) -> bool:
        """Whether the arguments of a call must be JSON text; else they are an object."""
        ...

    def names(self, word: str) -> bool:
        """Whether it reads this key of a message."""
        ...

    def short_ids(self) -> bool:
        """Whether ids of calls must be nine letters and digits."""
        ...


def readable(messages: object, reads: Reads) -> list[dict[str, Any]]:
    """A list of dicts whose contents are text where they can be.

    A list of parts {"type": "text", "text": ...} stays where the template reads parts itself; else the texts are joined
    by line breaks. None is "", but stays beside tool_calls, as templates ask for it. A Completion is its message.
    Arguments of calls are what the template reads, an object or JSON text; ids as long as it asks for; reasoning has
    the name that it reads.
    Raises TemplateError.
    """
    made = []
    for i, message in enumerate(items_of(messages)):
        if isinstance(message, Completion):
            message = message.message
        if not isinstance(message, Mapping):
            raise TemplateError(
                f"messages[{i}] is {type(message).__name__}, expected a dict with role and content: {shown(message)}"
            )
        found = dict(message)
        said = found.get("content")
        if isinstance(said, Completion):
            found = {**said.message, **found}
        if isinstance(found.get("tool_call_id"), str) and reads.short_ids():
            found["tool_call_id"] = short_id(found["tool_call_id"])
        if found.get("tool_calls"):
            found["tool_calls"] = _calls(found["tool_calls"], f"messages[{i}]", reads)
        if "content" in found:
            found["content"] = _content(said, f"messages[{i}]", bool(found.get("tool_calls")), reads.parts)
        thought = next((found[key] for key in _THOUGHTS if isinstance(found.get(key), str)), None)
        if thought is not None and not any(reads.names(key) for key in _THOUGHTS if key in found):
            key = next((key for key in _THOUGHTS if reads.names(key)), None)
            found.update({key: thought} if key else {})
        made.append(found)
    return made


def _calls(value: object, where: str, reads: Reads) -> object:
    """Calls of a message, their arguments as the template reads them; what is no call is the template's business."""
    if not isinstance(value, list | tuple):
        return value
    made = []
    for i, call in enumerate(value):
        if isinstance(call, ToolCall):
            call = call.openai()
        inner = call.get("function", call) if isinstance(call, Mapping) else None
        if isinstance(inner, Mapping) and isinstance(inner.get("arguments"), str | Mapping):
            at = f"{where}: tool_calls[{i}]"
            changed = {**inner, "arguments": _arguments(inner["arguments"], at, reads.arguments_as_text())}
            call = {**call, "function": changed} if "function" in call else changed
        if isinstance(call, Mapping) and isinstance(call.get("id"), str) and reads.short_ids():
            call = {**call, "id": short_id(call["id"])}
        made.append(call)
    return made


def short_id(text: str) -> str:
    """An id of nine letters and digits, the same for the same text; one that is none stays.

    >>> short_id("abcdefgh1"), len(short_id("call_1234567890abcdef")), short_id("call_1") == short_id("call_2")
    ('abcdefgh1', 9, False)
    """
    if len(text) == 9 and text.isascii() and text.isalnum():
        return text
    data = text.encode("utf-8", "replace")
    value = zlib.crc32(data) << 32 | zlib.crc32(data[::-1], 1)
    made = ""
    while len(made) < 9:
        value, digit = divmod(value, 62)
        made += (string.digits + string.ascii_letters)[digit]
    return made


def _arguments(value: str | Mapping[str, Any], where: str, as_text: bool) -> object:
    if as_text:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value) if value.strip() else {}
    except (ValueError, RecursionError) as error:
        raise TemplateError(f"{where}: the arguments are no JSON ({error}): {shown(value)}") from None
    return found if isinstance(found, dict) else value


def _content(value: object, where: str, calls: bool, reads_parts: Callable[[], bool]) -> object:
    if isinstance(value, Completion):
        return value.text
    if value is None:
        return None if calls else ""
    if isinstance(value, bytes | bytearray | set | frozenset):
        raise TemplateError(f"{where}: content is {shown(value)}, expected text or a list of text parts")
    if isinstance(value, Mapping) and "text" in value:
        value = [value]
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(map(_is_part, value)):
        return value  # what a tool gave, perhaps: the template's own business
    parts = [_text(part, f"{where}: content[{i}]") for i, part in enumerate(value)]
    return [{"type": "text", "text": part} for part in parts] if reads_parts() else "\n".join(parts)


def _is_part(item: object) -> bool:
    return isinstance(item, str | Completion) or (isinstance(item, Mapping) and ("type" in item or "text" in item))


def _text(part: object, where: str) -> str:
    if isinstance(part, str | Completion):
        return str(part)
    text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        raise TemplateError(f'{where} is {shown(kind)}, expected {{"type": "text", "text": ...}}: only text is read')
    return text
