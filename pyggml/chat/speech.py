"""How what a model generates is to be read: where its reasoning is, and how the parts of an answer are made of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyggml.chat.reasoning import Marks, Splitter, find
from pyggml.chat.render import Rendered
from pyggml.errors import ArgumentError

if TYPE_CHECKING:
    from pyggml.tokenizer import Tokenizer

_ENOUGH = "\n\nI have thought about this for long enough; now I answer.\n"


@dataclass(frozen=True, slots=True)
class Speech:
    """What is known of an answer before it comes. reasoning: its marks, None: it has none.

    opened: the prompt ends inside of a block; closed: with the end of one.

    >>> [part.kind for part in Speech(None).reader().push("<think>")]
    ['text']
    """

    reasoning: Marks | None
    opened: bool = False
    closed: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """What the reader must see of tokens that print nothing."""
        return self.reasoning.all if self.reasoning else ()

    @property
    def closing(self) -> str:
        """What ends the reasoning of a model that has thought enough."""
        return _ENOUGH + self.reasoning.ends[0] if self.reasoning else ""

    def reader(self) -> Splitter:
        """A reader of one answer."""
        return Splitter(self.reasoning, self.opened, self.closed)


PLAIN = Speech(None)
"""Of a text that is no answer: all of it is text."""


def speech_of(rendered: Rendered, tokenizer: Tokenizer, thinking_budget: int | None) -> tuple[Speech, str]:
    """How the answer to a prompt is to be read, and the prompt. Of a budget of 0 tokens that ends the reasoning itself.

    Raises ArgumentError for a budget where no reasoning is known.
    """
    marks = find(rendered.template, tokenizer.has_special)
    if marks is None:
        if thinking_budget is not None:
            raise ArgumentError(
                f"thinking_budget={thinking_budget}: this model's chat template shows no marks of reasoning "
                "(as <think>), so nothing can be counted; leave it out"
            )
        return PLAIN, rendered.prompt
    opened = marks.opened_by(rendered.prompt)
    if opened and thinking_budget == 0:
        return Speech(marks, closed=True), rendered.prompt + Speech(marks).closing
    return Speech(marks, opened, not opened and marks.closed_by(rendered.prompt)), rendered.prompt
