"""What an answer is made of: parts as they come, and calls of tools. Made in chat/ and engine/; knows no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "reasoning"]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an answer, as a stream's parts() gives them.

    kind "text": the answer itself; the texts joined are `.text` of the Completion. "reasoning": what the model thinks
    before it answers, `.reasoning` of the Completion.

    >>> str(Part("text", " king")), Part("reasoning", "Who?").kind
    (' king', 'reasoning')
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text
