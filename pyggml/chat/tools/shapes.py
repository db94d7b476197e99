"""Which function a value calls: the shapes of JSON that models were trained to write, and arguments by their schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyggml.chat.tools.values import loads

_NAMES = ("name", "tool_name", "function_name", "tool", "function", "action", "recipient_name")
_ARGUMENTS = ("arguments", "parameters", "args", "input", "params", "tool_input", "action_input", "kwargs", "inputs")
_IDS = ("id", "tool_call_id", "call_id")
_LISTS = ("tool_calls", "tool_call", "function_call", "function_calls", "calls", "tool_uses")
CALL_KEYS = frozenset({*_NAMES, *_ARGUMENTS, *_IDS, *_LISTS, "type"})
"""What the JSON text of a call may begin with."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it was written. id: the model's own, "": none; raw: the text it was read from."""

    name: str
    arguments: dict[str, Any]
    id: str = ""
    raw: str = ""


Schemas = Mapping[str, Mapping[str, Any]]


def calls_of(value: object, schemas: Schemas) -> list[Call] | None:
    """The calls that a JSON value means; None where it, or a part of it, means none.

    >>> calls_of([{"name": "f", "arguments": {"a": 1}}, {"type": "function", "function": {"name": "g"}}], {})
    [Call(name='f', arguments={'a': 1}, id='', raw=''), Call(name='g', arguments={}, id='', raw='')]
    """
    if isinstance(value, list):
        found: list[Call] = []
        for each in value:
            calls = calls_of(each, schemas) if isinstance(each, dict) else None
            if calls is None:
                return None
            found += calls
        return found or None
    if not isinstance(value, dict):
        return None
    for key in _LISTS:
        if isinstance(value.get(key), list | dict) and not any(isinstance(value.get(name), str) for name in _NAMES):
            return calls_of(value[key], schemas)
    call = call_of(value, schemas)
    return None if call is None else [call]


def call_of(value: Mapping[str, Any], schemas: Schemas) -> Call | None:
    """The call that one JSON object means."""
    said = next((value[key] for key in _IDS if isinstance(value.get(key), str | int)), "")
    inner = value.get("function")
    if isinstance(inner, dict):
        value = inner
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), None)
    if name is None:
        return _by_key(value, schemas)
    given = next((value[key] for key in _ARGUMENTS if key in value), None)
    arguments = arguments_of(given)
    return None if arguments is None or not name.strip() else Call(plain_name(name), arguments, str(said))


def _by_key(value: Mapping[str, Any], schemas: Schemas) -> Call | None:
    """{"weather": {"city": "Rome"}}, as Apertus writes it."""
    if len(value) != 1:
        return None
    ((name, given),) = value.items()
    arguments = arguments_of(given)
    return Call(name, arguments) if name in schemas and arguments is not None else None


def arguments_of(given: object) -> dict[str, Any] | None:
    """Arguments as a dict: one, its JSON text, or nothing at all; None for anything else."""
    if given is None:
        return {}
    if isinstance(given, str):
        if not given.strip():
            return {}
        try:
            given = loads(given)
        except ValueError:
            return None
    return given if isinstance(given, dict) else None


def plain_name(name: str) -> str:
    """A function's name without the room it was put in: functions.weather."""
    name = name.strip()
    return name.removeprefix("functions.") or name


def typed(text: str, schema: object) -> Any:
    """What a text without quotes means where the schema says of which type it is.

    >>> typed("3", {"type": "integer"}), typed("3", {"type": "string"}), typed("True", {"type": "boolean"})
    (3, '3', True)
    """
    kinds = _kinds(schema)
    if kinds == {"string"}:
        return text
    try:
        value = loads(text)
    except ValueError:
        return text
    if isinstance(value, str) or (kinds and _word(value) not in kinds and not _counts(value, kinds)):
        return value if isinstance(value, str) and kinds and "string" not in kinds else text
    return value


def _kinds(schema: object) -> set[str]:
    if not isinstance(schema, Mapping):
        return set()
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {each for each in kind if isinstance(each, str)}
    parts = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(parts, list) and parts:
        found = [_kinds(part) for part in parts]
        return set().union(*found) if all(found) else set()
    return set()


def _word(value: object) -> str:
    words = {bool: "boolean", int: "integer", float: "number", dict: "object", list: "array", type(None): "null"}
    return words.get(type(value), "string")


def _counts(value: object, kinds: set[str]) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and "number" in kinds


def property_of(schemas: Schemas, name: str, key: str) -> object:
    """The schema of one argument of a function; None where nothing is known."""
    schema = schemas.get(name)
    properties = schema.get("properties") if schema is not None else None
    return properties.get(key) if isinstance(properties, Mapping) else None
