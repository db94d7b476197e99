"""Whether what a schema describes can end: references that lead to themselves, values that always hold another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import GrammarError

Clean = dict[str, Any] | bool

_ENDLESS = "it allows no value, or each holds another one: no text of it ends"


def check_endings(root: Clean, defs: Mapping[str, Clean], paths: Mapping[str, str]) -> None:
    """root and defs: as schema.judge() makes them; paths: where the definitions stand in the caller's schema.

    Raises GrammarError for a definition that is itself without anything around it, and one whose values are endless.
    """
    for name in defs:
        _check_circle(name, defs, paths)
    ends: set[str] = set()
    while more := [name for name, each in defs.items() if name not in ends and _ends(each, ends)]:
        ends.update(more)
    for name in defs:
        if name not in ends:
            raise GrammarError(f"{paths[name]}: {_ENDLESS}")
    if not _ends(root, ends):
        raise GrammarError(f"#: {_ENDLESS}")


def _check_circle(name: str, defs: Mapping[str, Clean], paths: Mapping[str, str]) -> None:
    seen: set[str] = set()
    waiting = [*_same(defs[name])]
    while waiting:
        other = waiting.pop()
        if other == name:
            raise GrammarError(f"{paths[name]}: it refers to itself, and says nothing more: a circle of $ref")
        if other not in seen:
            seen.add(other)
            waiting += _same(defs[other])


def _name(ref: str) -> str:
    return ref.rpartition("/")[2]


def _same(node: Clean) -> Iterator[str]:
    """The definitions that a schema's own value must be of."""
    if isinstance(node, bool):
        return
    if "$ref" in node:
        yield _name(node["$ref"])
    for key in ("allOf", "anyOf", "oneOf"):
        for each in node.get(key, ()):
            yield from _same(each)


def _ends(node: Clean, ends: set[str]) -> bool:
    """Whether it has a value, if the definitions that are known to end do."""
    if isinstance(node, bool):
        return node
    if "$ref" in node and _name(node["$ref"]) not in ends:
        return False
    if not all(_ends(each, ends) for each in node.get("allOf", ())):
        return False
    for key in ("anyOf", "oneOf"):
        if key in node and not any(_ends(each, ends) for each in node[key]):
            return False
    if "const" in node or "enum" in node:
        return True
    kinds = node.get("type", "null")
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "object":
            properties, other = node.get("properties", {}), node.get("additionalProperties", True)
            patterns = node.get("patternProperties")
            if all(_ends(properties.get(each, True if patterns else other), ends) for each in node.get("required", ())):
                return True
        elif kind == "array":
            first, least = node.get("prefixItems", []), node.get("minItems", 0)
            needed = [*first[:least], *([node.get("items", True)] if least > len(first) else [])]
            if all(_ends(each, ends) for each in needed):
                return True
        else:
            return True
    return False
