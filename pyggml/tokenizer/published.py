"""A whole tokenizer.json inside a GGUF (`tokenizer.huggingface.json`): for byte-level BPE whose pre-tokenizer is in no
table. The converter writes `tokenizer.ggml.pre` = huggingface then, so that no other engine guesses."""

from __future__ import annotations

from typing import Any

from ..errors import GGUFError
from .vocab import Vocab

PRE = "huggingface"
KEY = "tokenizer.huggingface.json"


class PublishedEncoder:
    """Text -> ids by the published description. Thread-safe: two instances, one for each value of parse_special."""

    def __init__(self, description: str, vocab: Vocab) -> None:
        self._parse = _build(description)
        self._plain = _build(description)
        self._plain.encode_special_tokens = True
        if self._parse.get_vocab_size() > len(vocab.texts):
            raise GGUFError(
                f"{KEY} has {self._parse.get_vocab_size()} tokens, tokenizer.ggml.tokens {len(vocab.texts)}"
            )

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """The ids of a text without surrogates."""
        ids: list[int] = (self._parse if parse_special else self._plain).encode(text, add_special_tokens=False).ids
        return ids


def _build(description: str) -> Any:
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_str(description)
    except BaseException as e:  # a Rust panic is no Exception
        if isinstance(e, Exception) or type(e).__name__ == "PanicException":
            raise GGUFError(f"{KEY} cannot be used: {str(e)[:300]}") from None
        raise
    made.no_truncation()
    made.no_padding()
    return made
