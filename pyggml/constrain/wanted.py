"""What a caller gives (a schema, a type, a regular expression ...), made a source that can be compiled, and read back.

Knows no tokenizer: it is judged as far as that goes before a model is asked.
"""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..arguments import list_of, text, wrong_type
from ..errors import GrammarError
from ..shown import shown
from . import gbnf, lark, schema
from .patterns import matched
from .rules import check_size

KEYWORDS = ("schema", "regex", "grammar", "lark", "choices")
_MOST_CHOICES = 10_000


class Wanted(NamedTuple):
    """What a text must be. name: the keyword it came by. judge: makes what is compiled of it: a Judged schema, or Lark.

    key: equal for what is compiled alike. parse: the object that a whole text stands for; None: it stands for none.
    """

    name: str
    judge: Callable[[], schema.Judged | str]
    key: str
    parse: Callable[[str], Any] | None = None


def read_wanted(given: Mapping[str, Any]) -> Wanted | None:
    """The one of schema, regex, grammar, lark and choices that is given, None: none is. Raises ArgumentError.

    >>> read_wanted({"regex": "[0-9]+"}).name, read_wanted({"regex": None})
    ('regex', None)
    """
    found = [name for name in KEYWORDS if given.get(name) is not None]
    if not found:
        return None
    if len(found) > 1:
        raise GrammarError(f"{' and '.join(found)} are given: a text can follow one of {', '.join(KEYWORDS)}")
    try:
        return _READERS[found[0]](given[found[0]])
    except RecursionError:
        raise GrammarError(f"{found[0]} is nested too deeply") from None


def _schema(value: Any) -> Wanted:
    parse: Callable[[str], Any] = json.loads
    if isinstance(value, str):
        plain = schema.parse(text("schema", value))
    elif isinstance(value, Mapping | bool):
        plain = _plain(value)
    else:
        plain, parse = _of_type(value)
    try:
        key = json.dumps(plain)
    except (TypeError, ValueError, RecursionError) as e:
        raise GrammarError(f"schema is no JSON: {type(e).__name__} {e}") from None
    check_size(key, "the schema")
    return Wanted("schema", lambda: schema.judge(plain), key, parse)


def _plain(value: Any) -> Any:
    """Mappings and tuples as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _of_type(kind: Any) -> tuple[Any, Callable[[str], Any]]:
    """The schema of a type, and how its values are made."""
    if hasattr(kind, "model_json_schema") and hasattr(kind, "model_validate_json"):  # pydantic's
        return _closed(kind.model_json_schema()), kind.model_validate_json
    if not isinstance(kind, type | types.GenericAlias | types.UnionType) and typing.get_origin(kind) is None:
        raise wrong_type(
            "schema", "a JSON schema (dict, or its text), a pydantic model, a dataclass, a TypedDict or a type", kind
        )
    from ..schema import schema_of
    from .instances import made

    return schema_of(kind, "schema"), lambda said: made(kind, json.loads(said))


def _closed(part: Any) -> Any:
    """The schema of a class, whose objects have the fields of the class and no others, which it would pass over."""
    if isinstance(part, list):
        return [_closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {
        key: each if key in ("const", "enum", "default", "examples") else _closed(each) for key, each in part.items()
    }
    if part.get("type") == "object" and isinstance(part.get("properties"), dict):
        made.setdefault("additionalProperties", False)
    return made


def _regex(value: Any) -> Wanted:
    pattern = matched(text("regex", value))
    return Wanted("regex", lambda: f"start: /{pattern}/", pattern)


def _grammar(value: Any) -> Wanted:
    said = text("grammar", value)
    check_size(said, "the GBNF grammar")
    return Wanted("grammar", lambda: gbnf.to_lark(said), said)


def _lark(value: Any) -> Wanted:
    said = text("lark", value)
    check_size(said, "the Lark grammar")
    return Wanted("lark", lambda: lark.judge(said), said)


def _choices(value: Any) -> Wanted:
    found: dict[str, Any] = {}
    for i, each in enumerate(list_of("choices", value, "a list of texts (or an Enum class)")):
        plain = each.value if isinstance(each, enum.Enum) else each
        if not isinstance(plain, str | int | float):
            raise wrong_type(f"choices[{i}]", "text (str) or a number", each)
        said = str(plain)
        if not said:
            raise GrammarError(f"choices[{i}] is empty: nothing would be said")
        if said in found:
            raise GrammarError(f"choices[{i}] is {shown(said)} a second time")
        found[said] = each
        if len(found) > _MOST_CHOICES:
            raise GrammarError(f"choices has more than {_MOST_CHOICES:,} texts")
    if not found:
        raise GrammarError("choices is empty: there is nothing to choose from")
    try:
        words = [json.dumps(each, ensure_ascii=False) for each in found if each.encode()]
    except UnicodeEncodeError:
        raise GrammarError("choices has a text with half of a character") from None
    source = "start: " + " | ".join(words)
    check_size(source, "choices")
    return Wanted("choices", lambda: source, source, found.__getitem__)


_READERS: dict[str, Callable[[Any], Wanted]] = {
    "schema": _schema, "regex": _regex, "grammar": _grammar, "lark": _lark, "choices": _choices,
}  # fmt: skip
