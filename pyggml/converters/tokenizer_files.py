"""Which tokenizer a model directory holds: its files found, read and brought into one form.

A directory whose tokenizer files nobody understands is an error that names them, never a model without a tokenizer.
The keys of a GGUF are made in vocab.py.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass, field
from typing import Any

from pyggml.converters import older_files, sentencepiece
from pyggml.converters.family import Config
from pyggml.converters.older_files import Added, Table
from pyggml.converters.sentencepiece import Pieces
from pyggml.converters.source import Source
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.shown import clip
from pyggml.tokenizer import published
from pyggml.tokenizer.library import ids_of, ids_with_ends, refusing

log = logging.getLogger("pyggml")

MAX_TOKENS = older_files.MAX_TOKENS

# The same content under the names that publishers gave it.
_PIECES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "spm.model")
_BYTE_LEVEL = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_TOKENIZER_LIKE = re.compile(
    r"(^|[._-])(tokenizer|vocab|merges|tekken|tiktoken|spiece|spm|sentencepiece|bpe|added_tokens|special_tokens_map)"
    r"|^(encoder\.json|dict\.txt)$|\.(tiktoken|model(\.v\d+)?)$",
    re.I,
)
_CURE = "save the tokenizer with transformers once (AutoTokenizer ... save_pretrained): it writes tokenizer.json"


@dataclass
class TokenizerFiles:
    """What was found. table: a tokenizer.json, as it is or as the older files mean it; {} where pieces say all.

    library: the `tokenizers.Tokenizer` of the table. added: all added tokens by their true ids, of which the model has
    rows. first, last: the ids that the table puts around a text, None where there is no table.
    """

    kind: str  # bpe, wordpiece, unigram, sentencepiece or "byte fallback"
    settings: Table
    special: Table
    table: Table = field(default_factory=dict)
    library: Any = None
    pieces: Pieces | None = None
    pieces_path: str = ""
    added: dict[int, Added] = field(default_factory=dict)
    first: tuple[int, ...] | None = None
    last: tuple[int, ...] | None = None


def read(source: Source, c: Config, n_vocab: int | None) -> TokenizerFiles | None:
    """The tokenizer of a directory; None where no file looks like one. n_vocab: rows of the embedding.

    Raises GGUFError where files are damaged or contradict each other, UnsupportedError for what cannot be carried.
    """
    settings = source.json("tokenizer_config.json")
    special = source.json("special_tokens_map.json")
    names = older_files.special_texts(settings, special)
    older = older_files.added_tokens(settings, source.json("added_tokens.json"), names)
    path = next((p for name in _PIECES if os.path.isfile(p := os.path.join(source.folder, name))), None)
    table = _table(source, c, settings, names, path is not None)
    if table:
        files = TokenizerFiles(_kind(table, path is not None), settings, special, older_files.completed(table, older))
        _take_in(files, n_vocab)
    elif path is not None:
        files = TokenizerFiles("sentencepiece", settings, special, added=_fitting(older, n_vocab))
    else:
        _refuse_unknown(source.folder)
        return None
    if files.kind == "sentencepiece" and path is not None:
        _take_in_pieces(files, path)
    return files


def _take_in_pieces(files: TokenizerFiles, path: str) -> None:
    """Reads a SentencePiece model; beside a BPE of tokenizer.json it only gives scores, and may be passed over."""
    wrong = f"{clip(path)} and tokenizer.json hold different tokens"
    try:
        files.pieces, files.pieces_path = sentencepiece.read(path), path
        if not files.table or _same(files.pieces, files.table):
            return
    except UnsupportedError as e:
        if not files.table or "merges" not in files.table["model"]:
            raise
        wrong = str(e)
    log.warning("%s: tokenizer.json counts", wrong)
    files.kind, files.pieces = "byte fallback", None


def _table(source: Source, c: Config, settings: Table, special: set[str], has_pieces: bool) -> Table:
    """tokenizer.json, or the one that older files mean; {} for none."""
    if os.path.isfile(os.path.join(source.folder, "tokenizer.json")):
        table = source.json("tokenizer.json")
        if not isinstance(table.get("model"), dict):
            raise GGUFError("tokenizer.json holds no model: it is damaged or no file of the tokenizers library")
        return table
    if has_pieces:
        return {}
    for vocab_name, merges_name in _BYTE_LEVEL:
        merges = source.text(merges_name)
        has_vocab = os.path.isfile(os.path.join(source.folder, vocab_name))
        if has_vocab and merges is not None:
            return older_files.byte_level(source.json(vocab_name), merges, settings, c.get("model_type"), special)
        if has_vocab or merges is not None:
            found, missing = (vocab_name, merges_name) if has_vocab else (merges_name, vocab_name)
            raise GGUFError(f"{clip(source.folder)} holds {found} but no {missing}: put it there, or {_CURE}")
    lines = source.text("vocab.txt")
    return {} if lines is None else older_files.wordpiece(lines, settings, special)


def _refuse_unknown(folder: str) -> None:
    found = sorted(name for name in os.listdir(folder) if _TOKENIZER_LIKE.search(name))
    if found:
        raise UnsupportedError(
            f"{clip(folder)} holds {clip(', '.join(found))}, but none of the files that can be read: tokenizer.json, "
            f"tokenizer.model (SentencePiece), vocab.json with merges.txt, vocab.txt; {_CURE}"
        )


def _kind(table: Table, has_pieces: bool) -> str:
    model = table["model"]
    name = model.get("type") or ("BPE" if "merges" in model else None)
    if name in ("WordPiece", "Unigram"):
        return str(name).lower()
    if name != "BPE":
        if has_pieces:
            return "sentencepiece"
        raise UnsupportedError(
            f"tokenizer.json holds a model of type {clip(name)}; BPE, WordPiece, Unigram and SentencePiece BPE can be "
            "converted"
        )
    around = text_of({step: table.get(step) for step in ("normalizer", "pre_tokenizer", "decoder")})
    if '"ByteLevel"' in (text_of({"decoder": table.get("decoder")}) if model.get("byte_fallback") else around):
        return "bpe"  # to bytes that are all in the vocabulary, a fallback never comes
    if not model.get("byte_fallback") and "\u2581" not in around and "Metaspace" not in around:
        raise UnsupportedError(
            "tokenizer.json holds a BPE of characters (neither byte-level nor SentencePiece's), which GGUF cannot say"
        )
    return "sentencepiece" if has_pieces else "byte fallback"


def vocab_of(table: Table) -> dict[str, int]:
    """The vocabulary of a table's model, checked."""
    vocab = table["model"].get("vocab")
    if isinstance(vocab, list):
        vocab = {text: i for i, (text, _) in reversed(list(enumerate(scored(table))))}
    if not isinstance(vocab, dict) or not vocab:
        raise GGUFError("tokenizer.json: the model has no vocabulary")
    for text, token in vocab.items():
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < MAX_TOKENS:
            raise GGUFError(f"tokenizer.json: token {clip(text)} has the id {clip(token)}")
    return vocab


