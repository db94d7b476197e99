"""Tiny tokenizers in the files of their publishers, and what the converter makes of them: no weights needed."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyggml.converters import protobuf, vocab
from pyggml.converters.family import Config
from pyggml.converters.source import Source
from pyggml.tokenizer import Tokenizer, from_metadata

LINES = ("once upon a time there was a little dog", "the cat sat on the mat and ran", "hello world this is a test")
LLAMA = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
PARTS = (
    "<s>", "</s>", "<unk>", "<|bos|>", "<|eos|>", "<|end|>", "<|user|>", "[word]", "word", "<tool>", "<pad>", "  ", " ",
    "the", "The", "cat", "A", "\ufb01", "e\u0301", "\uff21", "\u3000", "\n", "\r\n", "\t", "\u4f60", "\U0001f642", "1",
    "23", "!", "'s", "\u00a0", "hello", "wor", "ld",
)  # fmt: skip


def texts(n: int = 250) -> Iterator[str]:
    """Texts that put special tokens, blanks and odd characters side by side."""
    rng = random.Random(1)
    yield from ("", " ", "  a", " hello", "<s> hello", "</s>  hello </s>")
    for _ in range(n):
        yield "".join(rng.choice(PARTS) for _ in range(rng.randint(1, 12)))


def sentencepiece_model(**options: Any) -> bytes:
    """A trained tokenizer.model of 320 pieces, by default as Llama's."""
    import sentencepiece

    model = io.BytesIO()
    given: dict[str, Any] = dict(
        vocab_size=320, model_type="bpe", byte_fallback=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        hard_vocab_limit=False, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 20), model_writer=model, **{**given, **options}
    )
    return model.getvalue()


def metaspace(scheme: str, split: bool = False) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}


def unigram(mask: bool, **options: Any) -> dict[str, Any]:
    """As XLM-RoBERTa: a trained Unigram, its normalizer, what stands around a text; mask: a token that eats blanks.

    options: of training.
    """
    import sentencepiece

    given: dict[str, Any] = dict(
        model_type="unigram", byte_fallback=False, unk_id=3, bos_id=0, eos_id=2, pad_id=1,
        normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=True,
    )  # fmt: skip
    model = sentencepiece_model(**{**given, **options})
    found = sentencepiece.SentencePieceProcessor(model_proto=model)
    flags = {"normalized": False, "single_word": False, "lstrip": False, "rstrip": False, "special": True}
    added = [{"id": i, "content": text, **flags} for i, text in enumerate(("<s>", "<pad>", "</s>", "<unk>"))]
    n = found.get_piece_size()
    vocab: list[list[Any]] = [[found.id_to_piece(i), found.get_score(i)] for i in range(n)]
    if mask:
        vocab.append(["<mask>", 0.0])
        added.append({"id": n, "content": "<mask>", **flags, "lstrip": True})
    charsmap = next(
        bytes(value.raw)
        for number, spec in protobuf.fields(protobuf.whole(memoryview(model), "model", 1 << 20))
        if number == 3
        for inner, value in protobuf.fields(protobuf.message(spec, "normalizer"))
        if inner == 2
    )
    ends = [{"SpecialToken": {"id": text, "type_id": 0}} for text in ("<s>", "</s>")]
    special = {text: {"id": text, "ids": [i], "tokens": [text]} for text, i in (("<s>", 0), ("</s>", 2))}
    return {
        "version": "1.0", "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
            {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]},
        "pre_tokenizer": metaspace("always", split=True),
        "post_processor": {
            "type": "TemplateProcessing", "single": [ends[0], {"Sequence": {"id": "A", "type_id": 0}}, ends[1]],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": special,
        },
        "decoder": metaspace("always", split=True),
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False},
    }  # fmt: skip


def pieces(model: bytes) -> list[str]:
    """The texts of a tokenizer.model."""
    found = []
    for number, value in protobuf.fields(protobuf.whole(memoryview(model), "model", 1 << 20)):
        if number == 1:
            message = protobuf.message(value, "piece")
            found.append(next(protobuf.text(v, "piece") for n, v in protobuf.fields(message) if n == 1))
    return found


def as_json(
    model: bytes, normalizer: Any, pre_tokenizer: Any, added: tuple[dict[str, Any], ...] = ()
) -> dict[str, Any]:
    """The tokenizer.json that transformers makes of a SentencePiece model."""
    ids = {text: i for i, text in enumerate(pieces(model))}
    merges = [
        (ids[text], [text[:at], text[at:]])
        for text in ids
        if not text.startswith("<")
        for at in range(1, len(text))
        if text[:at] in ids and text[at:] in ids
    ]
    flags = {"special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
    special = [{"id": i, "content": text, **flags} for i, text in enumerate(("<unk>", "<s>", "</s>"))]
    return {
        "version": "1.0",
        "added_tokens": [*special, *({**flags, **each} for each in added)],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": ids, "merges": [pair for _, pair in sorted(merges, key=lambda each: each[0])],
        },
    }  # fmt: skip


def folder(path: Path, files: dict[str, Any]) -> Path:
    """A directory with these files: bytes, text, or what becomes JSON."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, (bytes, str)) else json.dumps(content)
        (path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def metadata(path: Path, files: dict[str, Any], rows: int | None = None, **config: Any) -> dict[str, Any]:
    """The tokenizer keys that the converter makes of these files, for an embedding of this many rows."""
    source = Source(str(folder(path, files)), config, [], original=False)
    return {key: value for key, (value, _) in vocab.metadata(source, Config(config, "config.json"), rows).items()}


def tokenizer(path: Path, files: dict[str, Any], rows: int | None = None, **config: Any) -> Tokenizer:
    """The tokenizer of a file with these keys."""
    return from_metadata(metadata(path, files, rows, **config))
