"""WordPiece encoding (`tokenizer.ggml.model` = bert) with the `tokenizers` library.

GGUF marks the beginning of a word with U+2581 and leaves continuations bare; the library wants it the other way round.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .decode import SPACE
from .library import ids_of, refusing
from .special import Splitter, spoken
from .vocab import CONTROL, NORMAL, UNDEFINED, UNKNOWN, USER_DEFINED, Vocab, shown

log = logging.getLogger("pyggml")


class WpmEncoder:
    """Text -> ids. Thread-safe: the tokenizer is only read."""

    def __init__(self, vocab: Vocab, unk: int, lowercase: bool, strip_accents: bool | None) -> None:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

        texts = [_plain(t, k) for t, k in zip(vocab.texts, vocab.types, strict=True)]
        ids: dict[str, int] = {}
        for i, text in enumerate(texts):
            if ids.setdefault(text, i) != i:
                log.warning("tokens %d and %d both mean %s: encoded to the first", ids[text], i, shown(text))
        with refusing("the vocabulary cannot be used"):
            model = models.WordPiece(ids, unk_token=texts[unk], max_input_chars_per_word=100)
            self._tokenizer: Any = Tokenizer(model)
            self._tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
            self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._user = Splitter(spoken(vocab, (USER_DEFINED,)))
        self._all = Splitter(spoken(vocab, (UNKNOWN, CONTROL, USER_DEFINED)))

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """The ids of a text without surrogates."""
        ids: list[int] = []
        for part in (self._all if parse_special else self._user).parts(text):
            ids += [part] if isinstance(part, int) else ids_of(self._tokenizer, part)
        return ids


def _plain(text: str, kind: int) -> str:
    if kind not in (NORMAL, UNDEFINED):
        return text
    return text[1:] if text.startswith(SPACE) else f"##{text}"


def normalizer_flags(metadata: Mapping[str, Any]) -> tuple[bool, bool | None]:
    """(lowercase, strip accents: None as lowercase). Older files say nothing and mean lower case."""
    lowercase = metadata.get("tokenizer.ggml.normalizer.lowercase")
    accents = metadata.get("tokenizer.ggml.normalizer.strip_accents")
    return lowercase is not False, accents if isinstance(accents, bool) else None