def scored(table: Table) -> list[tuple[str, float]]:
    """The pieces of a Unigram model with their scores, by id, checked."""
    found = []
    for each in table["model"]["vocab"]:
        pair = each if isinstance(each, list) and len(each) == 2 else [None, None]
        if not isinstance(pair[0], str) or not isinstance(pair[1], float | int) or isinstance(pair[1], bool):
            raise GGUFError(f"tokenizer.json: {clip(each)} is no piece with its score")
        found.append((pair[0], float(pair[1])))
    unknown = table["model"].get("unk_id")
    if not isinstance(unknown, int) or isinstance(unknown, bool) or not 0 <= unknown < max(len(found), 1):
        raise GGUFError(f"tokenizer.json: a Unigram model whose unk_id is {clip(unknown)}, expected one of its pieces")
    if len(found) > MAX_TOKENS:
        raise GGUFError(f"tokenizer.json: {len(found):,} pieces, expected at most {MAX_TOKENS:,}")
    return found


def _take_in(files: TokenizerFiles, n_vocab: int | None) -> None:
    """Builds the library's tokenizer; added tokens without a row are left out of the table."""
    vocab = vocab_of(files.table)
    files.library = built(files.table)
    added = _added_of(files.library)
    kept = _fitting(added, n_vocab)
    last = max((token for token in vocab.values() if token not in added or token in kept), default=-1)
    if n_vocab is not None and last >= n_vocab:
        raise GGUFError(
            f"the tokenizer has {last + 1} tokens, the embedding {n_vocab} rows: they belong to two models; put the "
            "tokenizer files of this very model beside its weights"
        )
    around = _around(files.library)
    if len(kept) < len(added):
        gone = {each.text for token, each in added.items() if token not in kept}
        model = files.table["model"]
        files.table = {
            **files.table,
            "added_tokens": [each for each in files.table["added_tokens"] if each.get("content") not in gone],
            "model": {**model, "vocab": _without(model["vocab"], gone)},
            "post_processor": None,  # it may name one of them
        }
        files.library = built(files.table)
        kept = _added_of(files.library)
    files.added = kept
    if around is not None:
        files.first, files.last = (tuple(i for i in ids if n_vocab is None or i < n_vocab) for ids in around)


