"""What mypy sees of the public calls: Completion, list and Stream, never Any; a misspelled setting is an error."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyggml

SNIPPET = """
import numpy as np
import pyggml

m = pyggml.load("x.gguf", n_ctx=64)
ids = np.array([1, 2])
flag = bool(input())
messages = [{"role": "user", "content": "hi"}]
reveal_type(m)  # pyggml.model.Model
reveal_type(m.generate("a"))  # Completion
reveal_type(m.generate([1, 2], max_tokens=5, stop=None))  # Completion
reveal_type(m.generate(ids, seed=None))  # Completion
reveal_type(m.generate(["a", "b"], temperature=0))  # list[pyggml.completion.Completion]
reveal_type(m.generate([[1], "b"]))  # list[pyggml.completion.Completion]
reveal_type(m.generate("a") + "b")  # str
reveal_type(m.stream("a", logprobs=3))  # pyggml.engine.stream.Stream
reveal_type(m.chat(messages))  # Completion
reveal_type(m.chat(messages, stream=False, enable_thinking=True))  # Completion
reveal_type(m.chat(messages, stream=True, max_tokens=None))  # pyggml.engine.stream.Stream
reveal_type(m.chat(messages, stream=flag))  # Completion | pyggml.engine.stream.Stream
reveal_type(m.metadata["k"])  # bool | int | float | str | numpy.ndarray | list
reveal_type(pyggml.gguf.open("x").metadata["k"])  # bool | int | float | str | numpy.ndarray | list
reveal_type(pyggml.quantize(np.zeros(32), "q8_0")[0])  # pyggml.quant.tensor.Tensor
reveal_type(pyggml.compare("a", m, "text").kl_mean)  # float
reveal_type(pyggml.convert("a", "b"))  # pyggml.converters.convert.Converted
reveal_type(pyggml.quantize_file("a", "b"))  # pyggml.recipes.rewrite.Changes
reveal_type(m.embed("a").ndim)  # int
reveal_type(m.embed(["a"], pooling="none").count)  # def (numpy.ndarray
reveal_type(pyggml.numeric.encode(np.zeros(32), "nf4"))  # pyggml.numeric.coded.Coded
m.generate("a", max_token=5)  # error
m.generate("a", temperature="hot")  # error
m.chat(messages, max_token=5)  # error
pyggml.load("x", n_gpu_layers=1)  # error
"""


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="NO MYPY: pip install 'pyggml[dev]'")
def test_mypy_sees_what_calls_give(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPET)
    where = {**os.environ, "MYPYPATH": str(Path(next(iter(pyggml.__path__))).parent)}
    got = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--follow-imports=silent", "snippet.py"],
        cwd=tmp_path, env=where, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    said: dict[int, str] = {}
    for number, kind, text in re.findall(r"snippet\.py:(\d+): (note|error): (.*)", got.stdout):
        said.setdefault(int(number), f"{kind}: {text}")
    wrong = []
    for number, line in enumerate(SNIPPET.splitlines(), 1):
        _, mark, wanted = line.partition("  # ")
        found = said.pop(number, "")
        seen = re.sub(r"\[tuple\[Any, \.\.\.\], [^|]*\]\]|\[Any\]", "", found)
        right = found.startswith("error") if wanted == "error" else all(part in seen for part in wanted.split(" | "))
        if mark and (not right or (wanted != "error" and '"Any"' in found)):
            wrong.append(f"{line.strip()}\n    {found}")
    assert not wrong, "\n".join(wrong) + got.stdout + got.stderr
    assert not said
