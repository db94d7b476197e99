"""Tokenizer files of a model directory -> the tokenizer keys of a GGUF.

Three kinds by what the files do: byte-level BPE (tokenizer.json), SentencePiece BPE (tokenizer.model, or a
tokenizer.json with byte fallback), WordPiece (tokenizer.json or vocab.txt). The pre-tokenizer is recognised in
pretokenizer.py; one that nobody knows is kept whole under tokenizer.huggingface.json.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pyggml.converters import pretokenizer, sentencepiece
from pyggml.converters.family import Config, Meta
from pyggml.converters.source import Source
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.gguf_format import clip

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
MAX_TOKENS = 1 << 21
UNKNOWN_PRE = "huggingface"
_BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_SPECIAL = (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("sep", "seperator"), ("pad", "padding"),
            ("cls", "cls"), ("mask", "mask"))  # fmt: skip


def metadata(source: Source, c: Config, n_vocab: int | None) -> Meta:
    """All tokenizer.* keys; {} with no tokenizer files at all. n_vocab: rows of the embedding, which may be padded.

    Raises GGUFError where the files contradict each other, UnsupportedError for a kind GGUF cannot hold.
    """
    settings = source.json("tokenizer_config.json")
    table = source.json("tokenizer.json")
    model_path = os.path.join(source.folder, "tokenizer.model")
    kind = _kind(table, os.path.isfile(model_path), source)
    if kind is None:
        return {}
    if kind == "bpe":
        meta, texts = _bpe(source, table, n_vocab)
    elif kind == "wordpiece":
        meta, texts = _wordpiece(source, table, n_vocab)
    elif kind == "sentencepiece":
        meta, texts = _sentencepiece(model_path, table, settings, n_vocab)
    else:
        meta, texts = _byte_fallback(table, n_vocab)
    meta |= _ids(kind, texts, settings, source, c)
    meta |= _additions(kind, table, settings, meta, texts)
    meta |= _templates(source, settings)
    return meta


def _kind(table: dict[str, Any], has_model: bool, source: Source) -> str | None:
    model = table.get("model")
    if isinstance(model, dict):
        name = model.get("type") or ("BPE" if "merges" in model else None)
        if name == "WordPiece":
            return "wordpiece"
        if name == "BPE" and not model.get("byte_fallback"):
            return "bpe"
        if has_model:
            return "sentencepiece"
        if name == "BPE":
            return "byte fallback"
        raise UnsupportedError(
            f"tokenizer.json holds a model of type {clip(name)}; BPE, WordPiece and SentencePiece BPE can be converted"
        )
    if has_model:
        return "sentencepiece"
    return "wordpiece" if source.text("vocab.txt") is not None else None


# ---- the kinds -------------------------------------------------------------------------------------------------


def _vocab_of(table: dict[str, Any]) -> dict[str, int]:
    vocab = table["model"].get("vocab")
    if not isinstance(vocab, dict) or not vocab:
        raise GGUFError("tokenizer.json: the model has no vocabulary")
    for text, token in vocab.items():
        if not isinstance(token, int) or not 0 <= token < MAX_TOKENS:
            raise GGUFError(f"tokenizer.json: token {clip(text)} has the id {clip(token)}")
    return vocab


def _added(table: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[int, tuple[str, bool]]:
    """Added tokens: id -> (text, special)."""
    found: dict[int, tuple[str, bool]] = {}
    decoder = settings.get("added_tokens_decoder")
    for token, entry in decoder.items() if isinstance(decoder, dict) else ():
        if isinstance(entry, dict) and str(token).isdigit() and isinstance(entry.get("content"), str):
            found[int(token)] = (entry["content"], entry.get("special") is True)
    listed = table.get("added_tokens")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("content"), str):
            found[entry["id"]] = (entry["content"], entry.get("special") is True)
    if any(not 0 <= token < MAX_TOKENS for token in found):
        raise GGUFError("tokenizer.json: an added token has an id that no vocabulary reaches")
    return found


def _laid_out(
    vocab: Mapping[str, int], added: Mapping[int, tuple[str, bool]], n_vocab: int | None
) -> tuple[list[str], list[int]]:
    """Texts and types by id; ids that nothing names are unused."""
    by_id = {token: text for text, token in vocab.items()}
    count = max(n_vocab or 0, max([*by_id, *added], default=-1) + 1)
    if n_vocab is not None and count > n_vocab:
        raise GGUFError(f"the tokenizer has {count} tokens, the embedding {n_vocab} rows: they belong to two models")
    texts, types = [], []
    for token in range(count):
        if token in added:
            text, special = added[token]
            texts.append(text)
            types.append(CONTROL if special else USER_DEFINED)
        elif token in by_id:
            texts.append(by_id[token])
            types.append(NORMAL)
        else:
            texts.append(f"[PAD{token}]")
            types.append(UNUSED)
    return texts, types


def _bpe(source: Source, table: dict[str, Any], n_vocab: int | None) -> tuple[Meta, list[str]]:
    merges = table["model"].get("merges")
    if not isinstance(merges, list):
        raise GGUFError("tokenizer.json: a BPE model without merges")
    lines = []
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) and p for p in pair)):
            raise GGUFError(f"tokenizer.json: {clip(merge)} is no merge of two tokens")
        lines.append(" ".join(pair))
    texts, types = _laid_out(_vocab_of(table), _added(table, {}), n_vocab)
    pre = pretokenizer.recognise(table)
    meta: Meta = {
        "tokenizer.ggml.model": ("gpt2", None),
        "tokenizer.ggml.pre": (pre or UNKNOWN_PRE, None),
        "tokenizer.ggml.tokens": (texts, "str"),
        "tokenizer.ggml.token_type": (types, "i32"),
    }
    if lines:
        meta["tokenizer.ggml.merges"] = (lines, "str")
    if pre is None:
        meta["tokenizer.huggingface.json"] = (source.text("tokenizer.json") or "", None)
    return meta, texts


def _sentencepiece(
    path: str, table: dict[str, Any], settings: Mapping[str, Any], n_vocab: int | None
) -> tuple[Meta, list[str]]:
    pieces = sentencepiece.read(path)
    count = max(n_vocab or 0, len(pieces.texts))
    texts = [*pieces.texts, *(f"[PAD{i}]" for i in range(len(pieces.texts), count))]
    scores = [*pieces.scores, *[-10000.0] * (count - len(pieces.texts))]
    types = [*pieces.types, *[UNUSED] * (count - len(pieces.texts))]
    for token, (text, special) in _added(table, settings).items():
        if token >= count:
            raise GGUFError(f"added token {clip(text)} has the id {token}, the embedding has {count} rows")
        if not special:
            text = text.replace("\u2581", " ")  # matched in the text as it comes, before blanks are made visible
        if texts[token] != text or types[token] in (NORMAL, UNUSED) or (special and types[token] == USER_DEFINED):
            texts[token], scores[token] = text, -1000.0
            types[token] = CONTROL if special else USER_DEFINED
    meta: Meta = {
        "tokenizer.ggml.model": ("llama", None),
        "tokenizer.ggml.pre": ("default", None),
        "tokenizer.ggml.tokens": (texts, "str"),
        "tokenizer.ggml.scores": (scores, "f32"),
        "tokenizer.ggml.token_type": (types, "i32"),
    }
    for key, token in (("unknown", pieces.unk), ("bos", pieces.bos), ("eos", pieces.eos), ("padding", pieces.pad)):
        if 0 <= token < count:
            meta[f"tokenizer.ggml.{key}_token_id"] = (token, "u32")
    if not pieces.add_space_prefix:
        meta["tokenizer.ggml.add_space_prefix"] = (False, None)
    return meta, texts


def _byte_fallback(table: dict[str, Any], n_vocab: int | None) -> tuple[Meta, list[str]]:
    """A tokenizer.json made from a SentencePiece model that is not there: the rank of a merge gives its score."""
    vocab = _vocab_of(table)
    texts, types = _laid_out(vocab, _added(table, {}), n_vocab)
    ranks: dict[str, int] = {}
    merges = table["model"].get("merges")
    for rank, merge in enumerate(merges if isinstance(merges, list) else ()):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault("".join(pair), rank)
    unknown = table["model"].get("unk_token")
    for token, text in enumerate(texts):
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            types[token] = BYTE
        elif text == unknown and isinstance(unknown, str):
            types[token] = UNKNOWN
    scores = [
        float(-ranks[t]) if t in ranks else (-1e6 if k == NORMAL else 0.0) for t, k in zip(texts, types, strict=True)
    ]
    meta: Meta = {
        "tokenizer.ggml.model": ("llama", None),
        "tokenizer.ggml.pre": ("default", None),
        "tokenizer.ggml.tokens": (texts, "str"),
        "tokenizer.ggml.scores": (scores, "f32"),
        "tokenizer.ggml.token_type": (types, "i32"),
    }
    if not pretokenizer.prepends_space(table):
        meta["tokenizer.ggml.add_space_prefix"] = (False, None)
    return meta, texts


def _wordpiece(source: Source, table: dict[str, Any], n_vocab: int | None) -> tuple[Meta, list[str]]:
    """GGUF's form: words begin with U+2581, continuations are bare."""
    lowercase = True
    if isinstance(table.get("model"), dict):
        plain, types = _laid_out(_vocab_of(table), _added(table, {}), n_vocab)
        normalizer = table.get("normalizer")
        if isinstance(normalizer, dict):
            lowercase = normalizer.get("lowercase") is not False
    else:
        lines = (source.text("vocab.txt") or "").splitlines()
        plain, types = _laid_out({text: i for i, text in enumerate(lines)}, {}, n_vocab)
        types = [
            CONTROL if t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") else k
            for t, k in zip(plain, types, strict=True)
        ]
        lowercase = source.json("tokenizer_config.json").get("do_lower_case") is not False
    texts = []
    for text, kind in zip(plain, types, strict=True):
        if kind != NORMAL:
            texts.append(text)
        else:
            texts.append(text[2:] if text.startswith("##") else "\u2581" + text)
    meta: Meta = {
        "tokenizer.ggml.model": ("bert", None),
        "tokenizer.ggml.pre": ("default", None),
        "tokenizer.ggml.tokens": (texts, "str"),
        "tokenizer.ggml.token_type": (types, "i32"),
        "tokenizer.ggml.normalizer.lowercase": (lowercase, None),
    }
    return meta, plain


