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


def test_experts_are_quantized_and_routers_kept(tmp_path):
    src = tiny.write(
        tmp_path / "src.gguf", "qwen2moe", n_embd=256, n_head=8, head_dim=32, n_ff=64, n_expert=5, n_expert_used=2,
        n_ff_shared=256,
    )  # fmt: skip
    dst = tmp_path / "dst.gguf"
    kinds = {r.name: r.new for r in pyggml.quantize_file(src.path, dst, "pure:Q4_K")}
    assert kinds["blk.0.ffn_gate_exps.weight"] == kinds["blk.0.ffn_up_exps.weight"] == "q4_k"
    assert kinds["blk.0.ffn_down_exps.weight"] == "q5_0"  # rows of 64 hold no block of 256
    assert kinds["blk.0.ffn_gate_inp.weight"] == kinds["blk.1.ffn_gate_inp_shexp.weight"] == "f32"
    with pyggml.gguf.open(dst) as file:
        info = file.tensors["blk.1.ffn_up_exps.weight"]
        assert tuple(info.shape) == (5, 64, 256)
        want = pyggml.quantize(src.weights["blk.1.ffn_up_exps.weight"], "q4_k")
        assert np.array_equal(info.data, want.raw.reshape(-1))
    ids = [256, *range(40)]
    with pyggml.load(src.path, kv_type="f32") as a, pyggml.load(dst, kv_type="f32") as b:
        x, y = a.logits(ids), b.logits(ids)
        assert 0 < np.abs(x - y).max() < 0.5 * np.abs(x).max()  # two blocks of random weights: noise, not nonsense


def test_copy_changes_what_is_named(src, tmp_path):
    pyggml.quantize_file(src.path, tmp_path / "a.gguf", "q8_0")
    with pyggml.gguf.open(tmp_path / "a.gguf") as file:
        old = {name: info.type.name for name, info in file.tensors.items()}
    rows = pyggml.quantize_file(tmp_path / "a.gguf", tmp_path / "b.gguf", "copy", metadata={"general.name": "other"})
    assert all(row.new == row.old == old[row.name] for row in rows)
    with pyggml.gguf.open(tmp_path / "b.gguf") as file:
        assert (file.metadata["general.name"], file.metadata["general.file_type"]) == ("other", 7)
    rows = pyggml.quantize_file(src.path, tmp_path / "c.gguf", "COPY", rules={"attn_v": "f16"})
    assert {row.new for row in rows if "attn_v" in row.name} == {"f16"}
    assert all(row.new == row.old for row in rows if "attn_v" not in row.name)


@pytest.mark.parametrize("key", ["split.count", "split.no", "split.tensors.count", "general.alignment"])
def test_keys_that_follow_from_the_writing_are_not_set(key, src, tmp_path):
    """A whole file that says it is a part does not open."""
    for call in (pyggml.quantize_file, pyggml.convert):
        with pytest.raises(pyggml.ArgumentError, match=f"metadata: {key} follows from how the file is written"):
            call(src.path, tmp_path / "dst.gguf", metadata={key: 3})
    assert not (tmp_path / "dst.gguf").exists()


def test_what_is_not_used_is_said(src, tmp_path, caplog):
    pyggml.quantize_file(src.path, "", "q4_0", text="the king", sensitivity=tmp_path / "none.json", dry_run=True)
    assert [r.getMessage().split()[0] for r in caplog.records if "is not used" in r.message] == ["text", "sensitivity"]


def test_the_type_of_a_file_is_a_number(src, tmp_path):
    with pytest.raises(pyggml.GGUFError, match=r"'general.file_type' is 'mostly', expected an integer"):
        pyggml.quantize_file(src.path, tmp_path / "dst.gguf", "q4_0", metadata={"general.file_type": "mostly"})


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


@pytest.mark.parametrize("old", ["Q4_K_M", "pure:q8_0", "pure:iq2_s", "pure:mxfp4"])
@pytest.mark.parametrize("new", ["pure:f32", "F32", "pure:bf16", "BF16", "pure:f16", "W16A32"])
def test_quantized_weights_become_floats_again(src, tmp_path, old, new):
    a, b = tmp_path / "a.gguf", tmp_path / "b.gguf"
    pyggml.quantize_file(src.path, a, old)
    rows = pyggml.quantize_file(a, b, new)
    kind = pyggml.QuantType.parse("f16" if new == "W16A32" else new.rpartition(":")[2])
    assert {row.new for row in rows if "attn_q.weight" in row.name} == {kind.name}
    with pyggml.gguf.open(a) as before, pyggml.gguf.open(b) as after:
        for name, info in after.tensors.items():
            assert not info.type.is_block
            values = pyggml.Tensor(before.tensors[name].data, before.tensors[name].type, info.shape).dequantize()
            assert np.array_equal(info.data, pyggml.quantize(values, info.type).raw.reshape(-1))
            if info.type.name == "f32":
                assert np.array_equal(info.data.view("<f4"), values.reshape(-1))


