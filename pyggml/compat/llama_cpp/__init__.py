"""llama-cpp-python's interface: `from pyggml.compat.llama_cpp import Llama` in place of `from llama_cpp import Llama`.

Names that are not here raise AttributeError with the reason; docs/LLAMA_CPP.md lists all of them (verdicts.py).
"""

from __future__ import annotations

from pyggml.compat.llama_cpp import llama_speculative as llama_speculative
from pyggml.compat.llama_cpp.lists import (
    LogitsProcessor,
    LogitsProcessorList,
    MinTokensLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
)
from pyggml.compat.llama_cpp.llama import Llama
from pyggml.compat.llama_cpp.llama_cache import BaseLlamaCache, LlamaCache, LlamaRAMCache
from pyggml.compat.llama_cpp.llama_grammar import LlamaGrammar
from pyggml.compat.llama_cpp.llama_speculative import LlamaPromptLookupDecoding
from pyggml.compat.llama_cpp.llama_tokenizer import LlamaTokenizer
from pyggml.compat.llama_cpp.state import LlamaState
from pyggml.compat.llama_cpp.verdicts import CONSTANTS, no_name

TYPE_CHECKING = False

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A constant of llama.h, or the reason why a name is not here."""
        if name in CONSTANTS:
            return CONSTANTS[name]
        raise no_name(__name__, name)


__all__ = [
    "BaseLlamaCache",
    "Llama",
    "LlamaCache",
    "LlamaGrammar",
    "LlamaPromptLookupDecoding",
    "LlamaRAMCache",
    "LlamaState",
    "LlamaTokenizer",
    "LogitsProcessor",
    "LogitsProcessorList",
    "MinTokensLogitsProcessor",
    "StoppingCriteria",
    "StoppingCriteriaList",
]
