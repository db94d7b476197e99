"""The hook on logits, and the settings that a file suggests."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyggml
from pyggml import gguf
from pyggml.engine.file_settings import file_settings
from pyggml.errors import ArgumentError, PyggmlError


@pytest.fixture(scope="module")
def m() -> Iterator[pyggml.Model]:
    with pyggml.load(n_ctx=128, n_threads=1) as model:
        yield model


def test_a_hook_sees_and_changes_logits() -> None:
    with pyggml.load(n_ctx=128) as m:
        plain = m.generate("Once upon a time", max_tokens=5, temperature=0)
        seen: list[tuple[list[int], Any]] = []
        c = m.generate("Once upon a time", max_tokens=5, temperature=0, logits_hook=lambda *each: seen.append(each))
        assert c.tokens == plain.tokens
        prompt = m.tokenize("Once upon a time")
        assert [ids for ids, _ in seen] == [[*prompt, *c.tokens[:i]] for i in range(5)]
        assert all(row.shape == (m.n_vocab,) and row.dtype == np.float32 for _, row in seen)

        def forbid(ids: list[int], row: Any) -> None:
            row[plain.tokens[0]] = -np.inf

        assert (
            plain.tokens[0]
            not in m.generate("Once upon a time", max_tokens=5, temperature=0, logits_hook=forbid).tokens
        )

        def only(ids: list[int], row: Any) -> Any:
            return np.where(np.arange(m.n_vocab) == 300, row.astype(np.float64), -np.inf)

        forced = m.generate("Once", max_tokens=4, logits_hook=only, logprobs=1)
        assert forced.tokens == [300] * 4
        assert forced.logprobs is not None
        assert forced.logprobs[0].logprob < -1e-3, "of the model's own logits"


def test_what_a_hook_does_wrong_ends_its_own_request() -> None:
    with pyggml.load(n_ctx=128) as m:
        with pytest.raises(ArgumentError, match=r"logits_hook must give \(4096,\) logits"):
            m.generate("Once", max_tokens=3, logits_hook=lambda ids, row: row[:5])
        with pytest.raises(ZeroDivisionError):
            m.generate("Once", max_tokens=3, logits_hook=lambda ids, row: 1 // 0)
        with pytest.raises(ArgumentError, match="logits_hook"):
            m.generate("Once", logits_hook=5)
        assert m.generate("Once", max_tokens=3).tokens


@pytest.mark.parametrize("given", ["x", object(), 3j * np.ones(4096), [[1], [2, 3]]])
def test_an_answer_that_is_no_logits_is_refused(m: pyggml.Model, given: object) -> None:
    with pytest.raises(pyggml.ArgumentError, match=r"what logits_hook gives must be \(4096,\) logits, as it got, or N"):
        m.generate("Once", max_tokens=3, logits_hook=lambda ids, row: given)


def test_logits_that_overflow_are_named(m: pyggml.Model) -> None:
    with pytest.raises(pyggml.NumericError, match="logit of token"):
        m.generate("Once", max_tokens=3, logits_hook=lambda ids, row: row.astype(float) * 1e300)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_hook_that_would_end_the_thread_ends_its_own_text(m: pyggml.Model, kind: type[BaseException]) -> None:
    want = m.generate("A cat", max_tokens=20, temperature=0).text
    beside: list[str] = []
    other = threading.Thread(target=lambda: beside.append(m.generate("A cat", max_tokens=20, temperature=0).text))

    def ends(ids: list[int], row: Any) -> None:
        if len(ids) > 4:
            raise kind

    other.start()
    with pytest.raises(PyggmlError, match=f"logits_hook ended by {kind.__name__}"):
        m.generate("Once", max_tokens=9, logits_hook=ends)
    other.join()
    assert beside == [want]


def test_a_bias_that_leaves_no_token_is_blamed_itself(m: pyggml.Model) -> None:
    nothing = dict.fromkeys(range(m.n_vocab), False)
    with pytest.raises(pyggml.NumericError, match="with its bias; every weight of the model is finite, so see to"):
        m.generate("Once", max_tokens=3, logit_bias=nothing)


def test_settings_of_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "suggests.gguf"
    with pyggml.load() as model, gguf.Writer(path) as out:
        out.add_metadata(model.metadata)
        out.add("general.sampling.temp", 0.0)
        out.add("general.sampling.top_k", 7)
        for name, tensor in model.tensors.items():
            out.add_tensor(name, tensor.shape, tensor.type, tensor)
    with pyggml.load(path, n_ctx=64) as m, pyggml.load(n_ctx=64) as plain:
        assert dict(m.suggested) == {"temperature": 0.0, "top_k": 7}
        greedy = plain.generate("Once upon", max_tokens=8, temperature=0)
        assert m.generate("Once upon", max_tokens=8).tokens == greedy.tokens
        assert m.generate("Once upon", max_tokens=8, temperature=9.0, seed=1).tokens != greedy.tokens
    shown = subprocess.run(
        [sys.executable, "-m", "pyggml", "inspect", str(path)], capture_output=True, text=True, timeout=60
    )
    assert "settings of a generation" in shown.stdout
    with caplog.at_level(logging.WARNING):
        assert file_settings({"general.sampling.top_p": 7.0, "general.sampling.min_p": 0.25}) == {"min_p": 0.25}
    assert "general.sampling.top_p is passed over" in caplog.text
    sequence = {"general.sampling.sequence": "top_k;temperature", "general.sampling.penalty_last_n": 32}
    assert file_settings(sequence) == {"order": "top_k;temperature", "repeat_last_n": 32}