def test_a_part_of_a_quantized_file_becomes_floats(src, tmp_path):
    pyggml.quantize_file(src.path, tmp_path / "a.gguf", "Q8_0")
    parts = pyggml.split_file(tmp_path / "a.gguf", tmp_path / "p", max_tensors=5)
    rows = pyggml.quantize_file(
        parts[1], tmp_path / "b.gguf", "COPY", rules={"attn_v": "f32"}, keep={"ffn_up": "bf16"}, embedding_type="f16"
    )
    kinds = {row.name: row.new for row in rows}
    assert (kinds["blk.0.attn_v.weight"], kinds["blk.1.ffn_up.weight"]) == ("f32", "bf16")
    assert (kinds["blk.0.attn_q.weight"], kinds["blk.0.ffn_down.weight"]) == ("q8_0", "q8_0")
    with pyggml.gguf.open(tmp_path / "a.gguf") as a, pyggml.gguf.open(tmp_path / "b.gguf") as b:
        name = "blk.1.attn_v.weight"
        info = a.tensors[name]
        want = pyggml.Tensor(info.data, info.type, info.shape).dequantize()
        assert np.array_equal(b.tensors[name].data.view("<f4"), want.reshape(-1))
    with pytest.raises(pyggml.ArgumentError, match="allow_requantize"):
        pyggml.quantize_file(parts[0], tmp_path / "c.gguf", "W4A16")


@pytest.mark.parametrize(
    ("value", "recipe", "said"),
    [
        (70000, "F16", "65504 that f16 surely holds; use bf16 or f32"),
        (-70000, "pure:f16", "65504 that f16 surely holds; use bf16 or f32"),
        (3.4e38, "BF16", "bf16 surely holds; use f32"),
        (1e7, "Q8_0", "8319008 that q8_0 surely holds"),
        (1e30, "Q4_K_M", "q4_k surely holds"),
        (np.nan, "Q8_0", "is nan, expected a finite number"),
        (np.inf, "F16", "is inf, expected a finite number"),
        (-np.inf, "pure:bf16", "is -inf, expected a finite number"),
    ],
)
def test_values_that_a_type_cannot_hold(src, tmp_path, value, recipe, said):
    raw = bytearray(src.path.read_bytes())
    with pyggml.gguf.open(src.path) as file:
        info = file.tensors["blk.1.attn_q.weight"]
        at = info.offset + 4 * (3 * 256 + 5)
    raw[at : at + 4] = np.float32(value).tobytes()
    src.path.write_bytes(raw)
    dst = tmp_path / "d.gguf"
    with pytest.raises(
        pyggml.NumericError, match=r"tensor 'blk\.1\.attn_q\.weight' of type f32.* row 3, column 5 "
    ) as e:
        pyggml.quantize_file(src.path, dst, recipe)
    assert said in str(e.value)
    assert not dst.exists()
    pyggml.quantize_file(src.path, dst, "COPY")  # what is copied stays what it was
    with pyggml.gguf.open(dst) as file:
        assert np.array_equal(
            file.tensors["blk.1.attn_q.weight"].data.view("<f4")[3 * 256 + 5], np.float32(value), equal_nan=True
        )


def test_a_sum_of_costs_leaves_out_types_that_cannot_hold_a_tensor(tmp_path):
    src = tiny.write(tmp_path / "s.gguf", n_embd=64, n_head=2, head_dim=32, n_ff=64)
    raw = bytearray(src.path.read_bytes())
    with pyggml.gguf.open(src.path) as file:
        at = file.tensors["blk.0.ffn_up.weight"].offset
    raw[at : at + 4] = np.float32(70000).tobytes()
    src.path.write_bytes(raw)
    with pyggml.load(src.path) as m:
        costs = pyggml.sensitivity(m, list(range(60)), types=["q8_0", "q4_1", "f16"], near=8.5, n_ctx=16)
    assert set(costs.tensors["blk.0.ffn_up.weight"].error) == {"q8_0"}
    assert set(costs.tensors["blk.0.ffn_down.weight"].error) == {"q8_0", "q4_1", "f16"}


