"""The settings of a generation: their names, types and defaults, written once for generate, stream and chat."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypedDict, TypeVar

from pyggml.arguments import texts, whole_or_none
from pyggml.engine.sampling import Sampling

F = TypeVar("F", bound=Callable[..., Any])

MAX_LOGPROBS = 1000


class Settings(TypedDict, total=False):
    """Keywords of generate and stream."""

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    repeat_last_n: int
    seed: int | None
    stop: str | Iterable[str] | None
    logprobs: int | None


class ChatSettings(Settings, total=False):
    """Keywords of chat: those of generate, and what most templates read. Others go into template_args."""

    tools: Sequence[Mapping[str, Any]] | None
    documents: Sequence[Mapping[str, Any]] | None
    add_generation_prompt: bool
    enable_thinking: bool


_SAMPLING: dict[str, Any] = {each.name: each.default for each in fields(Sampling)}
DEFAULTS: dict[str, Any] = {"max_tokens": 128, **_SAMPLING, "stop": None, "logprobs": None}


def spelled_out(**changed: Any) -> Callable[[F], F]:
    """Shows every setting with its default in the signature of a function that takes them as **settings.

    changed: other defaults. Of a function that takes further keywords too, those stay.
    """

    def decorate(call: F) -> F:
        found = inspect.signature(call)
        parameters = list(found.parameters.values())
        rest = parameters.pop()
        kind = inspect.Parameter.KEYWORD_ONLY
        annotations = Settings.__annotations__
        for name, default in {**DEFAULTS, **changed}.items():
            shown = annotations[name].__forward_arg__
            parameters.append(inspect.Parameter(name, kind, default=default, annotation=shown))
        if rest.name != "settings":
            parameters.append(rest)
        call.__signature__ = found.replace(parameters=parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def read_settings(given: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """Judged once: max_tokens, stop and logprobs as a Continuation takes them, the others as Sampling.

    changed: other defaults. Raises ArgumentError.

    >>> read_settings({"stop": "END", "top_k": 1})["stop"]
    ['END']
    """
    values = {**DEFAULTS, **changed, **given}
    stop = values["stop"]
    return {
        "max_tokens": whole_or_none("max_tokens", values["max_tokens"], 0),
        "sampling": Sampling(**{name: values[name] for name in _SAMPLING}),
        "stop": [] if stop is None else texts("stop", stop, or_one=True),
        "logprobs": whole_or_none("logprobs", values["logprobs"], 0, MAX_LOGPROBS),
    }
