"""Expressions and GBNF grammars mean in the parser's words what they mean: against re, over all short texts."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from constrain.vocabularies import bpe, ids_of

from pyggml.constrain import grammar, patterns
from pyggml.constrain.gbnf import to_lark
from pyggml.errors import GrammarError
from pyggml.tokenizer import Tokenizer

pytest.importorskip("llguidance", reason="NO LLGUIDANCE: pip install 'pyggml[constrain]'")


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return bpe()


def texts(letters: str, most: int) -> Iterator[str]:
    for n in range(1, most + 1):
        for each in itertools.product(letters, repeat=n):
            yield "".join(each)


def accepted(tokenizer: Tokenizer, text: str, **what: Any) -> bool:
    c = grammar(tokenizer, tokenizer.n_vocab, **what).begin()
    ids = ids_of(tokenizer, text)
    if c.fits(ids) < len(ids):
        return False
    for token in ids:
        c.take(token)
    return c.may_end


PATTERNS = (
    "a*b", "(a|b)+c", "a{2,3}", "a{2}b?", "[ab]c|ba*", "[^a]+", "a.c", r"\d+", r"[\w-]+", r"\s", r"[^\s]b",
    r"\x61\u0062", "(?:ab)*?c", "(?P<n>a)b", "(?<n>a)b".replace("?<", "?P<"), "a||b", "(|a)b",
    r"\.", r"[.\]^-]+", "[a-c1]{1,2}",
    r"a\/b".replace("\\/", "/"), "x{a", "a{,".replace("{,", "{"), r"[\d.]+", "\u00e9+", r"\S\S", r"\W", r"[^\W]1",
)  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_expressions_against_re(words: Tokenizer, pattern: str) -> None:
    for text in texts("ab1 .-", 3):
        assert accepted(words, text, regex=pattern) == bool(re.fullmatch(pattern, text)), text
    for text in ("abc", "aabbc", "ac", "ba", "\u00e9\u00e9", "x{a", "a{", "\n", "]", "^-", "12.5"):
        got, right = accepted(words, text, regex=pattern), bool(re.fullmatch(pattern, text))
        assert got == right or (right and not text.isascii()), text  # what both dialects match


@pytest.mark.parametrize("pattern", ["^a", "b$", "^ab|b$", "a", "^$|a$", "(a|b)1", "^[ab]*$"])
def test_what_is_searched_for_is_found(words: Tokenizer, pattern: str) -> None:
    schema: Any = {"type": "string", "pattern": pattern}
    for text in texts("ab1\n", 4):
        if not text.endswith("\n"):  # where $ of re also stands before it
            assert accepted(words, json.dumps(text), schema=schema) == bool(re.search(pattern, text)), text


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a**", "one repetition behind another"), ("*a", "something in front"), ("a{1}{2}", "one repetition"),
        ("a^b", "at an end"), ("(^a)", "at an end"), (r"(a)\1", r"no \\1"), (r"a\b", r"no \\b"), (r"\Z", r"no \\Z"),
        ("(?i)a", "flags"), ("(?!a)", "look-around"), ("[]a]", r"something in \[\]"), ("[b-a]", "a range that goes up"),
        ("[a", r"a \] for this"), (")", r"no \) without"), ("a{,3}", r"\{0,n\}"), ("[[:alpha:]]", "no class of POSIX"),
        (r"\u12", "hexadecimal"), (r"\ud800", "whole character"),
        (r"[\w-z]", "on both sides"),
        (r"\p{Latin}", "category"),
        (r"\01", "octal"), ("a{200000}", "100,000"),
        ("\ud800", "half of a character"), ("a$b", "behind \\$"),
    ],
)  # fmt: skip
def test_expressions_that_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(GrammarError, match=f"position .*{message}"):
        patterns.matched(pattern)


# ---- GBNF ------------------------------------------------------------------------------------------------------------

# What a grammar allows, as a function of Python over short texts.
GRAMMARS: tuple[tuple[str, str, str], ...] = (
    ('root ::= "a" | "b" "c"', "a|bc", "abc"),
    ('root ::= x*\nx ::= "ab" | "c"  # more\n', "(ab|c)*", "abc"),
    ('root ::= ("a" | "ab") ("c" | "bc")?', "(a|ab)(c|bc)?", "abc"),
    ("root ::= [a-b]{2,3} [^a-b]", "[ab]{2,3}[^ab]", "abc"),
    ('root ::= [a-b]{2} "c"{1,}', "[ab]{2}c+", "abc"),
    ('root ::=\n  "a"\n  | "b"\n', "a|b", "abc"),
    ('root ::= (\n  "a"\n  "b"\n)+', "(ab)+", "abc"),
    (r'root ::= "\x61\"\\" | [\]b] "\u0063"', r'a"\\|[]b]c', 'ab"\\]c'),
    ('root ::= . "b"', "(?s:.)b", "ab\n"),
    ('root ::= "" | "a"', "a?", "ab"),
    ('a-b ::= "a"\nroot ::= a-b a-b?', "aa?", "ab"),
)


@pytest.mark.parametrize(("source", "meant", "letters"), GRAMMARS)
def test_grammars_without_recursion_are_exact(words: Tokenizer, source: str, meant: str, letters: str) -> None:
    for text in texts(letters, 4):
        assert accepted(words, text, grammar=source) == bool(re.fullmatch(meant, text)), text


def balanced(text: str) -> bool:
    depth = 0
    for c in text:
        depth += 1 if c == "(" else -1 if c == ")" else 0
        if depth < 0:
            return False
    return depth == 0


def test_grammars_with_recursion(words: Tokenizer) -> None:
    source = 'root ::= part*\npart ::= "(" root ")" | [ab]\n'
    for text in texts("()a", 6):
        assert accepted(words, text, grammar=source) == balanced(text), text
    same = 'root ::= "a" root "b" | "ab" | "c"'
    for text in texts("abc", 5):
        expected = re.fullmatch("(a*)(ab|c)(b*)", text)
        n = len(text)
        right = any(text == "a" * k + middle + "b" * k for k in range(n) for middle in ("ab", "c"))
        assert accepted(words, text, grammar=same) == right, (text, expected)


def test_the_json_grammar_of_llama_cpp(words: Tokenizer) -> None:
    source = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
    for text, right in (('{"a": [1, 2.5, {"b": null}], "c": "x\\n"}', True), ("{}", True), ('{"a": 01}', False),
                        ('{"a"}', False), ("[1]", False), ('{"a": "\n"}', False), ('{"a": -3e+5}', True)):  # fmt: skip
        assert accepted(words, text, grammar=source) is right, text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "no rule root"), ('start ::= "a"', "no rule root"), ("root ::= a", "line 1, column 10: expected a rule a"),
        ('root = "a"', "column 6: expected ::="), ('root ::= "a', 'column 10: expected a " for this'),
        ("root ::= [a", "for this"), ('root ::= ("a"', r"a \) for this"), ("root ::= * ", "something to repeat"),
        ('root ::= "a"\nroot ::= "b"', "line 2, column 1: expected one rule root"), ("root ::= [b-a]", "goes up"),
        (r'root ::= "\q"', "one of"), (r'root ::= "\x6"', "2 hexadecimal"), (r'root ::= "\uD800"', "whole character"),
        ("root ::= <think>", "no single tokens"), ('root ::= "a"{3,2}', "no fewer"),
        ("root ::= []", r"something in \[\]"), ('root ::= "a") "b"', "the end of a line"),
    ],
)  # fmt: skip
def test_grammars_that_are_refused(source: str, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        to_lark(source)


@pytest.mark.parametrize("what", [{"regex": r"[^\s\S]"}, {"grammar": "root ::= root"}, {"lark": 'start: start "a"'}])
def test_what_no_text_follows_is_refused_in_words(words: Tokenizer, what: dict[str, str]) -> None:
    with pytest.raises(GrammarError, match="cannot be enforced: no text follows it"):
        grammar(words, words.n_vocab, **what)
