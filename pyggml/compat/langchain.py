"""LangChain's classes over a Model: a chat model with tools, structured output and streams, and embeddings.

Needs langchain-core; this module imports it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field

from pyggml.arguments import instance
from pyggml.completion import Completion
from pyggml.errors import ArgumentError, PyggmlError
from pyggml.model import Model
from pyggml.shown import shown

_ROLES: tuple[tuple[type[BaseMessage], str], ...] = (
    (SystemMessage, "system"), (HumanMessage, "user"), (AIMessage, "assistant"), (ToolMessage, "tool"),
)  # fmt: skip


class ChatPyggml(BaseChatModel):
    """`ChatPyggml(model=pyggml.load(path), settings={"temperature": 0})`. settings: those of m.chat."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    model: Any
    settings: dict[str, Any] = Field(default_factory=dict)

    def model_post_init(self, context: Any) -> None:
        """Judges the model."""
        instance("model", self.model, Model, "a Model, as pyggml.load(path) gives it")

    @property
    def _llm_type(self) -> str:
        return "pyggml"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": repr(self.model), **self.settings}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | Any],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The model with tools that it may call."""
        choice = "required" if tool_choice is True else tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], tool_choice=choice or "auto", **kwargs)

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        done = self.model.chat(_messages(messages), **self._how(stop, kwargs))
        return ChatResult(generations=[ChatGeneration(message=_message(done))])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        begun: set[str] = set()
        with self.model.chat(_messages(messages), stream=True, **self._how(stop, kwargs)) as stream:
            for part in stream.parts():
                said: dict[str, Any] = {"content": part.text if part.kind == "text" else ""}
                if part.kind == "reasoning":
                    said["additional_kwargs"] = {"reasoning_content": part.text}
                elif part.kind == "tool_call":
                    first = part.id not in begun
                    begun.add(part.id)
                    call = {"name": part.name if first else None, "args": part.text, "id": part.id if first else None}
                    said["tool_call_chunks"] = [{**call, "index": part.index}]
                chunk = ChatGenerationChunk(message=AIMessageChunk(**said))
                if run_manager is not None:
                    run_manager.on_llm_new_token(part.text if part.kind == "text" else "", chunk=chunk)
                yield chunk
            done = stream.result
        if done is None:
            raise PyggmlError("the answer ended before it began")
        last = AIMessageChunk(content="", response_metadata=_ended(done), usage_metadata=_usage(done))
        yield ChatGenerationChunk(message=last)

    def _how(self, stop: list[str] | None, more: dict[str, Any]) -> dict[str, Any]:
        known = {key: value for key, value in more.items() if key not in ("ls_structured_output_format", "strict")}
        how = {**self.settings, **known}
        return {**how, "stop": stop} if stop else how


class PyggmlEmbeddings(Embeddings):
    """`PyggmlEmbeddings(pyggml.load(path), prompt="search_document: ")`. settings: those of m.embed.

    query: put before questions, in place of prompt.
    """

    def __init__(self, model: Model, query: str | None = None, **settings: Any) -> None:
        self.model = instance("model", model, Model, "a Model, as pyggml.load(path) gives it")
        self.query, self.settings = query, settings

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text."""
        found: list[list[float]] = self.model.embed(texts, **self.settings).tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        how = self.settings if self.query is None else {**self.settings, "prompt": self.query}
        found: list[float] = self.model.embed(text, **how).tolist()
        return found


def _messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    made = []
    for i, each in enumerate(messages):
        role = next((role for kind, role in _ROLES if isinstance(each, kind)), None)
        if role is None and not isinstance(each, ChatMessage):
            raise ArgumentError(f"messages[{i}] is {shown(type(each).__name__)}, which no chat template reads")
        found: dict[str, Any] = {"role": role or each.role, "content": each.content}
        if isinstance(each, AIMessage) and each.tool_calls:
            found["tool_calls"] = [_call(call) for call in each.tool_calls]
        if isinstance(each, ToolMessage):
            found |= {"tool_call_id": each.tool_call_id, **({"name": each.name} if each.name else {})}
        made.append(found)
    return made


def _call(call: Any) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": json.dumps(call["args"], ensure_ascii=False)}
    return {"id": call["id"] or "", "type": "function", "function": function}


def _message(done: Completion) -> AIMessage:
    calls = [
        {"name": call.name, "args": call.arguments, "id": call.id, "type": "tool_call"} for call in done.tool_calls
    ]
    more = {} if done.reasoning is None else {"reasoning_content": done.reasoning}
    return AIMessage(
        content=done.text, tool_calls=calls, additional_kwargs=more, response_metadata=_ended(done),
        usage_metadata=_usage(done),
    )  # fmt: skip


def _ended(done: Completion) -> dict[str, Any]:
    return {"finish_reason": done.finish_reason, "model_provider": "pyggml"}


def _usage(done: Completion) -> Any:
    u = done.usage
    return {"input_tokens": u.prompt_tokens, "output_tokens": u.completion_tokens, "total_tokens": u.total_tokens}
