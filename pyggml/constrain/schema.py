"""A JSON schema, judged and written anew: what is compiled is what was judged, and nothing else.

Every keyword is enforced, an annotation, or an error that names its place; draft 2020-12. References become
definitions of the new schema. Whether its values can end is in endings.py.
"""

from __future__ import annotations

import difflib
import json
import urllib.parse
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import GrammarError
from ..shown import shown
from . import formats, values
from .endings import check_endings
from .patterns import searched
from .rules import MOST_BYTES, MOST_LEVELS, too_deep
from .unions import apart

Made = dict[str, Any]
Clean = Made | bool

MOST_PARTS = 2000
_MOST_NESTED = 40  # of one definition: the parser reads 128 levels of JSON

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_ANNOTATIONS = frozenset((
    "title", "description", "default", "examples", "example", "$comment", "deprecated", "readOnly", "writeOnly",
    "$anchor", "$defs", "definitions", "contentEncoding", "contentMediaType", "contentSchema", "discriminator", "xml",
    "externalDocs",
))  # fmt: skip
_NOT_ENFORCED = frozenset((
    "not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames", "dependentRequired",
    "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems", "additionalItems", "$dynamicRef",
    "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary", "uniqueItems",
))  # fmt: skip
_ROOT_ONLY = ("$schema", "$id", "id")
_DRAFTS = ("2020-12", "2019-09", "draft-07", "draft-06", "draft-04")


