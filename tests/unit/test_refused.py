"""What would pass for something else: it is refused, and the message says what to give; nothing is dropped silently."""

from __future__ import annotations

import array
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyggml
from pyggml.cli.app import invoke
from pyggml.errors import ArgumentError, ArgumentTypeError, PyggmlError
from pyggml.model import BUNDLED


@pytest.fixture(scope="module")
def m() -> Iterator[Any]:
    with pyggml.load(n_ctx=64) as model:
        yield model


@pytest.mark.parametrize(
    "raw", [b"ab", bytearray(b"ab"), memoryview(b"ab"), array.array("B", [1]), array.array("b", [1]), mmap.mmap(-1, 2)]
)
def test_bytes_are_no_ids(m: Any, raw: Any) -> None:
    session = m.session()
    calls = (
        session.step, session.check, m.logits, m.detokenize, m.tokenizer.decode, m.generate, m.stream, m.score,
        m.perplexity, m.tokenize, lambda ids: m.generate(["a", ids]), lambda ids: pyggml.imatrix(m, ids),
        lambda x: pyggml.quantize(x, "q8_0"),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ArgumentTypeError, match="must be"):
            call(raw)
    for ids in (np.array([1, 2], np.uint8), array.array("i", [1, 2]), memoryview(array.array("q", [1, 2]))):
        assert m.detokenize(ids) == m.detokenize([1, 2])


def test_the_name_of_a_file_is_no_text_to_measure(m: Any, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("Once upon a time there was a king. " * 4)
    for measure in (m.score, lambda text: m.perplexity(text, 8)):
        for name in (str(tmp_path / "t"), "gone.txt"):
            with pytest.raises(ArgumentError, match=r"a str is taken as text, and here it is .*pass pathlib\.Path"):
                measure(name)
        assert np.isfinite(measure(tmp_path / "t")).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"general.architecture": None}, "general.architecture is missing"),
        ({"llama.block_count": 2}, "belongs to layer 2, but the model has 2 layers"),
        ({"general.name": "x", "llama.attention.head_count": 7}, "llama.attention.head_count is 7"),
    ],
)
def test_metadata_that_would_keep_a_model_from_loading_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match=f"^metadata: with .* changed, the file would not load: .*{said}"):
        pyggml.quantize_file(BUNDLED, tmp_path / "x.gguf", "COPY", metadata=changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokenizer.ggml.tokens": None}, "the file holds no vocabulary"),
        ({"tokenizer.ggml.bos_token_id": 10**6}, "tokenizer.ggml.bos_token_id is 1000000, the vocabulary has"),
    ],
)
def test_metadata_that_costs_the_tokenizer_is_told(
    changes: dict[str, Any], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pyggml.quantize_file(BUNDLED, tmp_path / "x.gguf", "COPY", metadata=changes)
    assert "changed, the file takes token ids only: " in caplog.text
    assert said in caplog.text
    with pyggml.load(tmp_path / "x.gguf") as model:
        assert np.isfinite(model.logits([1, 2])).all()


def test_metadata_of_a_file_that_does_not_load_is_free(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pyggml.gguf.Writer(tmp_path / "a.gguf") as out:
        out.add("general.architecture", "nothing")
        out.add_tensor("t", (1, 4), "f32", np.zeros(4, np.float32))
    pyggml.quantize_file(tmp_path / "a.gguf", tmp_path / "b.gguf", "COPY", metadata={"x.y": 1, "nonesuch": None})
    assert "metadata: 'nonesuch' is to be removed, and the file has no such key" in caplog.text
    with pyggml.gguf.open(tmp_path / "b.gguf") as file:
        assert file.metadata["x.y"] == 1


def test_a_name_that_is_a_folders_is_no_file(m: Any, tmp_path: Path) -> None:
    session = m.session()
    for name in ("x.state/.", "x.state/", "x.state/.."):
        with pytest.raises(PyggmlError, match=r"names a folder|is a directory"):
            session.save(os.path.join(tmp_path, name))
    for prefix, said in ((f"{tmp_path}/v/", "names a folder"), (f"{tmp_path}/v/.", "names a folder"),
                         (os.devnull, "is a device")):  # fmt: skip
        with pytest.raises(ArgumentError, match=f"^prefix .* {said}, expected what the parts' names begin with"):
            pyggml.split_file(BUNDLED, prefix)
    assert not list(tmp_path.iterdir())


def test_a_conversation_has_a_message_and_a_message_its_content(m: Any) -> None:
    template = "{% for m in messages %}{{ m.role + m.content }}{% endfor %}."
    for empty in ([], (), iter([])):
        with pytest.raises(pyggml.TemplateError, match="messages is empty: there is nothing to answer"):
            m.chat(empty, template=template)
    assert m.render_chat([], template=template) == "."
    with pytest.raises(pyggml.TemplateError, match=r"^messages\[1\] has no content, expected a dict like .*line 1"):
        m.chat([{"role": "user", "content": "a"}, {"role": "user"}], template=template)
    with pytest.raises(pyggml.TemplateError, match=r"^messages\[0\] has no role and no content"):
        m.chat([{}], template=template)
    assert (
        m.render_chat([{"role": "a"}], template="{{ messages[0].role }}") == "a"
    )  # a template of its own wants no more


def test_a_closed_session_answers_nothing(m: Any) -> None:
    session = m.session()
    session.step([1, 2, 3])
    assert (session.reach, session.back(2), session.back(9)) == (0, 2, 3)
    session.close()
    for ask in (lambda: session.reach, lambda: session.back(1), lambda: session.n_past):
        with pytest.raises(ArgumentError, match="this session is closed"):
            ask()


def test_a_completion_is_its_text(m: Any) -> None:
    made = m.generate("Once", max_tokens=5, temperature=0)
    assert m.tokenize(made) == m.tokenize(made.text)


def test_a_vocabulary_alone_makes_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pyggml.gguf.open(BUNDLED) as file, pyggml.gguf.Writer(tmp_path / "v.gguf") as out:
        out.add_metadata(file.metadata)
    assert invoke(["tokenize", str(tmp_path / "v.gguf"), "Once upon", "--json"]) == 0
    alone = capsys.readouterr().out
    assert invoke(["tokenize", str(BUNDLED), "Once upon", "--json"]) == 0
    assert capsys.readouterr().out == alone
