"""Reasoning: by which marks a model sets its thoughts apart from its answer, and the two taken apart as they come.

A row of MARKS per family, chosen by the text of the chat template. Channels, which are more than a pair of marks, are
in harmony.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from pyggml.answer import Part
from pyggml.chat.marks import cut


class Marks(NamedTuple):
    """How a family writes its thoughts.

    start: opens a block. ends: each closes it; the first is the one that is written for the model when its budget is
    used up. found_by: the templates that hold one of these texts are the family's. anywhere: start is a token that no
    text spells, so that a block may also begin behind a part of the answer. silent: marks of the answer, not printed;
    {tool} stands for the name of each that may be called.
    """

    start: str
    ends: tuple[str, ...]
    found_by: tuple[str, ...]
    anywhere: bool = False
    silent: tuple[str, ...] = ()

    def of(self, tools: Collection[str]) -> Marks:
        """The marks where these may be called."""
        named = [mark.replace("{tool}", name) for mark in self.silent for name in (tools if "{tool}" in mark else [""])]
        return self._replace(silent=tuple(named))

    @property
    def all(self) -> tuple[str, ...]:
        """Every mark."""
        return (self.start, *self.ends, *self.silent)

    def opened_by(self, prompt: str) -> bool:
        """Whether a prompt ends inside of a block: its last word opens one.

        >>> THINK.opened_by("<|im_start|>assistant\\n<think>\\n"), THINK.opened_by("assistant\\n<think>\\n</think>")
        (True, False)
        """
        return prompt.rstrip().endswith(self.start.strip())

    def closed_by(self, prompt: str) -> bool:
        """Whether the last word of a prompt ends a block."""
        return prompt.rstrip().endswith(self.ends)


THINK = Marks("<think>", ("</think>",), ("</think>",))

# The first row that a template shows counts: those of a few families first.
MARKS: tuple[Marks, ...] = (
    Marks("<|channel>thought", ("<channel|>",), ("<|channel>",), anywhere=True),  # Gemma 4
    Marks("<|START_THINKING|>", ("<|END_THINKING|>",), ("<|START_THINKING|>",), anywhere=True,
          silent=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>")),  # Command
    Marks("<|open|>think<|sep|>", ("<|close|>think<|sep|>",), ("<|open|>",), anywhere=True,
          silent=("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>")),  # Kimi K3
    Marks("<|think|>", ("<|end|>",), ("<|tool_call:begin|>",), anywhere=True,
          silent=("<|begin|>assistant", "<|content|>")),  # Solar Open
    Marks(" to=self<|message|>", ("<|eom|>",), (" to=self<|message|>", "to=self"), anywhere=True,
          silent=("<|start|>assistant", " to=user<|message|>", " to={tool}<|message|>", "<|eom|>")),  # Glimmer
    Marks("<|inner_prefix|>", ("<|inner_suffix|>",), ("<|inner_prefix|>",), anywhere=True),  # Apertus
    Marks("[THINK]", ("[/THINK]",), ("[THINK]", "[/THINK]"), anywhere=True),  # Magistral, Ministral 3
    Marks("<seed:think>", ("</seed:think>",), ("<seed:think>",)),
    Marks("<mm:think>", ("</mm:think>",), ("<mm:think>",)),  # MiniMax M3
    Marks("<think:opensource>", ("</think:opensource>",), ("'<think{}>'.format",)),  # Hunyuan 3
    Marks("<thought>", ("</thought>",), ("</thought>",)),  # EXAONE Deep
    Marks("<think>", ("</think>",), ("<response>\\nresponse\\n", "<response></response>"),
          silent=("<response>", "</response>")),  # Granite 3.3, whose system prompt asks for both pairs
    Marks("<think>", ("</think>",), ("<answer>",), silent=("<answer>", "</answer>")),  # Hunyuan A13B
    THINK,
    Marks("Here are my reasoning steps:", ("[BEGIN FINAL RESPONSE]",), ("[BEGIN FINAL RESPONSE]",),
          silent=("[END FINAL RESPONSE]",)),  # Apriel
    Marks("Here is my thought process:", ("Here is my response:",), ("Here is my response:",)),  # Granite 3.2
)  # fmt: skip


def find(template: str, has_token: Callable[[str], bool]) -> Marks | None:
    """The marks of a model, by its chat template's text, or, where that shows none, by tokens of the vocabulary.

    >>> find("{% set text = content.split('</think>') %}", lambda text: False) is THINK
    True
    """
    shown = next((row for row in MARKS if any(text in template for text in row.found_by)), None)
    if shown is None and has_token(THINK.start) and has_token(THINK.ends[0]):
        return THINK
    return shown


class Splitter:
    """Takes thoughts and answer apart. push() gives the parts that are certain, finish() what was held back.

    opened: the prompt ends inside of a block; closed: behind one. Blanks around a block belong to neither side. A block
    begins before the answer does, or anywhere if the family's marks are tokens: a text may speak of `<think>`. The
    parts of several blocks are set apart by an empty line. Nothing else is lost: a block without end is reasoning.
    interrupts: marks of the answer that end a block too, and are printed.

    >>> s = Splitter(THINK, opened=False)
    >>> [str(part) for part in s.push("<think>\\nHm.\\n</th") + s.push("ink>\\n\\nYes.") + s.finish()]
    ['Hm.', 'Yes.']
    """

    def __init__(
        self, marks: Marks | None, opened: bool, closed: bool = False, interrupts: tuple[str, ...] = ()
    ) -> None:
        self.thinking = opened
        self._marks = marks
        self._interrupts = interrupts
        self._held = ""
        self._blank = ""  # that is printed if something follows
        self._blocks = 0  # that had text
        self._first = True  # no text of this block yet
        self._fresh = True  # no answer since the beginning, or the last block
        self._answered = False
        self._closed = closed  # a block was before the answer

    def push(self, text: str) -> list[Part]:
        """The parts that a piece of text completes."""
        marks = self._marks
        if marks is None:
            return [Part("text", text)] if text else []
        parts: list[Part] = []
        self._held += text
        while True:
            certain, mark, self._held = cut(self._held, self._awaited(marks))
            parts += self._say(certain)
            if not mark:
                return parts
            parts += self._pass(marks, mark)

    def finish(self) -> list[Part]:
        """What was held back: at the end a mark that was begun is text."""
        held, self._held = self._held, ""
        parts = self._say(held)
        if self._blank and not (self.thinking or self._closed or self._answered):
            parts.append(Part("text", self._blank))
        self._blank = ""
        return parts

    def _awaited(self, marks: Marks) -> tuple[str, ...]:
        if self.thinking:
            return (*marks.ends, *self._interrupts, *((marks.start,) if self._first else ()))
        if not self._answered:
            return (marks.start, *marks.silent, *marks.ends)
        return (marks.start, *marks.silent) if marks.anywhere else marks.silent

    def _pass(self, marks: Marks, mark: str) -> list[Part]:
        """What a mark changes; where it changes nothing it is text."""
        if self.thinking and mark == marks.start:
            return [] if self._first else self._say(mark)  # written again by a model whose prompt opened the block
        if self.thinking:
            self.thinking, self._closed, self._fresh, self._blank = False, True, True, ""
            return self._say(mark) if mark in self._interrupts else []
        elif mark in marks.silent:
            return []
        elif mark in marks.ends:  # before all answer it ends a block that the model did not begin
            if self._answered:
                return self._say(mark)
            self._closed = True
        elif mark == marks.start:
            if self._answered and not marks.anywhere:
                return self._say(mark)
            self.thinking, self._first, self._blank = True, True, ""
        return []

    def _say(self, text: str) -> list[Part]:
        return self._think(text) if self.thinking else self._answer(text)

    def _think(self, text: str) -> list[Part]:
        text = self._blank + text
        said = text.rstrip()
        self._blank = text[len(said) :]
        if not said:
            return []
        if self._first:
            said = "\n\n" * (self._blocks > 0) + said.lstrip()
            self._first = False
            self._blocks += 1
        return [Part("reasoning", said)]

    def _answer(self, text: str) -> list[Part]:
        if self._fresh and not self._answered:
            text = self._blank + text
            if not text.strip():
                self._blank = text
                return []
            text, self._blank = text.lstrip() if self._closed else text, ""
        if not text:
            return []
        self._fresh, self._answered = False, True
        return [Part("text", text)]
