"""How a token is chosen: the settings, named once for Python and the command line, judged once.

The choosing itself is native (core/sample.c). settings.py has what else a generation takes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

from pyggml import _native
from pyggml.arguments import number, texts, whole
from pyggml.engine.breakers import breakers
from pyggml.errors import ArgumentError
from pyggml.shown import shown

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pyggml.tokenizer import Tokenizer

_MOST = 2**31 - 1
_BESIDE = (
    "logit_bias", "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers",
    "adaptive_target", "adaptive_decay", "order",
)  # fmt: skip
"""Settings that a native sampler is told behind its making."""
_NOT_WITH_MIROSTAT = (
    "top_n_sigma",
    "typical_p",
    "xtc_probability",
    "dynatemp_range",
    "min_keep",
    "adaptive_target",
    "order",
)


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
    top_n_sigma: float
    typical_p: float
    xtc_probability: float
    xtc_threshold: float
    dynatemp_range: float
    dynatemp_exponent: float
    min_keep: int
    mirostat: int
    mirostat_tau: float
    mirostat_eta: float
    logit_bias: Mapping[int, float] | None
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: Iterable[str] | None
    adaptive_target: float
    adaptive_decay: float
    order: str | Iterable[str] | None


def _number(low: float, high: float) -> Callable[[str, Any], float]:
    return lambda name, value: number(name, value, low, high)


def _whole(least: int) -> Callable[[str, Any], int]:
    return lambda name, value: whole(name, value, least, _MOST)


def _seed(name: str, value: Any) -> int | None:
    if value is None or (found := whole(name, value, -1, 2**64 - 1, other="None")) == -1:
        return None
    return found


def _sigma(name: str, value: Any) -> float:
    return max(0.0, number(name, value, -1.0, 1e6))  # llama.cpp writes -1 for off


STEPS = ("penalties", "dry", "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc", "temperature")
"""The steps of the chain in their usual order, which is that of their numbers in pgg.h."""
_LETTERS = dict(zip("edskypmxt", STEPS, strict=True))  # llama.cpp's
_BREAKERS = ("\n", ":", '"', "*")


def _breakers(name: str, value: Any) -> tuple[str, ...]:
    found = _BREAKERS if value is None else tuple(texts(name, value))
    half = next((each for each in found if any("\ud800" <= c <= "\udfff" for c in each)), None)
    if half is not None:
        raise ArgumentError(f"{name} holds {shown(half)}, which has half of a character: no text has that")
    return found


def _target(name: str, value: Any) -> float:
    return number(name, value, -1.0, 1.0)


def _order(name: str, value: Any) -> tuple[str, ...] | None:
    """Names of steps, in a list or with ; between them, or llama.cpp's letters."""
    if value is None:
        return None
    if isinstance(value, str):
        split = value.split(";")
        value = list(value) if len(split) == 1 and value not in STEPS else split
    found = tuple(_LETTERS.get(each, each) for each in texts(name, value))
    unknown = [each for each in found if each not in STEPS]
    if unknown or len(set(found)) < len(found):
        what = f"no {shown(unknown[0])}" if unknown else "no step twice"
        raise ArgumentError(
            f"{name} must hold steps of {', '.join(STEPS)} (or the letters {''.join(_LETTERS)}), {what}"
        )
    return found


