"""A model with transformers' generate(): ids in, ids out, with its streamers and stopping criteria.

For programs that hold a tokenizer of transformers and call model.generate(**inputs). Knows that package by its
interfaces alone and imports it never; tensors come back as they came in, of torch or of numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyggml import _native, keywords
from pyggml.arguments import flag, number, whole, whole_or_none
from pyggml.engine.sampling import Sampling
from pyggml.errors import ArgumentError, ContextFull, UnsupportedError
from pyggml.model import Model
from pyggml.shown import shown

_REFUSED: dict[str, tuple[Any, str]] = {
    "num_beams": (1, "beams are not searched; sampling and temperature=0 are there"),
    "num_return_sequences": (1, "repeat the prompt in the batch"),
    "penalty_alpha": (None, "contrastive search is not built in"),
    "assistant_model": (None, "it is not taken here"),
    "prefix_allowed_tokens_fn": (None, "m.generate(..., grammar=...) of pyggml forces a form"),
    "return_dict_in_generate": (False, "the ids alone are given"),
    "output_scores": (False, "m.generate(..., logprobs=...) of pyggml has them"),
    "inputs_embeds": (None, "ids are taken, no vectors"),
}
_HARMLESS = ("attention_mask", "use_cache", "pad_token_id", "token_type_ids", "synced_gpus", "negative_prompt_ids")


class _How(NamedTuple):
    most: int
    ends: frozenset[int]
    sampling: Sampling
    criteria: Sequence[Callable[..., Any]]
    processors: Sequence[Callable[..., Any]]


class Generator:
    """Wraps a Model: `Generator(pyggml.load(path)).generate(**tokenizer("Hi", return_tensors="pt"), max_new_tokens=9)`.

    >>> import pyggml
    >>> with pyggml.load() as m:
    ...     ids = np.array([m.tokenize("Once upon a time")])
    ...     out = Generator(m).generate(ids, max_new_tokens=4)
    >>> out.shape == (1, ids.shape[1] + 4), bool((out[0, : ids.shape[1]] == ids[0]).all())
    (True, True)
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.device = "cpu"

    def generate(
        self,
        input_ids: Any = None,
        *,
        inputs: Any = None,
        max_new_tokens: int | None = None,
        max_length: int | None = None,
        min_new_tokens: int | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 50,
        top_p: float = 1.0,
        min_p: float | None = None,
        typical_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        eos_token_id: int | Sequence[int] | None = None,
        streamer: Any = None,
        stopping_criteria: Iterable[Callable[..., Any]] | None = None,
        logits_processor: Iterable[Callable[..., Any]] | None = None,
        **more: Any,
    ) -> Any:
        """The prompts with what follows each: (batch, length) ids, the shorter padded behind.

        input_ids: (batch, length) or (length,) of torch, numpy or lists; left padding by attention_mask is cut off.
        Without max_new_tokens and max_length 20 tokens, as there. eos_token_id None: the file's end tokens. streamer:
        put(ids) is called with the prompt and each token, end() behind the last; one prompt only. stopping_criteria:
        functions (ids (1, n), logits (1, n_vocab)) -> bool. logits_processor: functions (ids, logits) -> logits. Both
        get torch's tensors where input_ids is one. Raises UnsupportedError for num_beams above 1 and what else is not
        done, ArgumentTypeError for names that are none of transformers', ContextFull.
        """
        _refuse(more)
        given = input_ids if input_ids is not None else inputs
        if given is None:
            raise ArgumentError("generate() needs input_ids")
        rows, like = _rows(given, more.get("attention_mask"))
        if streamer is not None and len(rows) != 1:
            raise ArgumentError(f"a streamer takes one prompt, got a batch of {len(rows)}")
        settings = self._settings(do_sample, temperature, top_k, top_p, min_p, typical_p, repetition_penalty, seed)
        new = whole_or_none("max_new_tokens", max_new_tokens, 1)
        least = whole_or_none("min_new_tokens", min_new_tokens, 0) or 0
        ends = self._ends(eos_token_id)
        pad = more.get("pad_token_id")
        found = []
        for row in rows:
            most = (
                new if new is not None else max(whole("max_length", max_length, 1) - len(row), 0) if max_length else 20
            )
            how = _How(most, ends, settings, list(stopping_criteria or ()), list(logits_processor or ()))
            found.append(self._continue(row, how, least, streamer, like))
        return like(_padded(found, min(ends, default=0) if pad is None else whole("pad_token_id", pad, 0)))

    def _settings(
        self, do_sample: bool, temperature: float, top_k: int, top_p: float, min_p: float | None, typical_p: float,
        repetition_penalty: float, seed: int | None,
    ) -> Sampling:  # fmt: skip
        warm = number("temperature", temperature, 0.0, 1e4) if flag("do_sample", do_sample) else 0.0
        return Sampling(
            temperature=warm, top_k=top_k or 0, top_p=1.0 if top_p is None else top_p, min_p=min_p or 0.0,
            typical_p=typical_p, repeat_penalty=repetition_penalty, repeat_last_n=-1, seed=seed,
        )  # fmt: skip

    def _ends(self, given: int | Sequence[int] | None) -> frozenset[int]:
        if given is None:
            return self.model.tokenizer.eog_ids
        several = [given] if isinstance(given, int) else list(given)
        return frozenset(whole("eos_token_id", each, 0) for each in several)

    def _continue(
        self, prompt: list[int], how: _How, least: int, streamer: Any, like: Callable[[NDArray[np.int64]], Any]
    ) -> list[int]:
        if len(prompt) + how.most > self.model.n_ctx:
            raise ContextFull(
                f"a prompt of {len(prompt)} tokens and {how.most} new ones do not fit the context of "
                f"{self.model.n_ctx}; take fewer, or load with a larger n_ctx"
            )
        sampler = how.sampling.sampler(self.model.n_vocab)
        sampler.accept(np.asarray(prompt, np.int32))
        ids = list(prompt)
        if streamer is not None:
            streamer.put(like(np.asarray([prompt], np.int64)))
        session = self.model.session()
        try:
            new = prompt
            while len(ids) - len(prompt) < how.most:
                row = session.step(new, draft=new is not prompt)
                token = self._choose(sampler, row, ids, how, len(ids) - len(prompt) < least, like)
                ids.append(token)
                new = [token]
                if streamer is not None:
                    streamer.put(like(np.asarray([token], np.int64)))
                if token in how.ends or self._stops(ids, row, how, like):
                    break
        finally:
            session.close()
            if streamer is not None:
                streamer.end()
        return ids

    def _choose(
        self, sampler: _native.Sampler, row: NDArray[np.float32], ids: list[int], how: _How, endless: bool,
        like: Callable[..., Any],
    ) -> int:  # fmt: skip
        for each in how.processors:
            made = each(like(np.asarray([ids], np.int64)), like(row[None].copy()))
            row = np.ascontiguousarray(np.asarray(made, np.float32).reshape(-1))
            if row.shape != (self.model.n_vocab,):
                raise ArgumentError(f"a logits processor gave {row.size} logits, expected {self.model.n_vocab}")
        if endless:
            row = row.copy()
            row[list(how.ends)] = -np.inf
        return int(sampler.next(row))

    def _stops(self, ids: list[int], row: NDArray[np.float32], how: _How, like: Callable[..., Any]) -> bool:
        told = like(np.asarray([ids], np.int64))
        return any(bool(np.all(np.asarray(each(told, like(row[None].copy()))))) for each in how.criteria)


