"""What may stand where a prompt is due: a text, token ids, or several of either. Knows no model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import ids, is_bytes, list_of, wrong_type
from pyggml.completion import Completion
from pyggml.errors import ArgumentTypeError, ContextFull

Ids = Sequence[int] | NDArray[np.integer[Any]]
Prompt = str | Completion | Ids

Prompts = Sequence[Prompt] | Iterator[Prompt]

_ONE = "text (str) or a list of token ids"
_MANY = f"{_ONE}, or a list of such prompts"
_SHORT = 1 << 16  # characters that are read whole, whatever the context
_PER_TOKEN = 16  # characters that a token of an ordinary text never stands for


def read_prompt(name: str, value: object) -> str | list[int]:
    """One prompt. Raises ArgumentError for anything else, a list of prompts too."""
    if isinstance(value, str | Completion):
        return str(value)
    _refuse(name, value, _ONE)
    if isinstance(value, list | tuple) and value and isinstance(value[0], str | list | tuple):
        raise wrong_type(name, _ONE, value, "several prompts stand in one list")
    found: list[int] = ids(name, value).tolist()
    return found


def read_prompts(name: str, value: object) -> tuple[list[str | list[int]], bool]:
    """Prompts, and whether value is a single one. A list of int is one prompt, an empty list none.

    >>> read_prompts("prompt", [1, 2]), read_prompts("prompt", ["a", (1, 2)]), read_prompts("prompt", [])
    (([[1, 2]], True), (['a', [1, 2]], False), ([], False))
    """
    if isinstance(value, str | Completion):
        return [str(value)], True
    _refuse(name, value, _MANY)
    n_dim = getattr(value, "ndim", None)
    if n_dim == 0:
        raise wrong_type(name, _MANY, value)
    items = list_of(name, value, _MANY)
    if n_dim != 1 and not items:
        return [], False
    if not items or not _begins_many(items[0]):
        return [read_prompt(name, value if n_dim == 1 else items)], True
    return [read_prompt(f"{name}[{i}]", each) for i, each in enumerate(items)], False


def _begins_many(item: object) -> bool:
    return isinstance(item, str | Completion) or (isinstance(item, Iterable) and getattr(item, "ndim", 1) > 0)


def _refuse(name: str, value: object, expected: str) -> None:
    """What would pass for a list and is none."""
    if is_bytes(value):
        raise wrong_type(name, expected, value, "bytes are decoded first: bytes(value).decode()")
    if isinstance(value, os.PathLike):
        raise wrong_type(name, expected, value, "read the file first: path.read_text()")
    if isinstance(value, Mapping):
        found = "pass its input_ids" if "input_ids" in value else "a conversation is answered by m.chat([message])"
        raise wrong_type(name, expected, value, found)
    if isinstance(value, Set) or not isinstance(value, Iterable):
        raise wrong_type(name, expected, value)
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        raise ArgumentTypeError(
            f"{name} must be {expected}, got a list of {type(value[0]).__name__}; "
            "a conversation is answered by m.chat(messages)"
        )


def check_length(text: str, encode: Callable[[str], list[int]], n_ctx: int) -> None:
    """Raises ContextFull for a text far longer than the context, by the tokens of its beginning: a whole one of many
    megabytes takes minutes and gigabytes. What is not refused here may still be too long.

    >>> check_length("a" * 10_000_000, lambda part: [1] * len(part), 512)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    pyggml.errors.ContextFull: the text has 10,000,000 characters, and its first 65,536 alone are 65536 tokens: ...
    """
    n = max(_SHORT, _PER_TOKEN * n_ctx)
    while n <= len(text) // 2:
        n_tokens = len(encode(text[:n]))
        if n_tokens > 2 * n_ctx:  # a cut changes a few tokens around it, and never so many
            raise ContextFull(
                f"the text has {len(text):,} characters, and its first {n:,} alone are {n_tokens} tokens: they do not "
                f"fit the context of {n_ctx}; shorten the text"
            )
        n *= 4