def _bias(name: str, value: Any) -> dict[int, float]:
    """Ids (as JSON has them too: texts of digits) to numbers; False forbids a token, as -inf does."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{name} must map token ids to numbers, as {{15043: 1.5}}, got {shown(value)}")
    found = {}
    for key, added in value.items():
        digits = isinstance(key, str) and key.isascii() and key.isdigit()
        token = whole(f"a key of {name}", int(key) if digits else key, 0, _MOST)
        sinks = added is False or (not isinstance(added, str) and added == -math.inf)
        found[token] = -math.inf if sinks else number(f"{name}[{token}]", added, -1e4, 1e4)
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
    "top_n_sigma": Setting(0.0, _sigma, "Of logits so many standard deviations from the best; 0: of all."),
    "typical_p": Setting(
        1.0, _number(0.0, 1.0), "Of those of expected surprise, with this probability.", ("--typical",)
    ),
    "xtc_probability": Setting(0.0, _number(0.0, 1.0), "How often likely tokens but the last of them are left out."),
    "xtc_threshold": Setting(0.1, _number(0.0, 1.0), "The probability from which xtc takes a token as likely."),
    "dynatemp_range": Setting(0.0, _number(0.0, 1e4), "The temperature follows the entropy, so far up and down."),
    "dynatemp_exponent": Setting(1.0, _number(1e-3, 1e3), "How it follows.", ("--dynatemp-exp",)),
    "min_keep": Setting(0, _whole(0), "Tokens that typical_p, top_p, min_p and xtc leave."),
    "mirostat": Setting(
        0, lambda name, value: whole(name, value, 0, 2), "1 or 2: in place of all cuts, a level of surprise."
    ),
    "mirostat_tau": Setting(5.0, _number(0.0, 1e3), "That level, in bits.", ("--mirostat-ent",)),
    "mirostat_eta": Setting(0.1, _number(0.0, 1e3), "How fast it is reached.", ("--mirostat-lr",)),
    "logit_bias": Setting(None, _bias, "Added to the logits of tokens, by their ids; False forbids one."),
    "dry_multiplier": Setting(0.0, _number(0.0, 1e4), "Above 0: less likely, what would repeat a stretch of the text."),
    "dry_base": Setting(1.75, _number(1.0, 1e3), "By so much more for each token that the stretch is longer."),
    "dry_allowed_length": Setting(2, _whole(0), "Tokens of a stretch that may be repeated."),
    "dry_penalty_last_n": Setting(64, lambda name, value: whole(name, value, -1, 1 << 24), "Tokens it looks back at."),
    "dry_sequence_breakers": Setting(
        None, _breakers, 'Texts at which a stretch ends; else line ends, :, " and *.', ("--dry-sequence-breaker",)
    ),
    "adaptive_target": Setting(-1.0, _target, "From 0 to 1: tokens of about this probability are taken; below 0: off."),
    "adaptive_decay": Setting(0.9, _number(0.0, 0.99), "How slowly that follows what was taken."),
    "order": Setting(None, _order, "Steps of the chain in another order, with ; between them.", ("--samplers",)),
}


def _mixed(x: int) -> int:
    """One of 2^64 numbers, as different from those of other x as can be: the finisher of splitmix64.

    >>> hex(_mixed(0x9E3779B97F4A7C15))
    '0xe220a8397b1dcdaf'
    """
    x &= 2**64 - 1
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & 2**64 - 1
    x = (x ^ x >> 27) * 0x94D049BB133111EB & 2**64 - 1
    return x ^ x >> 31


class Sampling:
    """Settings of the chain, which is llama.cpp's, with the defaults of SAMPLING.

    logit_bias -> penalties -> dry -> top_n_sigma -> top_k -> typical_p -> top_p -> min_p -> xtc -> temperature -> draw.
    order: these steps in another one, those that it leaves out are not taken; slower, as all candidates are sorted.
    temperature 0 takes the likeliest token. top_k 0, top_p 1, min_p 0, repeat_penalty 1, penalties 0 and the defaults
    of what follows the seed are off. mirostat takes the place of top_k, top_p and min_p, and bears no other cut.
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
        on = [name for name in _NOT_WITH_MIROSTAT if self._how[name] != SAMPLING[name].default]
        if self._how["mirostat"] and on:
            raise ArgumentError(f"mirostat takes the place of {', '.join(on)}: give one or the other")

    def nth(self, i: int) -> Sampling:
        """The same with another seed, which follows from this one's; the first is this one.

        >>> [each.nth(1)._how["seed"] == each.nth(1)._how["seed"] for each in (Sampling(seed=1), Sampling(seed=2))]
        [True, True]
        """
        seed = self._how["seed"]
        if not i or seed is None:
            return self
        return Sampling(**{**self._how, "seed": _mixed(seed + i * 0x9E3779B97F4A7C15)})

    def sampler(self, n_vocab: int, tokenizer: Tokenizer | None = None) -> _native.Sampler:
        """A native sampler at the beginning of its random numbers. tokenizer: knows the breakers of DRY.

        Raises ArgumentError where DRY has breakers and no tokenizer is given.
        """
        seed = self._how["seed"]
        seed = int.from_bytes(os.urandom(8), "little") if seed is None else seed
        bias = self._how["logit_bias"]
        strange = [token for token in bias if token >= n_vocab]
        if strange:
            raise ArgumentError(f"logit_bias has token {strange[0]}, which is outside the vocabulary of {n_vocab}")
        native = {name: value for name, value in self._how.items() if name not in _BESIDE}
        made = _native.Sampler(n_vocab, **{**native, "seed": seed})
        self._dry(made, tokenizer)
        adapts = self._how["adaptive_target"] >= 0
        order = STEPS if adapts and self._how["order"] is None else self._how["order"]
        if order is not None:
            made.order(np.array([STEPS.index(each) for each in order], np.int32))
        if adapts:
            made.adapt(self._how["adaptive_target"], self._how["adaptive_decay"])
        made.bias(np.fromiter(bias, np.int32), np.fromiter(bias.values(), np.float32))
        return made

    def _dry(self, made: _native.Sampler, tokenizer: Tokenizer | None) -> None:
        how = self._how
        if not how["dry_multiplier"]:
            return
        words = self._how["dry_sequence_breakers"]
        if words and tokenizer is None:
            raise ArgumentError(
                "dry_sequence_breakers are texts: sampler(n_vocab, tokenizer) cuts them, or give [] for none"
            )
        found = breakers(tokenizer, words) if tokenizer is not None else []
        ids = np.array([token for each in found for token in each], np.int32)
        lengths = np.array([len(each) for each in found], np.int32)
        allowed, last_n = how["dry_allowed_length"], how["dry_penalty_last_n"]
        made.dry(how["dry_multiplier"], how["dry_base"], allowed, last_n, ids, lengths)
