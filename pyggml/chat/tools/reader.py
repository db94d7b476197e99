"""Calls of tools taken out of an answer as it comes: sections between marks, and answers that are a call themselves.

What is not understood stays text, to the letter: nothing is lost and nothing raises.
"""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Callable, Sequence

from pyggml.answer import Part, ToolCall
from pyggml.chat.marks import cut
from pyggml.chat.tools import bodies, shapes
from pyggml.chat.tools.formats import Frame
from pyggml.chat.tools.shapes import Call, Schemas
from pyggml.chat.tools.values import Balance

_LETTERS = string.ascii_letters + string.digits
_MOST_REFUSED = 32  # opening marks within a section that are looked at
_HEAD_ROOM = 400  # characters in which a call that is told piece by piece must show its name
_JSON_HEAD = re.compile(
    r'\s*\{\s*(?:"(?:type|id)"\s*:\s*"[^"\\]*"\s*,\s*)?"name"\s*:\s*"([^"\\]+)"\s*,\s*'
    r'"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_NAME_HEAD = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*\[ARGS\]\s*(?=\{)")
_BARE_KEY = re.compile(r'(?:```\w*\s*)?\[?\s*\{\s*"([^"\\]*)"')
_BARE_CALL = re.compile(r"(?:```\w*\s*|\[\s*)([A-Za-z_][\w.-]*)\(")
_BARE_BEGUN = re.compile(r'`{1,2}|(?:```\w*\s*)?\[?\s*(?:\{\s*(?:"[^"\\]*)?|[A-Za-z_][\w.-]*)?')


def new_id() -> str:
    """Nine letters and digits, which the strictest template accepts."""
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in os.urandom(9))


class Section:
    """What was read behind an opening mark, until its end is known. blank: before it; index, id: of its first call."""

    def __init__(self, frame: Frame, blank: str, index: int) -> None:
        self.frame, self.blank, self.index = frame, blank, index
        self.id = new_id()
        self.name = ""  # once it is told piece by piece
        self.body = frame.open if frame.keeps else ""
        self._seen = self._past = 0  # of the body: what was looked at for marks; where those that were refused end
        self.doubted = -1  # where its closing mark stood first, spoken of within a value as it seemed
        self._refused = 0  # marks within that did not end it
        self._json: Balance | None = Balance()  # while the body is a JSON text that has not ended
        self._followed = 0  # of the body: what that has seen
        self._told = -1  # of the body: what was told of the arguments; -1: their beginning is not known
        self._rest: Balance | None = Balance()  # of the arguments that are told

    @property
    def raw(self) -> str:
        """As it was written, without a closing mark."""
        return self.blank + ("" if self.frame.keeps else self.frame.open) + self.body

    def add(self, text: str, opens: Sequence[str], reads: Callable[[str], bool]) -> tuple[bool, bool, str]:
        """(whether it has ended, whether by its closing mark, the text that is behind).

        Another opening mark ends it too, where what is before is a call.
        """
        self.body += text
        close = self.frame.close
        patient = self._refused < _MOST_REFUSED
        marks = [*(opens if patient else ()), *([close] if close else ())]
        own = len(self.frame.open) if self.frame.keeps else 0
        while True:
            least = max(self._seen - max(map(len, marks), default=0) + 1, own, self._past)
            ends = [(at, -len(mark), mark) for mark in marks if (at := self.body.find(mark, least)) >= 0]
            if not ends:
                self._seen = len(self.body)
                return False, False, ""
            at, _, mark = min(ends)
            self._past = at + 1
            if self._within_a_string(at) or bodies.open_tag(self.body[:at]):
                if mark == close and self.doubted < 0:
                    self.doubted = at
                continue
            if mark != close and not reads(self.body[:at]):
                self._refused += 1
                continue
            behind = at + len(mark) * (mark == close)
            end = behind if self.frame.keeps and mark == close else at
            self.body, rest = self.body[:end], self.body[behind:]
            return True, mark == close, rest

    def _within_a_string(self, at: int) -> bool:
        """Whether a mark is spoken of within a JSON text."""
        if self._json is None:
            return False
        if self._followed == 0 and self.body[:_HEAD_ROOM].lstrip()[:1] not in ("{", "["):
            self._json = None
            return False
        end = self._json.push(self.body[self._followed : at])
        self._followed = at
        if end is not None:
            self._json = None
            return False
        return self._json.in_string

    def news(self) -> list[Part]:
        """What is new of arguments that can be told piece by piece: of one call, written as JSON."""
        if self._told < 0:
            if len(self.body) > _HEAD_ROOM:
                return []
            head = _JSON_HEAD.match(self.body) or _NAME_HEAD.match(self.body)
            if head is None:
                return []
            self.name, self._told = shapes.plain_name(head[1]), head.end()
        if self._rest is None:
            return []
        new = self.body[self._told :]
        end = self._rest.push(new)
        if end is not None:
            new, self._rest = new[:end], None
        self._told += len(new)
        return [Part("tool_call", new, self.index, self.id, self.name)] if new else []


