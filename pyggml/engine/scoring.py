"""Log-probabilities and perplexity from logits, in float64, without keeping more logits than a piece."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.files.texts import Text, check_no_name, is_text, text_of, too_short

if TYPE_CHECKING:
    from pyggml.engine.prompts import Prompt
    from pyggml.engine.session import Session
    from pyggml.gguf import TensorInfo
    from pyggml.model import Model

_PIECE = 128  # positions whose logits are held at once


def _log_probs(session: Session, ids: Sequence[int], first: int) -> NDArray[np.float64]:
    """log p(ids[i + 1] | ids[:i + 1]) for i from first to len(ids) - 2; feeds ids to an empty session."""
    if first:
        session.step(ids[:first], 0)
    found = []
    for at in range(first, len(ids) - 1, _PIECE):
        piece = ids[at : min(at + _PIECE, len(ids) - 1)]
        logits = session.step(piece, len(piece)).reshape(len(piece), -1).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        norm = np.log(np.exp(logits).sum(axis=1))
        found.append(logits[np.arange(len(piece)), ids[at + 1 : at + 1 + len(piece)]] - norm)
    return np.concatenate(found)


def score(model: Model, ids: Sequence[int]) -> NDArray[np.float32]:
    """log p of every id but the first: (n - 1,)."""
    if len(ids) < 2:
        return np.zeros(0, np.float32)
    session = model._borrow()
    try:
        return _log_probs(session, ids, 0).astype(np.float32)
    finally:
        model._give_back(session)


def perplexity(model: Model, text: Text | Prompt, n_ctx: int, progress: Callable[[int, int], None] | None) -> float:
    """exp of the mean negative log-probability over the second halves of chunks of n_ctx ids."""
    if isinstance(text, str):
        check_no_name("perplexity", text)
    ids = model._ids("text", text_of(text) if is_text(text) else text, fits=False)
    n_ctx = min(n_ctx, model.n_ctx)
    n_chunk = len(ids) // n_ctx
    if n_chunk == 0:
        raise too_short(f"perplexity in chunks of n_ctx = {n_ctx}", text, len(ids), n_ctx)
    tok = model.tokenizer
    total, count = 0.0, 0
    session = model._borrow()
    try:
        for i in range(n_chunk):
            chunk = list(ids[i * n_ctx : (i + 1) * n_ctx])
            if tok.add_bos and tok.bos_id is not None:
                chunk[0] = tok.bos_id
            session.reset()
            part = _log_probs(session, chunk, n_ctx // 2)
            total -= float(part.sum())
            count += part.size
            if progress is not None:
                progress(i + 1, n_chunk)
    finally:
        model._give_back(session)
    return math.exp(total / count)


def finite(info: TensorInfo) -> bool:
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
