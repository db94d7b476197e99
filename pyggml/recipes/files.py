"""Recipe files: TOML, or YAML of the same form, that names layers as people do -> Recipe. Recipe.to_toml writes them.

base = "Q4_K_M"
embedding_type = "q8_0"
max_size = "4GiB"                 # and smaller = ["Q4_K_S", "Q3_K_M"]: tried in order where base is larger

[types]
attention_value = "q6_k"
"ffn_(up|gate)" = "q4_0"

[[rules]]
match = "feed_forward_down"
layers = "first 4, last 4"
type = "q6_k"

[keep]
norm = "f32"
router = ""                       # as it is
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
from collections.abc import Iterable
from typing import Any

from pyggml.arguments import PathLike
from pyggml.arguments import path as read_path
from pyggml.arguments import text as is_text
from pyggml.errors import ArgumentError, FileError, GGUFError, UnsupportedError
from pyggml.files.foreign import name_of, read_bytes, reading, said
from pyggml.files.texts import decode
from pyggml.keywords import known_only
from pyggml.recipes.recipe import LAYER_NAMES, MAX_RULES, MAX_TOML, Recipe, Rule, as_rules, check_count
from pyggml.shown import clip
from pyggml.sizes import byte_size

_TEXTS = ("base", "output_type", "embedding_type", "note")
_KEYS = (*_TEXTS, "types", "rules", "keep", "max_size", "smaller")
_MAX_YAML = 1 << 15  # characters; the reader of YAML is slow
_MAX_FLOW, _MAX_DEPTH = 64, 16
_MAX_DOTS, _MAX_LINES = 4096, 8 * MAX_RULES
_SPELLINGS = {"output": "output_type", "lm_head": "output_type", "embedding": "embedding_type", "type": "base"}


@known_only
def load_recipe(path: PathLike) -> Recipe:
    """The recipe of a TOML file, or of the same tables as .yaml or .yml (which needs the pyyaml package).

    Raises ArgumentError for a file that cannot be read or says what is not known.
    """
    path = read_path("path", path)
    with reading(path, "recipe", ArgumentError):
        try:
            raw = read_bytes(path, MAX_TOML, "a recipe")
        except FileError:
            raise
        except GGUFError as e:
            raise ArgumentError(str(e)) from None
        text = decode(raw, name_of(path))
        ending = os.path.splitext(path)[1].lower()
        told = _yaml(text) if ending in (".yaml", ".yml") else _toml(text)
        if not told:
            raise ArgumentError('it says nothing; a recipe has at least a line like base = "Q4_K_M"')
        made = recipe_of(told)
        made.path = path
        return made


@known_only
def parse_recipe(text: str) -> Recipe:
    """The recipe of TOML text.

    >>> parse_recipe('base = "Q4_K_M"\\n[types]\\nattention_key = "FP16"').rules
    [Rule(match='attention_key', type='f16', layers='')]
    """
    return recipe_of(_toml(is_text("text", text)))


def recipe_of(told: dict[str, Any]) -> Recipe:
    """The recipe of parsed tables. Layers may also be named outside of [types]."""
    named = {key: value for key, value in told.items() if key not in (*_KEYS, *_SPELLINGS) and key in LAYER_NAMES}
    if named:
        types = told.get("types", {})
        told = {key: value for key, value in told.items() if key not in named}
        told["types"] = {**named, **types} if isinstance(types, dict) else types
    told = {_SPELLINGS.get(key, key): value for key, value in told.items()}
    for key in told:
        if key not in _KEYS:
            near = difflib.get_close_matches(key[:60], [*_KEYS, *_SPELLINGS], n=1)
            raise ArgumentError(
                f"unknown key {clip(key, 60)}; {f'did you mean {near[0]}?' if near else f'known: {_KEYS}'}"
            )
    for key in _TEXTS:
        if not isinstance(told.get(key, ""), str):
            raise ArgumentError(f"{key} must be text, got {clip(told[key])}")
    types, smaller = told.get("types", {}), told.get("smaller", [])
    if not isinstance(types, dict) or not all(isinstance(kind, str) for kind in types.values()):
        raise ArgumentError('types must be a table of lines like attention_value = "q6_k"')
    if not isinstance(smaller, list) or not all(isinstance(base, str) for base in smaller):
        raise ArgumentError('smaller must be a list of mixes like ["Q4_K_S", "Q3_K_M"]')
    check_count([*types, *_matches(told.get("rules")), *_matches(told.get("keep"))])
    made = Recipe(
        told.get("base", "Q4_K_M"), [*_rules(told.get("rules", []), "rules"), *as_rules(types)],
        _keep(told.get("keep", [])), told.get("output_type"), told.get("embedding_type"), told.get("note", ""),
        None if "max_size" not in told else byte_size(told["max_size"], "max_size"), smaller,
    )  # fmt: skip
    made.check()
    return made


def _matches(told: Any) -> list[str]:
    """What the rows of [[rules]], or what keep holds in any of its forms, say of names; "" for nonsense."""
    rows = told if isinstance(told, list | dict) else ()
    found = (row.get("match", row.get("name")) if isinstance(row, dict) else row for row in rows)
    return [each if isinstance(each, str) else "" for each in found]


def _keep(told: Any) -> list[Rule]:
    """A table {name: type}, a list of names, or a list of rules."""
    if isinstance(told, dict) and all(isinstance(kind, str) for kind in told.values()):
        return list(as_rules(told))
    if isinstance(told, list) and told and all(isinstance(name, str) for name in told):
        return [Rule(name) for name in told]
    return _rules(told, "keep")


def _rules(told: Any, key: str) -> list[Rule]:
    if not isinstance(told, list):
        raise ArgumentError(f"{key} must be [[{key}]] tables with match, type and layers")
    made = []
    for row in told:
        fields = dict(row) if isinstance(row, dict) else {}
        if "name" in fields:
            fields.setdefault("match", fields.pop("name"))
        fields["layers"] = _layers(fields.get("layers", ""))
        needed = {"match", "layers"} if key == "keep" else {"match", "type", "layers"}
        if not needed <= set(fields) <= {"match", "type", "layers"} or not all(
            isinstance(value, str) for value in fields.values()
        ):
            raise ArgumentError(f"each of [[{key}]] has match, type and perhaps layers, all text; got {clip(row, 300)}")
        made.append(Rule(**fields))
    return made


def _layers(told: Any) -> Any:
    """A number or a list of numbers is fine too."""
    if isinstance(told, list):
        return ",".join(map(str, told))
    return str(told) if isinstance(told, int) else told


def _toml(text: str) -> dict[str, Any]:
    toml = _reader()
    try:
        _check_size(text)
        told: dict[str, Any] = toml.loads(text)
    except (ValueError, RecursionError, OverflowError) as e:
        raise ArgumentError(f"no TOML: {said(e)}") from None
    return told


_OPENINGS = re.compile(r"\"\"\"|\'\'\'|[\"\'#]")
_MAX_WORD = 1 << 16
_LONG = re.compile(rf"[^=,\[\]{{}}\n]{{{_MAX_WORD}}}")
_DOTTED = re.compile(r"(?<![\w-])(?:[\w-]+[ \t]*\.[ \t]*){9}")


def _bare(text: str) -> str:
    """TOML without comments and with s for each string."""
    parts, at = [], 0
    for _ in range(len(text)):
        opening = _OPENINGS.search(text, at)
        if opening is None:
            break
        parts += [text[at : opening.start()], "s"]
        at = _string_end(text, opening.end(), opening[0])
    return "".join(parts) + text[at:]


def _string_end(text: str, at: int, quote: str) -> int:
    """Where a string or comment that was opened ends: at the line's end, too, where it is of one line."""
    stops = {"#": r"\n", "'": r"'|\n", '"': r'"|\n|\\.', "'''": r"'''", '"""': r'"""|\\.'}[quote]
    for stop in re.compile(stops, re.S).finditer(text, at):
        if stop[0][0] != "\\":
            return stop.end()
    return len(text)


