"""The chain of samplers, from its definition: sort all, cut one after the other, walk. Slow and plain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_MASK = 2**64 - 1


def uniform(seed: int, draw: int) -> float:
    """The draw-th number of a seed, from 0 to 1 (splitmix64)."""
    z = (seed + (draw + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return float((z ^ (z >> 31)) >> 11) * 2.0**-53


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of logits whose largest is the first."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


STEPS = ("penalties", "dry", "top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc", "temperature")


def ranked(row: NDArray[np.float32]) -> NDArray[np.intp]:
    """The ids that are not forbidden, best first, equal ones by lower id."""
    ids = np.lexsort((np.arange(len(row)), -row.astype(np.float64)))
    return ids[row[ids] > -np.inf]


@dataclass
class Chain:
    """next(logits) -> id, with settings named as Sampling names them; top_k 0, top_p 1 and min_p 0 are off."""

    seed: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    top_n_sigma: float = 0.0
    typical_p: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    min_keep: int = 0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: dict[int, float] = field(default_factory=dict)
    allowed: NDArray[np.bool_] | None = None
    repeat_penalty: float = 1.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    breakers: tuple[tuple[int, ...], ...] = ()
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9
    order: tuple[str, ...] | None = None
    seen: list[int] = field(default_factory=list)
    history: list[float] = field(default_factory=list)
    draws: int = 0
    mu: float | None = None

    def next(self, logits: NDArray[np.float32]) -> int:
        """The id that is chosen."""
        row = logits.copy()
        for token, bias in self.logit_bias.items():
            row[token] += np.float32(bias)
        if self.allowed is not None:
            row[~self.allowed] = -np.inf
        if self.order is not None or self.adaptive_target >= 0:
            return self._ordered(row)
        self._penalise(row)
        self._dry(row)
        ids = ranked(row)
        x = row.astype(np.float64)
        at = uniform(self.seed, self.draws)
        ids, temperature = self._mirostat(ids, x) if self.mirostat else self._cut(ids, x)
        p = softmax(x[ids] / temperature) if temperature else np.array([1.0])
        place = int(np.searchsorted(np.cumsum(p), at * p.sum(), side="right"))
        self.draws += 1
        self.seen.append(int(ids[place]))
        if self.mirostat:
            assert self.mu is not None
            self.mu -= self.mirostat_eta * (-np.log2(p[place]) - self.mirostat_tau)
        return int(ids[place])

    def _penalise(self, row: NDArray[np.float32]) -> None:
        for token in set(self.seen[-64:]):
            row[token] = row[token] * self.repeat_penalty if row[token] <= 0 else row[token] / self.repeat_penalty

    def _dry(self, row: NDArray[np.float32]) -> None:
        """Every place where the end of the text stood before: what followed then falls, by the longest of them."""
        text = self.seen if self.dry_penalty_last_n < 0 else self.seen[-self.dry_penalty_last_n :]
        if not self.dry_multiplier or len(text) <= self.dry_allowed_length:
            return
        limit = len(text)
        for i in range(len(text)):  # from the end
            tails = [
                len(each) - 1 for each in self.breakers
                if tuple(text[len(text) - 1 - i :][: len(each)]) == each
            ]  # fmt: skip
            if tails:
                limit = i - max(tails)
                break
        if limit < self.dry_allowed_length:
            return
        longest: dict[int, int] = {}
        for end in range(len(text) - 1):  # the stretch that ends there, and text[end + 1] behind it
            n = 0
            while n <= end and text[end - n] == text[len(text) - 1 - n]:
                n += 1
            n = min(n, limit)
            if n >= self.dry_allowed_length and (text[end + 1],) not in self.breakers:
                longest[text[end + 1]] = max(longest.get(text[end + 1], 0), n)
        for token, n in longest.items():
            most = int(88.7228391 / np.log(self.dry_base)) if self.dry_base > 1.000001 else 0
            times = min(n - self.dry_allowed_length, most) if most else n - self.dry_allowed_length
            row[token] -= np.float32(self.dry_multiplier * self.dry_base**times)

    def _ordered(self, row: NDArray[np.float32]) -> int:
        """Each step over all that is left, in the order that is asked for; the temperature divides logits."""
        ids = ranked(row)
        at = uniform(self.seed, self.draws)
        temperature = self.temperature
        for step in self.order if self.order is not None else STEPS:
            if step in ("penalties", "dry"):
                (self._penalise if step == "penalties" else self._dry)(row)
                ids = np.array(sorted(ids, key=lambda i: (-row[i], i)))
                continue
            if step == "temperature":
                _, temperature = self._alone(step)._cut(ids, row.astype(np.float64))
                if temperature > 0:
                    row[ids] = (row[ids].astype(np.float64) / temperature).astype(np.float32)
                else:
                    ids = ids[:1]
                continue
            ids, _ = self._alone(step)._cut(ids, row.astype(np.float64))
        p = softmax(row[ids].astype(np.float64))
        drawn = p
        if self.adaptive_target >= 0:
            weights = [self.adaptive_decay**i for i in range(len(self.history))]
            rest = self.adaptive_decay ** len(self.history) / (1 - self.adaptive_decay)
            past = np.dot(weights, self.history[::-1]) + rest * self.adaptive_target
            near = np.clip(2 * self.adaptive_target - past / (sum(weights) + rest), 0, 1)
            far = np.abs(p - near) / 0.3
            drawn = softmax((5 - 10 * far * far / (1 + far)).astype(np.float32).astype(np.float64))
        place = int(np.searchsorted(np.cumsum(drawn), at * drawn.sum(), side="right"))
        self.history.append(float(p[place]))
        self.draws += 1
        self.seen.append(int(ids[place]))
        return int(ids[place])

    def _alone(self, step: str) -> Chain:
        """This chain with one step."""
        names = {
            "xtc": ("xtc_probability", "xtc_threshold"),
            "temperature": ("temperature", "dynatemp_range", "dynatemp_exponent"),
        }
        own = {name: getattr(self, name) for name in names.get(step, (step,))}
        return Chain(seed=self.seed, draws=self.draws, min_keep=self.min_keep, **own)

    def _cut(self, ids: NDArray[np.intp], x: NDArray[np.float64]) -> tuple[NDArray[np.intp], float]:
        if self.top_n_sigma:
            ids = ids[x[ids] >= x[ids[0]] - self.top_n_sigma * x[ids].std()]
        if self.top_k:
            ids = ids[: self.top_k]
        least = max(1, self.min_keep)
        if self.typical_p < 1:
            p = softmax(x[ids])
            surprise = -np.log(p)
            order = np.argsort(np.abs(surprise - (p * surprise).sum()), kind="stable")
            n = int(np.argmax(np.append(np.cumsum(p[order]), 2) > self.typical_p)) + 1
            ids = ids[np.sort(order[: max(n, least)])]
        if self.top_p < 1:
            n = int(np.argmax(np.append(np.cumsum(softmax(x[ids])), 2) >= self.top_p)) + 1
            ids = ids[: max(n, least)]
        if self.min_p:
            n = int((x[ids] >= x[ids[0]] + np.log(self.min_p)).sum())
            ids = ids[: max(n, least)]
        if self.xtc_probability and uniform(~self.seed & _MASK, self.draws) < self.xtc_probability:
            likely = int((softmax(x[ids]) >= self.xtc_threshold).sum())
            if self.xtc_threshold <= 0.5 and likely > 1 and len(ids) - (likely - 1) >= self.min_keep:
                ids = ids[likely - 1 :]
        if not self.dynatemp_range or len(ids) < 2:
            return ids, self.temperature
        p = softmax(x[ids])
        share = -(p * np.log(p)).sum() / np.log(len(ids))
        low, high = max(0.0, self.temperature - self.dynatemp_range), self.temperature + self.dynatemp_range
        temperature = low + (high - low) * share**self.dynatemp_exponent
        return (ids, temperature) if temperature > 0 else (ids[:1], 0.0)

    def _mirostat(self, ids: NDArray[np.intp], x: NDArray[np.float64]) -> tuple[NDArray[np.intp], float]:
        self.mu = 2 * self.mirostat_tau if self.mu is None else self.mu
        p = softmax(x[ids] / self.temperature)
        if self.mirostat == 2:
            return ids[: max(1, int((-np.log2(p) <= self.mu).sum()))], self.temperature
        best = p[:100]
        t = np.log((np.arange(len(best) - 1) + 2) / (np.arange(len(best) - 1) + 1))
        s = (t * np.log(best[:-1] / best[1:])).sum() / (t * t).sum()
        k = ((s - 1) * 2**self.mu / (1 - float(len(x)) ** -(s - 1))) ** (1 / s)
        return ids[: max(1, int(k))], self.temperature