def parse(text: str, what: str = "schema") -> Any:
    """The value of JSON text. Raises GrammarError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise GrammarError(f"{what} is nested too deeply") from None
    except ValueError as e:
        raise GrammarError(f"{what} is no JSON: {e}") from None


class Judged(NamedTuple):
    """What is compiled: enforced keywords only, references to its own $defs. places: where its parts stood, by id()."""

    clean: Clean
    places: dict[int, str]


def judge(schema: Any) -> Judged:
    """The schema anew. Raises GrammarError.

    >>> judge({"type": "integer", "minimum": 3, "title": "Number"}).clean
    {'type': 'integer', 'minimum': 3}
    """
    it = _Judge(schema)
    return Judged(it.clean(), it.places)


def _at(path: str, key: str | int) -> str:
    return f"{path}/{urllib.parse.quote(str(key).replace('~', '~0').replace('/', '~1'), safe='~$')}"


class _Judge:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._parts = self._constants = 0
        self._names: dict[str, str] = {}  # pointer -> name of a definition
        self._waiting: list[tuple[str, Any, str]] = []  # definitions that are not visited yet
        self._within = ""  # the one that is
        self._uses: dict[str, list[tuple[str, int]]] = {}  # those that it refers to, and how deep in it
        self._defs: dict[str, Clean] = {}
        self.paths: dict[str, str] = {}  # of definitions
        self.places: dict[int, str] = {}
        self._choices: list[dict[str, Any]] = []  # those with oneOf
        base = root.get("$id", "") if isinstance(root, dict) else ""
        self._base = base.split("#")[0] if isinstance(base, str) else ""

    def clean(self) -> Clean:
        """The whole schema."""
        try:
            size = len(json.dumps(self._root, allow_nan=True))
        except (TypeError, ValueError, RecursionError) as e:
            raise GrammarError(f"the schema is no JSON: {type(e).__name__} {e}") from None
        if size > MOST_BYTES:
            raise GrammarError(f"the schema has {size:,} bytes, at most {MOST_BYTES:,} are compiled")
        self.paths[""] = "#"
        self._uses[""] = []
        made = self._visit(self._root, "#", 0)
        if made is True:
            return {}
        while self._waiting:
            self._within, node, path = self._waiting.pop()
            self._uses[self._within] = []
            self._defs[self._within] = self._visit(node, path, 0)
        if deep := too_deep(self._uses):
            raise GrammarError(f"{self.paths[deep]}: more than {MOST_LEVELS} references and levels away from the root")
        check_endings(made, self._defs, self.paths)
        for node in self._choices:
            if apart(node["oneOf"], self._defs):
                node.setdefault("allOf", []).append({"anyOf": node.pop("oneOf")})
        if isinstance(made, dict) and self._defs:
            made["$defs"] = self._defs
        return made

    def _visit(self, node: Any, path: str, nested: int) -> Clean:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise GrammarError(f"{path}: the schema has more than {MOST_PARTS:,} parts")
        if nested > _MOST_NESTED:
            raise GrammarError(f"{path}: nested deeper than {_MOST_NESTED}; use $ref and $defs")
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise GrammarError(f"{path}: a schema is an object, true or false, got {shown(node)}")
        made: dict[str, Any] = {}
        self.places[id(made)] = path
        for key, value in node.items():
            if not isinstance(key, str):
                raise GrammarError(f"{path}: the keyword {shown(key)} is no text")
            where = _at(path, key)
            if key in _ANNOTATIONS or self._is_note(key, value, path):
                continue
            visit = _KEYWORDS.get(key)
            if visit is None:
                raise self._unknown(where, key)
            visit(self, made, key, value, where, nested)
        self._agree(made, path)
        return made

    def _is_note(self, key: str, value: Any, path: str) -> bool:
        """Of what has a place or a value in which it changes nothing."""
        if key == "$schema" and path == "#":
            draft = value.replace("/draft/", "/") if isinstance(value, str) else ""
            if not any(f"json-schema.org/{each}" in draft for each in _DRAFTS):
                raise GrammarError(f"#/$schema: {shown(value)} is no draft that is known: {', '.join(_DRAFTS)}")
            return True
        if key in _ROOT_ONLY:
            if path == "#" and isinstance(value, str):
                return True
            raise GrammarError(f"{path}/{key}: a part of a schema with a name of its own is not supported; use $defs")
        if key == "nullable" and value is False:
            return True
        if key == "uniqueItems" and value is False:
            return True
        return key.startswith("x-") and key != "x-guidance"

    def _unknown(self, where: str, key: str) -> GrammarError:
        if key == "nullable":
            return GrammarError(f'{where}: nullable is no keyword of JSON schema; write "type": [..., "null"]')
        if key == "x-guidance":
            return GrammarError(f"{where}: options of the parser are not taken from a schema")
        if key in _NOT_ENFORCED:
            return GrammarError(f"{where}: the keyword {key} cannot be enforced; take it away and check it yourself")
        near = difflib.get_close_matches(key, [*_KEYWORDS], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return GrammarError(f"{where}: {shown(key)} is no keyword that is known, so it cannot be enforced{hint}")

    # ---- other schemas ---------------------------------------------------------------------------------------------

    def _several(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        if not isinstance(value, list) or not value:
            raise GrammarError(f"{where}: expected a list of schemas, got {shown(value)}")
        made.setdefault(key, []).extend(self._visit(each, _at(where, i), nested + 1) for i, each in enumerate(value))
        if key == "oneOf":
            self._choices.append(made)

    def _items(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        if isinstance(value, list):
            raise GrammarError(f"{where}: a list of schemas is called prefixItems since draft 2020-12")
        self._one(made, key, value, where, nested)

    def _one(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        made[key] = self._visit(value, where, nested + 1)

    def _properties(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        made["properties"] = {
            name: self._visit(each, _at(where, name), nested + 1) for name, each in self._named(value, where)
        }

    def _pattern_properties(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        found = made["patternProperties"] = {}
        for name, each in self._named(value, where):
            pattern = f"^{_pattern(name, _at(where, name))}$"
            if pattern in found:
                raise GrammarError(f"{_at(where, name)}: the same pattern twice")
            found[pattern] = self._visit(each, _at(where, name), nested + 1)

    def _named(self, value: Any, where: str) -> list[tuple[str, Any]]:
        if not isinstance(value, dict):
            raise GrammarError(f"{where}: expected an object of schemas, got {shown(value)}")
        for name in value:
            if not isinstance(name, str) or not values.whole(name):
                raise GrammarError(f"{_at(where, ascii(name))}: the name has half of a character, or is no text")
        return [*value.items()]

    # ---- references ------------------------------------------------------------------------------------------------

    def _ref(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        if not isinstance(value, str):
            raise GrammarError(f"{where}: expected a text, got {shown(value)}")
        target, path = self._resolve(value, where)
        name = self._names.get(path)
        if name is None:
            name = self._names[path] = f"r{len(self._names)}"
            self.paths[name] = path
            self._waiting.append((name, target, path))
        self._uses[self._within].append((name, nested + 1))
        made["$ref"] = f"#/$defs/{name}"

    def _resolve(self, ref: str, where: str) -> tuple[Any, str]:
        base, _, fragment = ref.partition("#")
        if base and base != self._base:
            raise GrammarError(
                f"{where}: {shown(ref)} is another document; only references within the schema (#/...) are followed"
            )
        fragment = urllib.parse.unquote(fragment)
        if fragment and not fragment.startswith("/"):
            return self._anchored(fragment, where)
        node, path = self._root, "#"
        for token in fragment.split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(node):
                node = node[int(key)]
            else:
                raise GrammarError(f"{where}: {shown(ref)} leads nowhere")
            path = _at(path, key)
            if isinstance(node, dict) and isinstance(node.get("$id"), str):
                raise GrammarError(f"{path}/$id: a part of a schema with a name of its own is not supported; use $defs")
        return node, path

    def _anchored(self, name: str, where: str) -> tuple[Any, str]:
        found: list[tuple[Any, str]] = [*_anchors(self._root, "#", name)]
        if len(found) != 1:
            raise GrammarError(
                f"{where}: {len(found)} parts of the schema have the $anchor {shown(name)}, expected one"
            )
        return found[0]

    # ---- values ----------------------------------------------------------------------------------------------------

    def _type(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        kinds = value if isinstance(value, list) else [value]
        bad = [each for each in kinds if each not in TYPES] if all(isinstance(each, str) for each in kinds) else kinds
        if not kinds or bad or len(set(kinds)) < len(kinds):
            raise GrammarError(f"{where}: expected one or several of {', '.join(TYPES)}, got {shown(value)}")
        if "number" in kinds and "integer" in kinds:  # one of the other
            kinds = [each for each in kinds if each != "integer"]
        made["type"] = kinds if len(kinds) > 1 else kinds[0]

    def _const(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        made["const"] = self._constant(value, where)

    def _enum(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        if not isinstance(value, list) or not value:
            raise GrammarError(f"{where}: expected a list of values, got {shown(value)}")
        made["enum"] = [self._constant(each, _at(where, i)) for i, each in enumerate(value)]

    def _constant(self, value: Any, where: str) -> Any:
        self._constants += 1
        if self._constants > 10 * MOST_PARTS:
            raise GrammarError(f"{where}: the schema has more than {10 * MOST_PARTS:,} constants")
        if fault := values.fault(value):
            raise GrammarError(f"{where}: the value {shown(value)} cannot be enforced: {fault}")
        return value

    def _pattern(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        made["pattern"] = f"^{_pattern(value, where)}$"

    def _format(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        if value not in formats.KNOWN:
            raise GrammarError(
                f"{where}: {shown(value)} is none of the formats that are enforced: {', '.join(formats.KNOWN)}"
            )
        own = formats.OWN.get(value)
        if own is None:
            made["format"] = value
        else:
            made.setdefault("allOf", []).append({**own, "pattern": f"^{searched(own['pattern'])}$"})

    def _required(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        if not isinstance(value, list) or not all(isinstance(each, str) and values.whole(each) for each in value):
            raise GrammarError(f"{where}: expected a list of names, got {shown(value)}")
        made["required"] = [*dict.fromkeys(value)]

    def _count(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        if not values.is_number(value) or value < 0 or value != int(value) or value >= 2**53:
            raise GrammarError(f"{where}: expected a whole number from 0, got {shown(value)}")
        made[key] = int(value)

    def _bound(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        if not values.is_number(value):
            raise GrammarError(f"{where}: expected a number, got {shown(value)}")
        upper = key.endswith("aximum")
        found = values.bound(value, upper)
        if found is None:
            raise GrammarError(f"{where}: no number that readers tell apart is left beyond {shown(value)}")
        name = key if found == value else "maximum" if upper else "minimum"
        other = made.get(name, found)
        made[name] = min(found, other) if upper else max(found, other)

    def _multiple(self, made: Made, key: str, value: Any, where: str, nested: int) -> None:
        if not values.is_number(value) or value <= 0:
            raise GrammarError(f"{where}: expected a number above 0, got {shown(value)}")
        if not values.keeps(value):
            raise GrammarError(
                f"{where}: multiples of {shown(value)} are not exact where numbers are read as doubles; take a whole "
                "number, a half, a quarter ..., or a pattern of a text"
            )
        made[key] = value

    def _agree(self, made: Made, path: str) -> None:
        """Keywords that must be seen together."""
        for low, high in _PAIRS:
            if low in made and high in made and made[low] > made[high]:
                raise GrammarError(f"{path}/{low}: nothing satisfies it: {made[low]} is above {high} {made[high]}")
        if made.get("minProperties", 0) - len(made.get("required", ())) > 1:
            raise GrammarError(
                f"{path}/minProperties: names that are not in properties may come twice, which readers count once; "
                "at most one more than are required can be asked for"
            )
        if "multipleOf" in made:
            for name, most in values.ROOM.items():
                made.setdefault(name, most)
        elif (outer := [made[key] for key in _OUTER if key in made]) and made.get("type") != "integer":
            made["multipleOf"] = values.step(outer)


_OUTER = ("exclusiveMinimum", "exclusiveMaximum")
_PAIRS = (
    ("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"), ("minimum", "maximum"),
)  # fmt: skip
_KEYWORDS: dict[str, Callable[[_Judge, Made, str, Any, str, int], None]] = {
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _Judge._several),
    "items": _Judge._items,
    "additionalProperties": _Judge._one,
    "properties": _Judge._properties,
    "patternProperties": _Judge._pattern_properties,
    "$ref": _Judge._ref,
    "type": _Judge._type,
    "const": _Judge._const,
    "enum": _Judge._enum,
    "pattern": _Judge._pattern,
    "format": _Judge._format,
    "required": _Judge._required,
    **dict.fromkeys([name for pair in _PAIRS[:3] for name in pair], _Judge._count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _Judge._bound),
    "multipleOf": _Judge._multiple,
}


def _pattern(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise GrammarError(f"{where}: expected a text, got {shown(value)}")
    try:
        return searched(value)
    except GrammarError as e:
        raise GrammarError(f"{where}: {e}") from None


def _anchors(node: Any, path: str, name: str) -> Any:
    """Every (schema, path) that calls itself so."""
    if isinstance(node, dict):
        if node.get("$anchor") == name:
            yield node, path
        for key, value in node.items():
            if key not in ("const", "enum", "default", "examples"):
                yield from _anchors(value, _at(path, key), name)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _anchors(value, _at(path, i), name)
