"""The JSON schema of a Python type: of annotations, dataclasses, TypedDicts, enumerations and pydantic's models.

Knows no model and no values. Simple types stay words ("type": "string"), as chat templates print them.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import inspect
import os
import types
import typing
import uuid
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

from pyggml.errors import ArgumentTypeError
from pyggml.shown import shown

Schema = dict[str, Any]

_WORDS: dict[Any, Schema] = {
    str: {"type": "string"}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    None: {"type": "null"}, type(None): {"type": "null"}, Any: {}, object: {}, inspect.Parameter.empty: {},
    dict: {"type": "object"}, list: {"type": "array"}, tuple: {"type": "array"}, set: {"type": "array"},
    frozenset: {"type": "array"}, datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"}, datetime.time: {"type": "string", "format": "time"},
    uuid.UUID: {"type": "string", "format": "uuid"},
}  # fmt: skip
_LISTS = (
    list, set, frozenset, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Iterable,
    collections.abc.Collection, collections.abc.Set,
)  # fmt: skip
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_MOST_LEVELS = 32


def schema_of(kind: Any, where: str = "the type") -> Schema:
    """The schema of what an annotation allows. where: how messages call it. Raises ArgumentTypeError.

    >>> schema_of(list[int]), schema_of(int | None), schema_of(typing.Literal["a"])
    ({'type': 'array', 'items': {'type': 'integer'}}, {'type': ['integer', 'null']}, {'type': 'string', 'enum': ['a']})
    """
    defs: Schema = {}
    found = _schema(kind, where, defs, 0)
    return {**found, "$defs": defs} if defs else found


def _schema(kind: Any, where: str, defs: Schema, level: int) -> Schema:
    if level > _MOST_LEVELS:
        raise ArgumentTypeError(f"{where} is nested deeper than {_MOST_LEVELS}, or holds itself; give a JSON schema")
    try:
        if kind in _WORDS:
            return dict(_WORDS[kind])
    except TypeError:  # not hashable: an annotation with a list in it
        pass
    origin, args = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return _annotated(_schema(args[0], where, defs, level + 1), args[1:])
    if getattr(origin, "_name", "") in ("NotRequired", "Required", "ReadOnly"):  # of a TypedDict, which knows it too
        return _schema(args[0], where, defs, level + 1)
    if origin in (Union, types.UnionType):
        return _union([_schema(each, where, defs, level + 1) for each in args])
    if origin is typing.Literal:
        return _enum(list(args), where)
    if origin in _LISTS or kind in _LISTS:
        return {"type": "array", **({"items": _schema(args[0], where, defs, level + 1)} if args else {})}
    if origin is tuple:
        return _tuple(args, where, defs, level)
    if origin in _MAPS or kind in _MAPS:
        if args and args[0] not in (str, Any):
            raise ArgumentTypeError(f"{where} is {shown(kind)}: the keys of a JSON object are text (str)")
        return {
            "type": "object",
            **({"additionalProperties": _schema(args[1], where, defs, level + 1)} if args else {}),
        }
    if hasattr(kind, "__supertype__"):
        return _schema(kind.__supertype__, where, defs, level + 1)
    if isinstance(kind, type):
        return _of_class(kind, where, defs, level)
    raise ArgumentTypeError(
        f"{where} is {shown(kind)}, of which no JSON schema is known; expected str, int, float, bool, list, dict, "
        "Literal, an enumeration, a dataclass, a TypedDict, a pydantic model or unions of them"
    )


def _of_class(kind: type, where: str, defs: Schema, level: int) -> Schema:
    if issubclass(kind, enum.Enum):
        return _enum([each.value for each in kind], where)
    if hasattr(kind, "model_json_schema"):  # pydantic's
        made: Schema = dict(kind.model_json_schema())
        defs.update(made.pop("$defs", {}))
        return made
    if dataclasses.is_dataclass(kind):
        needed = [
            field.name
            for field in dataclasses.fields(kind)
            if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        names = [field.name for field in dataclasses.fields(kind) if field.init]
        return _object(kind, names, needed, where, defs, level)
    if typing.is_typeddict(kind):
        hints, required = typing.get_type_hints(kind), vars(kind)["__required_keys__"]
        return _object(kind, list(hints), [name for name in hints if name in required], where, defs, level)
    if issubclass(kind, os.PathLike):
        return {"type": "string"}
    for base in (bool, str, int, float):
        if issubclass(kind, base):
            return dict(_WORDS[base])
    raise ArgumentTypeError(
        f"{where} is the class {kind.__name__}, of which no JSON schema is known; make it a dataclass or a TypedDict"
    )


def _object(kind: type, names: list[str], needed: list[str], where: str, defs: Schema, level: int) -> Schema:
    hints = hints_of(kind, where)
    made = {name: _schema(hints[name], f"{where}: {kind.__name__}.{name}", defs, level + 1) for name in names}
    return {"type": "object", "properties": made, "required": needed, "additionalProperties": False}


def hints_of(of: Any, where: str) -> dict[str, Any]:
    """The annotations of a class or a function, names in them looked up. Raises ArgumentTypeError."""
    try:
        return typing.get_type_hints(of, include_extras=True)
    except Exception as error:  # a name that is not there, whatever a module's names raise
        raise ArgumentTypeError(f"the annotations of {where} cannot be read: {shown(str(error))}") from None


def _tuple(args: tuple[Any, ...], where: str, defs: Schema, level: int) -> Schema:
    if len(args) == 2 and args[1] is Ellipsis:
        return {"type": "array", "items": _schema(args[0], where, defs, level + 1)}
    items = [_schema(each, where, defs, level + 1) for each in args if each != ()]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items), "maxItems": len(items)}


def _enum(values: list[Any], where: str) -> Schema:
    values = [each.value if isinstance(each, enum.Enum) else each for each in values]
    words = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}
    kinds = {words.get(type(each)) for each in values}
    if None in kinds:
        raise ArgumentTypeError(f"{where} has values that JSON does not: {shown(values)}")
    kind = kinds.pop() if len(kinds) == 1 else None
    return {"type": kind, "enum": values} if kind else {"enum": values}


def _union(parts: list[Schema]) -> Schema:
    """One schema for several; types that are mere words stay together."""
    distinct = [part for i, part in enumerate(parts) if part not in parts[:i]]
    if {} in distinct:
        return {}
    if len(distinct) == 1:
        return distinct[0]
    if all(part.keys() == {"type"} and isinstance(part["type"], str) for part in distinct):
        return {"type": [part["type"] for part in distinct]}
    return {"anyOf": distinct}


def _annotated(schema: Schema, notes: tuple[Any, ...]) -> Schema:
    """A text beside a type, or what has one as its description (pydantic's Field), describes it."""
    for note in notes:
        said = note if isinstance(note, str) else getattr(note, "description", None)
        if isinstance(said, str) and said:
            schema = {**schema, "description": said}
    return schema


def without_null(schema: Mapping[str, Any]) -> Schema:
    """A schema that no longer allows null, for what may be left out instead.

    >>> without_null({"type": ["string", "null"]}), without_null({"anyOf": [{"type": "array"}, {"type": "null"}]})
    ({'type': 'string'}, {'type': 'array'})
    """
    kinds = schema.get("type")
    if isinstance(kinds, list) and "null" in kinds:
        left = [each for each in kinds if each != "null"]
        return {**schema, "type": left[0] if len(left) == 1 else left}
    if "anyOf" in schema and {"type": "null"} in schema["anyOf"]:
        parts = [part for part in schema["anyOf"] if part != {"type": "null"}]
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**parts[0], **rest} if len(parts) == 1 else {**rest, "anyOf": parts}
    return dict(schema)
