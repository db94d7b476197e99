"""Text that a byte-level vocabulary has no tokens for: said when it is really left out, once for each tokenizer.

Many vocabularies lack bytes that begin only characters of the empty planes; that alone is no reason for a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from .decode import bpe_pieces, byte_chars
from .vocab import Vocab

log = logging.getLogger("pyggml")


class DroppedBytes:
    """Looks at what came out of a text. Thread-safe: at worst two threads say it at once."""

    def __init__(self, vocab: Vocab) -> None:
        known = set(vocab.texts)
        self._missing = bytes(b for b, char in byte_chars().items() if char not in known)
        self._vocab = vocab

    def look(self, text: str, ids: Sequence[int], normalize: Callable[[str], str] | None = None) -> None:
        """Warns where bytes of the (normalized) text are in none of the tokens that came out."""
        if not self._missing:
            return
        data = text.encode()
        if len(data.translate(None, self._missing)) == len(data):
            return
        data = normalize(text).encode() if normalize else data
        pieces = bpe_pieces(self._vocab)
        out = b"".join([pieces[i] for i in ids])
        lost = [b for b in self._missing if data.count(b) > out.count(b)]
        if lost:
            self._missing = b""
            names = " ".join(f"0x{b:02x}" for b in lost)
            log.warning("the vocabulary has no token for %s: text with such bytes is left out", names)
