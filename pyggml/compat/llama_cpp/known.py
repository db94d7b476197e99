"""A Llama as far as what works for it knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyggml.compat.llama_cpp.loading import How
from pyggml.model import Model
from pyggml.tokenizer import Tokenizer


class HasTokenizer(Protocol):
    """Whatever has a tokenizer."""

    _tokenizer: Tokenizer


class Known(HasTokenizer, Protocol):
    """What answers are made with."""

    model_path: str
    metadata: dict[str, str]
    chat_format: str | None
    chat_handler: Callable[..., Any] | None
    _how: How

    @property
    def pyggml_model(self) -> Model:
        """The model."""
        ...

    @property
    def input_ids(self) -> NDArray[np.intc]:
        """The tokens that were read."""
        ...

    def n_vocab(self) -> int:
        """Tokens of the vocabulary."""
        ...

    def next_seed(self, seed: int | None) -> int:
        """The seed of a text."""
        ...
