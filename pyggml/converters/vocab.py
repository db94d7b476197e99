"""Tokenizer files of a model directory -> the tokenizer keys of a GGUF.

Four kinds by what the files do: byte-level BPE, SentencePiece BPE, WordPiece, Unigram; tokenizer_files.py finds and
reads them.
What the keys of the format cannot say is carried whole under tokenizer.huggingface.json (beyond.py); the result is
compared with the source's own tokenizer before it is given out (tokenizer_check.py).
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from typing import Any

from pyggml.converters import beyond, pretokenizer, templates, tokenizer_check, tokenizer_files
from pyggml.converters.family import Config, Meta
from pyggml.converters.older_files import Added, text_of
from pyggml.converters.source import Source
from pyggml.converters.tokenizer_files import TokenizerFiles, vocab_of
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.shown import clip
from pyggml.tokenizer import published
from pyggml.tokenizer import vocab as keys
from pyggml.tokenizer.special import ends_by_text
from pyggml.tokenizer.vocab import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED

log = logging.getLogger("pyggml")

_SPECIAL = (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("sep", "seperator"), ("pad", "padding"),
            ("cls", "cls"), ("mask", "mask"))  # fmt: skip


def metadata(
    source: Source, c: Config, n_vocab: int | None, given: Mapping[str, Any] | None = None, model: str = ""
) -> Meta:
    """All tokenizer.* keys, verified; {} with no tokenizer files at all. n_vocab: rows of the embedding, which may be
    padded. given: values that the caller puts in place of what is found. model: that of the architecture, where it has
    one of its own ("gemma4": merges of SentencePiece's pieces).

    Raises GGUFError where the files contradict each other or the tokenizer would not survive, UnsupportedError for a
    kind GGUF cannot hold.
    """
    files = tokenizer_files.read(source, c, n_vocab)
    if files is None:
        return {}
    if model == "gemma4" and files.table and files.kind in ("byte fallback", "sentencepiece"):
        files.kind = "merged pieces"
    meta, texts = _ARRAYS[files.kind](files, n_vocab)
    meta |= _ids(files, texts, source, c)
    meta |= _ends(files, meta, texts, source, c)
    meta |= _additions(files, meta)
    meta |= templates.metadata(source, files.settings)
    own = {key: (value, None) for key, value in (given or {}).items() if key.startswith("tokenizer.")}
    reasons = beyond.beyond(files)
    while True:
        if reasons:
            log.info("tokenizer.json is carried whole: %s", "; ".join(reasons[:5]))
            meta |= _whole(files)
        wrong = tokenizer_check.difference({key: value for key, (value, _) in (meta | own).items()}, files)
        if wrong is None:
            return meta
        if not files.table or published.KEY in meta:
            raise GGUFError(f"the tokenizer did not survive: {wrong}")
        reasons = [wrong]
        if files.kind == "bpe":
            meta["tokenizer.ggml.pre"] = (published.PRE, None)  # other engines are not to guess


def _whole(files: TokenizerFiles) -> Meta:
    found: Meta = {published.KEY: (tokenizer_files.text_of(files.table), None)}
    if files.kind == "bpe" and beyond.changes_text(files.table):
        found["tokenizer.ggml.pre"] = (published.PRE, None)
    return found


# ---- the kinds -------------------------------------------------------------------------------------------------


def _laid_out(vocab: Mapping[str, int], added: Mapping[int, Added], n_vocab: int | None) -> tuple[list[str], list[int]]:
    """Texts and types by id; ids that nothing names are unused."""
    by_id = {token: text for text, token in vocab.items()}
    texts, types = [], []
    for token in range(max(n_vocab or 0, max([*by_id, *added], default=-1) + 1)):
        if token in added:
            texts.append(added[token].text)
            types.append(CONTROL if added[token].special else USER_DEFINED)
        elif token in by_id:
            texts.append(by_id[token])
            types.append(NORMAL)
        else:
            texts.append(f"[PAD{token}]")
            types.append(UNUSED)
    return texts, types


def _arrays(model: str, pre: str, texts: list[str], types: list[int], scores: list[float] | None = None) -> Meta:
    meta: Meta = {
        "tokenizer.ggml.model": (model, None),
        "tokenizer.ggml.pre": (pre, None),
        "tokenizer.ggml.tokens": (texts, "str"),
        "tokenizer.ggml.token_type": (types, "i32"),
    }
    if scores is not None:
        meta["tokenizer.ggml.scores"] = (scores, "f32")
    return meta


def _merges(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    merges = table["model"].get("merges")
    if not isinstance(merges, list):
        raise GGUFError("tokenizer.json: a BPE model without merges")
    pairs = []
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) and p for p in pair)):
            raise GGUFError(f"tokenizer.json: {clip(merge)} is no merge of two tokens")
        pairs.append((pair[0], pair[1]))
    return pairs


def _bpe(files: TokenizerFiles, n_vocab: int | None) -> tuple[Meta, list[str]]:
    merges = [" ".join(pair) for pair in _merges(files.table)]
    texts, types = _laid_out(vocab_of(files.table), files.added, n_vocab)
    pre = pretokenizer.recognise(files.table)
    meta = _arrays("gpt2", pre or published.PRE, texts, types)
    if merges:
        meta["tokenizer.ggml.merges"] = (merges, "str")
    if pre is None:
        meta |= _whole(files)
    return meta, texts


def _sentencepiece(files: TokenizerFiles, n_vocab: int | None) -> tuple[Meta, list[str]]:
    pieces = files.pieces
    if pieces is None:
        raise UnsupportedError("a SentencePiece model without pieces")
    count = n_vocab if n_vocab is not None else max([len(pieces.texts) - 1, *files.added]) + 1
    if any(kind not in (CONTROL, USER_DEFINED, UNUSED) for kind in pieces.types[count:]):
        raise GGUFError(
            f"{clip(files.pieces_path)} has {len(pieces.texts)} pieces, the embedding {count} rows: they belong to two "
            "models"
        )
    if len(pieces.texts) > count:
        log.warning("%d pieces have no row in the embedding and are left out", len(pieces.texts) - count)
    n = min(len(pieces.texts), count)
    texts = [*pieces.texts[:n], *(f"[PAD{i}]" for i in range(n, count))]
    scores = [*pieces.scores[:n], *[-10000.0] * (count - n)]
    types = [*pieces.types[:n], *[UNUSED] * (count - n)]
    inline = [i for i in range(n) if types[i] == USER_DEFINED]
    for token in inline:
        texts[token] = texts[token].replace("\u2581", " ")  # user-defined tokens are spelled as a text has them
    for token, each in files.added.items():
        text = each.text if each.special else each.text.replace("\u2581", " ")
        if texts[token] != text or types[token] in (NORMAL, UNUSED) or (each.special and types[token] == USER_DEFINED):
            texts[token], scores[token] = text, -1000.0
            types[token] = CONTROL if each.special else USER_DEFINED
    meta = _arrays("llama", "default", texts, types, scores)
    for key, token in (("unknown", pieces.unk), ("bos", pieces.bos), ("eos", pieces.eos), ("padding", pieces.pad)):
        if 0 <= token < count:
            meta[f"tokenizer.ggml.{key}_token_id"] = (token, "u32")
    if not (pretokenizer.prepends_space(files.table) if files.table else pieces.add_space_prefix):
        meta["tokenizer.ggml.add_space_prefix"] = (False, None)
    if pieces.remove_extra_whitespaces:
        meta["tokenizer.ggml.remove_extra_whitespaces"] = (True, None)
    if pieces.charsmap:
        meta["tokenizer.ggml.precompiled_charsmap"] = (list(pieces.charsmap), "u8")
    inline = [i for i in inline if (files.added[i].normalized if i in files.added else not files.table)]
    if inline:
        meta[keys.INLINE_IDS] = (inline, "u32")
    return meta, texts


def _byte_fallback(files: TokenizerFiles, n_vocab: int | None) -> tuple[Meta, list[str]]:
    """A tokenizer.json made from a SentencePiece model that is not there: for other engines the rank of a merge gives
    its score, here the table counts."""
    texts, types = _laid_out(vocab_of(files.table), files.added, n_vocab)
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(_merges(files.table)):
        ranks.setdefault(left + right, rank)
    unknown = files.table["model"].get("unk_token") or text_of(files.settings.get("unk_token"))
    for token, text in enumerate(texts):
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            types[token] = BYTE
        elif text == unknown and isinstance(unknown, str):
            types[token] = UNKNOWN
        elif types[token] == USER_DEFINED:
            texts[token] = text.replace("\u2581", " ")
    scores = [
        float(-ranks[t]) if t in ranks else (-1e6 if k == NORMAL else 0.0) for t, k in zip(texts, types, strict=True)
    ]
    meta = _arrays("llama", "default", texts, types, scores)
    if not pretokenizer.prepends_space(files.table):
        meta["tokenizer.ggml.add_space_prefix"] = (False, None)
    return meta, texts


def _merged_pieces(files: TokenizerFiles, n_vocab: int | None) -> tuple[Meta, list[str]]:
    """SentencePiece's pieces with merges by rank, as Gemma 4 has them; scores are there for who asks."""
    texts, types = _laid_out(vocab_of(files.table), files.added, n_vocab)
    for token, text in enumerate(texts):
        if types[token] == NORMAL and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            types[token] = BYTE
    meta = _arrays("gemma4", "default", texts, types, [-1000.0] * len(texts))
    meta["tokenizer.ggml.merges"] = ([" ".join(pair) for pair in _merges(files.table)], "str")
    meta["tokenizer.ggml.add_space_prefix"] = (False, None)
    return meta, texts


def _wordpiece(files: TokenizerFiles, n_vocab: int | None) -> tuple[Meta, list[str]]:
    """GGUF's form: words begin with U+2581, continuations are bare."""
    plain, types = _laid_out(vocab_of(files.table), files.added, n_vocab)
    normalizer = files.table.get("normalizer")
    said = normalizer if isinstance(normalizer, dict) else {}
    texts = []
    for text, kind in zip(plain, types, strict=True):
        if kind != NORMAL:
            texts.append(text)
        else:
            texts.append(text[2:] if text.startswith("##") else "\u2581" + text)
    meta = _arrays("bert", "default", texts, types)
    meta["tokenizer.ggml.normalizer.lowercase"] = (said.get("lowercase") is not False, None)
    if isinstance(said.get("strip_accents"), bool):
        meta["tokenizer.ggml.normalizer.strip_accents"] = (said["strip_accents"], None)
    return meta, plain


def _unigram(files: TokenizerFiles, n_vocab: int | None) -> tuple[Meta, list[str]]:
    table, known = files.table, tokenizer_files.scored(files.table)
    texts, types = _laid_out(vocab_of(table), files.added, n_vocab)
    scores = [score for _, score in known[: len(texts)]] + [-10000.0] * (len(texts) - len(known))
    unknown = table["model"].get("unk_id")
    types[unknown] = UNKNOWN
    meta = _arrays("t5", "default", texts, types, scores)
    meta["tokenizer.ggml.unknown_token_id"] = (unknown, "u32")
    normalizer = beyond.steps(table.get("normalizer"), "normalizers")
    cut = beyond.steps(table.get("pre_tokenizer"), "pretokenizers")
    trims = {"Strip", "Replace", "WhitespaceSplit"} & {step.get("type") for step in (*normalizer, *cut)}
    meta["tokenizer.ggml.remove_extra_whitespaces"] = (bool(trims), None)
    if any(step.get("prepend_scheme") == "never" for step in cut):
        meta["tokenizer.ggml.add_space_prefix"] = (False, None)
    for step in normalizer:
        if step.get("type") == "Precompiled" and isinstance(step.get("precompiled_charsmap"), str):
            meta["tokenizer.ggml.precompiled_charsmap"] = (_from_base64(step["precompiled_charsmap"]), "u8")
    return meta, texts


def _from_base64(text: str) -> list[int]:
    try:
        return list(base64.b64decode(text, validate=True))
    except ValueError as e:
        raise GGUFError(f"tokenizer.json: precompiled_charsmap is no base64: {e}") from None


_ARRAYS = {"bpe": _bpe, "sentencepiece": _sentencepiece, "byte fallback": _byte_fallback, "wordpiece": _wordpiece,
           "unigram": _unigram, "merged pieces": _merged_pieces}  # fmt: skip


# ---- what surrounds the vocabulary -----------------------------------------------------------------------------


def _places(texts: list[str]) -> dict[str, int]:
    at: dict[str, int] = {}
    for place, text in enumerate(texts):
        at.setdefault(text, place)
    return at


def _valid(token: Any, n: int) -> bool:
    return isinstance(token, int) and not isinstance(token, bool) and 0 <= token < n


def _ids(files: TokenizerFiles, texts: list[str], source: Source, c: Config) -> Meta:
    """Special ids: by the text that tokenizer_config.json names, else by the id in (generation_)config.json."""
    at = _places(texts)
    generation = source.json("generation_config.json")
    meta: Meta = {}
    for short, word in _SPECIAL:
        named = text_of(files.settings.get(f"{short}_token")) or text_of(files.special.get(f"{short}_token"))
        token: Any = None if named is None else at.get(named)
        if token is None:
            token = c.get(f"{short}_token_id")
            token = generation.get(f"{short}_token_id") if token is None else token
            token = token[0] if isinstance(token, list) and token else token
        if _valid(token, len(texts)):
            meta[f"tokenizer.ggml.{word}_token_id"] = (token, "u32")
    for short, seen in (("bos", files.first), ("eos", files.last)):
        if seen is not None and len(seen) == 1:  # nothing names it, but each text gets it
            meta.setdefault(f"tokenizer.ggml.{short}_token_id", (seen[0], "u32"))
    if files.kind == "wordpiece":
        for text, key in (("[CLS]", "bos"), ("[SEP]", "eos"), ("[UNK]", "unknown"), ("[SEP]", "seperator")):
            if text in at:
                meta.setdefault(f"tokenizer.ggml.{key}_token_id", (at[text], "u32"))
    return meta


def _ends(files: TokenizerFiles, meta: Meta, texts: list[str], source: Source, c: Config) -> Meta:
    """Every id that ends a generation: what other engines do not find by text goes into eot and eom while there is
    room, and all of them into a list of our own where there is not."""
    wanted: list[int] = []
    for said in (source.json("generation_config.json").get("eos_token_id"), c.get("eos_token_id")):
        several: list[Any] = said if isinstance(said, list) else [said]
        for token in several:
            if _valid(token, len(texts)):
                wanted += [token] if token not in wanted else []
            elif token is not None:
                log.warning("eos_token_id names %s, which is no token: left out", clip(token))
    said_ids = (meta.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom"))
    known = {each[0] for each in said_ids if each is not None}
    known |= ends_by_text(meta["tokenizer.ggml.model"][0], texts, meta["tokenizer.ggml.token_type"][0])
    rest = [token for token in wanted if token not in known]
    if "tokenizer.ggml.eos_token_id" not in meta and rest:
        return {"tokenizer.ggml.eos_token_id": (rest[0], "u32"), **_slots(rest[1:], wanted)}
    return _slots(rest, wanted)


def _slots(rest: list[int], wanted: list[int]) -> Meta:
    found: Meta = {f"tokenizer.ggml.{key}_token_id": (i, "u32") for key, i in zip(("eot", "eom"), rest, strict=False)}
    if len(rest) > 2:
        found[keys.EOG_IDS] = (wanted, "u32")
    return found


def _additions(files: TokenizerFiles, meta: Meta) -> Meta:
    """Whether BOS and EOS are added: as said, else as the table does; other ids around a text by a list of our own."""
    found: Meta = {}
    for short, seen, key in (("bos", files.first, keys.FIRST_IDS), ("eos", files.last, keys.LAST_IDS)):
        said = files.settings.get(f"add_{short}_token")
        token = meta.get(f"tokenizer.ggml.{short}_token_id", (None, None))[0]
        if isinstance(said, bool):
            found[f"tokenizer.ggml.add_{short}_token"] = (said, None)
        elif files.table:
            found[f"tokenizer.ggml.add_{short}_token"] = (seen is not None and seen == (token,), None)
            if seen and seen != (token,):
                found[key] = (list(seen), "u32")
    return found