# ---- what surrounds the vocabulary -----------------------------------------------------------------------------


def _text_of(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _ids(kind: str, texts: list[str], settings: Mapping[str, Any], source: Source, c: Config) -> Meta:
    """Special ids: by the text that tokenizer_config.json names, else by the id in (generation_)config.json."""
    at: dict[str, int] = {}
    for place, text in enumerate(texts):
        at.setdefault(text, place)
    special = source.json("special_tokens_map.json")
    generation = source.json("generation_config.json")
    meta: Meta = {}
    for short, word in _SPECIAL:
        named = _text_of(settings.get(f"{short}_token")) or _text_of(special.get(f"{short}_token"))
        token: Any = None if named is None else at.get(named)
        if token is None:
            token = c.get(f"{short}_token_id")
            token = generation.get(f"{short}_token_id") if token is None else token
            token = token[0] if isinstance(token, list) and token else token
        if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < len(texts):
            meta[f"tokenizer.ggml.{word}_token_id"] = (token, "u32")
    if kind == "wordpiece":
        for text_of, key in (("[CLS]", "bos"), ("[SEP]", "eos"), ("[UNK]", "unknown"), ("[SEP]", "seperator")):
            if text_of in at:
                meta.setdefault(f"tokenizer.ggml.{key}_token_id", (at[text_of], "u32"))
    return meta


def _additions(kind: str, table: Mapping[str, Any], settings: Mapping[str, Any], meta: Meta, texts: list[str]) -> Meta:
    """Whether BOS and EOS are added: as said, else as the post-processor does."""
    first, last = pretokenizer.ends_of(table)
    found: Meta = {}
    for short, seen in (("bos", first), ("eos", last)):
        said = settings.get(f"add_{short}_token")
        if isinstance(said, bool):
            found[f"tokenizer.ggml.add_{short}_token"] = (said, None)
        elif kind == "wordpiece":
            found[f"tokenizer.ggml.add_{short}_token"] = (True, None)
        elif table.get("model") is not None:
            token = meta.get(f"tokenizer.ggml.{short}_token_id")
            adds = seen is not None and token is not None and texts[token[0]] == seen
            found[f"tokenizer.ggml.add_{short}_token"] = (adds, None)
    return found


def _templates(source: Source, settings: Mapping[str, Any]) -> Meta:
    """The chat template, and named ones beside it."""
    value: Any = source.text("chat_template.jinja")
    if value is None:
        value = source.json("chat_template.json").get("chat_template", settings.get("chat_template"))
    if isinstance(value, str):
        return {"tokenizer.chat_template": (value, None)}
    meta: Meta = {}
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str):
            ending = "" if entry["name"] == "default" else f".{entry['name']}"
            meta[f"tokenizer.chat_template{ending}"] = (entry["template"], None)
    return meta
