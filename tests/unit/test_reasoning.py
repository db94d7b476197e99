"""Reasoning and answer taken apart: every family's marks, however the text is cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyggml
from pyggml.chat import speech
from pyggml.chat.reasoning import MARKS, THINK, Marks, Splitter, find
from pyggml.engine.loops import LEAST, LONGEST, TIMES, Loops
from pyggml.errors import ArgumentError


def split(marks: Marks | None, opened: bool, pieces: list[str]) -> tuple[str, str]:
    """(reasoning, answer)."""
    splitter = Splitter(marks, opened)
    parts = [part for piece in pieces for part in splitter.push(piece)] + splitter.finish()
    assert all(part.text for part in parts)
    return tuple("".join(part.text for part in parts if part.kind == kind) for kind in ("reasoning", "text"))  # type: ignore[return-value]


@pytest.mark.parametrize("marks", MARKS, ids=lambda marks: marks.start)
def test_every_family(marks: Marks) -> None:
    text = f"\n{marks.start}\nOne.\n\nTwo.\n{marks.ends[0]}\n\nYes, two. \n"
    for pieces in ([text], list(text)):
        assert split(marks, False, pieces) == ("One.\n\nTwo.", "Yes, two. \n")
    assert split(marks, True, list(text.replace(marks.start, ""))) == ("One.\n\nTwo.", "Yes, two. \n")


@pytest.mark.parametrize(
    ("opened", "text", "expected"),
    [
        (False, "Yes.", ("", "Yes.")),
        (False, "\n Yes.", ("", "\n Yes.")),  # nothing was set apart, nothing is changed
        (False, " \n", ("", " \n")),
        (True, "Hm, still", ("Hm, still", "")),  # never ends
        (True, "Hm </thi", ("Hm </thi", "")),
        (True, "<think>\nHm</think>Yes", ("Hm", "Yes")),  # written again
        (True, "Hm <think> Hm</think>Yes", ("Hm <think> Hm", "Yes")),
        (True, "\n</think>\n\nYes", ("", "Yes")),
        (True, "", ("", "")),
        (False, "<think></think>", ("", "")),
        (False, "<think>a</think>\n<think>b</think>\nc", ("a\n\nb", "c")),
        (False, "R1 writes <think> and </think>.", ("", "R1 writes <think> and </think>.")),
        (False, "Yes </think> no", ("", "Yes </think> no")),
        (False, "a <th", ("", "a <th")),
    ],
)
def test_think(opened: bool, text: str, expected: tuple[str, str]) -> None:
    for pieces in ([text], list(text)):
        assert split(THINK, opened, pieces) == expected


def test_blocks_anywhere_where_marks_are_tokens() -> None:
    marks = find("<|channel>", lambda text: False)
    assert marks is not None
    assert marks.anywhere
    text = "<|channel>thought\na<channel|>b <|channel>thought\nc<channel|> d"
    assert split(marks, False, list(text)) == ("a\n\nc", "b  d")


@pytest.mark.parametrize("marks", [THINK, MARKS[1], None])
@given(
    opened=st.booleans(),
    pieces=st.lists(
        st.sampled_from(["<think>", "</think>", "<|START_THINKING|>", "<|END_THINKING|>", " ", "\n", "a", "b<", "th"])
        | st.text("<think/>|START_END ", max_size=8)
    ),
)
def test_pieces_do_not_matter(marks: Marks | None, opened: bool, pieces: list[str]) -> None:
    opened = opened and marks is not None
    text = "".join(pieces)
    found = split(marks, opened, pieces)
    assert found == split(marks, opened, [text]) == split(marks, opened, list(text))
    left = "".join(found)
    for mark in marks.all if marks else ():
        text = text.replace(mark, "")
        left = left.replace(mark, "")
    if not any(mark in text for mark in (marks.all if marks else ())):
        assert sorted("".join(left.split())) == sorted("".join(text.split()))  # nothing is lost but marks and blanks


def test_a_token_of_the_vocabulary_shows_the_marks() -> None:
    plain = "{{ messages[0].content }}"
    assert find(plain, lambda text: text in ("<think>", "</think>")) is THINK
    assert find(plain, lambda text: text == "<think>") is None


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>", True),
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", False),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
    ],
)
def test_prompts_that_open_a_block(prompt: str, opened: bool) -> None:
    assert THINK.opened_by(prompt) is opened


# ---- in a chat -----------------------------------------------------------------------------------------------------

OPENED = "{{ messages[0].content }}\n<think>\n{# </think> #}"
ASKS = [{"role": "user", "content": "Once upon a time"}]


@pytest.fixture(scope="module")
def m() -> Iterator[pyggml.Model]:
    with pyggml.load() as model:
        yield model


@pytest.fixture(scope="module")
def same() -> Iterator[pyggml.Model]:
    with pyggml.load(deterministic=True) as model:
        yield model


def test_a_chat_has_reasoning_and_answer(m: pyggml.Model) -> None:
    c = m.chat(ASKS, template=OPENED, max_tokens=8, temperature=0)
    assert c.text == ""
    assert c.reasoning
    assert c.usage.reasoning_tokens == 8 == len(c.tokens)
    assert c.reasoning == m.detokenize(c.tokens).strip()
    plain = m.chat(ASKS, template="{{ messages[0].content }}", max_tokens=8, temperature=0)
    assert plain.reasoning is None
    assert plain.usage.reasoning_tokens == 0
    assert plain.text


def test_a_budget_ends_the_reasoning(m: pyggml.Model) -> None:
    c = m.chat(ASKS, template=OPENED, max_tokens=60, temperature=0, thinking_budget=5)
    closing = m.tokenize(speech.Speech(THINK).closing, add_special=False)
    assert c.tokens[5 : 5 + len(closing)] == closing
    assert c.usage.reasoning_tokens == 5 + len(closing) < len(c.tokens) == c.usage.completion_tokens == 60
    assert c.reasoning is not None
    assert c.reasoning.endswith("now I answer.")
    assert "think>" not in c.reasoning
    assert c.text
    assert "think" not in c.text
    # What is forced changes nothing: the same tokens read one by one lead to the same answer.
    session = m.session()
    session.step(m.tokenize(m.render_chat(ASKS, template=OPENED)))
    for token in c.tokens[:-1]:
        row = session.step([token], draft=True)
    assert int(row.argmax()) == c.tokens[-1]


@pytest.mark.parametrize("most", [3, 5, 6, 9, 40])
def test_forced_tokens_count_and_have_probabilities(same: pyggml.Model, most: int) -> None:
    m = same
    how: Any = {"template": OPENED, "max_tokens": most, "temperature": 0, "thinking_budget": 5}
    c = m.chat(ASKS, **how, logprobs=0)
    assert len(c.tokens) == most
    assert c.finish_reason == "length"
    assert c.tokens == m.chat(ASKS, **how).tokens
    assert c.logprobs is not None
    assert [each.id for each in c.logprobs] == c.tokens
    prompt = m.tokenize(m.render_chat(ASKS, template=OPENED))
    expected = m.score([*prompt, *c.tokens])[-most:]
    np.testing.assert_allclose([each.logprob for each in c.logprobs], expected, rtol=1e-5)


def test_a_budget_of_nothing(m: pyggml.Model) -> None:
    c = m.chat(ASKS, template=OPENED, max_tokens=8, temperature=0, thinking_budget=0)
    assert c.reasoning is None
    assert c.usage.reasoning_tokens == 0
    assert c.text.strip()
    assert not c.text[0].isspace()


def test_a_budget_in_a_full_context() -> None:
    with pyggml.load(n_ctx=24) as m:
        n = len(m.tokenize(m.render_chat(ASKS, template=OPENED)))
        c = m.chat(ASKS, template=OPENED, temperature=0, thinking_budget=3)
        assert c.finish_reason == "length"
        assert n + len(c.tokens) in (24, 25)


def test_a_budget_where_nothing_is_counted(m: pyggml.Model) -> None:
    with pytest.raises(ArgumentError, match=r"thinking_budget=5: .*no marks of reasoning"):
        m.chat(ASKS, template="{{ messages[0].content }}", thinking_budget=5)
    with pytest.raises(ArgumentError, match="thinking_budget must be a whole number from 0 or None, got -1"):
        m.chat(ASKS, template=OPENED, thinking_budget=-1)


def test_streams_tell_reasoning_from_text(m: pyggml.Model) -> None:
    how: Any = {"template": OPENED, "max_tokens": 60, "temperature": 0, "thinking_budget": 5, "stream": True}
    stream = m.chat(ASKS, **how)
    parts = list(stream.parts())
    done = stream.result
    assert done is not None
    assert [kind for kind, _ in groupby(part.kind for part in parts)] == ["reasoning", "text"]
    assert "".join(part.text for part in parts if part.kind == "reasoning") == done.reasoning
    assert "".join(m.chat(ASKS, **how)) == done.text == "".join(str(part) for part in parts if part.kind == "text")


def test_stops_end_the_answer_alone(m: pyggml.Model) -> None:
    how: Any = {"template": OPENED, "max_tokens": 60, "temperature": 0, "thinking_budget": 5}
    free = m.chat(ASKS, **how)
    assert " " in (free.reasoning or "")
    assert " " in free.text
    c = m.chat(ASKS, **how, stop=" ")
    assert c.reasoning == free.reasoning
    assert c.finish_reason == "stop"
    assert c.text == free.text.split(" ")[0]


# ---- endless repetition --------------------------------------------------------------------------------------------


def test_loops_of_every_length() -> None:
    for period in (1, 2, 7, 100, LONGEST):
        watch = Loops()
        start = [watch.closed_by(-2 - i) for i in range(10)]
        ends = [watch.closed_by(i % period) for i in range(5 * LONGEST)]
        assert not any(start)
        assert ends.index(True) == period + max(LEAST, TIMES * period) - 1
    watch = Loops()
    assert not any(watch.closed_by(i % (LONGEST + 1)) for i in range(6 * LONGEST))


def test_what_is_no_loop() -> None:
    watch = Loops()
    assert not any(watch.closed_by(token) for i in range(200) for token in [1, 2, 3, 1000 + i])  # a table
    assert not any(watch.closed_by(token) for i in range(5) for token in [7] * (LEAST - 1) + [i + 10])


def test_a_text_that_loops_ends_when_asked(m: pyggml.Model) -> None:
    bias = {m.tokenize("a", add_special=False)[-1]: 1e4}
    assert m.generate("b", max_tokens=300, logit_bias=bias).finish_reason == "length"
    c = m.generate("b", max_tokens=300, logit_bias=bias, detect_loops=True)
    assert c.finish_reason == "loop"
    assert len(c.tokens) == LEAST + 1
    story = m.generate("Once upon a time", max_tokens=200, temperature=0.8, seed=1, detect_loops=True)
    assert story.finish_reason != "loop"
