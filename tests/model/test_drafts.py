"""Drafts change the number of steps and nothing else: not a bit of the text, its log-probabilities or its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model import test_qwen35, tiny

import pyggml
from pyggml.engine import drafts, session

TALE = "Once upon a time there was a king. The king had a cat. Once upon a time there was a king. The king"


@pytest.fixture(scope="module")
def m() -> Iterator[pyggml.Model]:
    with pyggml.load(n_threads=1) as model:
        yield model


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """How many rows each step had, of each sequence."""
    seen: list[list[int]] = []
    for name in ("choose", "rows"):
        call = getattr(session, name)

        def watched(sessions: Any, *more: Any, call: Any = call) -> Any:
            ids = more[1] if call.__name__ == "choose" else more[0]
            seen.append([len(each) for each in ids])
            return call(sessions, *more)

        monkeypatch.setattr(session, name, watched)
    return seen


def parts(c: pyggml.Completion) -> tuple[Any, ...]:
    return c.text, c.tokens, c.finish_reason, c.logprobs, c.usage.completion_tokens


@pytest.mark.parametrize(
    "how",
    [
        {"temperature": 0}, {"temperature": 0.9, "seed": 4}, {"temperature": 0, "repeat_penalty": 1.3},
        {"temperature": 0.7, "seed": 1, "logprobs": 3}, {"temperature": 0, "stop": ["queen", "the"]},
        {"temperature": 0, "deterministic": True}, {"temperature": 1.2, "seed": 7, "mirostat": 2},
        {"temperature": 0, "detect_loops": True}, {"temperature": 0, "max_tokens": 1}, {"temperature": 0, "n": 2},
    ],
)  # fmt: skip
@pytest.mark.parametrize("guessing", ["ngram", "itself", "wrong"])
def test_texts_are_what_they_are(m: pyggml.Model, how: dict[str, Any], guessing: str, monkeypatch: Any) -> None:
    draft: Any = m if guessing == "itself" else "ngram"
    if guessing == "wrong":  # now and then right, mostly not
        rng = np.random.default_rng(2)
        monkeypatch.setattr(drafts.Ngrams, "guess", lambda self, ids, most: rng.integers(4, 30, most).tolist())
    how = {"max_tokens": 60, **how}
    want = m.generate([TALE, "A cat"], **how)
    got = m.generate([TALE, "A cat"], draft=draft, **how)
    flat = [each for c in zip(got, want, strict=True) for each in (zip(*c, strict=True) if how.get("n") else [c])]
    for mine, plain in flat:
        assert parts(mine) == parts(plain)
        assert 0 <= mine.usage.accepted_tokens <= mine.usage.drafted_tokens
        assert plain.usage.drafted_tokens == 0


@pytest.mark.parametrize("kv_type", ["f32", "bf16", "q8_0", "q4_0"])
def test_every_cache_takes_back_what_was_wrong(kv_type: str, isa: str) -> None:
    with pyggml.load(n_threads=1, kv_type=kv_type) as m:
        want = m.generate(TALE, max_tokens=50, temperature=0)
        got = m.generate(TALE, max_tokens=50, temperature=0, draft="ngram")
        assert parts(got) == parts(want)
        assert got.usage.drafted_tokens > 0
        assert m.generate(TALE + got.text, max_tokens=5, temperature=0, reuse="any").usage.cached_tokens > 0


def test_right_guesses_save_steps(m: pyggml.Model, steps: list[list[int]]) -> None:
    plain = m.generate(TALE, max_tokens=64, temperature=0)
    n_plain = len(steps)
    steps.clear()
    got = m.generate(TALE, max_tokens=64, temperature=0, draft=m)
    own = [rows for rows in steps if len(rows) == 1]
    assert got.tokens == plain.tokens
    assert got.usage.accepted_tokens > 50  # of itself it guesses all
    assert len(own) < n_plain / 3
    assert max(rows[0] for rows in own[1:]) == 1 + drafts.MOST


def test_what_does_not_pay_rests() -> None:
    class Wrong:
        def __init__(self) -> None:
            self.asked = 0

        def guess(self, ids: Any, most: int) -> list[int]:
            self.asked += 1
            return [0] * most

    wrong = Wrong()
    d = drafts.Drafts(wrong)
    for _ in range(2000):
        guess = d.guess([1, 2, 3], 100)
        if guess:
            d.learn(len(guess), 0)
    assert wrong.asked < 40
    assert d.n_right == 0
    assert d.guess([1], 0) == []


def test_ngrams_against_a_plain_search() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        ids: list[int] = []
        ngrams = drafts.Ngrams()
        for _ in range(12):
            ids += rng.integers(0, 4, rng.integers(1, 6)).tolist()
            want: list[int] = []
            for size in (4, 3, 2):
                ends = (
                    [e for e in range(size, len(ids)) if ids[e - size : e] == ids[-size:]] if len(ids) >= size else []
                )
                if ends:
                    want = ids[ends[-1] : ends[-1] + 5]
                    break
            assert ngrams.guess(ids, 5) == want


def test_windows_that_have_passed_end_the_guessing(tmp_path: Path) -> None:
    with pyggml.load(tiny.write(tmp_path / "x.gguf", window=300, n_ctx=2000).path, n_threads=1) as m:
        ids = [5, 6, 7, 8] * 160
        for n in (200, 640):
            want = m.generate(ids[:n], max_tokens=120, temperature=0.3, seed=2)
            got = m.generate(ids[:n], max_tokens=120, temperature=0.3, seed=2, draft="ngram")
            assert parts(got) == parts(want)


def test_who_cannot_guess_is_refused(m: pyggml.Model, tmp_path: Path) -> None:
    with pytest.raises(pyggml.ArgumentError, match="draft must be one of"):
        m.generate("a", draft="magic")
    with pytest.raises(pyggml.ArgumentError, match="draft must be 'ngram', 'auto', a Model or None, got 3"):
        m.generate("a", draft=3)
    with pytest.raises(pyggml.ArgumentError, match=r"draft must be .* a Model or None, got Session"):
        m.generate("a", draft=m.session())
    with pytest.raises(pyggml.UnsupportedError, match="layers that predict further are loaded and not run"):
        m.generate("a", draft="mtp")
    other = tiny.write(tmp_path / "x.gguf").path
    with pyggml.load(other) as strange, pytest.raises(pyggml.ArgumentError, match="only with the same vocabulary"):
        m.generate("a", draft=strange)
    closed = pyggml.load(n_threads=1)
    closed.close()
    with pytest.raises(pyggml.PyggmlError, match="draft: this model is closed"):
        m.generate("a", draft=closed)
    closed = pyggml.load(n_threads=1)
    s = m.stream(TALE, draft=closed, max_tokens=100, temperature=0)
    next(s)
    closed.close()
    with pytest.raises(pyggml.PyggmlError, match="draft: this model is closed"):
        list(s)
    with pyggml.load(test_qwen35.write(tmp_path / "y.gguf"), n_threads=1) as recurrent:
        assert recurrent._loaded.recurrent
        with pytest.raises(pyggml.UnsupportedError, match=r"layers of this model \(qwen35\) cannot take back"):
            drafts.drafts_of(recurrent._loaded, "ngram")
        assert drafts.drafts_of(recurrent._loaded, "auto") is None
    assert m.generate("a", draft="auto", max_tokens=2).finish_reason == "length"