def _refuse(more: dict[str, Any]) -> None:
    for name, (harmless, advice) in _REFUSED.items():
        if name in more and more[name] not in (harmless, None):
            raise UnsupportedError(f"generate({name}={shown(more[name])}) is not done: {advice}")
    strange = [name for name in more if name not in _REFUSED and name not in _HARMLESS]
    if strange:
        own = [
            "input_ids",
            "max_new_tokens",
            "do_sample",
            "temperature",
            "top_k",
            "top_p",
            "streamer",
            "stopping_criteria",
        ]
        raise keywords.unknown("generate", strange, own)


def _rows(given: Any, mask: Any) -> tuple[list[list[int]], Callable[[NDArray[Any]], Any]]:
    """The prompts without their padding, and what makes a tensor of the same kind."""
    like: Callable[[NDArray[Any]], Any] = lambda found: found  # noqa: E731
    if hasattr(given, "new_tensor"):  # torch's, which need not be imported for it
        kind = given
        like = lambda found: kind.new_tensor(found.tolist(), dtype=None if found.dtype.kind == "i" else _float(kind))  # noqa: E731
        given = given.detach().cpu().numpy()
    array = np.atleast_2d(np.asarray(given))
    if array.ndim != 2 or array.dtype.kind not in "iu" or not array.size:
        raise ArgumentError(f"input_ids must be (batch, length) token ids, got shape {array.shape} of {array.dtype}")
    if mask is None:
        return array.astype(np.int64).tolist(), like
    kept = np.atleast_2d(np.asarray(mask.detach().cpu().numpy() if hasattr(mask, "detach") else mask)).astype(bool)
    if kept.shape != array.shape:
        raise ArgumentError(f"attention_mask has shape {kept.shape}, input_ids {array.shape}")
    rows = [row[each].astype(np.int64).tolist() for row, each in zip(array, kept, strict=True)]
    if not all(rows):
        raise ArgumentError("attention_mask leaves a prompt without tokens")
    return rows, like


def _float(kind: Any) -> Any:
    return kind.new_tensor([0.5]).float().dtype if kind.is_floating_point() else (kind.float()).dtype


def _padded(rows: list[list[int]], pad: int) -> NDArray[np.int64]:
    made = np.full((len(rows), max(map(len, rows))), pad, np.int64)
    for i, row in enumerate(rows):
        made[i, : len(row)] = row
    return made
