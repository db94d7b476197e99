"""What callers hang into a generation: functions on logits, and functions that end it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.intc]
Row = NDArray[np.single]
LogitsProcessor = Callable[[Ids, Row], Row]
StoppingCriteria = Callable[[Ids, Row], bool]


class LogitsProcessorList(list[LogitsProcessor]):
    """Functions (ids so far, logits) -> logits, one after the other. Each costs a call of Python a token."""

    def __call__(self, input_ids: Ids, scores: Row) -> Row:
        for each in self:
            scores = each(input_ids, scores)
        return scores


class StoppingCriteriaList(list[StoppingCriteria]):
    """Functions (ids so far, logits) -> whether the text ends here."""

    def __call__(self, input_ids: Ids, logits: Row) -> bool:
        return any(each(input_ids, logits) for each in self)


class MinTokensLogitsProcessor:
    """Forbids the end token until so many tokens were generated."""

    def __init__(self, min_tokens: int, token_eos: int) -> None:
        self.min_tokens, self.token_eos = min_tokens, token_eos
        self.prompt_tokens: int | None = None

    def __call__(self, input_ids: Ids, scores: Row) -> Row:
        if self.prompt_tokens is None:
            self.prompt_tokens = len(input_ids)
        if len(input_ids) - self.prompt_tokens < self.min_tokens:
            scores[self.token_eos] = -np.inf
        return scores
