"""quantize_file: which tensor becomes what, the bytes it writes, and what it refuses."""

import numpy as np
import pytest
from model import tiny

import pyggml


@pytest.fixture
def src(tmp_path):
    return tiny.write(tmp_path / "src.gguf", n_embd=256, n_head=8, head_dim=32, n_ff=320, tied=True)


def test_pure_puts_every_matrix_into_one_type(src, tmp_path):
    dst = tmp_path / "dst.gguf"
    rows = pyggml.quantize_file(src.path, dst, "pure:Q4_K")
    kinds = {r.name: r.new for r in rows}
    assert kinds["blk.0.attn_q.weight"] == "q4_k"
    assert kinds["token_embd.weight"] == "q4_k"
    assert kinds["blk.0.ffn_down.weight"] == "q5_0"  # rows of 320 hold no block of 256
    assert kinds["blk.0.attn_norm.weight"] == "f32"
    with pyggml.gguf.open(dst) as file:
        assert {n: t.type.name for n, t in file.tensors.items()} == kinds
        assert file.metadata["general.file_type"] == 15
        assert file.metadata["general.quantization_version"] == 2
        assert list(file.metadata["tokenizer.ggml.tokens"])[:256] == tiny.byte_tokens()
        info = file.tensors["blk.1.ffn_up.weight"]
        want = pyggml.quantize(src.weights["blk.1.ffn_up.weight"], "q4_k")
        assert np.array_equal(info.data, want.raw.reshape(-1))
    with pyggml.load(dst) as m:
        assert len(m.generate([256, 5], max_tokens=3, temperature=0).tokens) <= 3


def test_dry_run_writes_nothing(src, tmp_path):
    rows = pyggml.quantize_file(src.path, tmp_path / "dst.gguf", "pure:q8_0", dry_run=True)
    assert not (tmp_path / "dst.gguf").exists()
    wet = pyggml.quantize_file(src.path, tmp_path / "dst.gguf", "pure:q8_0")
    assert rows == wet
    with pyggml.gguf.open(tmp_path / "dst.gguf") as file:
        assert {r.name: r.nbytes for r in rows} == {n: t.nbytes for n, t in file.tensors.items()}


def test_rules_win_over_the_recipe(src, tmp_path):
    rows = pyggml.quantize_file(
        src.path, tmp_path / "d.gguf", "pure:q4_0", rules={r"attn_v": "q8_0", "token_embd": "F16"}
    )
    kinds = {r.name: r.new for r in rows}
    assert kinds["blk.0.attn_v.weight"] == "q8_0"
    assert kinds["token_embd.weight"] == "f16"
    assert kinds["blk.0.attn_k.weight"] == "q4_0"


def test_requantizing_needs_a_flag(src, tmp_path):
    pyggml.quantize_file(src.path, tmp_path / "a.gguf", "pure:q8_0")
    with pytest.raises(pyggml.ArgumentError, match="allow_requantize"):
        pyggml.quantize_file(tmp_path / "a.gguf", tmp_path / "b.gguf", "pure:q4_0")
    pyggml.quantize_file(tmp_path / "a.gguf", tmp_path / "b.gguf", "pure:q4_0", allow_requantize=True)


def test_a_file_may_be_rewritten_in_place_and_failure_loses_nothing(src, tmp_path):
    before = src.path.read_bytes()
    bad = tiny.write(tmp_path / "bad.gguf", n_embd=256, n_head=8, head_dim=32, n_ff=256)
    raw = bytearray(bad.path.read_bytes())
    with pyggml.gguf.open(bad.path) as file:
        at = file.tensors["output.weight"].offset
    raw[at : at + 4] = np.float32(np.inf).tobytes()
    bad.path.write_bytes(raw)
    with pytest.raises(pyggml.NumericError, match=r"output\.weight"):
        pyggml.quantize_file(bad.path, src.path, "pure:q8_0")
    assert src.path.read_bytes() == before
    pyggml.quantize_file(src.path, src.path, "pure:q8_0")
    with pyggml.gguf.open(src.path) as file:
        assert file.tensors["blk.0.attn_q.weight"].type.name == "q8_0"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.gguf", "src.gguf"]


@pytest.mark.parametrize("recipe", ["Q4_K_M", "pure:", "nonsense", "pure:q8_k"])
def test_recipes_that_are_not_there(src, tmp_path, recipe):
    with pytest.raises(pyggml.PyggmlError):
        pyggml.quantize_file(src.path, tmp_path / "d.gguf", recipe)
