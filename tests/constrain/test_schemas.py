"""Random schemas, walked at random through the masks: every text is valid, or the schema was refused at its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from constrain import suite
from constrain.schemas import Maker
from constrain.vocabularies import bpe, spm
from constrain.walks import Walker

from pyggml import gguf
from pyggml.constrain import grammar
from pyggml.errors import GrammarError
from pyggml.tokenizer import Tokenizer, from_metadata

pytest.importorskip("llguidance", reason="NO LLGUIDANCE: pip install 'pyggml[constrain]'")
jsonschema = pytest.importorskip("jsonschema", reason="NO JSONSCHEMA: pip install 'pyggml[test]'")

_REAL = ("phi-3", "llama-bpe", "qwen2")


def check(tokenizer: Tokenizer, n_vocab: int, seeds: Iterator[int], walks: int) -> tuple[int, int]:
    """(texts that ended, texts that did not in 250 tokens)."""
    walker = Walker(tokenizer)
    ended = endless = 0
    for seed in seeds:
        schema, place = Maker(seed).make()
        if place is not None:
            with pytest.raises(GrammarError) as e:
                grammar(tokenizer, n_vocab, schema=schema)
            assert f"{place}:" in str(e.value), f"seed {seed}: expected {place}, got {e.value}"
            continue
        made = grammar(tokenizer, n_vocab, schema=schema)
        validator = jsonschema.Draft202012Validator(
            schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        )
        for i in range(walks):
            text = walker.walk(made.begin(), seed * 10 + i)
            if text is None:
                endless += 1
                continue
            ended += 1
            wrong = next(validator.iter_errors(json.loads(text)), None)
            assert wrong is None, f"seed {seed}, walk {i}: {wrong.message}\n{text}\n{json.dumps(schema)}"
            assert made.parse(text) == json.loads(text)
    return ended, endless


@pytest.mark.parametrize("make", [bpe, spm])
def test_thirty_schemas(make: type[Tokenizer]) -> None:
    tokenizer = make()
    ended, endless = check(tokenizer, tokenizer.n_vocab + 3, iter(range(1000, 1030)), walks=2)
    assert ended > 30
    assert ended > 4 * endless


@pytest.mark.slow
@pytest.mark.parametrize("name", _REAL)
def test_five_hundred_schemas(shared: Path, name: str) -> None:
    tokenizer = from_metadata(gguf.open(shared / "vocab" / f"ggml-vocab-{name}.gguf").metadata)
    ended, endless = check(tokenizer, tokenizer.n_vocab, iter(range(500)), walks=3)
    assert ended > 1000
    assert ended > 8 * endless


def test_the_runner_of_the_suite_counts(tmp_path: Path) -> None:
    """What tests/constrain/suite.py says of a few lines in the form of JSON-Schema-Test-Suite."""
    cases = [
        {"data": 3, "valid": True, "description": "whole"}, {"data": 3.5, "valid": False, "description": "not whole"},
        {"data": "\ud800", "valid": False, "description": "half of a character"},
    ]  # fmt: skip
    groups = [
        {"description": "integers", "schema": {"type": "integer"}, "tests": cases},
        {"description": "not", "schema": {"not": {}}, "tests": cases},
        {"description": "a wrong test", "schema": {"type": "integer"}, "tests": [{**cases[0], "valid": False}]},
    ]
    (tmp_path / "few.json").write_text(json.dumps(groups))
    tokenizer = bpe()
    counts, wrong = suite.run(tmp_path, tokenizer, tokenizer.n_vocab)
    assert counts == {"schemas compiled": 2, "schemas refused": 1, "valid accepted": 1, "INVALID refused": 2,
                      "INVALID accepted": 1}  # fmt: skip
    assert wrong == ["few.json: a wrong test: whole: 3"]
