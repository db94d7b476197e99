"""Guessing tokens ahead, as llama-cpp-python's callers ask for it: by what followed the last tokens before."""

from __future__ import annotations

from pyggml.arguments import whole
from pyggml.compat.llama_cpp.verdicts import no_name

TYPE_CHECKING = False


class LlamaPromptLookupDecoding:
    """draft="ngram" of this package: Llama(draft_model=LlamaPromptLookupDecoding()). The text stays the same.

    How many tokens a guess has and how long what it goes by is are chosen here: both numbers are judged and kept.
    """

    def __init__(self, max_ngram_size: int = 2, num_pred_tokens: int = 10) -> None:
        self.max_ngram_size = whole("max_ngram_size", max_ngram_size, 1)
        self.num_pred_tokens = whole("num_pred_tokens", num_pred_tokens, 1)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """The reason why a name is not here."""
        raise no_name(__name__, name)
