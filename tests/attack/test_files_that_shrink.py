"""Files that are cut while they are held: an error at the next touch, never a signal.

What could kill the process runs in a child, so that a failure is a failed test. Cuts within a step of a mapped model
are the one exception (see pyggml.load) and are not tried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from model import tiny

import pyggml
from pyggml import gguf
from pyggml.errors import GGUFError, PyggmlError

HELD = """
import copy, os, pickle, sys
import numpy as np
import pyggml
from pyggml import gguf

path = sys.argv[1]
model, file = pyggml.load(path), gguf.open(path)
infos = dict(file.tensors)
info = infos["output.weight"]
tensors = model.tensors
name, f32 = "blk.0.ffn_up.weight", "token_embd.weight"
fresh = {key: tensors[key] for key in tensors}
read = {key: tensors[key] for key in tensors}
for each in read.values():
    each.dequantize()
held = {
    "bytes": info.data, "part": info.data[64:], "floats": info.data[: info.nbytes // 4 * 4].view("<u4"),
    "view": memoryview(info.data), "read": info.read(32, 96), "rows": info.every(2), "numpy": read[f32].numpy(),
    "array": np.asarray(read[f32]), "raw": read[name].raw, "slice": tensors[name][1:3].raw, "row": tensors[name][3].raw,
}
want = {key: int(np.asarray(each).reshape(-1).view(np.uint8).sum()) for key, each in held.items()}
os.truncate(path, 4096)

for key, each in held.items():  # what was handed out is the user's own
    assert int(np.asarray(each).reshape(-1).view(np.uint8).sum()) == want[key], key
for key, each in read.items():
    each.dequantize(), repr(each), pickle.loads(pickle.dumps(each)).dequantize(), copy.deepcopy(each).numpy()
read[name] @ np.ones(read[name].shape[1], np.float32)

touches = {
    "info.data": lambda: info.data, "info.read": lambda: info.read(0, 32), "info.every": lambda: info.every(3),
    "read_into": lambda: info.read_into(bytearray(info.nbytes)), "dequantize": lambda: fresh[name].dequantize(),
    "numpy": lambda: fresh[f32].numpy(), "asarray": lambda: np.asarray(fresh[f32]), "raw": lambda: fresh[name].raw,
    "product": lambda: fresh[name] @ np.ones(fresh[name].shape[1], np.float32), "row": lambda: fresh[name][0],
    "rows": lambda: fresh[name][1:3], "other rows": lambda: fresh[name][::2],
    "pickle": lambda: pickle.dumps(fresh[name]),
    "copy": lambda: copy.deepcopy(fresh[name]), "torch": lambda: fresh[name].__array__(np.float32),
    "metadata": lambda: file.metadata["tokenizer.ggml.tokens"], "raw_strings": lambda: file.metadata.raw_strings(
    "tokenizer.ggml.merges"), "raw metadata": lambda: file.metadata.raw("llama.block_count"),
    "all metadata": lambda: dict(file.metadata),
    "all tensors": lambda: [each.dequantize() for each in tensors.values()],
    "logits": lambda: model.logits([1, 2]), "generate": lambda: model.generate([1, 2], max_tokens=2),
    "stream": lambda: list(model.stream([1, 2], max_tokens=2)), "score": lambda: model.score([1, 2, 3]),
    "session": lambda: model.session().step([1, 2]), "check": file.check_unchanged, "load": lambda: pyggml.load(path),
    "imatrix": lambda: pyggml.imatrix(model, [1, 2, 3, 4, 5, 6, 7, 8], n_ctx=8),
}
for key, touch in touches.items():
    try:
        touch()
    except pyggml.GGUFError as error:
        assert path in str(error), (key, error)
    else:
        raise AssertionError(f"{key}: no error")
repr(fresh[name]), repr(info), repr(file), repr(tensors), len(fresh[name]), model.memory(), list(tensors)
model.close(), file.close()
print("alive")
"""


def test_nothing_held_over_a_cut_kills(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "x.gguf", type="q8_0", n_vocab=2048).path
    code = textwrap.dedent(HELD)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), (done.returncode, done.stderr[-2000:])


def _quantize(src: Path, dst: Path, cut: Callable[..., None]) -> object:
    return pyggml.quantize_file(src, dst, "q8_0", progress=cut)


def _split(src: Path, dst: Path, cut: Callable[..., None]) -> object:
    return pyggml.split_file(src, dst, max_tensors=3, progress=cut)


def _merge(src: Path, dst: Path, cut: Callable[..., None]) -> object:
    parts = pyggml.split_file(src, src.parent / "part", max_tensors=3)
    shutil.copyfile(parts[-1], src)  # what cut() cuts
    os.replace(src, parts[-1])
    os.symlink(parts[-1], src)
    return pyggml.merge_file(parts[0], dst, progress=cut)


def _copying_load(src: Path, dst: Path, cut: Callable[..., None]) -> object:
    return pyggml.load(src, mmap=False, progress=cut)


WRITERS = {"quantize": _quantize, "split": _split, "merge": _merge, "load": _copying_load}


@pytest.mark.parametrize("how", ["cut", "rewritten"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_source_that_changes_while_it_is_read(tmp_path: Path, name: str, how: str) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir(), out.mkdir()
    src = tiny.write(folder / "x.gguf").path

    def cut(done: int, total: int) -> None:
        if how == "cut":
            os.truncate(src, 2048)
        else:
            os.utime(src, ns=(0, 0))

    with pytest.raises(GGUFError, match=r"changed after it was opened|ended at byte"):
        WRITERS[name](src, out / "y", cut)
    assert not list(out.iterdir())


def test_the_tensors_of_a_model_are_read_when_they_are_used(tmp_path: Path) -> None:
    made = tiny.write(tmp_path / "x.gguf")
    with pyggml.load(made.path) as m:
        assert set(m.tensors) == set(made.weights)
        assert "nothing" not in m.tensors
        assert len(m.tensors) == len(made.weights)
        for name, t in m.tensors.items():
            assert np.array_equal(t.dequantize(), made.weights[name])
            assert t.raw is t.raw
        rows = m.tensors["token_embd.weight"]
        for part in (
            slice(3, 7),
            slice(-2, None),
            slice(None, None, 3),
            slice(5, 2),
            slice(8, 2, -2),
            0,
            -1,
            np.int64(4),
        ):
            assert np.array_equal(m.tensors["token_embd.weight"][part].dequantize(), rows.dequantize()[part])
        with pytest.raises(PyggmlError, match="outside"):
            m.tensors["token_embd.weight"][260]
        late = m.tensors["output.weight"]
    with pytest.raises(GGUFError, match="is closed"):
        late.numpy()
    assert np.array_equal(rows.numpy(), made.weights["token_embd.weight"])


def test_parts_of_a_tensor(tmp_path: Path) -> None:
    with gguf.open(tiny.write(tmp_path / "x.gguf", type="q4_0").path) as file:
        info = file.tensors["blk.0.ffn_down.weight"]
        whole = info.data
        assert np.array_equal(info.read(), whole)
        assert np.array_equal(info.read(7, 99), whole[7:99])
        assert info.read(5, 5).size == 0
        for step in (1, 2, 3, 64, 1000):
            assert np.array_equal(info.every(step), whole.reshape(64, -1)[::step])
        for start, stop in ((-1, 5), (5, 4), (0, info.nbytes + 1)):
            with pytest.raises(PyggmlError, match=f"has {info.nbytes} bytes|whole number from 0"):
                info.read(start, stop)
        info.read()[:] = 0  # its own: nothing of the file
        assert np.array_equal(info.data, whole)
