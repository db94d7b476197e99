"""How what a model generates is to be read: where its reasoning is, which calls it writes, and the rest, its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pyggml.answer import Part, ToolCall
from pyggml.chat import harmony, reasoning
from pyggml.chat.functions import Tools
from pyggml.chat.reasoning import Marks, Splitter
from pyggml.chat.render import Rendered
from pyggml.chat.tools.formats import Frame, frames_of
from pyggml.chat.tools.reader import CallReader
from pyggml.errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from pyggml.tokenizer import Tokenizer

_ENOUGH = "\n\nI have thought about this for long enough; now I answer.\n"


class Reader(Protocol):
    """Reads one answer, piece by piece."""

    calls: list[ToolCall]

    @property
    def thinking(self) -> bool:
        """Whether what comes next is reasoning."""
        ...

    @property
    def answering(self) -> bool:
        """Whether what comes next is the answer itself; False between reasoning and answer too, where that shows."""
        ...

    def push(self, text: str) -> list[Part]:
        """The parts that a piece of text completes."""
        ...

    def finish(self) -> list[Part]:
        """What was held back."""
        ...


@dataclass(frozen=True, slots=True)
class Speech:
    """What is known of an answer before it comes. reasoning: its marks, None: it has none.

    opened: the prompt ends inside of a block; closed: with the end of one. tools: what may be called, written in one of
    frames; called: that the prompt opened. channels: all of it is written in messages, as harmony.py reads them.

    >>> [part.kind for part in Speech(None).reader().push("<think>")]
    ['text']
    """

    reasoning: Marks | None
    opened: bool = False
    closed: bool = False
    tools: Tools | None = None
    frames: tuple[Frame, ...] = ()
    called: Frame | None = None
    channels: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """What the reader must see of tokens that print nothing."""
        if self.channels:
            return harmony.MARKS
        of_calls = [mark for frame in self.frames for mark in frame.marks]
        return (*(self.reasoning.all if self.reasoning else ()), *of_calls)

    @property
    def closing(self) -> str:
        """What ends the reasoning of a model that has thought enough."""
        if self.channels:
            return _ENOUGH + harmony.CLOSING
        return _ENOUGH + self.reasoning.ends[0] if self.reasoning else ""

    def reader(self) -> Reader:
        """A reader of one answer."""
        schemas = self.tools.parameters if self.tools else {}
        if self.channels:
            forced = self.tools is not None and self.tools.choice != "auto"
            return harmony.Harmony(schemas, self.tools.choice if self.tools is not None and forced else "")
        calls = CallReader(self.frames, schemas, self.called) if self.tools else None
        interrupts = tuple(frame.open for frame in self.frames if frame.open.startswith(("<|", "[TOOL_")))
        marks = self.reasoning.of(schemas) if self.reasoning else None
        return Both(Splitter(marks, self.opened, self.closed, interrupts), calls)


class Both:
    """Reasoning is taken out first, then the calls of what is left."""

    def __init__(self, splitter: Splitter, calls: CallReader | None) -> None:
        self._splitter, self._reader = splitter, calls
        self.calls: list[ToolCall] = [] if calls is None else calls.calls

    @property
    def thinking(self) -> bool:
        """Whether what comes next is reasoning."""
        return self._splitter.thinking

    @property
    def answering(self) -> bool:
        """Whether what comes next is the answer itself."""
        return not self._splitter.thinking

    def push(self, text: str) -> list[Part]:
        """The parts that a piece of text completes."""
        return self._without_calls(self._splitter.push(text))

    def finish(self) -> list[Part]:
        """What was held back."""
        parts = self._without_calls(self._splitter.finish())
        return parts + (self._reader.finish() if self._reader else [])

    def _without_calls(self, parts: list[Part]) -> list[Part]:
        if self._reader is None:
            return parts
        found: list[Part] = []
        for part in parts:
            found += self._reader.push(part.text) if part.kind == "text" else [part]
        return found


PLAIN = Speech(None)
"""Of a text that is no answer: all of it is text."""


def speech_of(
    rendered: Rendered, tokenizer: Tokenizer, thinking_budget: int | None, tools: Tools | None = None
) -> tuple[Speech, str]:
    """How the answer to a prompt is to be read, and the prompt. Of a budget of 0 tokens that ends the reasoning itself.

    Raises ArgumentError for a budget where no reasoning is known.
    """
    prompt, template = rendered
    if harmony.speaks(template):
        if tools and tools.choice == "required":
            if len(tools.parameters) > 1:
                raise UnsupportedError(
                    "tool_choice='required' with several tools: this model begins with the tool's name; give one name"
                )
            tools = tools._replace(choice=next(iter(tools.parameters)))
        if tools and tools.choice != "auto":
            prompt += harmony.called_header(tools.choice) + harmony.MESSAGE
        return Speech(None, tools=tools, channels=True), prompt
    marks = reasoning.find(template, tokenizer.has_special)
    frames = frames_of(template, tokenizer.has_special) if tools else ()
    called = next((frame for frame in frames if prompt.endswith(frame.open)), None)
    if marks is None:
        if thinking_budget is not None:
            raise ArgumentError(
                f"thinking_budget={thinking_budget}: this model's chat template shows no marks of reasoning "
                "(as <think>), so nothing can be counted; leave it out"
            )
        return Speech(None, tools=tools, frames=frames, called=called), prompt
    opened = marks.opened_by(prompt)
    if opened and thinking_budget == 0:
        return Speech(marks, closed=True, tools=tools, frames=frames), prompt + Speech(marks).closing
    closed = not opened and marks.closed_by(prompt)
    return Speech(marks, opened, closed, tools, frames, called), prompt
