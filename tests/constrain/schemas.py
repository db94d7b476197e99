"""Random JSON schemas, weighted to what people write: objects of simple properties, lists, enumerations, unions,
references, formats, bounds; some with a keyword that cannot be enforced, whose place is known.
"""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]

NAMES = (
    "name",
    "age",
    "id",
    "tags",
    "address",
    "email",
    "items",
    "price",
    "kind",
    "a/b",
    "x~y",
    "\u00e9",
    "count",
    "next",
)
PATTERNS = (
    "^[a-z]{2,6}$",
    "[0-9]+",
    "^(foo|bar)?$",
    "^\\d{3}-\\d{4}$",
    "^[A-Z][a-z]*( [A-Z][a-z]*)*$",
    "x",
    "^\\w+$",
    "a.c",
)
FORMATS = ("date", "date-time", "time", "email", "uuid", "ipv4", "ipv6", "hostname", "duration", "uri")
UNSUPPORTED: tuple[tuple[str, Any], ...] = (
    ("not", {"type": "null"}), ("if", {"type": "string"}), ("contains", {"type": "integer"}), ("uniqueItems", True),
    ("propertyNames", {"pattern": "^a"}), ("dependentRequired", {"a": ["b"]}), ("unevaluatedProperties", False),
    ("nullable", True), ("format", "color"), ("maxLenght", 3), ("x-guidance", {"lenient": True}),
    ("pattern", "(?!a)b"), ("pattern", "\\"), ("multipleOf", 0.01), ("$ref", "other.json"),
)  # fmt: skip