def test_a_file_is_replaced_whole_or_not_at_all(src, tmp_path):
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
    with pytest.raises(pyggml.ArgumentError, match=r"src\.gguf' would replace .*src\.gguf', which is read"):
        pyggml.quantize_file(src.path, src.path, "pure:q8_0")
    assert src.path.read_bytes() == before
    good = tiny.write(tmp_path / "bad.gguf", n_embd=256, n_head=8, head_dim=32, n_ff=256)
    pyggml.quantize_file(good.path, src.path, "pure:q8_0")
    with pyggml.gguf.open(src.path) as file:
        assert file.tensors["blk.0.attn_q.weight"].type.name == "q8_0"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.gguf", "src.gguf"]


@pytest.mark.parametrize("recipe", ["Q4_K_X", "pure:", "pure:i32", "nonsense", "pure:q8_k"])
def test_recipes_that_are_not_there(src, tmp_path, recipe):
    with pytest.raises(pyggml.PyggmlError):
        pyggml.quantize_file(src.path, tmp_path / "d.gguf", recipe)


def test_a_mix_with_options(src, tmp_path):
    dst = tmp_path / "d.gguf"
    rows = pyggml.quantize_file(
        src.path, dst, "q4_k_m", output_type="Q8_0", keep={"layer_norm": "F16"}, rules={"attention_key": "q5_0"},
        metadata={"general.name": "other", "llama.rope.freq_base": 20000.0, "tokenizer.ggml.add_bos_token": None},
    )  # fmt: skip
    kinds = {r.name: r.new for r in rows}
    assert kinds["token_embd.weight"] == "q8_0"  # tied: the embedding is the output
    assert kinds["blk.0.attn_norm.weight"] == "f16"
    assert kinds["blk.1.attn_k.weight"] == "q5_0"
    assert kinds["blk.1.attn_v.weight"] == "q6_k"
    assert next(r.why for r in rows if r.name == "blk.1.ffn_down.weight") == "rows of 320 do not fit q6_k"
    with pyggml.gguf.open(dst) as file:
        assert {n: t.type.name for n, t in file.tensors.items()} == kinds
        assert file.metadata["general.file_type"] == 15
        assert file.metadata["general.name"] == "other"
        assert file.metadata.type_of("llama.rope.freq_base") == "f32"
        assert file.metadata["llama.rope.freq_base"] == 20000.0
        assert "tokenizer.ggml.add_bos_token" not in file.metadata


def test_importance_is_per_column_and_per_expert(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 64)).astype(np.float32)
    src, dst = tmp_path / "s.gguf", tmp_path / "d.gguf"
    with pyggml.gguf.Writer(src) as out:
        out.add("general.architecture", "llama")
        out.add_tensor("blk.0.ffn_up_exps.weight", x.shape, "f32", x)
    weights = rng.uniform(0.01, 4, (3, 64)).astype(np.float32)
    pyggml.quantize_file(src, dst, "pure:q4_1", imatrix={"blk.0.ffn_up_exps.weight": weights})
    with pyggml.gguf.open(dst) as file:
        got = file.tensors["blk.0.ffn_up_exps.weight"].data.reshape(3, -1)
    for e in range(3):
        want = pyggml.quantize(x[e], "q4_1", importance=weights[e]).raw
        assert np.array_equal(got[e], want.reshape(-1))
    assert not np.array_equal(got[0], pyggml.quantize(x[0], "q4_1").raw.reshape(-1))
    with pytest.raises(pyggml.ArgumentError, match="192 values, got 65"):
        pyggml.quantize_file(src, dst, "pure:q4_1", imatrix={"blk.0.ffn_up_exps.weight": np.ones(65)})
    with pytest.raises(pyggml.ArgumentError, match="finite"):
        pyggml.quantize_file(src, dst, "pure:q4_1", imatrix={"blk.0.ffn_up_exps.weight": np.full(64, np.nan)})
    with pytest.raises(pyggml.ArgumentError, match="another model"):
        pyggml.quantize_file(src, dst, "pure:q4_1", imatrix={"blk.9.x.weight": np.ones(64)})
