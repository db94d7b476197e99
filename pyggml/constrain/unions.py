"""oneOf as anyOf, where no value can be of two of its schemas; where that cannot be shown it stays as it is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

Clean = dict[str, Any] | bool

_MOST_LEVELS = 8
_ALL = frozenset(("null", "boolean", "number", "string", "array", "object"))


def apart(options: list[Clean], defs: Mapping[str, Clean]) -> bool:
    """Whether no two of them have a value in common, as far as types, constants and required properties show.

    >>> apart([{"const": 1}, {"type": "string"}], {}), apart([{"type": "integer"}, {"type": "number"}], {})
    (True, False)
    """
    return all(_disjoint(a, b, defs, 0) for a, b in itertools.combinations(options, 2))


def _disjoint(a: Clean, b: Clean, defs: Mapping[str, Clean], level: int) -> bool:
    if a is False or b is False:
        return True
    if a is True or b is True or level > _MOST_LEVELS:
        return False
    for one, other in ((a, b), (b, a)):
        if "$ref" in one and _disjoint(defs[one["$ref"].rpartition("/")[2]], other, defs, level + 1):
            return True
        if any(_disjoint(each, other, defs, level + 1) for each in one.get("allOf", ())):
            return True
        for key in ("anyOf", "oneOf"):
            if key in one and all(_disjoint(each, other, defs, level + 1) for each in one[key]):
                return True
    values, others = _values(a), _values(b)
    if values is not None and others is not None:
        return not any(_same(x, y) for x in values for y in others)
    kinds = _kinds(a) & _kinds(b)
    if not kinds:
        return True
    if kinds != {"object"}:
        return False
    first, second = a.get("properties", {}), b.get("properties", {})
    needed = {*a.get("required", ()), *b.get("required", ())}
    return any(
        name in first and name in second and _disjoint(first[name], second[name], defs, level + 1) for name in needed
    )


def _values(node: dict[str, Any]) -> list[Any] | None:
    return [node["const"]] if "const" in node else node.get("enum")


def _same(x: Any, y: Any) -> bool:
    """Equal for JSON: 1 is 1.0, and not true."""
    return bool(x == y) and isinstance(x, bool) == isinstance(y, bool)


def _kinds(node: dict[str, Any]) -> frozenset[str]:
    kinds = node.get("type", _ALL)
    several = [kinds] if isinstance(kinds, str) else kinds
    found = frozenset("number" if each == "integer" else each for each in several)
    values = _values(node)
    return found if values is None else found & frozenset(map(_kind, values))


def _kind(value: Any) -> str:
    words = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return words.get(type(value), "null")
