"""Which template of a file a chat uses, and what a model makes of a file with several."""

from __future__ import annotations

from pathlib import Path

import pytest
from model import tiny

import pyggml
from pyggml.chat.named import choose, names, plain_name
from pyggml.errors import TemplateError

KEY = "tokenizer.chat_template"
THREE = {KEY: "D", f"{KEY}.tool_use": "T", f"{KEY}.rag": "R", "tokenizer.chat_templates": ["rag", "tool_use"], "x": 1}
HI = [{"role": "user", "content": "hi"}]


def test_names() -> None:
    assert names(THREE) == ["default", "rag", "tool_use"]
    assert names({f"{KEY}.a": "A"}) == ["a"]
    assert names({}) == []
    assert plain_name("tool-use v2") == "tool_use_v2"


@pytest.mark.parametrize(
    "template, tools, wanted",
    [
        (None, None, ("D", "default")),
        ("", [], ("D", "default")),
        (None, [{"name": "f"}], ("T", "tool_use")),
        ("default", [{"name": "f"}], ("D", "default")),
        ("rag", None, ("R", "rag")),
        ("tool-use", None, ("T", "tool_use")),
        ("{{ 1 }}", [{"name": "f"}], ("{{ 1 }}", "template=")),
        ("a{# b #}", None, ("a{# b #}", "template=")),
        ("{% if x %}{% endif %}", None, ("{% if x %}{% endif %}", "template=")),
    ],
)
def test_choice(template: str | None, tools: object, wanted: tuple[str, str]) -> None:
    assert choose(THREE, template, tools) == wanted


def test_with_tools_but_no_template_for_them() -> None:
    assert choose({KEY: "D"}, None, [{}]) == ("D", "default")


def test_what_is_not_there() -> None:
    with pytest.raises(TemplateError, match=r"'tooluse'; did you mean 'tool_use'\? it has: default, rag, tool_use"):
        choose(THREE, "tooluse", None)
    with pytest.raises(TemplateError, match=r"called 'x'; it has: none"):
        choose({}, "x", None)
    with pytest.raises(TemplateError, match="has no chat template"):
        choose({}, None, None)
    with pytest.raises(TemplateError, match=r"no default chat template; choose one by template=: rag"):
        choose({f"{KEY}.rag": "R"}, None, None)
    with pytest.raises(TemplateError, match="no default"):
        choose({KEY: 7}, None, None)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three templates, and two ids that end a generation besides </s>."""
    extra = {
        KEY: "{{ bos_token }}D{{ unk_token is defined }}{{ messages[0].content }}",
        f"{KEY}.tool_use": "T{{ tools|length }}{{ eos_token }}",
        f"{KEY}.rag": "R",
        "pyggml.eog_token_ids": [97, 98],
    }
    return tiny.write(tmp_path_factory.mktemp("named") / "x.gguf", extra=extra).path


def test_a_model_chooses(path: Path) -> None:
    with pyggml.load(path) as m:
        assert m.render_chat(HI) == "<s>DFalsehi"
        assert m.render_chat(HI, tools=[{"a": 1}, {"b": 2}]) == "T2</s>"
        assert m.render_chat(HI, template="rag") == "R"
        assert m.render_chat(HI, template="{{ messages|length }}") == "1"
        assert m.chat(HI, template="rag", max_tokens=1).usage.prompt_tokens == 2  # with the BOS of this vocabulary
        with pytest.raises(TemplateError, match="'tool_use'"):
            m.render_chat(HI, template="tool_uses")
        with pytest.raises(TemplateError, match=r"'tool_use', line 1"):
            m.render_chat(HI, template="tool_use", tools=None)


def test_a_generation_ends_at_each_id_of_the_list(path: Path) -> None:
    with pyggml.load(path) as m:
        assert m.tokenizer.eog_ids == {97, 98, 257}
        ended = [m.generate([token], max_tokens=400, temperature=2.0, top_k=0, min_p=0, top_p=1, seed=token)
                 for token in range(12)]  # fmt: skip
        assert "stop" in {c.finish_reason for c in ended}
        assert not any({97, 98, 257} & set(c.tokens) for c in ended)


def test_tokens_beyond_the_embedding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Added tokens without a row: the file loads and says so; a prompt that needs one is an error."""
    more = {
        "tokenizer.ggml.tokens": [*tiny.byte_tokens(), "<s>", "</s>", "th", "<pad>"],
        "tokenizer.ggml.merges": ["t h"],
    }
    types = {"tokenizer.ggml.token_type": [1] * 256 + [3, 3, 1, 3]}
    short = tiny.write(tmp_path / "x.gguf", n_vocab=259, extra={**more, **types}).path
    with pyggml.load(short) as m:
        assert "lists 260 tokens, but the output has only 259 rows: the added tokens" in caplog.text
        assert m.logits(m.tokenize("thx")).shape == (3, 259)
        assert m.tokenize("<pad>") == [256, 259]
        for call in (m.generate, m.logits):
            with pytest.raises(pyggml.ArgumentError, match=r"token id 259 .*outside the vocabulary of 259"):
                call([256, 259])
        with pytest.raises(pyggml.ArgumentError, match="token id 259"):
            m.generate("<pad>")
    for wrong in ([1] * 256 + [3, 3, 1, 1], [1] * 259, None):
        other = tiny.write(tmp_path / "y.gguf", n_vocab=259, extra={**more, "tokenizer.ggml.token_type": wrong}).path
        with pytest.raises(pyggml.GGUFError, match=r"260 tokens, but the output has only 259 rows|259 entries"):
            pyggml.load(other).tokenizer  # noqa: B018
