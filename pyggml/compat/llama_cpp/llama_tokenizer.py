"""Bytes to ids and back, by llama.cpp's rules of what add_bos, special and a first blank mean."""

from __future__ import annotations

from collections.abc import Sequence

from pyggml.compat.llama_cpp.known import HasTokenizer
from pyggml.compat.llama_cpp.verdicts import no_name
from pyggml.tokenizer import Tokenizer

TYPE_CHECKING = False


class LlamaTokenizer:
    """The tokenizer of a Llama."""

    def __init__(self, llama: HasTokenizer) -> None:
        self._tokenizer: Tokenizer = llama._tokenizer

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """The ids of UTF-8 bytes; what is no UTF-8 is left out. special: control tokens in the text are read."""
        return self._tokenizer.encode(text.decode("utf-8", "ignore"), add_bos, special)

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """The bytes of ids, behind those of prev_tokens. special: control tokens are printed."""
        tok = self._tokenizer
        pieces = [b"" if not special and tok.is_special(token) else tok.piece_bytes(token) for token in tokens]
        text = b"".join(pieces)
        first = (prev_tokens or tokens)[:1]
        begins = not prev_tokens and len(first) and first[0] == tok.bos_id
        return text[1:] if begins and text[:1] == b" " else text

    def encode(self, text: str, add_bos: bool = True, special: bool = True) -> list[int]:
        """The ids of a text."""
        return self.tokenize(text.encode("utf-8", "ignore"), add_bos, special)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of ids."""
        return self.detokenize(tokens).decode("utf-8", "ignore")


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """The reason why a name is not here."""
        raise no_name(__name__, name)
