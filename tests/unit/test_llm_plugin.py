"""The plug-in of the `llm` package, through that package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pyggml
from pyggml.model import BUNDLED

pytestmark = pytest.mark.slow


@pytest.fixture
def llm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = pytest.importorskip("llm")
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    plugins = pytest.importorskip("llm.plugins")
    from pyggml.compat import llm as ours

    if not plugins.pm.is_registered(ours):
        plugins.pm.register(ours)
    return module


def test_a_prompt(llm: Any) -> None:
    model = llm.get_model("pyggml-tales")
    with pyggml.load() as m:
        expected = m.generate("Once upon a time", max_tokens=6, temperature=0)
    response = model.prompt("Once upon a time", max_tokens=6, temperature=0)
    assert response.text() == expected.text
    assert response.input_tokens == expected.usage.prompt_tokens
    assert "".join(model.prompt("Once upon a time", max_tokens=6, temperature=0)) == expected.text


def test_a_conversation(llm: Any) -> None:
    from pyggml.compat.llm import PyggmlModel

    model = llm.get_model("pyggml-tales")
    talk = model.conversation()
    first = talk.prompt("Hi", system="Be kind.", max_tokens=2, temperature=0).text()
    second = talk.prompt("More", max_tokens=2, temperature=0)
    second.text()
    made = PyggmlModel.messages(model, second.prompt, type("Talk", (), {"responses": talk.responses[:1]}))
    assert made == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "More"},
    ]


def test_names(llm: Any, tmp_path: Path) -> None:
    from click.testing import CliRunner

    click = pytest.importorskip("click")
    from pyggml.compat import llm as ours

    group = click.Group()
    ours.register_commands(group)
    run = CliRunner()
    assert run.invoke(group, ["pyggml", "add", "mine", str(BUNDLED)]).exit_code == 0
    assert run.invoke(group, ["pyggml", "add", "none", str(tmp_path / "x.gguf")]).exit_code == 2
    assert "mine\t" in run.invoke(group, ["pyggml", "list"]).output
    assert llm.get_model("mine").path == str(BUNDLED)