class Maker:
    """One schema of a seed: make() -> (schema, the place of what cannot be enforced, or None)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._defs: Schema = {}

    def make(self) -> tuple[Schema, str | None]:
        r = self._random
        for name in r.sample(("node", "point", "label"), r.choice((0, 0, 1, 2, 3))):
            self._defs[name] = True  # may be referred to from now on
        for name in list(self._defs):
            self._defs[name] = (
                self._recursive(name) if name == "node" else self._object(2) if name == "point" else self._string()
            )
        schema = self._object(3) if r.random() < 0.7 else self._any(3)
        if self._defs:
            schema = {**schema, "$defs": self._defs}
        where = self._spoil(schema) if r.random() < 0.15 else None
        return schema, where

    def _recursive(self, name: str) -> Schema:
        child: Schema = {"$ref": f"#/$defs/{name}"}
        shape = self._random.choice(("list", "union", "optional"))
        next_: Schema = {"list": {"type": "array", "items": child}, "union": {"anyOf": [child, {"type": "null"}]}}.get(
            shape, child
        )
        needed = ["value"] if shape == "optional" else ["value", "next"]
        return {"type": "object", "properties": {"value": self._number(), "next": next_}, "required": needed,
                "additionalProperties": False}  # fmt: skip

    def _any(self, depth: int) -> Schema:
        r = self._random
        simple = (
            self._string,
            self._string,
            self._number,
            self._number,
            self._enum,
            self._const,
            self._flag,
            self._types,
        )
        if depth <= 0:
            return r.choice(simple)()
        kind = r.random()
        if kind < 0.45:
            return r.choice(simple)()
        if kind < 0.6:
            return self._object(depth - 1)
        if kind < 0.75:
            return self._list(depth - 1)
        if kind < 0.9:
            return self._union(depth - 1)
        if self._defs and kind < 0.97:
            return {
                "$ref": f"#/$defs/{r.choice([*self._defs])}",
                **({"description": "one"} if r.random() < 0.3 else {}),
            }
        return {"allOf": [self._object(depth - 1), {"type": "object", "properties": {"extra": self._string()}}]}

    def _object(self, depth: int) -> Schema:
        r = self._random
        names = r.sample(NAMES, r.choice((0, 1, 2, 2, 3, 3, 4, 5)))
        schema: Schema = {"type": "object", "properties": {name: self._any(depth - 1) for name in names}}
        if r.random() < 0.7:
            schema["required"] = [name for name in names if r.random() < 0.7]
        if r.random() < 0.6:
            schema["additionalProperties"] = r.choice((False, False, True, {"type": "integer"}))
        if r.random() < 0.1:
            schema["patternProperties"] = {"^p_[a-z]+$": self._number()}
        if r.random() < 0.1:
            schema["title"] = "A thing"
        if not names and r.random() < 0.4:
            schema.update(minProperties=1, maxProperties=r.choice((1, 3)), additionalProperties={"type": "boolean"})
        return schema

    def _list(self, depth: int) -> Schema:
        r = self._random
        schema: Schema = {"type": "array"}
        if r.random() < 0.2:
            schema["prefixItems"] = [self._any(depth - 1) for _ in range(r.choice((1, 2, 3)))]
            schema["items"] = r.choice((False, {"type": "integer"}))
        elif r.random() < 0.9:
            schema["items"] = self._any(depth - 1)
        if schema.get("items") is not False:
            if r.random() < 0.4:
                schema["minItems"] = r.choice((0, 1, 2))
            if r.random() < 0.6:
                schema["maxItems"] = r.choice((2, 3, 5))
        return schema

    def _union(self, depth: int) -> Schema:
        r = self._random
        if r.random() < 0.4:
            return {"anyOf": [self._any(depth), {"type": "null"}]}
        if r.random() < 0.5:
            return {"anyOf": [self._any(depth) for _ in range(r.choice((2, 3)))]}
        tags = r.sample(("cat", "dog", "bird"), 2)
        return {"oneOf": [
            {**self._tagged(tag), "properties": {"kind": {"const": tag}, f"of_{tag}": self._number()}} for tag in tags
        ]}  # fmt: skip

    def _tagged(self, tag: str) -> Schema:
        return {"type": "object", "required": ["kind", f"of_{tag}"], "additionalProperties": False}

    def _string(self) -> Schema:
        r = self._random
        kind = r.random()
        if kind < 0.4:
            return {"type": "string"}
        if kind < 0.6:
            return {"type": "string", "minLength": r.choice((0, 1, 3)), "maxLength": r.choice((3, 10, 40))}
        if kind < 0.8:
            return {"type": "string", "pattern": r.choice(PATTERNS)}
        return {"type": "string", "format": r.choice(FORMATS)}

    def _number(self) -> Schema:
        r = self._random
        kind = r.choice(("integer", "integer", "number"))
        schema: Schema = {"type": kind}
        if r.random() < 0.5:
            schema[r.choice(("minimum", "exclusiveMinimum"))] = r.choice((0, 1, -5, 10, 0.5, -2.25, 18))
        if r.random() < 0.5:
            schema[r.choice(("maximum", "exclusiveMaximum"))] = r.choice((100, 20, 150, 99.5, 2**31, 2**63 - 1))
        if r.random() < 0.15:
            schema["multipleOf"] = r.choice((2, 5, 0.5, 10))
        return schema

    def _enum(self) -> Schema:
        r = self._random
        values = r.sample(
            ("red", "green", "dark blue", 'a"b', "\u00fc\n", 1, 2, 2.5, True, None, ""), r.choice((1, 2, 3, 5))
        )
        if r.random() < 0.5:
            return {"type": "string", "enum": ["small", "medium", "large"]}
        return {"enum": values}

    def _const(self) -> Schema:
        return {"const": self._random.choice(("v1", 1, 0, False, None, [1, "a"], {"k": [True]}, -3, 0.25))}

    def _flag(self) -> Schema:
        return {"type": "boolean", "default": False}

    def _types(self) -> Schema:
        return {"type": self._random.sample(("string", "integer", "null", "boolean", "number"), 2)}

    def _spoil(self, schema: Schema) -> str:
        """Puts something that cannot be enforced somewhere into it -> where."""
        r = self._random
        node, path = schema, "#"
        while r.random() < 0.7:
            deeper = [(f"{path}/properties/{escaped(name)}", each) for name, each in node.get("properties", {}).items()]
            deeper += [
                (f"{path}/{key}/{i}", each) for key in ("anyOf", "allOf") for i, each in enumerate(node.get(key, ()))
            ]
            deeper += [(f"{path}/items", node["items"])] if isinstance(node.get("items"), dict) else []
            deeper = [(where, each) for where, each in deeper if isinstance(each, dict)]
            if not deeper:
                break
            path, node = r.choice(deeper)
        keyword, value = r.choice(UNSUPPORTED)
        node.pop(keyword, None)
        node[keyword] = value
        return f"{path}/{keyword}"


def escaped(name: str) -> str:
    """A name within a JSON pointer, as URIs have it."""
    text = name.replace("~", "~0").replace("/", "~1")
    return "".join(c if c.isascii() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)
