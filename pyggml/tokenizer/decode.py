"""Ids -> bytes -> text: the piece tables of both models and the incremental decoder.

Own code for every model, so that streaming, stop strings and log-probabilities see the same bytes.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Mapping, Sequence

from ..errors import ArgumentError
from .vocab import BYTE, CONTROL, NORMAL, UNDEFINED, UNKNOWN, UNUSED, Vocab

SPECIAL = (UNKNOWN, CONTROL)
SPACE = "\u2581"  # SentencePiece's visible blank


def byte_chars() -> dict[int, str]:
    """GPT-2's byte -> printable character map (256 entries)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in set(plain)]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


def bpe_pieces(vocab: Vocab) -> list[bytes]:
    """The bytes of each token of a byte-level vocabulary; added tokens are plain text, unused ones print nothing."""
    back = {ord(c): b for b, c in byte_chars().items()}
    pieces = []
    for raw, text, kind in zip(vocab.raw, vocab.texts, vocab.types, strict=True):
        if kind in (NORMAL, UNDEFINED, BYTE):
            try:
                pieces.append(text.translate(back).encode("latin-1"))
            except UnicodeEncodeError:  # not byte-level text: taken as it stands
                pieces.append(raw)
        else:
            pieces.append(b"" if kind == UNUSED else raw)
    return pieces


def spm_pieces(vocab: Vocab) -> list[bytes]:
    """The bytes of each token of a SentencePiece vocabulary; <0xXX> is a byte, U+2581 a blank."""
    blank = SPACE.encode()
    pieces = []
    for raw, kind in zip(vocab.raw, vocab.types, strict=True):
        if kind == BYTE:
            pieces.append(bytes([int(raw[3:5], 16)]))
        elif kind in (NORMAL, UNDEFINED):
            pieces.append(raw.replace(blank, b" "))
        else:
            pieces.append(b"" if kind == UNUSED else raw)
    return pieces


def without_special(pieces: Sequence[bytes], types: Sequence[int]) -> list[bytes]:
    """The table in which control and unknown tokens print nothing."""
    return [b"" if kind in SPECIAL else piece for piece, kind in zip(pieces, types, strict=True)]


def decode_byte_runs(ids: Sequence[int], pieces: Sequence[bytes], types: Sequence[int]) -> str:
    """The text of ids some of whose byte tokens are no UTF-8: each run of byte tokens stands or falls as a whole."""
    out = []
    for is_byte, run in itertools.groupby(ids, key=lambda i: types[i] == BYTE):
        data = b"".join(pieces[i] for i in run)
        try:
            out.append(data.decode())
        except UnicodeDecodeError:
            out.append("\ufffd" * len(data) if is_byte else data.decode("utf-8", "replace"))
    return "".join(out)


class StreamDecoder:
    """Text from one id at a time, never half a character.

    push returns what is certain; bytes that cannot become a character any more come as U+FFFD. shown: tokens that print
    something else than pieces says.
    """

    def __init__(self, pieces: Sequence[bytes], strip_blank: bool, shown: Mapping[int, bytes]) -> None:
        self._pieces = pieces
        self._shown = shown
        self._strip = strip_blank
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that this id completes, perhaps "". Raises ArgumentError."""
        if not 0 <= token < len(self._pieces):
            raise ArgumentError(f"token id {token} is not in the vocabulary (n_vocab {len(self._pieces)})")
        piece = self._shown.get(token, self._pieces[token])
        if self._strip and piece:
            self._strip = False
            if piece[:1] == b" ":
                piece = piece[1:]
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a cut character, else "". The decoder may then be used anew."""
        rest = self._decoder.decode(b"", True)
        self._decoder.reset()
        return rest
