"""What a generation gave: the text with its tokens, counts and times. A Completion may be used where its text is meant.

Made in engine/; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyggml import display
from pyggml.answer import ToolCall
from pyggml.arguments import text_or_none, texts, whole, wrong_type
from pyggml.errors import ArgumentError, GrammarError

if TYPE_CHECKING:
    from pyggml.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted: given, generated (the end token not included), both; of those given, found in a cache.

    cached_decoded_tokens: of the cached ones, those from the first on that were generated, not read as a prompt. Only
    reuse="any" takes them; the text may differ from that of a prompt read whole. reasoning_tokens: of those generated,
    those of the reasoning, its marks too. drafted_tokens: guesses that were read beside them, accepted_tokens: those of
    them that turned out right. truncated_tokens: of the prompt as it was given, those that overflow="truncate" cut off
    and prompt_tokens does not count. shifted_tokens: positions that overflow="shift" forgot.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    cached_decoded_tokens: int = 0
    reasoning_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    truncated_tokens: int = 0
    shifted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds: prompt until the first token was chosen, then the rest. Tokens found in a cache are not in the rate."""

    prompt_seconds: float
    decode_seconds: float
    prompt_per_second: float
    decode_per_second: float


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Alternative(tuple[int, float]):
    """A token that might have come: the pair (id, logprob), and its text. logprob is the natural one.

    >>> a = Alternative(5, -0.5, " king")
    >>> a == (5, -0.5), a.id, a.logprob, a.text
    (True, 5, -0.5, ' king')
    >>> from dataclasses import asdict
    >>> asdict(a)
    {'id': 5, 'logprob': -0.5, 'text': ' king'}
    """

    id: int
    logprob: float
    text: str

    def __new__(cls, id: int, logprob: float, text: str) -> Alternative:
        """A pair that knows its text."""
        made = super().__new__(cls, (id, logprob))
        made.__dict__.update(id=id, logprob=logprob, text=text)  # also a dataclass, for asdict and JSON
        return made

    @property
    def token(self) -> str:
        """The text, by OpenAI's name."""
        return self.text

    def __repr__(self) -> str:
        return f"Alternative(id={self.id}, logprob={self.logprob:.4f}, text={self.text!r})"

    def __getnewargs__(self) -> tuple[int, float, str]:
        return self.id, self.logprob, self.text


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A chosen token, its natural log-probability before penalties and cuts, and the likeliest alternatives.

    text: what the token prints, as `.token` too; bytes that are a part of a character come as U+FFFD. top: pairs
    (id, logprob), likeliest first, each with `.text`.
    """

    id: int
    logprob: float
    top: tuple[Alternative, ...]
    text: str = ""

    @property
    def token(self) -> str:
        """The text, by OpenAI's name."""
        return self.text


def token_logprob(tokenizer: Tokenizer, id: int, logprob: float, top: Iterable[tuple[int, float]]) -> TokenLogprob:
    """A TokenLogprob whose tokens have their texts."""

    def text(token: int) -> str:
        known = token < tokenizer.n_vocab  # a padded output has more rows than tokens
        return tokenizer.piece_bytes(token).decode("utf-8", "replace") if known else ""

    return TokenLogprob(id, logprob, tuple(Alternative(i, value, text(i)) for i, value in top), text(id))


