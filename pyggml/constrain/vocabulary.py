"""A tokenizer as `llguidance` wants it: the bytes of each token, those that end a text, and how to cut forced text."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from ..errors import GrammarError, UnsupportedError
from ..tokenizer import Tokenizer
from .library import ForkedLock, call, library

_made: weakref.WeakKeyDictionary[Tokenizer, dict[int, Any]] = weakref.WeakKeyDictionary()
_making = ForkedLock()


class _Pieces:
    """What the library reads of a tokenizer, with its names for it. size: of the logits, which may have more rows."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.eos_token_id = min(tokenizer.eog_ids)
        self.tokens: list[bytes] = []
        self.special_token_ids: list[int] = []
        known = min(tokenizer.n_vocab, size)
        for token in range(size):
            piece = tokenizer.piece_bytes(token) if token < known else b""
            if not piece or tokenizer.is_special(token) or token in tokenizer.eog_ids:
                self.special_token_ids.append(token)  # stands for no text: no grammar allows it but as an end
                piece = f"<|token {token}|>".encode()
            self.tokens.append(piece)
        self._tokenizer = weakref.ref(tokenizer)  # which is the key under which all this is kept
        self._lead = len(tokenizer.encode("\n", add_special=False, parse_special=False))
        self._ids: dict[bytes, int] = {}
        self._longest = 0

    def __call__(self, text: str | bytes) -> Sequence[int]:
        """The ids of text in the middle of a line: SentencePiece puts a blank before a first word, and none here.

        Where the line end would join the text's first piece, the library's own way of cutting is as good.
        """
        read = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        tokenizer = self._tokenizer()
        ids = [] if tokenizer is None else tokenizer.encode("\n" + read, add_special=False, parse_special=False)
        rest = ids[self._lead :]
        if b"".join(self.tokens[i] for i in rest) == read.encode():
            return rest
        return self._greedy(read.encode())

    def _greedy(self, data: bytes) -> list[int]:
        """The longest piece at each place; nothing where a byte has none, and then nothing is forced."""
        if not self._ids:
            special = set(self.special_token_ids)
            self._ids = {piece: i for i, piece in reversed([*enumerate(self.tokens)]) if i not in special}
            self._longest = max(map(len, self._ids), default=0)
        found: list[int] = []
        at = 0
        while at < len(data):
            longest = min(self._longest, len(data) - at)
            length = next((n for n in range(longest, 0, -1) if data[at : at + n] in self._ids), 0)
            if not length:
                return []
            found.append(self._ids[data[at : at + length]])
            at += length
        return found


def vocabulary(tokenizer: Tokenizer, n_vocab: int) -> Any:
    """The `LLTokenizer` of a tokenizer whose model has n_vocab logits: made once, which takes seconds for large ones.

    Raises UnsupportedError without the library or a token that ends a text.
    """
    with _making:
        kept = _made.setdefault(tokenizer, {})
        if n_vocab not in kept:
            kept[n_vocab] = _build(tokenizer, n_vocab)
        return kept[n_vocab]


def _build(tokenizer: Tokenizer, n_vocab: int) -> Any:
    guidance = library()
    ends = sorted(i for i in tokenizer.eog_ids if i < n_vocab)
    if not ends:
        raise UnsupportedError("constrained output needs a token that ends a text; this vocabulary names none")
    pieces = _Pieces(tokenizer, n_vocab)
    if len(pieces.special_token_ids) == n_vocab:
        raise GrammarError("constrained output needs tokens that print something; this vocabulary has none")
    wrapped = guidance.TokenizerWrapper(pieces)
    return call(
        "the vocabulary cannot be used for constrained output",
        lambda: guidance.LLTokenizer(wrapped, n_vocab=n_vocab, eos_token=ends),
    )
