"""generate, stream, chat and the commands, made to follow something: the text is whole, or the request says why not."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import pytest
from constrain.test_traps import PERSON

import pyggml
from pyggml.chat.reasoning import THINK
from pyggml.chat.speech import Speech
from pyggml.constrain import masks
from pyggml.engine import following
from pyggml.errors import ArgumentTypeError, GrammarError
from pyggml.model import BUNDLED

pytest.importorskip("llguidance", reason="NO LLGUIDANCE: pip install 'pyggml[constrain]'")

MOOD = {
    "type": "object",
    "properties": {"mood": {"enum": ["happy", "sad"]}, "n": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["mood", "n"], "additionalProperties": False,
}  # fmt: skip
ASKS = [{"role": "user", "content": "Once upon a time"}]
OPENED = "{{ messages[0].content }}<think>\n{# </think> #}"
CLOSED = "{{ messages[0].content }}<think>\n\n</think>\n\n"
MAY = "{{ messages[0].content }}{% if false %}<think></think>{% endif %}"


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(TypedDict):
    width: int
    unit: Literal["cm", "in"]


@dataclasses.dataclass
class Thing:
    color: Color
    size: Size
    count: int | None
    made: datetime.date
    tags: tuple[Literal["a", "b"], Literal["c"]]
    old: bool = False


@pytest.fixture(scope="module")
def m() -> Iterator[pyggml.Model]:
    with pyggml.load(n_ctx=256) as model:
        yield model


@pytest.mark.parametrize("how", [{"temperature": 0}, {"seed": 3, "temperature": 1.5, "top_k": 0}])
@pytest.mark.parametrize("logprobs", [None, 2])
def test_a_schema_is_followed(m: pyggml.Model, how: dict[str, Any], logprobs: int | None) -> None:
    c = m.generate("Once upon a time", schema=MOOD, max_tokens=60, logprobs=logprobs, **how)
    assert c.finish_reason == "stop"
    assert c.parsed == json.loads(c.text)
    assert c.parsed["mood"] in ("happy", "sad")
    assert 1 <= c.parsed["n"] <= 9
    assert m.detokenize(c.tokens).strip() == c.text
    assert c.usage.completion_tokens == len(c.tokens)
    if logprobs is not None:
        assert c.logprobs is not None
        assert [each.id for each in c.logprobs] == c.tokens
        assert c.tokens == m.generate("Once upon a time", schema=MOOD, max_tokens=60, **how).tokens


def test_forced_text_is_read_as_if_it_had_been_chosen(m: pyggml.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fed several at a time or one by one: the same logits, and so the same text."""
    together = m.generate("Once upon a time", schema=MOOD, max_tokens=60, temperature=0, logprobs=0)
    session = m.session()
    session.step(m.tokenize("Once upon a time"))
    rows = [session.step([token], draft=True) for token in together.tokens[:-1]]
    assert together.logprobs is not None
    for row, each in zip(rows, together.logprobs[1:], strict=True):
        wide = row.astype(np.float64)
        expected = wide[each.id] - wide.max() - np.log(np.exp(wide - wide.max()).sum())
        assert each.logprob == pytest.approx(expected, abs=1e-5)
    steps: list[int] = []
    real = following.Following.bind
    monkeypatch.setattr(following.Following, "bind", lambda self, sampler: (steps.append(1), real(self, sampler))[1])
    again = m.generate("Once upon a time", schema=MOOD, max_tokens=60, temperature=0)
    assert again.tokens == together.tokens
    assert len(steps) < len(again.tokens), "nothing was forced"


def test_masks_leave_no_other_choice(m: pyggml.Model) -> None:
    for seed in range(8):
        c = m.generate("Once", choices=["yes", "no", "may be"], temperature=50.0, top_k=0, seed=seed)
        assert c.parsed in ("yes", "no", "may be")
        assert c.text == c.parsed
    assert re.fullmatch("[A-Z][a-z]{2,8} [0-9]{2}", m.generate("Once", regex="[A-Z][a-z]{2,8} [0-9]{2}", seed=1).text)
    assert re.fullmatch(r"\(*[a-z]{3}\)*", m.generate("O", grammar='root ::= "(" root ")" | [a-z]{3}', seed=1).text)
    c = m.generate("O", lark='start: "a"~3 "b"', seed=1)
    assert (c.text, c.parsed, c.finish_reason) == ("aaab", None, "stop")


