"""Where the `tokenizers` library panics: refused before it is asked, without a line on stderr; what only a text brings
about is an error of the package, and the process lives."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from converters import checkpoint
from converters.vocabularies import folder, metadata

import pyggml
from pyggml.converters import export_tokenizer, tokenizer_files
from pyggml.errors import GGUFError, PyggmlError
from pyggml.files.foreign import is_panic, reading
from pyggml.tokenizer import from_metadata, published
from pyggml.tokenizer.library import ids_of, ids_with_ends, normalized, text_of

TEXTS = ("", "a", " ", "b\n", "\u00df a", "e\u0301", "ab  ab", "<|eos|> word", "\U0001f642" * 3, "x" * 9000)
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}


def added(*tokens: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": 262 + i, **FLAGS, **token} for i, token in enumerate(tokens)]


def replacing(pattern: dict[str, str], content: str = "x") -> dict[str, Any]:
    return {"normalizer": {"type": "Replace", "pattern": pattern, "content": content}}


def template(**parts: Any) -> dict[str, Any]:
    table: Any = checkpoint.tokenizer_json()["post_processor"]
    return {**table, **parts}


A, B, X = ({"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}},
           {"SpecialToken": {"id": "<|x|>", "type_id": 0}})  # fmt: skip
NOTHING = ("", "^", "a*", "(?=a)", "(?!b)", r"\b", r"\A", r"\G", r"\K", "b?", "(?m)^", r"^\s*", "|c")
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    **{f"regex {each}": (replacing({"Regex": each}), "it replaces nothing") for each in NOTHING},
    "empty pattern": (replacing({"String": ""}), "it replaces nothing"),
    "inside": (
        {"normalizer": {"type": "Sequence", "normalizers": [STRIP, replacing({"Regex": "^"})["normalizer"]]}},
        "it replaces nothing",
    ),
    "empty prefix": ({"normalizer": {"type": "Prepend", "prepend": ""}}, "an empty text in front"),
    "no length": ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "pieces of no characters"),
    "strip": ({"decoder": {"type": "Strip", "content": "a", "start": 0, "stop": 2}}, "cuts characters off the ends"),
    "no text": ({"post_processor": template(single=[])}, r"its template has \[\] for a text"),
    "two texts": ({"post_processor": template(single=[A, A])}, "its template has"),
    "second text": ({"post_processor": template(single=[B])}, "its template has"),
    "no token": ({"post_processor": template(single=[X, A])}, r"names the token '<\|x\|>', which it does not explain"),
    "processors": (
        {"post_processor": {"type": "Sequence", "processors": [template(single=[]), template()]}}, "its template has",
    ),
    "nothing left": (
        {"added_tokens": added({"content": "  ", "normalized": True}), "normalizer": STRIP},
        "leave nothing of the added token '  '",
    ),
}  # fmt: skip
ACCEPTED: dict[str, dict[str, Any]] = {
    "blanks": replacing({"Regex": " {2,}"}),
    "an end": replacing({"Regex": "$"}),
    "nothing put": replacing({"Regex": "a*"}, ""),
    "prefix": {"normalizer": {"type": "Prepend", "prepend": "\u2581"}},
    "strip": {"decoder": {"type": "Strip", "content": " ", "start": 1, "stop": 0}},
    "length": {"pre_tokenizer": {"type": "FixedLength", "length": 1}},
    "template": {"post_processor": {"type": "Sequence", "processors": [template(), template(single=[A])]}},
}
# Two tokens that both take the blanks between them: "q  " makes the library panic, other texts do not.
OWN: Any = checkpoint.tokenizer_json()["added_tokens"]
GREEDY = {"added_tokens": [*OWN, *added({"content": "q", "rstrip": True}, {"content": " ", "lstrip": True})]}


def described(parts: dict[str, Any]) -> str:
    return json.dumps({**checkpoint.tokenizer_json(), **parts})


def keys(tmp_path: Path, parts: dict[str, Any]) -> dict[str, Any]:
    """A vocabulary that this description is kept beside."""
    made = metadata(tmp_path / "plain", {"tokenizer.json": checkpoint.tokenizer_json()}, 270)
    return {**made, published.KEY: described(parts), "tokenizer.ggml.pre": published.PRE}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_panic_is_refused_in_silence(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    parts, said = REFUSED[name]
    with pytest.raises(GGUFError, match=f"cannot be used: .*{said}"):
        from_metadata(keys(tmp_path, parts))
    with pytest.raises(GGUFError, match=f"cannot be used by the tokenizers library: .*{said}"):
        tokenizer_files.built({**checkpoint.tokenizer_json(), **parts})
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_does_not_panic_is_taken(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    made = published.build(described(ACCEPTED[name]), "it cannot be used")
    plain = published.without_special(made)
    for text in TEXTS:
        for facade in (made, plain):
            text_of(facade, ids_of(facade, text))
            normalized(facade, text)
        ids_with_ends(made, text)
    assert "panicked" not in capfd.readouterr().err


def test_a_panic_that_a_text_brings_about_is_an_error_of_the_package(tmp_path: Path) -> None:
    tokenizer = from_metadata(keys(tmp_path, GREEDY))
    before = tokenizer.encode("a q b")
    assert len(before) > 3
    for _ in range(2):
        with pytest.raises(GGUFError, match=r"^the tokenizer cannot encode this text: AddedVocabulary bad split"):
            tokenizer.encode("q  ")
    made = published.build(described(GREEDY), "it cannot be used")
    with pytest.raises(GGUFError, match="cannot put anything around this text: AddedVocabulary bad split"):
        ids_with_ends(made, "q  ")
    assert tokenizer.encode("a q b") == before


def panic() -> BaseException:
    """A real one."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(described(GREEDY))
    try:
        made.encode("q  ")
    except BaseException as e:
        return e
    raise AssertionError("the library does not panic here any more: take another text")


def test_panics_are_known_and_nothing_else_is() -> None:
    found = panic()
    assert not isinstance(found, Exception)
    assert is_panic(found)
    assert not any(
        map(is_panic, (KeyboardInterrupt(), SystemExit(), ValueError(), type("PanicException", (Exception,), {})()))
    )


def test_a_panic_while_a_file_is_read_names_the_file() -> None:
    with (
        pytest.raises(GGUFError, match=r"^'x\.json' is no whole tokenizer: .*bad split"),
        reading("x.json", "tokenizer"),
    ):
        raise panic()
    with pytest.raises(KeyboardInterrupt), reading("x.json", "tokenizer"):
        raise KeyboardInterrupt


def test_a_conversion_and_an_export_answer_a_panic(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The texts that a conversion is checked on meet it."""
    table = {**checkpoint.tokenizer_json(), **GREEDY}
    both = added({"id": 97, "content": "a", "rstrip": True}, {"id": 261, "content": " ", "lstrip": True})
    table["added_tokens"] = [*OWN[:2], *both]
    source = checkpoint.folder(tmp_path / "src")
    checkpoint.safetensors(source / "model.safetensors", checkpoint.tensors())
    folder(source, {"tokenizer.json": table})
    with pytest.raises(PyggmlError, match="the tokenizer cannot encode this text: AddedVocabulary bad split"):
        pyggml.convert(source, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()
    tokenizer = from_metadata(metadata(tmp_path / "plain", {"tokenizer.json": checkpoint.tokenizer_json()}, 270))
    with caplog.at_level(logging.WARNING):
        assert not export_tokenizer._same_ids(table, tokenizer)
    assert "the tokenizer is left out of the export: " in caplog.text
