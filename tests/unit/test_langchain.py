"""LangChain's classes, through langchain-core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest

import pyggml

pytestmark = pytest.mark.slow

TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def lc() -> Any:
    pytest.importorskip("langchain_core", reason="NO LANGCHAIN: pip install langchain-core")
    from pyggml.compat import langchain

    return langchain


@pytest.fixture(scope="module")
def m() -> Iterator[pyggml.Model]:
    with pyggml.load() as model:
        yield model


def test_an_answer(lc: Any, m: pyggml.Model) -> None:
    chat = lc.ChatPyggml(model=m, settings={"temperature": 0, "max_tokens": 8, "template": TEMPLATE})
    asks = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "A story?"}]
    expected = m.chat(asks, temperature=0, max_tokens=8, template=TEMPLATE)
    answer = chat.invoke([("system", "Be kind."), ("human", "A story?")])
    assert answer.content == expected.text
    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.usage_metadata["input_tokens"] == expected.usage.prompt_tokens
    chunks = list(chat.stream([("system", "Be kind."), ("human", "A story?")]))
    assert "".join(chunk.content for chunk in chunks) == expected.text
    assert chunks[-1].usage_metadata is None or len(chunks) > 1
    with pytest.raises(ValueError, match="model must be a Model"):  # as pydantic wraps it
        lc.ChatPyggml(model=5)


def test_tools(lc: Any, m: pyggml.Model) -> None:
    pytest.importorskip("llguidance", reason="NO LLGUIDANCE: pip install 'pyggml[constrain]'")

    def weather(city: Literal["Rome", "Oslo"]) -> str:
        """The weather."""
        return city

    chat = lc.ChatPyggml(model=m, settings={"max_tokens": 120, "template": TEMPLATE})
    answer = chat.bind_tools([weather], tool_choice="weather").invoke("Rome?")
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]["city"] in ("Rome", "Oslo")) == ("weather", True)
    whole = None
    for chunk in chat.bind_tools([weather], tool_choice="any").stream("Rome?"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert whole.tool_calls[0]["name"] == "weather"
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

    talk = [
        HumanMessage("Rome?"),
        AIMessage("", tool_calls=answer.tool_calls),
        ToolMessage("sunny", tool_call_id=call["id"]),
    ]
    made = lc._messages(talk)
    assert made[1]["tool_calls"][0]["id"] == made[2]["tool_call_id"]
    assert "sunny" in m.render_chat(made, template=TEMPLATE)


def test_vectors(lc: Any, m: pyggml.Model) -> None:
    made = lc.PyggmlEmbeddings(m, query="q: ")
    np.testing.assert_allclose(made.embed_documents(["a", "b"]), m.embed(["a", "b"]), atol=1e-6)
    np.testing.assert_allclose(made.embed_query("a"), m.embed("a", prompt="q: "), atol=1e-6)
