"""Compiling for a vocabulary: in a thread with a stack of its own, the first mask included; the place of an error."""

from __future__ import annotations

import _thread
import json
import threading
from collections.abc import Iterator
from typing import Any

from ..errors import BackendError, GrammarError
from ..leaving import Made
from ..tokenizer import Tokenizer
from .library import ForkedLock, call, library
from .schema import Judged
from .vocabulary import vocabulary
from .wanted import Wanted

_STACK = 64 << 20  # bytes: rules and references are followed by native recursion (rules.py has how far)
_MOST_TRIES = 200
_OPTIONS = {"lenient": False, "whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

_starting = ForkedLock()  # the size of a stack belongs to the process


def compiled(tokenizer: Tokenizer, n_vocab: int, wanted: Wanted) -> Any:
    """An `LLMatcher` at the beginning of a text, whose first mask was computed. Raises GrammarError."""
    guidance = library()
    asker = threading.get_ident()

    def work() -> Any:
        if threading.get_ident() == asker:
            raise BackendError("the system gives no thread to compile a grammar in")
        return _compile(guidance, tokenizer, n_vocab, wanted)

    with _starting:
        before = _thread.stack_size(_STACK)
        try:
            made = Made(work)
        finally:
            _thread.stack_size(before)
    return made.get()


def _compile(guidance: Any, tokenizer: Tokenizer, n_vocab: int, wanted: Wanted) -> Any:
    try:
        judged = wanted.judge()
    except RecursionError:
        raise GrammarError(f"{wanted.name} is nested too deeply") from None
    words = vocabulary(tokenizer, n_vocab)
    if isinstance(judged, str):
        matcher, wrong = _matcher(guidance, words, guidance.LLMatcher.grammar_from_lark(judged))
        if wrong:
            raise GrammarError(f"{wanted.name} cannot be enforced: {wrong}")
        return matcher
    matcher, wrong = _of_schema(guidance, words, judged.clean)
    if not wrong:
        return matcher
    place = _place(guidance, words, judged, wrong)
    if wrong.startswith("oneOf"):
        place, wrong = f"{place}/oneOf", "one value may be of two of its schemas; use anyOf, or a const that differs"
    raise GrammarError(f"schema cannot be enforced: {place}: {wrong}")


def _of_schema(guidance: Any, words: Any, clean: Any) -> tuple[Any, str]:
    source: str = call("schema", guidance.LLMatcher.grammar_from_json_schema, json.dumps(clean), None, _OPTIONS)
    return _matcher(guidance, words, source)


def _matcher(guidance: Any, words: Any, source: str) -> tuple[Any, str]:
    """A matcher, and what is wrong with it: "" or a sentence."""
    limits = guidance.LLParserLimits(verbose_errors=False)
    matcher = call("the grammar", lambda: guidance.LLMatcher(words, source, log_level=0, limits=limits))
    if not matcher.is_error():
        call("the grammar's first mask", matcher.compute_bitmask)
    if matcher.is_error():
        return matcher, short(matcher.get_error())
    warnings = matcher.get_grammar_warnings()
    return matcher, short("; ".join(map(str, warnings)))


def short(error: str) -> str:
    """What the library says, on one line.

    >>> short("a\\n  b")
    'a b'
    """
    if error.startswith("NoExtensionBias"):  # the name of its state, and nothing else
        return "no text follows it"
    text = " ".join(error.split())
    return text if len(text) <= 300 else text[:297] + "..."


def _place(guidance: Any, words: Any, judged: Judged, wrong: str) -> str:
    """Where it is that the parser refuses: the innermost part that is refused for the same reason."""
    root: Any = judged.clean
    if not isinstance(root, dict):
        return "#"
    defs = root.get("$defs", {})
    node, tries, seen = root, 0, {id(root)}
    while True:
        for part in _parts(node, defs):
            if id(part) in seen or tries >= _MOST_TRIES:
                continue
            seen.add(id(part))
            tries += 1
            if _of_schema(guidance, words, {**part, "$defs": defs} if defs else part)[1] == wrong:
                node = part
                break
        else:
            return judged.places.get(id(node), "#")


def _parts(node: dict[str, Any], defs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in ("properties", "patternProperties"):
        yield from (each for each in node.get(key, {}).values() if isinstance(each, dict))
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield node[key]
    for key in ("allOf", "anyOf", "oneOf", "prefixItems"):
        yield from (each for each in node.get(key, ()) if isinstance(each, dict))
    if "$ref" in node and isinstance(found := defs[node["$ref"].rpartition("/")[2]], dict):
        yield found
