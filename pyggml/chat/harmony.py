"""Channels: answers in messages with a header each, as gpt-oss writes them: thoughts, calls of tools, the answer.

<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>... The prompt ends in a header.
"""

from __future__ import annotations

import re

from pyggml.answer import Kind, Part, ToolCall
from pyggml.chat.marks import cut
from pyggml.chat.tools.reader import new_id
from pyggml.chat.tools.shapes import Schemas, arguments_of, plain_name

START, CHANNEL, MESSAGE, END = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
MARKS = (START, CHANNEL, MESSAGE, END, "<|constrain|>", "<|call|>", "<|return|>")
CLOSING = "<|end|><|start|>assistant<|channel|>final<|message|>"
"""What makes a model answer that has thought enough."""

_ENDS = (END, "<|call|>", "<|return|>", START, CHANNEL)
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_NAMED = re.compile(r"<\|channel\|>\s*(\w+)")
_HEADER = re.compile(r"\s*(?:assistant\b|to=|<)")
_MOST_HEADER = 300  # characters; what is longer is none
_KINDS: dict[str, Kind] = {"analysis": "reasoning"}


def speaks(template: str) -> bool:
    """Whether a chat template writes channels."""
    return CHANNEL in template and MESSAGE in template


def called_header(name: str) -> str:
    """The header of a call, without the mark that ends it."""
    return f" to=functions.{name}{CHANNEL}commentary json"


class Harmony:
    """Reads one answer. schemas: of the functions that may be called; called: that the prompt begins to call.

    >>> h = Harmony({})
    >>> parts = h.push("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.")
    >>> [(part.kind, part.text) for part in parts]
    [('reasoning', 'Hm.'), ('text', 'Yes.')]
    """

    def __init__(self, schemas: Schemas, called: str = "") -> None:
        self.calls: list[ToolCall] = []
        self._schemas = schemas
        self._held = ""
        self._header: str | None = ""  # that is read; None: in a body
        self._kind: Kind = "text"
        self._blank = ""  # that is printed if more of the same message follows
        self._first = True  # nothing printed of this message
        self._n: dict[Kind, int] = {"text": 0, "reasoning": 0}  # messages that were printed
        self._call: tuple[str, str, list[str]] | None = None  # id, name and text of the call that is read
        self._n_calls = 0
        if called:
            self._open(called_header(called))

    @property
    def thinking(self) -> bool:
        """Whether what comes next is reasoning."""
        return self._header is None and self._kind == "reasoning"

    @property
    def answering(self) -> bool:
        """Whether what comes next is the answer itself, or a call."""
        return self._header is None and self._kind != "reasoning"

    def push(self, text: str) -> list[Part]:
        """The parts that a piece of text completes."""
        parts: list[Part] = []
        self._held += text
        while True:
            if self._header is None:
                certain, mark, self._held = cut(self._held, _ENDS)
                parts += self._say(certain)
                if not mark:
                    return parts
                parts += self._close(mark)
                self._header = mark if mark == CHANNEL else ""
                continue
            certain, mark, self._held = cut(self._held, (MESSAGE,))
            self._header += certain
            if self._no_header():
                self._held = self._header + mark + self._held
                self._open("")
            elif mark:
                self._open(self._header)
            else:
                return parts

    def finish(self) -> list[Part]:
        """What was held back. A header without a message is text."""
        held, self._held = self._held, ""
        if self._header is not None:
            rest = self._header + held
            if not _HEADER.match(rest) or rest.strip() not in ("", START, f"{START}assistant", "assistant"):
                self._open("")
                held = rest if rest.strip() else ""
            else:
                held = ""
                self._open("")
        parts = self._say(held)
        return parts + self._close("")

    def _no_header(self) -> bool:
        text = (self._header or "").lstrip()
        begins = any(word.startswith(text) or text.startswith(word) for word in ("assistant", "to=", "<|"))
        return len(text) > _MOST_HEADER or not begins

    def _open(self, header: str) -> None:
        self._header, self._first, self._blank = None, True, ""
        recipient = _RECIPIENT.search(header)
        channel = _NAMED.search(header)
        name = recipient[1] if recipient else ""
        if name and name not in ("assistant", "user", "all"):
            self._kind = "tool_call"
            self._call = (new_id(), plain_name(name), [])
            self._head = header
            return
        self._kind = _KINDS.get(channel[1], "text") if channel else "text"

    def _say(self, text: str) -> list[Part]:
        if self._call is not None:
            self._call[2].append(text)
            told = Part("tool_call", text, self._n_calls, self._call[0], self._call[1])
            return [told] if text else []
        text = self._blank + text
        said = text.rstrip()
        self._blank = text[len(said) :]
        if not said:
            return []
        if self._first:
            said = "\n\n" * (self._n[self._kind] > 0) + said.lstrip()
            self._n[self._kind] += 1
            self._first = False
        return [Part(self._kind, said)]

    def _close(self, mark: str) -> list[Part]:
        """The end of a message: a call is read, and stays text where it cannot be."""
        if self._call is None:
            blank, self._blank = self._blank, ""
            return [Part("text", blank)] if blank and not mark and self._kind == "text" and not self._first else []
        (made, name, pieces), self._call = self._call, None
        self._n_calls += 1
        body = "".join(pieces)
        arguments = arguments_of(body)
        raw = f"{self._head}{MESSAGE}{body}"
        if arguments is not None:
            self.calls.append(ToolCall(made, name, arguments, raw))
            return [] if body.strip() else [Part("tool_call", "{}", self._n_calls - 1, made, name)]
        self._kind, self._first = "text", True
        return self._say(raw)
