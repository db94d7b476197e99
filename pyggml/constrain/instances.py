"""Values of JSON made instances of Python's types: dataclasses, enumerations, tuples and what they hold."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin

from ..errors import ArgumentTypeError

_READ: dict[Any, Callable[[str], Any]] = {
    datetime.datetime: lambda said: datetime.datetime.fromisoformat(said.replace("Z", "+00:00")),
    datetime.date: datetime.date.fromisoformat,
    datetime.time: lambda said: datetime.time.fromisoformat(said.replace("Z", "+00:00")),
    uuid.UUID: uuid.UUID,
}
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_QUALIFIERS = tuple(getattr(typing, name) for name in ("Required", "NotRequired") if hasattr(typing, name))
_SETS: dict[Any, Callable[[list[Any]], Any]] = {
    set: set,
    frozenset: frozenset,
    tuple: tuple,
    collections.abc.Set: frozenset,
}


def made(kind: Any, value: Any) -> Any:
    """value, which is of kind's schema, as kind has it. Raises ArgumentTypeError for one that is not.

    >>> @dataclasses.dataclass
    ... class Point:
    ...     x: int
    ...     name: str | None = None
    >>> made(list[Point], [{"x": 1}])
    [Point(x=1, name=None)]
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is typing.Annotated or origin in _QUALIFIERS:
        return made(args[0], value)
    if hasattr(kind, "__supertype__"):
        return made(kind.__supertype__, value)
    if origin in (Union, types.UnionType):
        return _first(args, value)
    if origin is typing.Literal:
        return next((each for each in args if _bare(each) == value and type(_bare(each)) is type(value)), value)
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        return tuple(made(each, part) for each, part in zip(args, _list(value), strict=True))
    if origin in _MAPS or kind in _MAPS:
        return {key: made(args[1], each) for key, each in value.items()} if args else value
    if origin is not None and args:
        return _SETS.get(origin, list)([made(args[0], each) for each in _list(value)])
    if isinstance(kind, type):
        return _of_class(kind, value)
    return value


def _bare(each: Any) -> Any:
    return each.value if isinstance(each, enum.Enum) else each


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ArgumentTypeError(f"expected a list, got {type(value).__name__}")
    return value


def _of_class(kind: type, value: Any) -> Any:
    if issubclass(kind, enum.Enum):
        return kind(value)
    if hasattr(kind, "model_validate"):  # pydantic's
        return kind.model_validate(value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return kind(**{name: made(hints[name], each) for name, each in _mapping(value).items()})
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        return {name: made(hints[name], each) for name, each in _mapping(value).items()}
    if kind in _READ:
        return _READ[kind](value)
    if kind in _SETS:
        return _SETS[kind](_list(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    simple = {str: str, int: int, float: float, bool: bool, type(None): type(None)}.get(kind)
    if simple is not None and type(value) is not simple:
        raise ArgumentTypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ArgumentTypeError(f"expected an object, got {type(value).__name__}")
    return value


def _first(kinds: tuple[Any, ...], value: Any) -> Any:
    """As the first of several types that it fits."""
    for kind in kinds:
        try:
            return made(kind, value)
        except (ArgumentTypeError, TypeError, ValueError, KeyError):
            continue
    raise ArgumentTypeError(f"{type(value).__name__} fits none of {kinds}")