class CallReader:
    """Reads the text of one answer. opened: the prompt ends with this opening mark.

    calls: those that were understood. Blanks between calls, and before them, are not printed.

    >>> from pyggml.chat.tools.formats import ANY
    >>> r = CallReader([ANY], {})
    >>> [part.text for part in r.push('Look: <tool_call>{"name": "f"}</tool_call>') + r.finish()]
    ['Look:', '{}']
    >>> [(call.name, call.arguments) for call in r.calls]
    [('f', {})]
    """

    def __init__(self, frames: Sequence[Frame], schemas: Schemas, opened: Frame | None = None) -> None:
        self.calls: list[ToolCall] = []
        self._frames = {frame.open: frame for frame in frames}
        self._schemas = schemas
        self._held = ""
        self._blank = ""  # that is printed if text follows
        self._n = 0  # calls that were begun
        self._section: Section | None = Section(opened, "", 0) if opened else None
        self._whole: str | None = None if opened else ""  # the beginning of an answer that may be a call itself
        self._balance = Balance()  # of it
        self._followed = 0  # of it: what that has seen

    def push(self, text: str) -> list[Part]:
        """The parts that a piece of text completes."""
        parts: list[Part] = []
        while text:
            if self._section is not None:
                text = self._inside(self._section, text, parts)
            elif self._whole is not None:
                text = self._bare(text, parts)
            else:
                text = self._outside(text, parts)
        return parts

    def finish(self) -> list[Part]:
        """What was held back. A section without its closing mark is read all the same."""
        parts: list[Part] = []
        for _ in range(_MOST_REFUSED):
            section = self._section
            if section is None:
                break
            if section.doubted >= 0 and not self._reads(section.body):  # its first closing mark was one
                close = section.frame.close
                rest = section.body[section.doubted + len(close) :]
                section.body = section.body[: section.doubted + len(close) * section.frame.keeps]
                self._end(section, close, parts)
                parts += self.push(rest)
            else:
                self._end(section, "", parts)
        if self._section is not None:
            section, self._section = self._section, None
            self._print(section.raw, parts)
        if self._whole is not None:
            whole, self._whole = self._whole, None
            if not self._understood(whole, parts):
                self._print(whole, parts)
        held, self._held = self._held, ""
        self._print(held, parts)
        if self._blank and not self.calls:
            parts.append(Part("text", self._blank))
        self._blank = ""
        return parts

    # ---- sections ----------------------------------------------------------------------------------------------

    def _outside(self, text: str, parts: list[Part]) -> str:
        certain, mark, rest = cut(self._held + text, self._frames)
        self._print(certain, parts)
        self._held = "" if mark else rest
        if not mark:
            return ""
        self._section = Section(self._frames[mark], self._blank, self._n)
        self._blank = ""
        return rest

    def _inside(self, section: Section, text: str, parts: list[Part]) -> str:
        prose = section.frame.prose
        if prose and prose.startswith((section.body + text)[: len(prose)]):
            if len(section.body + text) < len(prose):
                section.body += text
                return ""
            self._section, self._blank = None, section.blank
            return (section.body + text)[len(prose) :]
        ended, closed, rest = section.add(text, list(self._frames), self._reads)
        parts += section.news()
        if ended:
            self._end(section, section.frame.close * closed, parts)
        return rest

    def _reads(self, body: str) -> bool:
        return bodies.read(body, self._schemas) is not None

    def _end(self, section: Section, close: str, parts: list[Part]) -> None:
        """Reads a whole section."""
        self._section = None
        found = bodies.read(section.body, self._schemas)
        if found is None:
            self._n += bool(section.name)
            raw = section.raw + ("" if section.frame.keeps else close)
            self._print(raw, parts)
            return
        for i, call in enumerate(found):
            told = i == 0 and section.name == call.name
            self._call(call, section.raw.strip(), parts, section.id if i == 0 else "", told)

    def _call(self, call: Call, raw: str, parts: list[Part], id: str, told: bool) -> None:
        made = ToolCall(id if told else call.id or id or new_id(), call.name, call.arguments, call.raw or raw)
        self.calls.append(made)
        if not told:
            parts.append(Part("tool_call", json.dumps(call.arguments, ensure_ascii=False), self._n, made.id, made.name))
        self._n += 1

    def _print(self, text: str, parts: list[Part]) -> None:
        """Text of the answer; blanks at its end wait for more."""
        text = self._blank + text
        said = text.rstrip()
        self._blank = text[len(said) :]
        if said:
            parts.append(Part("text", said))

    # ---- answers that are a call, without marks ----------------------------------------------------------------

    def _bare(self, text: str, parts: list[Part]) -> str:
        """Holds an answer from its beginning on while it may be a call: JSON, or Python in brackets or a fence."""
        whole = (self._whole or "") + text
        if self.calls:
            whole = whole.lstrip(" \n,;")
        self._whole = None
        start = whole.lstrip()
        if start and not self._may_be_bare(start):
            return whole
        end = self._end_of_bare(whole, start)
        if end is None:
            self._whole = whole
            return ""
        if not self._understood(whole[:end], parts):
            return whole
        self._whole, self._balance, self._followed = "", Balance(), 0
        return whole[end:]

    def _end_of_bare(self, whole: str, start: str) -> int | None:
        if start[:1] == "`":
            at = whole.find("```", len(whole) - len(start) + 3)
            return at + 3 if at >= 0 else None
        end = self._balance.push(whole[self._followed :])
        self._followed, before = len(whole), self._followed
        return None if end is None else before + end

    def _may_be_bare(self, start: str) -> bool:
        """Whether what an answer begins with may be a call of one of the tools."""
        if start[:1] not in ("{", "[", "`") or any(start.startswith(mark) for mark in self._frames):
            return False
        if any(mark.startswith(start) for mark in self._frames):
            return True
        key = _BARE_KEY.match(start[:_HEAD_ROOM])
        if key:
            return key[1] in shapes.CALL_KEYS or key[1] in self._schemas
        called = _BARE_CALL.match(start[:_HEAD_ROOM])
        if called:
            return called[1] in self._schemas
        return len(start) < _HEAD_ROOM and _BARE_BEGUN.fullmatch(start) is not None

    def _understood(self, whole: str, parts: list[Part]) -> bool:
        """Whether an answer is nothing but calls of known tools."""
        found = bodies.read(whole, self._schemas) if whole.strip() else None
        if not found or any(call.name not in self._schemas for call in found):
            return False
        for call in found:
            self._call(call, whole.strip(), parts, "", False)
        return True