def test_blanks_at_the_beginning_are_kept(m: pyggml.Model) -> None:
    c = m.chat(ASKS, template="{{ messages[0].content }}", choices=[" yes"])
    assert (c.text, c.parsed) == (" yes", " yes")


def test_a_text_that_is_cut_is_not_parsed(m: pyggml.Model) -> None:
    for most in (0, 1, 5, 8):
        c = m.generate("Once", schema=PERSON, max_tokens=most, temperature=0)
        assert (c.finish_reason, c.parsed, len(c.tokens)) == ("length", None, most)
    full = m.generate([5] * 250, schema=PERSON, max_tokens=None, temperature=0)
    assert (full.finish_reason, full.parsed) == ("length", None)
    stopped = m.generate("Once", schema=MOOD, stop='"mood"', temperature=0)
    assert (stopped.finish_reason, stopped.parsed, stopped.text) == ("stop", None, "{")


def test_many_at_once_and_in_pieces(m: pyggml.Model) -> None:
    alone = [m.generate(each, schema=MOOD, seed=2) for each in ("Once", "The king")]
    assert [each.text for each in m.generate(["Once", "The king"], schema=MOOD, seed=2)] == [
        each.text for each in alone
    ]
    with m.stream("Once", schema=MOOD, seed=2) as stream:
        assert "".join(stream) == alone[0].text
    assert stream.result is not None
    assert stream.result.parsed == alone[0].parsed


# ---- types -----------------------------------------------------------------------------------------------------------


def test_dataclasses_come_back(m: pyggml.Model) -> None:
    c = m.generate("Once", schema=Thing, seed=5, max_tokens=150)
    thing = c.parsed
    assert isinstance(thing, Thing)
    assert isinstance(thing.color, Color)
    assert thing.size["unit"] in ("cm", "in")
    assert isinstance(thing.made, datetime.date)
    assert thing.tags in (("a", "c"), ("b", "c"))
    assert set(m.generate("Once", schema=Size, seed=5).parsed) == {"width", "unit"}
    assert all(type(each) is bool for each in m.generate("Once", schema=tuple[bool, bool], seed=1).parsed)
    assert m.generate("Once", choices=Color, seed=1).parsed in Color
    with pytest.raises(ArgumentTypeError, match="no JSON schema is known"):
        m.generate("Once", schema=complex)


def test_pydantic_models_come_back(m: pyggml.Model) -> None:
    pydantic = pytest.importorskip("pydantic", reason="NO PYDANTIC: pip install 'pyggml[test]'")

    class Answer(pydantic.BaseModel):  # type: ignore[name-defined,misc]
        word: Literal["yes", "no"]
        times: int = pydantic.Field(ge=1, le=3)

    class Never(Answer):
        @pydantic.field_validator("word")
        @classmethod
        def check(cls, value: str) -> str:
            raise ValueError("never right")

    c = m.generate("Once", schema=Answer, seed=1)
    assert isinstance(c.parsed, Answer)
    refused = m.generate("Once", schema=Never, seed=1)
    assert refused.text == c.text
    with pytest.raises(GrammarError, match="never right"):
        _ = refused.parsed


# ---- reasoning -------------------------------------------------------------------------------------------------------


def test_a_grammar_begins_after_the_reasoning(m: pyggml.Model) -> None:
    c = m.chat(ASKS, template=OPENED, schema=MOOD, thinking_budget=6, temperature=0, max_tokens=120)
    assert c.reasoning
    assert c.reasoning.endswith("now I answer.")
    assert c.parsed == json.loads(c.text)
    free = m.chat(ASKS, template=OPENED, thinking_budget=6, temperature=0, max_tokens=120)
    n = 6 + len(m.tokenize(Speech(THINK).closing, add_special=False))
    assert c.tokens[:n] == free.tokens[:n], "the thoughts are not bound"
    closed = m.chat(ASKS, template=CLOSED, schema=MOOD, temperature=0, max_tokens=60)
    assert (closed.reasoning, closed.parsed) == (None, json.loads(closed.text))
    endless = m.chat(ASKS, template=OPENED, schema=MOOD, temperature=0, max_tokens=20)
    assert (endless.text, endless.parsed, endless.finish_reason) == ("", None, "length")