def _check_size(text: str) -> None:
    """Raises ArgumentError for TOML whose reader would take time or memory without bound: too long or too deep."""
    if len(text) > MAX_TOML:
        raise ArgumentError(f"a recipe of {len(text)} characters; at most {MAX_TOML}")
    _check_counts(text, (("lines", "\n", _MAX_LINES), ("quotes and comments", "\"'#", 2 * _MAX_LINES)))
    bare = _bare(text)
    if _DOTTED.search(bare):
        raise ArgumentError("a key is nested deeper than 8")
    _check_counts(bare, (("dots outside of texts", ".", _MAX_DOTS), ("values", "=,", _MAX_LINES),
                         ("tables", "[{", 3 * MAX_RULES)))  # fmt: skip
    if _LONG.search(bare):
        raise ArgumentError(f"a word is longer than the {_MAX_WORD} characters that it has at most outside of texts")
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth = max(depth + (1 if bracket in "[{" else -1), 0)
        if depth > _MAX_DEPTH:
            raise ArgumentError(f"a value is nested deeper than {_MAX_DEPTH}")


def _check_counts(text: str, kinds: Iterable[tuple[str, str, int]]) -> None:
    """Raises ArgumentError for more characters of a kind than a recipe has."""
    for what, characters, most in kinds:
        n = sum(map(text.count, characters))
        if n > most:
            raise ArgumentError(f"{n:,} {what}; a recipe has at most {most:,}")


def _yaml(text: str) -> dict[str, Any]:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ModuleNotFoundError:
        raise UnsupportedError("YAML recipes need the pyyaml package: pip install pyyaml, or write TOML") from None
    if len(text) > _MAX_YAML or any(line.count("[") + line.count("{") > _MAX_FLOW for line in text.splitlines()):
        raise ArgumentError(f"no YAML recipe: longer than {_MAX_YAML} characters, or {_MAX_FLOW} brackets in a line")
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ArgumentError("aliases (*name) are refused: a few lines of them can fill any memory")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise ArgumentError(f"it is nested deeper than {_MAX_DEPTH}")
        told = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, TypeError) as e:
        raise ArgumentError(f"no YAML: {said(e)}") from None
    if not isinstance(told, dict) or not all(isinstance(key, str) for key in told):
        raise ArgumentError("no recipe: expected lines like base: Q4_K_M")
    for key in ("types", "keep"):  # `router:` with nothing behind it
        if isinstance(told.get(key), dict):
            told[key] = {str(name): "" if kind is None else kind for name, kind in told[key].items()}
    return told


def _reader() -> Any:
    """Python's own reader of TOML, or the same under its old name for Python 3.10."""
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise UnsupportedError("recipe files need the tomli package on Python 3.10: pip install tomli")