@dataclass(frozen=True, slots=True)
class Completion:
    """What a generation gave. str() is the text, and so are len, `in`, `+`, slices, iteration and format.

    Two are equal if all their parts are; to compare with a str take `.text`, which has str's other methods too.
    finish_reason: "stop" (end token or stop string), "length" (max_tokens, or the context is full), "loop" (endless
    repetition, where detect_loops asked for it), "tool_calls" (it ended, and calls tools), "timeout", "cancelled".
    tokens: generated ids without the end token. logprobs: one entry per token when asked for, else None. reasoning:
    what a chat's model thought before it answered, which is no part of the text; None: nothing.
    tool_calls: what it asks to be called, of the tools that chat() was given.

    >>> c = Completion(" a fox", [5, 6], "length", Usage(2, 2, 4), Timings(0.1, 0.1, 20.0, 10.0))
    >>> "fox" in c, len(c), "Once" + c + ".", c[1:], f"{c:>8}", c.strip()
    (True, 6, 'Once a fox.', 'a fox', '   a fox', 'a fox')
    """

    text: str
    tokens: list[int]
    finish_reason: str
    usage: Usage
    timings: Timings
    logprobs: list[TokenLogprob] | None = field(default=None, repr=False)
    reasoning: str | None = field(default=None, repr=False)
    tool_calls: list[ToolCall] = field(default_factory=list, repr=False)
    _parsed: Any = field(default=None, repr=False)

    @property
    def parsed(self) -> Any:
        """The object that the text stands for, where it was made to follow something.

        Of a schema the value, or an instance of the type it was made of; of choices the one that was chosen; of a
        regex or a grammar None. None too where the text is not whole (finish_reason "length", a stop string). Raises
        GrammarError where the type refuses a value that follows its schema.
        """
        if isinstance(self._parsed, GrammarError):
            raise self._parsed
        return self._parsed

    def __str__(self) -> str:
        return self.text

    def __format__(self, how: str) -> str:
        return format(self.text, how)

    def __len__(self) -> int:
        return len(self.text)

    def __contains__(self, part: object) -> bool:
        if not isinstance(part, str | Completion):
            raise wrong_type("part", "text (str), as what is looked for in a text", part)
        return str(part) in self.text

    def __getitem__(self, index: int | slice) -> str:
        key: object = index
        if isinstance(key, str):
            names = ", ".join(name for name in self.__slots__ if name[0] != "_")
            raise wrong_type("index", "a position in the text", key, f"a Completion has {names}")
        return self.text[index]

    def __hash__(self) -> int:
        return hash(self.text)

    def __iter__(self) -> Iterator[str]:
        return iter(self.text)

    def __add__(self, other: object) -> str:
        return self.text + str(other) if isinstance(other, str | Completion) else NotImplemented

    def __radd__(self, other: object) -> str:
        return other + self.text if isinstance(other, str) else NotImplemented

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message of a conversation, calls and reasoning too: messages.append(c.message).

        >>> Completion(" a fox", [5, 6], "stop", Usage(2, 2, 4), Timings(0.1, 0.1, 20.0, 10.0)).message
        {'role': 'assistant', 'content': ' a fox'}
        """
        made: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning is not None:
            made["reasoning_content"] = self.reasoning
        if self.tool_calls:
            made["tool_calls"] = [call.openai() for call in self.tool_calls]
        return made

    def strip(self, chars: str | None = None) -> str:
        """The text without blanks (or chars) at both ends."""
        return self.text.strip(text_or_none("chars", chars))

    def split(self, sep: str | None = None, maxsplit: int = -1) -> list[str]:
        """The parts of the text."""
        if isinstance(sep, str) and not sep:
            raise ArgumentError("sep is empty: nothing can be cut there")
        return self.text.split(text_or_none("sep", sep), whole("maxsplit", maxsplit, -1))

    def startswith(self, prefix: str | tuple[str, ...]) -> bool:
        """Whether the text begins so, or so, or so."""
        return self.text.startswith(tuple(texts("prefix", prefix, or_one=True)))

    def endswith(self, suffix: str | tuple[str, ...]) -> bool:
        """Whether the text ends so, or so, or so."""
        return self.text.endswith(tuple(texts("suffix", suffix, or_one=True)))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Names the cure where a method of str is meant."""
            hint = f"; the text has: .text.{name}" if hasattr(str, name) else ""
            raise AttributeError(f"a Completion has no {name!r}{hint}", name=name, obj=self)

    def _repr_html_(self) -> str:
        """The text, and below it how it ended."""
        u, t = self.usage, self.timings
        below = (
            f"{u.prompt_tokens} + {u.completion_tokens} tokens, {t.decode_per_second:.1f} tokens/s, "
            f"finish_reason {self.finish_reason}"
        )
        return display.preformatted(self.text) + f"<small>{display.escaped(below)}</small>"
