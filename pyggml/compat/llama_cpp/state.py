"""A saved state: what a Llama had read, with the bytes of its cache. Can be pickled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class LlamaState:
    """input_ids: (n_tokens,) int32. llama_state: what Session.save() writes. seed: of the next draw."""

    input_ids: NDArray[np.intc]
    scores: NDArray[np.single]
    n_tokens: int
    llama_state: bytes
    llama_state_size: int
    seed: int
