"""What a foreign tokenizer.json may ask of the `tokenizers` library.

The library normalizes and cuts text as the description says, without bounds: a few steps of replacing make gigabytes of
a word (and the process ends when memory does), and an expression may try every way through a text. Both are judged here
before the library sees them. What honest tokenizers do is far within the limits.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from pyggml.shown import clip

from ..errors import GGUFError
from ..files.foreign import parse_json, said
from .spm import check_charsmap

MAX_VALUES = 1 << 22
MAX_TOKENS, MAX_MERGES = 1 << 21, 1 << 20  # the longest known list of merges has half a million
MAX_STEPS = 256  # normalizers, pre-tokenizers and the like
MAX_GROWTH = 64  # how much longer all replacements together may make a text
MAX_ADDED = 1 << 12  # characters put in front of it
MAX_REGEX = 1 << 14
_PROBED = 256  # characters of an expression that it is tried on

_parser: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")


def check_description(text: str, what: str) -> None:
    """Raises GGUFError where a tokenizer.json would take memory or time without bound for a text."""
    try:
        table = parse_json(text.encode("utf-8", "surrogatepass"), MAX_VALUES)
    except (ValueError, RecursionError) as e:
        raise GGUFError(f"{what}: it is no JSON: {said(e)}") from None
    if not isinstance(table, dict):
        raise GGUFError(f"{what}: it is {type(table).__name__}, expected an object")
    model = table.get("model")
    for key, most in (("merges", MAX_MERGES), ("vocab", MAX_TOKENS)):
        found = model.get(key) if isinstance(model, dict) else None
        if isinstance(found, (list, dict)) and len(found) > most:
            raise GGUFError(f"{what}: its {key} has {len(found):,} entries, at most {most:,} are read")
    if isinstance(model, dict):
        _check_prefix(model, what)
    growth, added = 1.0, 0
    for step in _steps([table.get(key) for key in ("normalizer", "pre_tokenizer", "decoder", "post_processor")], what):
        pattern = step.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        if isinstance(regex, str):
            check_regex(regex, what)
        _check_panics(step, regex, what)
        content, prefix = step.get("content"), step.get("prepend")
        if step.get("type") == "Replace" and isinstance(content, str):
            plain = pattern.get("String") if isinstance(pattern, dict) else None
            # an expression may match nothing, which puts the content between all characters
            growth *= max(len(content) / len(plain), 1) if isinstance(plain, str) and plain else 1 + len(content)
        if isinstance(prefix, str):
            added += len(prefix)
        if step.get("type") == "Precompiled":
            _check_map(step.get("precompiled_charsmap"), what)
        if growth > MAX_GROWTH or added > MAX_ADDED:
            raise GGUFError(f"{what}: its normalizers would make a text many times longer")


def _check_panics(step: dict[str, Any], regex: Any, what: str) -> None:
    """Raises GGUFError for a step at which the library does not fail, but panics, which prints to stderr."""
    kind, content, pattern = step.get("type"), step.get("content"), step.get("pattern")
    if kind == "Replace" and isinstance(content, str) and content:
        nothing = isinstance(pattern, dict) and pattern.get("String") == ""
        if nothing or (isinstance(regex, str) and _matches_nothing(regex)):
            raise GGUFError(f"{what}: it replaces nothing, in front of a text, with {clip(content)}")
    if kind == "Prepend" and step.get("prepend") == "":
        raise GGUFError(f"{what}: it puts an empty text in front of a text")
    if kind == "FixedLength" and step.get("length") == 0:
        raise GGUFError(f"{what}: it cuts a text into pieces of no characters")
    if kind == "Strip" and step.get("stop") not in (None, 0):
        raise GGUFError(f"{what}: its decoder cuts characters off the ends of tokens, which may have fewer")
    if kind == "TemplateProcessing":
        _check_template(step, what)


def _check_template(step: dict[str, Any], what: str) -> None:
    """A template has the text once, and only special tokens that it explains."""
    pieces, known = step.get("single"), step.get("special_tokens")
    rows = [piece for piece in pieces if isinstance(piece, dict)] if isinstance(pieces, list) else []
    texts = [row["Sequence"].get("id") for row in rows if isinstance(row.get("Sequence"), dict)]
    if isinstance(pieces, list) and texts != ["A"]:
        raise GGUFError(f"{what}: its template has {clip(texts)} for a text, expected ['A']")
    for row in rows:
        token = row["SpecialToken"].get("id") if isinstance(row.get("SpecialToken"), dict) else None
        if isinstance(token, str) and isinstance(known, dict) and token not in known:
            raise GGUFError(f"{what}: its template names the token {clip(token)}, which it does not explain")


def _matches_nothing(regex: str) -> bool:
    """Whether an expression, as far as Python has it too, matches nothing at the beginning of some text."""
    try:
        pattern = re.compile(re.sub(r"\\[GK]", "(?:)", _in_python(regex)))
    except (re.error, RecursionError, OverflowError):
        return False
    begins = (pattern.match(c) for c in dict.fromkeys("a1 ._" + regex[:_PROBED]))
    return any(found is not None and found.end() == 0 for found in begins)


def _in_python(regex: str) -> str:
    """An expression without the classes that Python has no words for."""
    return re.sub(r"\\[pP]\{\^?\w+\}|\[:\^?\w+:\]", r"\\w", regex)


def _check_prefix(model: dict[str, Any], what: str) -> None:
    """The library cuts the prefix off the second half of a merge without looking, and panics where it is not there."""
    prefix, merges = model.get("continuing_subword_prefix"), model.get("merges")
    if not isinstance(prefix, str) or not prefix or not isinstance(merges, list):
        return
    for number, merge in enumerate(merges):
        second = (
            merge.split(" ")[-1] if isinstance(merge, str) else merge[-1] if isinstance(merge, list) and merge else ""
        )
        if not isinstance(second, str) or not second.startswith(prefix):
            raise GGUFError(
                f"{what}: merge {number} joins {clip(second)}, which does not begin with the prefix {clip(prefix)} of "
                "continuing_subword_prefix"
            )


def _steps(todo: list[Any], what: str) -> Iterator[dict[str, Any]]:
    """All steps of a description, those inside of others too."""
    count = 0
    while todo:
        step = todo.pop()
        if isinstance(step, list):
            todo += step[: MAX_STEPS + 1]
        elif isinstance(step, dict):
            count += 1
            if count > MAX_STEPS:
                raise GGUFError(f"{what}: it has more than {MAX_STEPS} steps")
            yield step
            todo += [step.get(key) for key in ("normalizers", "pretokenizers", "decoders", "processors")]


def _check_map(encoded: Any, what: str) -> None:
    try:
        raw = base64.b64decode(encoded if isinstance(encoded, str) else "", validate=True)
    except (binascii.Error, ValueError):
        raise GGUFError(f"{what}: its precompiled_charsmap is no base64") from None
    check_charsmap(raw, f"{what}: its precompiled_charsmap")


def check_regex(regex: str, what: str) -> None:
    """Raises GGUFError for an expression that repeats without end what itself repeats without end, as (a+)+ does."""
    if len(regex) > MAX_REGEX:
        raise GGUFError(f"{what}: an expression of {len(regex)} characters")
    try:
        tree = _parser.parse(_in_python(regex))
    except (re.error, RecursionError, OverflowError):
        return  # other syntax: the library's own count of tries ends it
    todo: list[tuple[Any, bool]] = [(tree, False)]
    while todo:
        node, inside = todo.pop()
        if isinstance(node, _parser.SubPattern):
            todo += [(item, inside) for item in node]
        elif isinstance(node, (list, tuple)):
            endless = str(node[0]) in ("MAX_REPEAT", "MIN_REPEAT") and str(node[1][1]) == "MAXREPEAT" if node else False
            if endless and inside:
                raise GGUFError(f"{what}: the expression {clip(regex)} repeats repeats, which may never end")
            todo += [(item, inside or endless) for item in node if isinstance(item, (list, tuple, _parser.SubPattern))]
