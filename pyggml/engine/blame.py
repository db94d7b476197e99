"""Which tensor holds something that is no number: looked for only when logits were not finite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyggml import _native
from pyggml.gguf import TensorInfo

_OF_THE_CALLER = ("bias", "mask", "penalties")
"""What the sampler says of logits that a caller's settings changed."""


def blame(message: str, tensors: Mapping[str, TensorInfo]) -> str:
    """message, and the first tensor that holds something non-finite."""
    for name, info in tensors.items():
        if info.type.is_weight and not _finite(info):
            return f"{message}: tensor {name} ({info.type.name}) holds NaN or infinity; the file is damaged"
    if any(word in message for word in _OF_THE_CALLER):
        return (
            f"{message}; every weight of the model is finite, so see to logit_bias, penalties and what it must follow"
        )
    return f"{message}, though every weight is finite: values overflowed on the way"


def _finite(info: TensorInfo) -> bool:
    """Whether every value of a tensor is finite; decoded a few rows at a time."""
    k = info.shape[-1]
    rows = info.n_elements // k
    row_bytes = info.nbytes // rows
    step = max(1, (1 << 20) // k)
    for at in range(0, rows, step):
        n = min(step, rows - at)
        raw = info.read(at * row_bytes, (at + n) * row_bytes)
        if not np.isfinite(_native.dequantize(info.type.id, raw, n, k, 1)).all():
            return False
    return True
