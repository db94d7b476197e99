"""The tokenizer of a GGUF in the files of Hugging Face: tokenizer.json (the kept one, or built from the vocabulary),
tokenizer.model of SentencePiece, tokenizer_config.json, special_tokens_map.json and generation_config.json.

What was built must give the ids that this package gives, or it is left out with a warning. Weights and config.json are
export.py's and export_config.py's.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from typing import Any

from pyggml.converters.tokenizer_check import TEXTS
from pyggml.errors import GGUFError, PyggmlError, UnsupportedError
from pyggml.shown import clip
from pyggml.tokenizer import Tokenizer, from_metadata, pretokenizers, spm
from pyggml.tokenizer.library import built, ids_with_ends, refusing
from pyggml.tokenizer.vocab import (
    BYTE,
    CONTROL,
    NORMAL,
    UNDEFINED,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Vocab,
    read_vocab,
)

log = logging.getLogger("pyggml")

KEPT = "tokenizer.huggingface.json"
TEMPLATE = "tokenizer.chat_template"
_BLANK = "\u2581"  # SentencePiece's visible blank
_NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def files_of(metadata: Mapping[str, Any], n_ctx: int | None) -> dict[str, bytes]:
    """File name -> content; {} where the file has no tokenizer. n_ctx: the longest text, for tokenizer_config.json."""
    if "tokenizer.ggml.model" not in metadata:
        return {}
    files: dict[str, bytes] = {}
    try:
        vocab, tok = read_vocab(metadata), from_metadata(metadata)
        table = _kept(metadata) or _built(vocab, tok, metadata)
        if vocab.model in ("llama", "t5") and vocab.scores is not None and KEPT not in metadata:
            files["tokenizer.model"] = spm.model_proto(vocab, vocab.scores, tok.unk_id, tok.add_space_prefix)
    except PyggmlError as e:
        log.warning("the tokenizer is left out of the export: %s", e)
        return {}
    found: dict[str, Any] = {"tokenizer.json": table}
    if not _same_ids(table, tok):
        return {}
    special = {f"{name}_token": vocab.texts[i] for name in _NAMES if (i := vocab.ids.get(name)) is not None}
    found["tokenizer_config.json"] = _settings(vocab, tok, metadata, special, n_ctx)
    found["special_tokens_map.json"] = special
    found["generation_config.json"] = _generation(vocab, tok)
    return files | {name: json.dumps(value, indent=1).encode() for name, value in found.items()}


def _kept(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    text = metadata.get(KEPT)
    if not isinstance(text, str) or not text:
        return None
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as e:
        log.warning("%s is no JSON (%s): tokenizer.json is built anew", KEPT, e)
        return None
    return table if isinstance(table, dict) else None


def _same_ids(table: dict[str, Any], tok: Tokenizer) -> bool:
    try:
        with refusing("the library does not take it"):
            theirs = built(json.dumps(table))
            theirs.no_padding()
            theirs.no_truncation()
        for text in TEXTS:
            got, want = ids_with_ends(theirs, text), tok.encode(text)
            if got != want:
                log.warning(
                    "the tokenizer is left out of the export: as a tokenizer.json it gives %s for %s, here it is %s",
                    got[:12], clip(text), want[:12],
                )  # fmt: skip
                return False
    except GGUFError as e:
        log.warning("the tokenizer is left out of the export: %s", str(e)[:300])
        return False
    return True


# ---- tokenizer.json ------------------------------------------------------------------------------------------------


def _built(vocab: Vocab, tok: Tokenizer, metadata: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {"gpt2": _bpe, "llama": _spm, "t5": _unigram, "bert": _wordpiece, "gemma4": _merged_pieces}
    kind = kinds.get(vocab.model)
    if kind is None:
        raise UnsupportedError(f"a vocabulary of the model {vocab.model!r} cannot be written as tokenizer.json yet")
    first, last = _ends(tok)
    table: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": _added(vocab)}
    table |= kind(vocab, tok, metadata)
    table["post_processor"] = _template(vocab, first, last, pairs=vocab.model == "bert")
    return table


def _ends(tok: Tokenizer) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and behind a text."""
    body, whole = tok.encode("a", add_special=False), tok.encode("a")
    before = next((i for i in range(len(whole)) if whole[i : i + len(body)] == body), 0)
    return whole[:before], whole[before + len(body) :]


def _speaks(text: str) -> bool:
    return bool(text) and "\ufffe" not in text  # a placeholder stands for what no text can mean


def _added(vocab: Vocab) -> list[dict[str, Any]]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": i, "content": text, **plain, "special": kind != USER_DEFINED}
        for i, (text, kind) in enumerate(zip(vocab.texts, vocab.types, strict=True))
        if kind in (CONTROL, USER_DEFINED, UNKNOWN) and _speaks(text)
    ]


def _ids(vocab: Vocab, texts: list[str] | None = None) -> dict[str, int]:
    """Text -> id, the lowest where several have one text; what is unused is left out."""
    found: dict[str, int] = {}
    for i, (text, kind) in enumerate(zip(texts or vocab.texts, vocab.types, strict=True)):
        if kind != UNUSED and _speaks(text):
            found.setdefault(text, i)
    return found


def _bpe(vocab: Vocab, tok: Tokenizer, metadata: Mapping[str, Any]) -> dict[str, Any]:
    pre = pretokenizers.find(vocab.pre)
    splits: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False} for regex in pre.regexes
    ]
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    merges = dict.fromkeys(tuple(merge.decode().split(" ")) for merge in vocab.merges or ())
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, bytes_of]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": pre.ignore_merges,
            "vocab": _ids(vocab), "merges": list(merges),
        },
    }  # fmt: skip


