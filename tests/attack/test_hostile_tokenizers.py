"""Tokenizer files with anything in any place: keys that make a tokenizer, or an error of the package."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from converters import checkpoint
from converters.vocabularies import as_json, metadata, sentencepiece_model

from pyggml.errors import PyggmlError
from pyggml.tokenizer import from_metadata

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 5, 259, 1 << 40, 0.5, "", "a", "\u2581", "<|bos|>", "x" * 3000, [], {}, ["a"], [["a", "b"]],
    {"a": 1}, {"a": "b"}, {"type": "BPE"}, {"type": "NFC"}, {"type": "ByteLevel"}, {"type": "Sequence"}, [0, 1, 2],
    {"content": "[word]", "special": True}, "9" * 5000, "\ud800",
)  # fmt: skip


def mutated(value: Any, rng: random.Random) -> Any:
    """A copy with another value, or none, at one place."""
    value = copy.deepcopy(value)
    node = value
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return value
        key = rng.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.75:
            node = node[key]
            continue
        if rng.random() < 0.2:
            del node[key]
        elif isinstance(node, dict) and rng.random() < 0.2:
            node[rng.choice(("", "a", "9" * 5000, "259", "<|eos|>"))] = rng.choice(VALUES)
        else:
            node[key] = rng.choice(VALUES)
        return value


def files_of(kind: str) -> dict[str, Any]:
    settings = {"bos_token": "<|bos|>", "eos_token": {"content": "<|eos|>"}, "tokenizer_class": "GPT2Tokenizer",
                "added_tokens_decoder": {"262": {"content": "<|x|>", "special": True}},
                "chat_template": [{"name": "default", "template": "{{ 1 }}"}]}  # fmt: skip
    small = {
        "tokenizer_config.json": settings,
        "added_tokens.json": {"<|y|>": 263},
        "generation_config.json": {"eos_token_id": [260, 261]},
        "special_tokens_map.json": {"eos_token": "a"},
    }
    table = checkpoint.tokenizer_json()
    if kind == "bpe":
        return {"tokenizer.json": table, **small}
    if kind == "older":
        model = table["model"]
        return {"vocab.json": model["vocab"], "merges.txt": "#version\nt h\nth e\na n\n", **small}  # type: ignore[index]
    model = sentencepiece_model()
    if kind == "pieces":
        return {"tokenizer.model": model, **small}
    step = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    return {"tokenizer.json": as_json(model, None, step), "tokenizer.model": model, **small}


@pytest.mark.parametrize("kind", ["bpe", "older", "pieces", "both"])
def test_anything_anywhere(kind: str, tmp_path: Path) -> None:
    base, rng = files_of(kind), random.Random(kind)
    outcomes = set()
    for round_ in range(40):
        files = dict(base)
        for _ in range(rng.choice((1, 1, 2, 4))):
            name = rng.choice(sorted(files))
            if isinstance(files[name], dict):
                files[name] = mutated(files[name], rng)
            elif isinstance(files[name], bytes):
                data = bytearray(files[name])
                data[rng.randrange(len(data))] = rng.randrange(256)
                files[name] = bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data))))])
            else:
                files[name] = files[name].replace(rng.choice("\n the"), rng.choice(("\n", "", " ", "\0", "\u2028")))
        try:
            from_metadata(metadata(tmp_path / str(round_), files, 330)).encode("the <|eos|> \U0001f999")
            outcomes.add("works")
        except PyggmlError as error:
            outcomes.add("refused" if 0 < len(str(error)) < 3000 else str(error)[:500])
        except Exception as error:
            raise AssertionError(f"round {round_}: {json.dumps(files, default=repr)[:500]}") from error
    assert outcomes == {"works", "refused"}
