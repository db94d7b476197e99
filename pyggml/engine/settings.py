"""The settings of a generation, once for Python and the command line: names, types, defaults, judges."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pyggml import leaving
from pyggml.arguments import choice, flag, function, number, texts, whole, whole_or_none, wrong_type
from pyggml.chat.functions import ToolLike
from pyggml.engine.drafts import Draft
from pyggml.engine.loaded import Loaded
from pyggml.engine.sampling import SAMPLING, Sampling, SamplingSettings, Setting
from pyggml.engine.session import HasLoaded, Session
from pyggml.errors import UnsupportedError

if TYPE_CHECKING:
    from pyggml.constrain import Wanted

F = TypeVar("F", bound=Callable[..., Any])

_MOST_LOGPROBS = 1000
_MOST_SAMPLES = 1024


class OneSettings(SamplingSettings, total=False):
    """Keywords of generate and stream, but n."""

    max_tokens: int | None
    stop: str | Iterable[str] | None
    logprobs: int | None
    reuse: str
    detect_loops: bool
    timeout: float | None
    deterministic: bool
    overflow: str
    draft: str | HasLoaded | None
    schema: Any
    regex: str | None
    grammar: str | None
    lark: str | None
    choices: Iterable[Any] | None
    logits_hook: Callable[[list[int], Any], Any] | None


class Settings(OneSettings, total=False):
    """Keywords of generate and stream."""

    n: int


class ChatSettings(Settings, total=False):
    """Keywords of chat: those of generate, and what most templates read. Others go into template_args."""

    thinking_budget: int | None
    tools: Sequence[ToolLike] | None
    tool_choice: str | Mapping[str, Any]
    documents: Sequence[Mapping[str, Any]] | None
    add_generation_prompt: bool
    enable_thinking: bool


def _stop(name: str, value: Any) -> list[str]:
    return [] if value is None else texts(name, value, or_one=True)


def _timeout(name: str, value: Any) -> float | None:
    return None if value is None else number(name, value, 0.0, 1e9, above=True)


def _reuse(name: str, value: Any) -> str:
    return choice(name, value, ("exact", "any"))


OVERFLOWS = ("error", "truncate", "shift")


def _draft(name: str, value: Any) -> Draft | None:
    if isinstance(value, str):
        if value.lower() == "mtp":
            raise UnsupportedError("draft='mtp': layers that predict further are loaded and not run; take 'ngram'")
        return choice(name, value, ("ngram", "auto"))
    found = None if isinstance(value, Session) else getattr(value, "_loaded", None)
    if value is not None and not isinstance(found, Loaded):
        raise wrong_type(name, "'ngram', 'auto', a Model or None", value)
    return found


def _whatever(name: str, value: Any) -> Any:
    """What an answer must be is judged together: one of them can be given."""
    return value


_WANTED = ("schema", "regex", "grammar", "lark", "choices")

SETTINGS: dict[str, Setting] = {
    "max_tokens": Setting(
        128,
        lambda name, value: whole_or_none(name, value, 0),
        "Most tokens to generate; -1: until the model ends or the context is full.",
        ("-n", "--n-predict", "--predict", "--num-predict"),
    ),
    **SAMPLING,
    "stop": Setting(None, _stop, "Text that ends the generation; may be repeated.", ("-r", "--reverse-prompt")),
    "logprobs": Setting(
        None, lambda name, value: whole_or_none(name, value, 0, _MOST_LOGPROBS), "Alternatives to tell of each token."
    ),
    "reuse": Setting(
        "exact", _reuse, "Of what idle sequences hold, take only what was read as a prompt (exact), or any of it."
    ),
    "detect_loops": Setting(False, flag, "End a text that repeats itself without end."),
    "n": Setting(1, lambda name, value: whole(name, value, 1, _MOST_SAMPLES), "Texts for each prompt."),
    "timeout": Setting(None, _timeout, "Seconds after which the text ends where it is."),
    "deterministic": Setting(False, flag, "Compute generated tokens as those of a prompt are; slower."),
    "overflow": Setting(
        "error",
        lambda name, value: choice(name, value, OVERFLOWS),
        "Of a prompt longer than the context: error, or truncate; shift: forget the oldest in the text too.",
    ),
    "draft": Setting(None, _draft, "What guesses tokens ahead, for the same text in fewer steps: ngram, auto."),
    "schema": Setting(None, _whatever, "A file with the JSON schema of the answer.", ("--json-schema-file", "-jf")),
    "regex": Setting(None, _whatever, "A regular expression of the whole answer."),
    "grammar": Setting(None, _whatever, "A file with the GBNF grammar of the answer.", ("--grammar-file",)),
    "lark": Setting(None, _whatever, "A file with a Lark grammar of the answer."),
    "logits_hook": Setting(None, function, "Called with the ids so far and the logits of each next token."),
    "choices": Setting(None, _whatever, "A text that the answer may be; repeated, one of several."),
}
"""Every setting; what the command line calls its options is made of this too (cli/options.py)."""
DEFAULTS: dict[str, Any] = {name: each.default for name, each in SETTINGS.items()}


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


def read_settings(given: Mapping[str, Any], **changed: Any) -> tuple[dict[str, Any], int]:
    """Judged once: what a Request takes (its own settings, the others as Sampling), and n.

    changed: other defaults. Raises ArgumentError.

    >>> how, n = read_settings({"stop": "END", "top_k": 1, "n": 2})
    >>> how["stop"], n
    (['END'], 2)
    """
    values = {**DEFAULTS, **changed, **given}
    sampling: Any = {name: values.pop(name) for name in SAMPLING}
    wanted = {name: values.pop(name) for name in _WANTED}
    judged = {name: SETTINGS[name].judge(name, value) for name, value in values.items()}
    n = judged.pop("n")
    return {**judged, "sampling": Sampling(**sampling), "wanted": _read_wanted(wanted)}, n


def _read_wanted(given: Mapping[str, Any]) -> Wanted | None:
    if all(value is None for value in given.values()):
        return None
    leaving.imported("pyggml.constrain")  # much code, for a few
    from pyggml.constrain import read_wanted

    return read_wanted(given)
