"""How a token is chosen: the settings, named once for Python and the command line, judged once.

The choosing itself is native (core/sample.c). settings.py has what else a generation takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from pyggml import _native
from pyggml.arguments import number, whole

if TYPE_CHECKING:
    from typing_extensions import Unpack

_MOST = 2**31 - 1


class Setting(NamedTuple):
    """A keyword: its default, who judges a value (name, value) -> value, and for people what it does.

    options: its names on the command line, beside --its-own-name.
    """

    default: Any
    judge: Callable[[str, Any], Any]
    help: str
    options: tuple[str, ...] = ()


class SamplingSettings(TypedDict, total=False):
    """Keywords of Sampling."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    repeat_last_n: int
    seed: int | None


def _number(low: float, high: float) -> Callable[[str, Any], float]:
    return lambda name, value: number(name, value, low, high)


def _whole(least: int) -> Callable[[str, Any], int]:
    return lambda name, value: whole(name, value, least, _MOST)


def _seed(name: str, value: Any) -> int | None:
    if value is None or (found := whole(name, value, -1, 2**64 - 1, other="None")) == -1:
        return None
    return found


SAMPLING: dict[str, Setting] = {
    "temperature": Setting(0.8, _number(0.0, 1e4), "0 takes the likeliest token.", ("--temp",)),
    "top_k": Setting(40, _whole(0), "Of so many likeliest tokens; 0: of all."),
    "top_p": Setting(0.95, _number(0.0, 1.0), "Of the likeliest that have this probability together."),
    "min_p": Setting(0.05, _number(0.0, 1.0), "Of those with this share of the likeliest's probability."),
    "repeat_penalty": Setting(1.0, _number(1e-3, 1e3), "Above 1: repeats are less likely."),
    "frequency_penalty": Setting(0.0, _number(-1e3, 1e3), "Taken off per earlier occurrence."),
    "presence_penalty": Setting(0.0, _number(-1e3, 1e3), "Taken off once for a token that occurred."),
    "repeat_last_n": Setting(64, _whole(-1), "Tokens that penalties look back at."),
    "seed": Setting(None, _seed, "Same seed, same text.", ("-s",)),
}


class Sampling:
    """Settings of the chain penalties -> top_k -> top_p -> min_p -> temperature -> draw, with the defaults of SAMPLING.

    temperature 0 takes the likeliest token. top_k 0, top_p 1, min_p 0, repeat_penalty 1 and penalties 0 are off.
    seed None or -1 draws one; the same seed gives the same text on any number of threads.

    >>> Sampling(temperature=-1)
    Traceback (most recent call last):
    ...
    pyggml.errors.ArgumentError: temperature must be a number from 0 to 10000, got -1
    """

    def __init__(self, **settings: Unpack[SamplingSettings]) -> None:
        given: dict[str, Any] = dict(settings)
        self._how = {name: each.judge(name, given.pop(name, each.default)) for name, each in SAMPLING.items()}
        if given:
            raise TypeError(f"Sampling has no setting {', '.join(given)}")

    def sampler(self, n_vocab: int) -> _native.Sampler:
        """A native sampler at the beginning of its random numbers."""
        seed = self._how["seed"]
        seed = int.from_bytes(os.urandom(8), "little") if seed is None else seed
        return _native.Sampler(n_vocab, **{**self._how, "seed": seed})