def test_a_model_may_think_before_it_answers(m: pyggml.Model) -> None:
    """Where a template leaves it to the model, its first token may be the one that opens a block; here none is."""
    c = m.chat(ASKS, template=MAY, schema=MOOD, temperature=0, max_tokens=60)
    assert c.parsed == json.loads(c.text)


class Fed:
    """The parts of a sampler and a constraint that Following uses."""

    masks: list[Any]

    def __init__(self) -> None:
        self.masks = []

    def allow(self, mask: Any) -> None:
        self.masks.append(mask)


def test_the_token_that_opens_a_block_is_allowed_first_only(m: pyggml.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_opening", lambda speech, tokenizer: 77)
    from pyggml.constrain import read_wanted

    wanted = read_wanted({"choices": ["yes", "no"]})
    assert wanted is not None
    speech = Speech(THINK)
    yes = m.tokenize("yes", add_special=False)

    def begin() -> following.Following:
        return following.Following(wanted, speech, speech.reader(), m.tokenizer, m.n_vocab)

    sampler: Any = Fed()
    f = begin()
    f.bind(sampler)
    assert sampler.masks[-1][77 >> 5] >> (77 & 31) & 1
    assert not f.forced()
    f.take(77, False, [])  # it thinks
    f.bind(sampler)
    assert sampler.masks[-1] is None
    f.take(5, False, [])
    f.take(6, True, [])  # and has done so
    f.bind(sampler)
    assert not sampler.masks[-1][77 >> 5] >> (77 & 31) & 1
    for token in yes:
        f.take(token, True, [])
    assert f.whole
    f = begin()
    f.take(yes[0], True, [])  # it does not
    f.bind(sampler)
    assert not sampler.masks[-1][77 >> 5] >> (77 & 31) & 1
    f = begin()
    f.take(77, False, [])
    with pytest.raises(GrammarError, match="in the token that ended the reasoning"):
        f.take(5, True, [pyggml.answer.Part("text", "{x")])


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_said_before_the_first_token(m: pyggml.Model) -> None:
    for call in (m.generate, m.stream):
        with pytest.raises(GrammarError, match="#/properties/a/not"):
            call("Once", schema={"properties": {"a": {"not": {}}}})
    with pytest.raises(GrammarError, match="regex and choices are given"):
        m.generate("Once", regex="a", choices=["b"])
    with pytest.raises(GrammarError, match=r"position 2"):
        m.chat(ASKS, template=MAY, regex="a**")


def test_a_parser_that_gives_up_fails_the_request(m: pyggml.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    real = masks.Constraint.mask
    left = [4]

    def fails(self: masks.Constraint) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise GrammarError("the grammar's parser gave up: ParserTooComplex")
        return real(self)

    monkeypatch.setattr(masks.Constraint, "mask", fails)
    with pytest.raises(GrammarError, match="ParserTooComplex"):
        m.generate("Once", schema=PERSON, max_tokens=50, temperature=0)
    assert m.generate("Once", max_tokens=3).tokens  # the model goes on


@pytest.mark.parametrize(
    "name", ["response_format", "json_schema", "guided_json", "guided_regex", "gbnf", "guided_choice"]
)
def test_names_of_other_libraries(m: pyggml.Model, name: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"it is called (schema|regex|grammar|choices) here"):
        m.generate("Once", **{name: "x"})


# ---- the command -----------------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "pyggml", "run", str(BUNDLED), "-p", "Once", "--seed", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_options(tmp_path: Path) -> None:
    schema, source = tmp_path / "s.json", tmp_path / "g.gbnf"
    schema.write_text(json.dumps(MOOD))
    source.write_text('root ::= "(" [a-z] ")"')
    code, out, err = run("--schema", str(schema))
    assert code == 0, err
    assert json.loads(out.removeprefix("Once"))["mood"] in ("happy", "sad")
    assert re.fullmatch(r"Once\([a-z]\)\n", run("--grammar", str(source))[1])
    assert re.fullmatch(r"Once[0-9]{3}\n", run("--regex", "[0-9]{3}")[1])
    assert run("--choices", "yes", "--choices", "no")[1] in ("Onceyes\n", "Onceno\n")
    schema.write_text('{"not": {}}')
    code, out, err = run("--schema", str(schema))
    assert code
    assert "#/not" in err
    assert not out
