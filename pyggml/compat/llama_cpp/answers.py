"""Answers in OpenAI's shapes, as llama-cpp-python gives them: plain dicts, whole or in chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyggml.answer import Part
from pyggml.completion import Completion, TokenLogprob

Answer = dict[str, Any]


@dataclass
class Head:
    """What all chunks of an answer say."""

    model: str
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4()}")
    created: int = field(default_factory=lambda: int(time.time()))

    def text(self, text: str, finish: str | None, logprobs: Answer | None = None, **more: Any) -> Answer:
        """A completion, or a piece of one."""
        choice = {"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish}
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model,
                "choices": [choice], **more}  # fmt: skip

    def chat(
        self, finish: str | None, logprobs: Answer | None = None, *, usage: Answer | None = None, **said: Any
    ) -> Answer:
        """An answer of a chat (message=), or a piece of one (delta=)."""
        choice = {"index": 0, **said, "logprobs": logprobs, "finish_reason": finish}
        kind = "chat.completion" if "message" in said else "chat.completion.chunk"
        made = {
            "id": f"chat{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        }
        return made if usage is None else {**made, "usage": usage}


def usage_of(done: Completion) -> Answer:
    """Tokens counted."""
    u = done.usage
    return {"prompt_tokens": u.prompt_tokens, "completion_tokens": u.completion_tokens, "total_tokens": u.total_tokens}


def logprobs_of(entries: Sequence[TokenLogprob], offset: int) -> Answer:
    """Log-probabilities as completions have them. offset: characters before the first token."""
    found: Answer = {"tokens": [], "text_offset": [], "token_logprobs": [], "top_logprobs": []}
    for each in entries:
        found["tokens"].append(each.text)
        found["text_offset"].append(offset)
        found["token_logprobs"].append(each.logprob)
        found["top_logprobs"].append({**{top.text: top.logprob for top in each.top}, each.text: each.logprob})
        offset += len(each.text)
    return found


def chat_logprobs_of(entries: Sequence[TokenLogprob]) -> Answer:
    """Log-probabilities as chats have them."""
    content = [
        {"token": each.text, "bytes": None, "logprob": each.logprob,
         "top_logprobs": [{"token": top.text, "logprob": top.logprob, "bytes": None} for top in each.top]}
        for each in entries
    ]  # fmt: skip
    return {"content": content, "refusal": None}


def message_of(done: Completion) -> Answer:
    """The message of a chat's answer."""
    return done.message


def deltas_of(parts: Iterator[Part]) -> Iterator[Answer]:
    """Parts of an answer as deltas: content, reasoning_content, tool_calls."""
    begun: set[int] = set()
    for part in parts:
        if part.kind == "text":
            yield {"content": part.text}
        elif part.kind == "reasoning":
            yield {"reasoning_content": part.text}
        else:
            head: Answer = {"index": part.index}
            function = {"arguments": part.text}
            if part.index not in begun:
                begun.add(part.index)
                head |= {"id": part.id, "type": "function"}
                function = {"name": part.name, **function}
            yield {"tool_calls": [{**head, "function": function}]}
