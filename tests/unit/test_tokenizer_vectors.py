"""Real vocabularies and the conformance models against the vectors of llama.cpp and transformers in the shared data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyggml import gguf
from pyggml.tokenizer import Tokenizer, from_metadata

MARK = "\n__ggml_vocab_test__\n"
VOCABS = ("llama-spm", "llama-bpe", "gpt-2", "qwen2", "starcoder", "deepseek-coder", "phi-3")
MODELS = ("llama", "llama__tied", "mistral", "qwen2", "qwen2__yarn", "qwen3", "gpt2", "gemma2", "phi3", "mixtral")


def load(path: Path) -> Tokenizer:
    with gguf.open(path) as file:
        return from_metadata(file.metadata)


@pytest.mark.parametrize("name", VOCABS)
def test_vocab_vectors(shared: Path, name: str) -> None:
    path = shared / "vocab" / f"ggml-vocab-{name}.gguf"
    texts = path.with_suffix(".gguf.inp").read_bytes().decode().split(MARK)
    wanted = [list(map(int, line.split())) for line in path.with_suffix(".gguf.out").read_text().splitlines()]
    assert len(wanted) in (len(texts), len(texts) - 1)  # the file ends with a mark
    tok = load(path)
    for text, ids in zip(texts, wanted, strict=False):
        assert tok.encode(text, add_special=False, parse_special=False) == ids, text
        assert tok.decode(ids) == text


@pytest.mark.parametrize("name", MODELS)
def test_conformance(shared: Path, name: str) -> None:
    tok = load(shared / "conformance" / name / "model-f32.gguf")
    vectors = json.loads((shared / "conformance" / name / "tokenization.json").read_text(encoding="utf-8"))
    for s in vectors["strings"]:
        assert tok.encode(s["text"]) in (s["ids"], s.get("llamacpp_ids")), s["text"]
        if "llamacpp_ids" not in s:  # there NFC separates the two; ids decide
            assert tok.encode(s["text"], add_special=False) == s["ids_no_special"], s["text"]
        assert tok.decode(s["ids_no_special"]) == s["decoded"]
        assert tok.decode(s["ids"], skip_special=True) == s["decoded_skip_special"]
    for s in vectors["decode_only"]:
        assert tok.decode(s["ids"]) == s["decoded"]


def test_stories(shared: Path) -> None:
    tok = load(shared / "models" / "stories260K.gguf")
    ids = tok.encode("Once upon a time")
    assert ids == [1, 403, 407, 261, 378]
    assert tok.decode(ids, skip_special=True) == "Once upon a time"
    assert tok.pad_id is None
