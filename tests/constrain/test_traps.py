"""What the parser would do silently, wrongly or fatally, and what is done about it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from constrain.vocabularies import bpe, ids_of, spm
from constrain.walks import Walker, allowed

import pyggml
from pyggml.constrain import Grammar, compiling, grammar
from pyggml.constrain.vocabulary import _Pieces
from pyggml.errors import ArgumentError, GrammarError
from pyggml.tokenizer import Tokenizer

pytest.importorskip("llguidance", reason="NO LLGUIDANCE: pip install 'pyggml[constrain]'")

PERSON = {
    "type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"], "additionalProperties": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return bpe()


@pytest.fixture(scope="module")
def pieces() -> Tokenizer:
    return spm()


def made(tokenizer: Tokenizer, **what: Any) -> Grammar:
    return grammar(tokenizer, tokenizer.n_vocab, **what)


def whole(tokenizer: Tokenizer, text: str, **what: Any) -> bool:
    """Whether text is a whole text of what is wanted."""
    c = made(tokenizer, **what).begin()
    ids = ids_of(tokenizer, text)
    if c.fits(ids) < len(ids):
        return False
    for token in ids:
        c.take(token)
    return c.may_end


# ---- 1: a blank that SentencePiece adds --------------------------------------------------------------------------


def test_forced_text_of_sentencepiece_has_no_blank_of_its_own(pieces: Tokenizer) -> None:
    assert pieces.encode('"', add_special=False) != ids_of(pieces, '"'), "the vocabulary adds a blank"
    c = made(pieces, schema=PERSON).begin()
    text = b""
    for _ in range(8):
        forced = c.forced()
        for token in forced:
            assert token in allowed(c.mask())
            c.take(token)
        text += b"".join(map(pieces.piece_bytes, forced))
        if not forced:
            ids = [i for i in allowed(c.mask()) if pieces.piece_bytes(i) in (b'"', b"{", b"1", b"}", b":", b" ", b",")]
            c.take(int(ids[0]))
            text += pieces.piece_bytes(int(ids[0]))
    assert text.startswith(b'{"name": "')


def test_an_answer_of_sentencepiece_is_never_empty(pieces: Tokenizer) -> None:
    for what in ({"schema": PERSON}, {"choices": ["yes", "no"]}, {"regex": "the [0-9]+"}, {"schema": {"const": "the"}}):
        first = allowed(made(pieces, **what).begin().mask())
        assert len(first)
        assert not set(first) & pieces.eog_ids
    assert whole(pieces, "yes", choices=["yes", "no"])
    assert not whole(pieces, " yes", choices=["yes", "no"])
    assert whole(pieces, '"\u00e9\u2581"', schema={"type": "string"})


def test_text_that_cannot_be_cut_behind_a_line_end(words: Tokenizer) -> None:
    """A vocabulary may join the line end with what follows; then the longest pieces are taken."""
    cut = _Pieces(words, words.n_vocab)
    assert b"".join(words.piece_bytes(i) for i in cut("\n\n\na")) == b"\n\n\na"
    cut._lead += 1
    assert b"".join(words.piece_bytes(i) for i in cut("name: yes")) == b"name: yes"


# ---- 2: the process dies -----------------------------------------------------------------------------------------


def chain(n: int, key: str) -> dict[str, Any]:
    """n definitions, each within the one before."""

    def part(i: int) -> dict[str, Any]:
        ref = {"$ref": f"#/$defs/d{i + 1}"}
        if i + 1 == n:
            return {"type": "integer"}
        return (
            {"$ref": ref["$ref"]}
            if key == "$ref"
            else {"allOf": [ref]}
            if key == "allOf"
            else {"properties": {"a": ref}}
        )

    return {"$ref": "#/$defs/d0", "$defs": {f"d{i}": part(i) for i in range(n)}}


@pytest.mark.parametrize("key", ["$ref", "allOf", "properties"])
@pytest.mark.parametrize("n", [300, 5000])
def test_deep_chains_of_references_are_refused(words: Tokenizer, key: str, n: int) -> None:
    with pytest.raises(
        GrammarError, match=r"#/\$defs/d\d+: more than 256 references|bytes, at most|more than 2,000 parts"
    ):
        made(words, schema=chain(n, key))


@pytest.mark.parametrize("key", ["$ref", "allOf", "properties"])
def test_chains_within_the_limit_are_compiled(words: Tokenizer, key: str) -> None:
    assert made(words, schema=chain(100, key)).begin().mask().any()


def test_deep_nesting_is_refused(words: Tokenizer) -> None:
    deep: Any = {"type": "integer"}
    for _ in range(60):
        deep = {"type": "array", "items": deep}
    with pytest.raises(GrammarError, match=r"#(/items){41}: nested deeper than 40"):
        made(words, schema=deep)
    with pytest.raises(GrammarError, match="nested too deeply"):
        made(words, schema="[" * 100_000)
    loop: dict[str, Any] = {"type": "array"}
    loop["items"] = loop
    with pytest.raises(GrammarError, match="nested too deeply"):
        made(words, schema=loop)


def test_deep_chains_of_rules_are_refused(words: Tokenizer) -> None:
    rules = "\n".join(f"a{i}: a{i + 1}" for i in range(1500))
    with pytest.raises(GrammarError, match=r"rule a25\d lies within more than 256 others"):
        made(words, lark=f'start: a0\n{rules}\na1500: "x"')
    rules = "\n".join(f"a{i} ::= a{i + 1}" for i in range(1500))
    with pytest.raises(GrammarError, match="within more than 256"):
        made(words, grammar=f'root ::= a0\n{rules}\na1500 ::= "x"')
    many = "\n".join(f'a{i}: "x"' for i in range(2001))
    with pytest.raises(GrammarError, match="2,002 rules, at most 2,000"):
        made(words, lark=f"start: a0\n{many}")
    with pytest.raises(GrammarError, match="brackets are nested deeper than 256"):
        made(words, lark="start: " + "(" * 1000 + '"a"' + ")" * 1000)
    with pytest.raises(GrammarError, match=r"at most 100 levels of \(\)"):
        made(words, grammar="root ::= " + "(" * 1000 + '"a"' + ")" * 1000)
    with pytest.raises(GrammarError, match=r"at most 100 levels of \(\)"):
        made(words, regex="(" * 1000 + "a" + ")" * 1000)
    with pytest.raises(GrammarError, match="at most 262,144"):
        made(words, lark="start: " + '"a" | ' * 60_000 + '"b"')


def test_compiling_has_a_stack_of_its_own(words: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    real = compiling._compile

    def spy(*args: Any) -> Any:
        seen.append((threading.get_ident(), threading.stack_size()))
        return real(*args)

    monkeypatch.setattr(compiling, "_compile", spy)
    before = threading.stack_size()
    made(words, regex="own stack")
    assert seen[0][0] != threading.get_ident()
    assert threading.stack_size() == before
    monkeypatch.setattr("pyggml.leaving.begun", lambda work: False)
    with pytest.raises(pyggml.BackendError, match="no thread to compile"):
        made(words, regex="no thread")


# ---- 3: errors have no path --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"a": {"not": {}}}}, "#/properties/a/not"),
        ({"properties": {"a/b~": {"items": {"if": {}}}}}, "#/properties/a~1b~0/items/if"),
        ({"$defs": {"x": {"contains": {}}}, "$ref": "#/$defs/x"}, "#/$defs/x/contains"),
        ({"anyOf": [{"type": "null"}, {"uniqueItems": True}]}, "#/anyOf/1/uniqueItems"),
        ({"items": {"dependentRequired": {}}}, "#/items/dependentRequired"),
        ({"prefixItems": [{"format": "color"}]}, "#/prefixItems/0/format"),
        ({"properties": {"q": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}}, "#/properties/q/oneOf"),
        ({"items": {"type": "object", "minProperties": 1, "maxProperties": 3, "properties": {"a": {}}}}, "#/items"),
        ({"additionalProperties": {"pattern": r"a\b"}}, "#/additionalProperties/pattern"),
        ({"properties": {"a": {"$ref": "https://example.com/x"}}}, "#/properties/a/$ref"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "#/properties/a/$ref"),
        ({"properties": {"a": {"enum": [1, 2**60]}}}, "#/properties/a/enum/1"),
        ({"properties": {"a": {"const": float("nan")}}}, "#/properties/a/const"),
        ({"properties": {"a": {"multipleOf": 0.01}}}, "#/properties/a/multipleOf"),
        ({"properties": {"a": {"minimum": 5, "maximum": 3}}}, "#/properties/a/minimum"),
        ({"properties": {"a": {"minLength": 5, "maxLength": 3}}}, "#/properties/a/minLength"),
        ({"properties": {"a": {"type": "text"}}}, "#/properties/a/type"),
        ({"properties": {"a": {"exclusiveMinimum": True}}}, "#/properties/a/exclusiveMinimum"),
        ({"properties": {"a": {"items": [{}]}}}, "#/properties/a/items"),
        ({"properties": {"a": {"minProperties": 2}}}, "#/properties/a/minProperties"),
        ({"properties": {"a": {"$id": "x"}}}, "#/properties/a/$id"),
        ({"properties": {"a": 5}}, "#/properties/a"),
        ({"properties": {"a": {"maxLength": -1}}}, "#/properties/a/maxLength"),
        ({"patternProperties": {"(": {}}}, "#/patternProperties/%28"),
        ({"required": "a"}, "#/required"), ({"enum": []}, "#/enum"), ({"anyOf": []}, "#/anyOf"),
        ({"$schema": "https://example.com/mine"}, "#/$schema"),
    ],
)  # fmt: skip
def test_errors_name_the_place(words: Tokenizer, schema: dict[str, Any], place: str) -> None:
    with pytest.raises(GrammarError) as e:
        made(words, schema=schema)
    assert f"{place}:" in str(e.value)
    assert isinstance(e.value, ArgumentError)
    assert isinstance(e.value, ValueError)


# ---- 4: GBNF in linear time --------------------------------------------------------------------------------------


def test_large_gbnf_grammars_take_no_time(words: Tokenizer) -> None:
    rules = "\n".join(f'r{i} ::= "a{i}" | "b" [0-9]{{2}} r{(i * 7) % 200}' for i in range(1900))
    source = "root ::= " + " | ".join(f"r{i}" for i in range(1900)) + "\n" + rules
    started = time.monotonic()
    assert made(words, grammar=source).begin().mask().any()
    assert time.monotonic() - started < 60, "the library's own translation takes longer for a hundred rules more"


# ---- 5: references to themselves ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "#"}, "#: it refers to itself"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "[ab]: it refers"),
        ({"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "#: it refers to itself"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "#: it allows no value"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "#: it allows no value"),
        (False, "#: it allows no value"),
    ],
)  # fmt: skip
def test_references_without_end_are_refused(words: Tokenizer, schema: Any, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        made(words, schema=schema)


def test_references_that_end_are_compiled(words: Tokenizer) -> None:
    tree = {"type": "array", "items": {"$ref": "#"}}
    assert whole(words, "[[], [[]]]", schema=tree)
    assert not whole(words, "[1]", schema=tree)
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
    }
    assert whole(words, '{"next": {"next": null}}', schema=node)
    anchored = {"$defs": {"x": {"$anchor": "n", "type": "integer"}}, "items": {"$ref": "#n"}, "type": "array"}
    assert whole(words, "[1]", schema=anchored)
    assert not whole(words, '["a"]', schema=anchored)


# ---- 6: a schema with options ------------------------------------------------------------------------------------


def test_a_schema_brings_no_options(words: Tokenizer) -> None:
    for schema in ({"x-guidance": {"lenient": True}, "not": {}}, {"items": {"x-guidance": {}}}):
        with pytest.raises(GrammarError, match=r"#.*/x-guidance: options of the parser"):
            made(words, schema=schema)
    assert whole(words, "1", schema={"x-mine": {"lenient": True}, "const": 1})
    for directive in ('%llguidance {"lenient": true}\nstart: "a"', 'start: %json {"not": {}}'):
        with pytest.raises(GrammarError, match="line 1: %"):
            made(words, lark=directive)


# ---- what is ignored silently ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"maxLenght": 3}, "#/maxLenght.*did you mean maxLength"), ({"nullable": True, "type": "string"}, '"null"'),
        ({"minimun": 3}, "did you mean minimum"), ({"pattern": "\\"}, r"#/pattern.*a character behind the last \\"),
        ({"pattern": "(?=a)"}, "look-around"), ({"pattern": "(a"}, r"a \) for this \("),
        ({"pattern": "a{3,2}"}, "no fewer"),
    ],
)  # fmt: skip
def test_nothing_is_ignored(words: Tokenizer, schema: dict[str, Any], message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        made(words, schema=schema)


def test_annotations_change_nothing(words: Tokenizer) -> None:
    notes = {"title": "T", "description": "d", "default": {"not": 1}, "examples": [1], "$comment": "",
             "deprecated": True, "readOnly": True, "contentEncoding": "base64", "nullable": False,
             "uniqueItems": False, "x-order": 3,
             "$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/x"}  # fmt: skip
    assert whole(words, "3", schema={**notes, "type": "integer"})
    assert not whole(words, '"a"', schema={**notes, "type": "integer"})


def test_doubles_between_two_bounds(words: Tokenizer) -> None:
    """0.99999999999999999999 is read as 1: digits without end must not reach a bound that is no value."""
    for text in ("0.9999999999999999999999", "0.99999999999999995"):
        assert float(text) == 1
        assert not whole(words, text, schema={"type": "number", "exclusiveMaximum": 1})
    assert whole(words, "0.9999", schema={"type": "number", "exclusiveMaximum": 1})
    assert not whole(words, "9223372036854775808", schema={"type": "integer", "maximum": 2**63 - 1})
    assert whole(words, "19", schema={"type": "integer", "exclusiveMinimum": 18})
    assert not whole(words, "18", schema={"type": "integer", "exclusiveMinimum": 18})


def test_dates_are_those_of_the_calendar(words: Tokenizer) -> None:
    date = {"type": "string", "format": "date"}
    for text, right in (("2024-02-29", True), ("2023-02-29", False), ("2000-02-29", True), ("1900-02-29", False),
                        ("2024-04-31", False), ("0000-01-01", False), ("2024-12-31", True)):  # fmt: skip
        assert whole(words, f'"{text}"', schema=date) is right, text
    stamp = {"type": "string", "format": "date-time", "pattern": "^2"}
    assert whole(words, '"2024-02-29T23:59:59Z"', schema=stamp)
    assert not whole(words, '"1999-02-28T23:59:59Z"', schema=stamp)


def test_unions_that_a_constant_tells_apart(words: Tokenizer) -> None:
    """As pydantic writes them: oneOf of references, and a discriminator."""
    defs = {
        name: {"type": "object", "properties": {"kind": {"const": name, "type": "string"}, "n": {"type": "integer"}},
               "required": ["kind"]} for name in ("cat", "dog")
    }  # fmt: skip
    schema = {
        "$defs": defs, "discriminator": {"propertyName": "kind"},
        "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
    }  # fmt: skip
    assert whole(words, '{"kind": "dog", "n": 1}', schema=schema)
    assert not whole(words, '{"kind": "cow", "n": 1}', schema=schema)


# ---- costs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        {"schema": {"enum": [f"value {i}" for i in range(100_000)]}},
        {"schema": {"type": "object", "required": [f"property {i}" for i in range(100_000)]}},
        {"schema": {"anyOf": [{"type": "integer", "minimum": i} for i in range(5000)]}},
        {"regex": "a" * (1 << 20)}, {"regex": "a{2147483647}"}, {"regex": "a{1,1000}{1,1000}"},
        {"schema": {"minLength": 10**12}}, {"choices": [f"c{i}" for i in range(20_000)]},
    ],
)  # fmt: skip
def test_what_would_cost_too_much_is_refused_soon(words: Tokenizer, what: dict[str, Any]) -> None:
    started = time.monotonic()
    with pytest.raises(GrammarError):
        made(words, **what)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("regex", ["(a+)+", "(a|a)*b", "(?:a{1,1000}){1,1000}b", "(x?){100}y"])
def test_expressions_that_other_engines_hang_on(words: Tokenizer, regex: str) -> None:
    assert made(words, regex=regex).begin().mask().any()


def test_a_parser_that_gives_up_is_no_end_of_text(words: Tokenizer) -> None:
    class GivesUp:
        """A matcher that fails in a mask, as one at its limits does: its mask has the end tokens only."""

        def __init__(self) -> None:
            self.failed = False

        def compute_bitmask(self) -> bytes:
            self.failed = True
            return np.full(-(-words.n_vocab // 32), 2, np.uint32).tobytes()

        def is_error(self) -> bool:
            return self.failed

        def is_stopped(self) -> bool:
            return self.failed

        def get_error(self) -> str:
            return "ParserTooComplex"

    c = pyggml.constrain.Constraint(GivesUp(), words.n_vocab)
    with pytest.raises(GrammarError, match="gave up: ParserTooComplex"):
        c.mask()
    assert not c.done
    for call in (c.mask, c.forced, lambda: c.may_end, lambda: c.take(5)):
        with pytest.raises((GrammarError, AttributeError)):
            call()


def test_a_token_that_is_forbidden(words: Tokenizer) -> None:
    c = made(words, choices=["yes"]).begin()
    with pytest.raises(GrammarError, match="parser gave up"):
        c.take(ids_of(words, "no")[0])


# ---- speculation and life ----------------------------------------------------------------------------------------


def test_copies_and_steps_back(words: Tokenizer) -> None:
    c = made(words, schema=PERSON).begin()
    ids = ids_of(words, '{"name": "Tom", "age": 3}')
    masks = []
    for token in ids:
        masks.append(c.mask().tobytes())
        c.take(token)
    assert c.done
    assert c.may_end
    assert not c.forced()
    c.rollback(len(ids) - 3)
    assert c.mask().tobytes() == masks[3]
    assert not c.done
    other = c.copy()
    other.take(ids[3])
    assert c.mask().tobytes() == masks[3]
    assert other.mask().tobytes() == masks[4]
    assert c.fits(ids[3:]) == len(ids) - 3
    assert c.fits([*ids[3:5], 0]) == 2
    assert c.mask().tobytes() == masks[3]


def test_the_end_is_all_that_follows_a_whole_text(words: Tokenizer) -> None:
    c = made(words, regex="[a-c]{3}").begin()
    for token in ids_of(words, "abc"):
        assert not c.may_end
        c.take(token)
    assert c.done
    assert set(allowed(c.mask())) == words.eog_ids


def test_rows_beyond_the_vocabulary_are_never_allowed(words: Tokenizer) -> None:
    wide = grammar(words, words.n_vocab + 37, regex="(?:.|\n)*").begin()
    ids = allowed(wide.mask())
    assert len(wide.mask()) == -(-(words.n_vocab + 37) // 32)
    assert ids.max() < words.n_vocab
    special = {i for i in range(words.n_vocab) if words.is_special(i)} - words.eog_ids
    assert not special & set(ids)


def test_grammars_are_kept_and_let_go(words: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = compiling.compiled

    def counted(*args: Any) -> Any:
        calls.append(args[2].key)
        return real(*args)

    monkeypatch.setattr("pyggml.constrain.masks.compiled", counted)
    tokenizer = bpe()
    for _ in range(3):
        made(tokenizer, regex="kept")
    assert len(calls) == 1
    for i in range(40):
        made(tokenizer, choices=[f"c{i}"])
    made(tokenizer, regex="kept")
    assert len(calls) == 42
    gone = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert gone() is None, "what was compiled keeps the vocabulary alive"


def test_threads_share_a_grammar(words: Tokenizer) -> None:
    shared, errors = made(words, schema=PERSON), []
    walker = Walker(words)

    def work(seed: int) -> None:
        try:
            for i in range(4):
                text = walker.walk(shared.begin(), seed * 100 + i)
                assert text is None or set(json.loads(text)) == {"name", "age"}
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors


def test_without_the_library_the_extra_is_named() -> None:
    code = """if True:
        import sys
        sys.modules["llguidance"] = None
        import pyggml
        with pyggml.load() as m:
            try:
                m.generate("a", choices=["b"])
            except pyggml.UnsupportedError as e:
                print(e)
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout
    assert "pip install 'pyggml[constrain]'" in said


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({}, "nothing is given"), ({"regex": "a", "choices": ["b"]}, "regex and choices are given"),
        ({"choices": []}, "choices is empty"), ({"choices": "yes"}, "choices must be a list"),
        ({"choices": ["a", "a"]}, "a second time"), ({"choices": ["a", ""]}, r"choices\[1\] is empty"),
        ({"choices": [None]}, r"choices\[0\] must be"), ({"choices": ["\ud800"]}, "half of a character"),
        ({"regex": 5}, "regex must be text"), ({"schema": 5}, "schema must be"), ({"schema": "{"}, "no JSON"),
        ({"grammar": "start: a"}, "GBNF grammar, line 1, column 6"), ({"lark": 'root: "a"'}, "no rule start"),
        ({"lark": "start: nowhere"}, "lark cannot be enforced"), ({"schema": {"const": object()}}, "no JSON"),
        ({"schema": {1: 2}}, "is no text"),
    ],
)  # fmt: skip
def test_what_is_refused(words: Tokenizer, what: dict[str, Any], message: str) -> None:
    with pytest.raises(GrammarError if "must be" not in message else ArgumentError, match=message):
        made(words, **what)


_ANSWERS: list[tuple[Callable[[], dict[str, Any]], str, Any]] = [
    (lambda: {"choices": ["yes", 3, True]}, "3", 3), (lambda: {"choices": ["yes", 3, True]}, "True", True),
    (lambda: {"schema": '{"type": "integer"}'}, "3", 3), (lambda: {"schema": True}, '{"a": [1]}', {"a": [1]}),
    (lambda: {"regex": "^a+$"}, "aa", None), (lambda: {"grammar": 'root ::= "a"'}, "a", None),
]  # fmt: skip


@pytest.mark.parametrize(("what", "text", "value"), _ANSWERS)
def test_what_a_text_stands_for(words: Tokenizer, what: Callable[[], dict[str, Any]], text: str, value: Any) -> None:
    assert whole(words, text, **what())
    assert made(words, **what()).parse(text) == value
