"""Small vocabularies for walks: byte-level BPE of the bundled model, and SentencePiece with the pieces of JSON."""

from __future__ import annotations

import functools

from pyggml import gguf
from pyggml.constrain.vocabulary import _Pieces
from pyggml.model import BUNDLED
from pyggml.tokenizer import Tokenizer, from_metadata

_WORDS = (
    "name", "\u2581name", "age", "yes", "\u2581yes", "no", "\u2581no", "th", "\u2581the", "true", "\u2581true", "null",
    '"', '\u2581"', '":', '",', '{"', "{", "}", "[", "]", ",", ":", '"}', "\u2581", "\u2581{", "12", "\u25811",
)  # fmt: skip


def bpe() -> Tokenizer:
    """The bundled model's: 4,096 tokens."""
    return from_metadata(gguf.open(BUNDLED).metadata)


def spm() -> Tokenizer:
    """Bytes, letters, digits, and words with and without the blank before them."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    words = dict.fromkeys((*_WORDS, *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@"))
    pieces += [(word, -float(i), 1) for i, word in enumerate(words)]
    return from_metadata({
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": [piece[0] for piece in pieces],
        "tokenizer.ggml.scores": [piece[1] for piece in pieces],
        "tokenizer.ggml.token_type": [piece[2] for piece in pieces], "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
    })  # fmt: skip


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text that stands behind another one."""
    return [*_pieces(tokenizer)(text)]


@functools.cache
def _pieces(tokenizer: Tokenizer) -> _Pieces:
    return _Pieces(tokenizer, tokenizer.n_vocab)