def _around_pieces(vocab: Vocab, tok: Tokenizer) -> dict[str, Any]:
    """What SentencePiece does to a text before it looks for pieces, and to their texts behind that."""
    steps: list[dict[str, Any]] = []
    if vocab.charsmap:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(vocab.charsmap).decode()})
    if vocab.remove_extra_whitespaces is True:
        steps += [{"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
                  for pattern, content in ((r"\A +| +\z", ""), (" {2,}", " "))]  # fmt: skip
    if tok.add_space_prefix:
        steps.append({"type": "Prepend", "prepend": _BLANK})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": _BLANK})
    decoder: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _BLANK}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    ]  # fmt: skip
    if tok.add_space_prefix:
        decoder.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoder},
    }


def _unigram(vocab: Vocab, tok: Tokenizer, metadata: Mapping[str, Any]) -> dict[str, Any]:
    pieces = [list(each) for each in zip(vocab.texts, vocab.scores or [], strict=True)]
    bytes_too = vocab.types.count(BYTE) == 256
    model = {"type": "Unigram", "unk_id": tok.unk_id, "byte_fallback": bytes_too, "vocab": pieces}
    return _around_pieces(vocab, tok) | {"model": model}


def _spm(vocab: Vocab, tok: Tokenizer, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """SentencePiece's BPE as merges: a pair merges where its text is a piece, the piece of the best score first."""
    ids = _ids(vocab)
    scores = vocab.scores or []
    normal = {text: i for text, i in ids.items() if vocab.types[i] in (NORMAL, UNDEFINED)}
    pieces = sorted(normal, key=lambda text: (-scores[normal[text]], normal[text]))
    merges = [
        pair
        for text in pieces
        for pair in sorted(
            ((text[:i], text[i:]) for i in range(1, len(text)) if text[:i] in normal and text[i:] in normal),
            key=lambda pair: (normal[pair[0]], normal[pair[1]]),
        )
    ]
    return _around_pieces(vocab, tok) | {
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None if tok.unk_id is None else vocab.texts[tok.unk_id],
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
            "byte_fallback": vocab.types.count(BYTE) == 256, "ignore_merges": False, "vocab": ids, "merges": merges,
        },
    }  # fmt: skip


def _merged_pieces(vocab: Vocab, tok: Tokenizer, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What SentencePiece's pieces become, with the merges of the file."""
    table = _spm(vocab, tok, metadata)
    table["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": _BLANK}
    table["model"]["merges"] = list(dict.fromkeys(tuple(merge.decode().split(" ")) for merge in vocab.merges or ()))
    return table


def _wordpiece(vocab: Vocab, tok: Tokenizer, metadata: Mapping[str, Any]) -> dict[str, Any]:
    plain = [
        text if kind not in (NORMAL, UNDEFINED) else text[1:] if text.startswith(_BLANK) else f"##{text}"
        for text, kind in zip(vocab.texts, vocab.types, strict=True)
    ]
    accents = metadata.get("tokenizer.ggml.normalizer.strip_accents")
    return {
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
            "strip_accents": accents if isinstance(accents, bool) else None,
            "lowercase": metadata.get("tokenizer.ggml.normalizer.lowercase") is not False,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]" if tok.unk_id is None else vocab.texts[tok.unk_id],
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": _ids(vocab, plain),
        },
    }  # fmt: skip


def _template(vocab: Vocab, first: list[int], last: list[int], pairs: bool) -> dict[str, Any] | None:
    """A post-processor that puts these tokens around a text; pairs: BERT's form for two texts."""
    if not first and not last:
        return None

    def token(i: int, part: int = 0) -> dict[str, Any]:
        return {"SpecialToken": {"id": vocab.texts[i], "type_id": part}}

    def text(name: str, part: int = 0) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": part}}

    single = [*map(token, first), text("A"), *map(token, last)]
    again = [] if pairs else [token(i, 1) for i in first]
    second = [*again, text("B", 1), *(token(i, 1) for i in last)]
    used = {vocab.texts[i]: {"id": vocab.texts[i], "ids": [i], "tokens": [vocab.texts[i]]} for i in (*first, *last)}
    return {"type": "TemplateProcessing", "single": single, "pair": [*single, *second], "special_tokens": used}


# ---- the small files -----------------------------------------------------------------------------------------------


def _settings(
    vocab: Vocab, tok: Tokenizer, metadata: Mapping[str, Any], special: Mapping[str, str], n_ctx: int | None
) -> dict[str, Any]:
    found: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    found |= {"add_bos_token": tok.add_bos, "add_eos_token": tok.add_eos}
    if vocab.model != "bert":
        found["model_input_names"] = ["input_ids", "attention_mask"]
    if n_ctx is not None:
        found["model_max_length"] = n_ctx
    found |= special
    named = {
        key.removeprefix(TEMPLATE + "."): value
        for key in metadata
        if key.startswith(TEMPLATE + ".") and isinstance(value := metadata[key], str)
    }
    plain = metadata.get(TEMPLATE)
    if isinstance(plain, str):
        found["chat_template"] = plain
    if named:
        each = {"default": plain, **named} if isinstance(plain, str) else named
        found["chat_template"] = [{"name": name, "template": value} for name, value in each.items()]
    return found


def _generation(vocab: Vocab, tok: Tokenizer) -> dict[str, Any]:
    ends = [i for name in ("eos", "eot", "eom") if (i := vocab.ids.get(name)) is not None]
    ends += sorted(tok.eog_ids - set(ends))
    ids = {"bos_token_id": tok.bos_id, "eos_token_id": ends[0] if len(ends) == 1 else ends, "pad_token_id": tok.pad_id}
    return {name: value for name, value in ids.items() if value is not None and value != []}
