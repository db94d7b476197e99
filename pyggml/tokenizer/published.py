"""A whole tokenizer.json inside a GGUF (`tokenizer.huggingface.json`), for what the other keys have no words for:
normalizers, added tokens that swallow blanks, unknown expressions.

Where it is there it decides how text is cut; tokens, types and ids are those of the other keys. The converter writes
`tokenizer.ggml.pre` = huggingface where other engines would guess wrong without it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..errors import GGUFError
from .dropped import DroppedBytes
from .library import built, ids_of, normalized, refusing
from .limits import check_description
from .vocab import BYTE, NORMAL, UNDEFINED, Vocab, shown, text_of

log = logging.getLogger("pyggml")

PRE = "huggingface"
KEY = "tokenizer.huggingface.json"


def find(metadata: Mapping[str, Any], vocab: Vocab) -> PublishedEncoder | None:
    """The encoder of a file that holds a tokenizer.json; None where it holds none.

    One that does not belong to the tokens is passed over with a warning, and refused where nothing else says how.
    """
    alone = vocab.pre == PRE
    try:
        description = text_of(metadata, KEY)
        if description is None:
            if alone:
                raise GGUFError(f"tokenizer.ggml.pre is {PRE!r}, but {KEY} is missing")
            return None
        return PublishedEncoder(description, vocab)
    except GGUFError as e:
        if alone:
            raise
        log.warning("%s; it is passed over", e)
        return None


class PublishedEncoder:
    """Text -> ids by the published description. Thread-safe: two facades, one for each value of parse_special."""

    def __init__(self, description: str, vocab: Vocab) -> None:
        what = f"{KEY} cannot be used"
        self._parse = build(description, what)
        with refusing(what):
            _check(self._parse.get_vocab(with_added_tokens=True), vocab)
        self._plain = without_special(self._parse)
        self._dropped = DroppedBytes(vocab) if vocab.model == "gpt2" and not self._parse.model.unk_token else None

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """The ids of a text without surrogates."""
        facade = self._parse if parse_special else self._plain
        ids = ids_of(facade, text)
        if self._dropped is not None:
            self._dropped.look(text, ids, partial(normalized, facade))
        return ids


def build(description: str, what: str) -> Any:
    """The `tokenizers.Tokenizer` of a description, without truncation, padding and dropout, which belong to training.

    Raises GGUFError("{what}: ...").
    """
    check_description(description, what)
    with refusing(what):
        made = built(description)
        made.no_truncation()
        made.no_padding()
        if getattr(made.model, "dropout", None):
            made.model.dropout = None
        _check_added(made, what)
    return made


def _check_added(made: Any, what: str) -> None:
    """Raises GGUFError for an added token of which normalizing leaves nothing: the library finds that in characters."""
    for _, token in sorted(made.get_added_tokens_decoder().items()):
        if token.normalized and token.content and not normalized(made, token.content):
            raise GGUFError(f"{what}: its normalizers leave nothing of the added token {shown(token.content)}")


def without_special(made: Any) -> Any:
    """A second facade over the same model, to which special tokens in a text are plain text."""
    from tokenizers import Tokenizer

    with refusing("the tokenizer cannot be used without special tokens"):
        plain = Tokenizer(made.model)
        for step in ("normalizer", "pre_tokenizer"):
            if getattr(made, step) is not None:  # older versions of the library do not take None
                setattr(plain, step, getattr(made, step))
        plain.add_tokens([token for _, token in sorted(made.get_added_tokens_decoder().items())])
        plain.encode_special_tokens = True
    return plain


def _check(ids: Mapping[str, int], vocab: Vocab) -> None:
    """Raises GGUFError where the two vocabularies are not of one model."""
    last = max(ids.values(), default=-1)
    if last >= len(vocab.names):
        raise GGUFError(f"{KEY} names token {last}, tokenizer.ggml.tokens holds {len(vocab.names)}")
    if vocab.model == "bert":  # spells its words otherwise
        return
    for text, token in ids.items():
        if vocab.names[token] != text and vocab.types[token] in (NORMAL, UNDEFINED, BYTE):
            raise GGUFError(
                f"{KEY} calls token {token} {shown(text)}, tokenizer.ggml.tokens {shown(vocab.names[token])}: they "
                "belong to two models"
            )
