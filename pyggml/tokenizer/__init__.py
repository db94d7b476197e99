"""Tokenizers from GGUF metadata: `from_metadata(metadata) -> Tokenizer`.

SentencePiece (`llama`), byte-level BPE (`gpt2`), BPE of pieces (`gemma4`) and WordPiece (`bert`), through the libraries
`sentencepiece` and `tokenizers`, which are imported only when a tokenizer is built. The way: vocab.py (read, check) ->
spm.py, bpe.py, wpm.py or published.py -> tokenizer.py.
"""

from __future__ import annotations

from .decode import StreamDecoder
from .tokenizer import Tokenizer, from_metadata

__all__ = ["StreamDecoder", "Tokenizer", "from_metadata"]
