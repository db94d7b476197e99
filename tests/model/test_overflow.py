"""What happens to a prompt, and to a text, that does not fit the context: an error, a cut or a shift, told in usage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model import tiny
from model.test_scheduler import recurrent

import pyggml
from pyggml.engine import session

IDS = [5 + i * 7 % 200 for i in range(100)]


@pytest.fixture(scope="module")
def m() -> Iterator[pyggml.Model]:
    with pyggml.load(n_threads=1, n_ctx=64) as model:
        yield model


def test_an_error_is_the_default_and_says_both_numbers(m: pyggml.Model) -> None:
    for call in (m.generate, m.stream, lambda ids: asyncio.run(m.agenerate(ids)), lambda ids: m.generate([[5], ids])):
        with pytest.raises(pyggml.ContextFull, match=r"100 tokens behind 0 do not fit the context of 64"):
            call(IDS)
    with pytest.raises(pyggml.ArgumentError, match="overflow must be one of"):
        m.generate("a", overflow="cut")
    c = m.generate(IDS[:60], max_tokens=None, temperature=0)
    assert (c.finish_reason, c.usage.shifted_tokens, c.usage.truncated_tokens) == ("length", 0, 0)


def test_an_error_says_which_prompt_of_a_list(m: pyggml.Model) -> None:
    for wrong in (IDS, "b " * 200, "b " * 100000):
        with pytest.raises(pyggml.ContextFull, match=r"^prompt\[1\]: "):
            m.generate(["a", wrong, wrong])
    for overflow in ("error", "truncate"):
        with pytest.raises(pyggml.ArgumentError, match=r"^prompt\[2\]: token id 99999 at position 1 is outside"):
            m.generate(["a", "b", [5, 99999]], overflow=overflow)
    with pytest.raises(pyggml.ArgumentError, match=r"^token id 99999"):
        m.generate([5, 99999])


@pytest.mark.parametrize("max_tokens", [1, 10, 40, None])
def test_a_cut_keeps_the_end_and_leaves_room(m: pyggml.Model, max_tokens: int | None) -> None:
    room = {1: 1, 10: 10, 40: 32, None: 16}[max_tokens]
    got = m.generate(IDS, max_tokens=max_tokens, temperature=0, overflow="truncate")
    want = m.generate(IDS[100 - (64 - room) :], max_tokens=max_tokens, temperature=0)
    assert (got.tokens, got.finish_reason) == (want.tokens, want.finish_reason)
    assert got.usage.prompt_tokens == 64 - room
    assert got.usage.truncated_tokens == 100 - (64 - room)
    bos = m.tokenizer.bos_id
    assert bos is not None
    begun = m.generate([bos, *IDS], max_tokens=10, temperature=0, overflow="truncate")
    assert begun.tokens == m.generate([bos, *IDS[100 - 53 :]], max_tokens=10, temperature=0).tokens
    assert begun.usage.truncated_tokens == 47


def test_a_cut_of_a_long_text_a_chat_and_samples(m: pyggml.Model) -> None:
    text = "Once upon a time there was a king. " * 3000
    assert m.generate(text, max_tokens=2, overflow="truncate").usage.truncated_tokens > 10_000
    chat: Any = m.chat([{"role": "user", "content": text}], template="{{ messages[0].content }}", max_tokens=2,
                       overflow="truncate", n=2)  # fmt: skip
    assert [c.usage.truncated_tokens > 10_000 for c in chat] == [True, True]
    fits = m.generate(IDS[:20], max_tokens=2, overflow="truncate", temperature=0)
    assert fits.usage.truncated_tokens == 0
    assert fits.tokens == m.generate(IDS[:20], max_tokens=2, temperature=0).tokens


def test_a_shift_goes_on_and_is_what_a_session_makes_of_it(m: pyggml.Model) -> None:
    got = m.generate(IDS[:50], max_tokens=60, temperature=0, overflow="shift")
    assert len(got.tokens) == 60 or got.finish_reason == "stop"
    assert got.usage.shifted_tokens == 60  # twice half of what stands behind the first four
    s = m.session()
    s.step(IDS[:50], 0)
    s.truncate(49)
    logits, tokens = s.step(IDS[49:50]), []
    while len(tokens) < len(got.tokens):
        tokens.append(int(np.argmax(logits)))
        if s.n_past == 64:
            s.shift(4, 34)
        logits = s.step(tokens[-1:], draft=True)
    assert tokens == got.tokens
    again = m.generate(IDS[:50], max_tokens=5, temperature=0)  # what was shifted is no prefix for others
    assert again.tokens == got.tokens[:5]
    assert again.usage.cached_tokens <= 4


def test_a_shift_beside_others_with_drafts_and_log_probabilities(m: pyggml.Model) -> None:
    how: dict[str, Any] = {"max_tokens": 70, "temperature": 0.8, "seed": 3, "overflow": "shift"}
    want = m.generate(IDS[:30], **how).tokens
    assert [c.tokens for c in m.generate([IDS[:30], IDS[:40], IDS[:30]], **how)][::2] == [want, want]
    assert m.generate(IDS[:30], draft="ngram", **how).tokens == want
    told = m.generate(IDS[:30], logprobs=1, **how)
    assert told.tokens == want
    assert len(told.logprobs or ()) == len(want)
    assert "".join(m.stream(IDS[:30], **how)) == told.text


def test_who_is_sent_back_behind_a_shift_goes_on_from_there(m: pyggml.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory ends in a step of several that have shifted: what they remember cannot be read again."""
    want = m.generate(IDS[:50], max_tokens=60, temperature=0, overflow="shift").tokens
    choose, running, ended = session.choose, m._engine._scheduler._running, [0]

    def choose_or_end(sessions: Any, samplers: Any, ids: Any) -> Any:
        if len(running) > 1 and any(ticket.shifted for ticket in running):
            ended[0] += 1
            raise pyggml.OutOfMemory("no memory")
        return choose(sessions, samplers, ids)

    monkeypatch.setattr(session, "choose", choose_or_end)
    got = m.generate([IDS[:50]] * 3, max_tokens=60, temperature=0, overflow="shift")
    assert [each.tokens for each in got] == [want] * 3
    assert ended[0] > 2


def test_who_cannot_shift_says_so_before_the_text(tmp_path: Path) -> None:
    with pyggml.load(recurrent(tmp_path / "x.gguf"), n_threads=1, n_ctx=64) as m:
        with pytest.raises(pyggml.UnsupportedError, match="shift"):
            m.generate(list(range(5, 45)), max_tokens=None, overflow="shift")
        assert m.generate(list(range(5, 45)), max_tokens=5, overflow="shift").usage.shifted_tokens == 0


def test_a_window_that_looks_at_the_oldest_ends_the_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ids = [5 + i * 7 % 200 for i in range(1990)]
    for window, shifted in ((300, 998), (1100, 0)):
        made = tiny.write(tmp_path / f"{window}.gguf", window=window, n_ctx=2000)
        with pyggml.load(made.path, n_threads=1) as m:
            c = m.generate(ids, max_tokens=20, temperature=0, overflow="shift")
        assert (c.usage.shifted_tokens, c.finish_reason) == (shifted, "length")
        assert len(c.tokens) == (20 if shifted else 11)
    assert "the text ends, for its context is full and cannot be shifted" in caplog.text