def _without(vocab: Any, gone: set[str]) -> Any:
    if isinstance(vocab, list):
        return [each for each in vocab if each[0] not in gone]
    return {text: token for text, token in vocab.items() if text not in gone}


def built(table: Table) -> Any:
    """The library's tokenizer of a table."""
    return published.build(text_of(table), "tokenizer.json cannot be used by the tokenizers library")


def text_of(table: Table) -> str:
    """A table as text."""
    try:
        text = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
        text.encode()
    except UnicodeEncodeError:
        raise GGUFError("tokenizer.json holds half of a surrogate pair, which is no text") from None
    except RecursionError:
        raise GGUFError("tokenizer.json is nested too deeply") from None
    return text


def _added_of(library: Any) -> dict[int, Added]:
    """Added tokens by the ids that the library gives them, which are not always those of the file."""
    with refusing("tokenizer.json cannot be used by the tokenizers library"):
        return {
            token: Added(t.content, t.special, t.single_word, t.lstrip, t.rstrip, t.normalized)
            for token, t in sorted(library.get_added_tokens_decoder().items())
        }


def _fitting(added: dict[int, Added], n_vocab: int | None) -> dict[int, Added]:
    """Those that have a row. transformers loads the others too, and fails when one of them comes."""
    if any(token >= MAX_TOKENS for token in added):
        raise GGUFError("an added token has an id that no vocabulary reaches")
    kept = {token: each for token, each in added.items() if n_vocab is None or token < n_vocab}
    surplus = [f"{token} {clip(each.text)}" for token, each in added.items() if token not in kept]
    if not surplus:
        return added
    log.warning(
        "%d added tokens have no row in the embedding of %d and are left out: %s",
        len(surplus), n_vocab, ", ".join(surplus[:5]) + (" ..." if len(surplus) > 5 else ""),
    )  # fmt: skip
    return kept


def _around(library: Any) -> tuple[list[int], list[int]] | None:
    """The ids put before and after a text; None where the template is no such thing."""
    for text in ("a", "1 ", "."):
        inner, whole = ids_of(library, text), ids_with_ends(library, text)
        for at in range(len(whole) - len(inner) + 1):
            if inner and whole[at : at + len(inner)] == inner:
                return whole[:at], whole[at + len(inner) :]
    log.warning("tokenizer.json: what it puts around a text is not understood; nothing is put there")
    return None


def _same(pieces: Pieces, table: Table) -> bool:
    """Whether a SentencePiece model and a table name the same tokens, but for what was added."""
    vocab = table["model"].get("vocab")
    if not isinstance(vocab, dict):
        return True  # Unigram: sentencepiece.read says that it cannot be converted
    known = {token: text for text, token in vocab.items()}
    return all(known.get(i, text) == text for i, text in enumerate(pieces.texts))
