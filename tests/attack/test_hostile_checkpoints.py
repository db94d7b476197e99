"""Sources that lie: pickles with code, cut and contradicting files, wrong configs. Always a PyggmlError that names the
problem, never a file left behind, and an existing destination keeps what it had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from converters import checkpoint

import pyggml
from pyggml import PyggmlError
from pyggml.converters import pickled, safetensors


@pytest.fixture
def src(tmp_path):
    path = checkpoint.folder(tmp_path / "src")
    checkpoint.safetensors(path / "model.safetensors", checkpoint.tensors())
    return path


def refused(src, tmp_path, match):
    dst = tmp_path / "x.gguf"
    dst.write_bytes(b"what was there")
    before = sorted(p.name for p in tmp_path.iterdir())
    begin = time.monotonic()
    with pytest.raises(PyggmlError, match=match):
        pyggml.convert(src, dst)
    assert time.monotonic() - begin < 20  # hangs are what this finds; no speed is promised
    assert dst.read_bytes() == b"what was there"
    assert sorted(p.name for p in tmp_path.iterdir()) == before


# ---- pickles ---------------------------------------------------------------------------------------------------


def bad_pickle(src, pickle: bytes):
    (src / "model.safetensors").unlink()
    checkpoint.torch_zip(src / "pytorch_model.bin", checkpoint.tensors(), pickle)


CODE = {
    "os.system": b"cos\nsystem\n(Vecho owned > owned\ntR",
    "builtins.eval": b"cbuiltins\neval\n(V1\ntR",
    "builtins.getattr": b"c__builtin__\ngetattr\n(",
    "subprocess.Popen": b"(csubprocess\nPopen\nVls\no",
    "torch.load": b"ctorch\nload\n(Vx\ntR",
    "torch.jit": b"ctorch.jit\n_unpickle\n(",
    "numpy object": b"cnumpy.core.multiarray\n_reconstruct\n(",
    "stack global": b"\x8c\x02os\x8c\x06system\x93(Vls\ntR",
    "inst": b"(Vls\nios\nsystem\n",
    "extension": b"\x82\x01",
    "persistent text": b"Pevil\n",
    "new object": b"ccollections\nOrderedDict\n)\x81",
}


@pytest.mark.parametrize("name", CODE)
def test_a_pickle_with_code_is_refused(name, src, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad_pickle(src, b"\x80\x02}(" + checkpoint._text("a") + CODE[name] + b"u.")
    refused(src, tmp_path, "refused|damaged")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("pickle", "match"),
    [
        (b"", "end|cut|damaged|no whole"),
        (b"\x80\x02}(", "cut|damaged|no whole"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02K\x01.", "expected a dict"),
        (b"\x80\x02}.", "no tensors"),
        (b"\x80\x02t.", "damaged"),
        (b"\x80\x02}q\x01h\x01s.", "damaged"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02}(" + b"(" * 100_000 + b"t" * 100_000 + b"K\x01u.", "damaged"),
        (b"\x80\x02" + b")" + b"\x85" * 200_000 + b".", "expected a dict"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "no whole|damaged|cut"),
        (b"\x80\x02X\xff\xff\xff\xffabc.", "no whole|damaged|cut"),
    ],
)
def test_a_damaged_pickle(pickle, match, src, tmp_path):
    bad_pickle(src, pickle)
    refused(src, tmp_path, match)


@pytest.mark.parametrize(
    ("shape", "stride", "count", "offset"),
    [
        ((262, 64), (64, 1), 262 * 64, 1),
        ((262, 64), (65, 1), 262 * 64, 0),
        ((262, 64), (64, 1), 262 * 64, -1),
        ((262, 64), (-64, 1), 262 * 64, 0),
        ((262, 64), (64,), 262 * 64, 0),
        ((-1, 64), (64, 1), 262 * 64, 0),
        ((2**31 - 1, 2**31 - 1, 2**31 - 1), (0, 0, 0), 262 * 64, 0),
        ((262, 64), (64, 1), 2**31 - 1, 0),
        ((262, 64), (64, 1), -1, 0),
    ],
)
def test_a_tensor_beyond_its_storage(shape, stride, count, offset, src, tmp_path):
    opcodes = checkpoint.tensor_opcodes("0", shape, stride, count, offset)
    bad_pickle(src, b"\x80\x02}(" + checkpoint._text("model.embed_tokens.weight") + opcodes + b"u.")
    refused(src, tmp_path, "tensor|storage")


def test_a_storage_that_is_missing_or_compressed(src, tmp_path):
    bad_pickle(src, None)
    with zipfile.ZipFile(src / "pytorch_model.bin") as old:
        entries = {name: old.read(name) for name in old.namelist()}
    for way in ("missing", "compressed"):
        with zipfile.ZipFile(src / "pytorch_model.bin", "w") as new:
            for name, data in entries.items():
                if name.endswith("/3") and way == "missing":
                    continue
                packed = name.endswith("/3") and way == "compressed"
                new.writestr(name, data, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
        refused(src, tmp_path, "storage")


def test_big_endian_is_named(src, tmp_path):
    bad_pickle(src, None)
    with zipfile.ZipFile(src / "pytorch_model.bin") as old:
        entries = {name: old.read(name) for name in old.namelist()}
    entries["archive/byteorder"] = b"big"
    with zipfile.ZipFile(src / "pytorch_model.bin", "w") as new:
        for name, data in entries.items():
            new.writestr(name, data)
    refused(src, tmp_path, "big-endian")


def test_a_cut_checkpoint(src, tmp_path):
    for write in (checkpoint.torch_zip, checkpoint.torch_legacy):
        write(tmp_path / "whole.bin", checkpoint.tensors())
        data = (tmp_path / "whole.bin").read_bytes()
        for length in (0, 1, 20, 100, 1000, len(data) // 2, len(data) - 1):
            (tmp_path / "cut.bin").write_bytes(data[:length])
            with pytest.raises(PyggmlError):
                pickled.read(str(tmp_path / "cut.bin"))


# ---- safetensors -----------------------------------------------------------------------------------------------


def rewrite(src, change):
    path = src / "model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + size])
    change(table)
    head = json.dumps(table).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + data[8 + size :])


NAME = "model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t[NAME].update(data_offsets=[0, 2**63]), "needs"),
        (lambda t: t[NAME].update(data_offsets=[-4, 262 * 64 * 4 - 4]), "lies at"),
        (lambda t: t[NAME].update(data_offsets=[10**9, 10**9 + 262 * 64 * 4]), "was cut"),
        (lambda t: t[NAME].update(data_offsets="x"), "offsets"),
        (lambda t: t[NAME].update(shape=[2**40, 2**40]), "larger than any file"),
        (lambda t: t[NAME].update(shape=[262, -64]), "whole numbers"),
        (lambda t: t[NAME].update(shape=[262.0, 64]), "whole numbers"),
        (lambda t: t[NAME].update(shape=[1] * 100), "shape"),
        (lambda t: t[NAME].update(dtype="F4"), "type"),
        (lambda t: t.update({NAME: 5}), "expected dtype"),
        (lambda t: t.update({"model.layers.0.self_attn.x_proj.weight": t[NAME]}), "lie over each other"),
        (lambda t: t.update({"model.layers.0.self_attn.x_proj.weight": t.pop(NAME)}), "not known"),
        (lambda t: t["lm_head.weight"].update(shape=[64, 262]), "do not fit|output"),
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "ffn_up"),
        (lambda t: t.pop("model.embed_tokens.weight"), "token_embd|tokenizer"),
    ],
)
def test_a_safetensors_header_that_lies(change, match, src, tmp_path):
    rewrite(src, change)
    refused(src, tmp_path, match)


def test_a_cut_safetensors(src, tmp_path):
    data = (src / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    for length in (0, 7, 8, 9, 8 + size - 1, 8 + size, len(data) - 1):
        (src / "model.safetensors").write_bytes(data[:length])
        with pytest.raises(PyggmlError, match=r"cut|JSON|at least"):
            safetensors.read(str(src / "model.safetensors"))
    for claim in (2**63, len(data), 10**8 + 1):
        (src / "model.safetensors").write_bytes(claim.to_bytes(8, "little") + data[8:])
        refused(src, tmp_path, "claims a table")
    (src / "model.safetensors").write_bytes((200_000).to_bytes(8, "little") + b"[" * 200_000)
    refused(src, tmp_path, "JSON")


# ---- shards, other formats, configs ----------------------------------------------------------------------------


def test_shards_that_are_not_there(src, tmp_path):
    index = src / "model.safetensors.index.json"
    os.rename(src / "model.safetensors", src / "weights.safetensors")  # a whole model would go before the index
    index.write_text(json.dumps({"weight_map": {NAME: "model-00001-of-00002.safetensors"}}))
    refused(src, tmp_path, "shard model-00001-of-00002.safetensors is missing")
    index.write_text(json.dumps({"weight_map": {"other": "weights.safetensors"}}))
    refused(src, tmp_path, "lacks 'other'")
    index.write_text(json.dumps({"weight_map": {NAME: "../../etc/passwd"}}))
    refused(src, tmp_path, "no weight file")
    index.write_text("{}")
    refused(src, tmp_path, "no weight_map")
    index.unlink()
    os.rename(src / "weights.safetensors", src / "model-00001-of-00003.safetensors")
    refused(src, tmp_path, "00002-of-00003")


LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "lama"}, "nearest known is 'llama'"),
        ({"model_type": None}, "cannot be converted"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": -64}, "hidden_size"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers"),
        ({"num_hidden_layers": 3}, "blk.2"),
        ({"num_attention_heads": 5}, "does not fit|fit together"),
        ({"num_key_value_heads": 3}, "does not fit"),
        ({"intermediate_size": 97}, "fit together"),
        ({"rms_norm_eps": "x"}, "rms_norm_eps"),
        ({"rope_scaling": {"rope_type": "warp"}}, "rope scaling"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"tie_word_embeddings": 3}, "tie_word_embeddings"),
        ({"rope_parameters": LLAMA3 | {"factor": 0}}, "factor is 0, expected"),
        ({"rope_parameters": LLAMA3 | {"low_freq_factor": 0}}, "low_freq_factor is 0, expected"),
        ({"rope_parameters": LLAMA3, "head_dim": 2**31 - 1}, "at most 65536"),
    ],
)
def test_a_wrong_config(change, match, src, tmp_path):
    (src / "config.json").write_text(json.dumps({**checkpoint.CONFIG, **change}))
    refused(src, tmp_path, match)


def test_no_model_at_all(src, tmp_path):
    for text, match in (("[", "JSON"), ("[]", "object"), ("[" * 200_000, "JSON")):
        (src / "config.json").write_text(text)
        refused(src, tmp_path, match)
    (src / "config.json").unlink()
    refused(src, tmp_path, "no config.json")
    refused(tmp_path / "nowhere", tmp_path, "no model")
    empty = tmp_path / "empty"
    checkpoint.folder(empty)
    refused(empty, tmp_path, "no weights")
    (src / "config.json").write_text(json.dumps(checkpoint.CONFIG))
    with pytest.raises(PyggmlError, match="dtype"):
        pyggml.convert(src, tmp_path / "y.gguf", dtype="i8")
    with pytest.raises(PyggmlError, match="not replaced"):
        pyggml.convert(src, tmp_path)


def test_a_tokenizer_of_another_model(src, tmp_path):
    table = checkpoint.tokenizer_json()
    table["model"]["vocab"]["zz"] = 300
    (src / "tokenizer.json").write_text(json.dumps(table))
    refused(src, tmp_path, "two models")
    for wrong, match in (({"type": "BPE"}, "vocab|merges"), ({"type": "Unigram", "vocab": []}, "Unigram")):
        (src / "tokenizer.json").write_text(json.dumps({**table, "model": wrong}))
        refused(src, tmp_path, match)


def test_values_that_sixteen_bits_cannot_hold(src, tmp_path):
    weights = checkpoint.tensors()
    for value, dtype in ((1e6, "f16"), (np.inf, "q8_0"), (np.nan, "f16")):
        weights["model.layers.0.mlp.up_proj.weight"][3, 4] = value
        checkpoint.safetensors(src / "model.safetensors", weights)
        with pytest.raises(PyggmlError, match=r"up_proj"):
            pyggml.convert(src, tmp_path / "y.gguf", dtype=dtype)
    assert [p.name for p in tmp_path.iterdir()] == ["src"]


def test_onnx_that_reaches_outside_or_was_cut(src, tmp_path):
    (src / "model.safetensors").unlink()
    for location in ("../secret", "/etc/passwd", ""):
        entries = field_pairs({"location": location, "length": "64"})
        tensor = checkpoint.onnx_tensor(NAME, np.zeros((4, 4), np.float32), False, entries + checkpoint.field(14, 1))
        (src / "model.onnx").write_bytes(checkpoint.field(7, checkpoint.field(5, tensor)))
        refused(src, tmp_path, "own folder")
    checkpoint.onnx(src / "model.onnx", checkpoint.tensors())
    (src / "weights.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.onnx'.*weights.bin' does not exist") as e:  # both by name
        pyggml.convert(src, tmp_path / "y.gguf")
    assert e.value.filename == str(src / "weights.bin")
    checkpoint.onnx(src / "model.onnx", checkpoint.tensors())
    data = (src / "model.onnx").read_bytes()
    for length in (0, 1, 5, len(data) // 2, len(data) - 1):
        (src / "model.onnx").write_bytes(data[:length])
        refused(src, tmp_path, "cut|damaged|no graph|empty")


def field_pairs(entries):
    return b"".join(
        checkpoint.field(13, checkpoint.field(1, k.encode()) + checkpoint.field(2, v.encode()))
        for k, v in entries.items()
    )


def test_npz_with_objects(src, tmp_path):
    (src / "model.safetensors").unlink()
    np.savez(src / "model.npz", **{NAME: np.array([object()], dtype=object)})
    refused(src, tmp_path, "no plain number|no whole")
    (src / "model.npz").write_bytes(b"PK\3\4 nothing")
    refused(src, tmp_path, "damaged or cut")


def test_interrupting_leaves_nothing(tmp_path):
    """Ctrl-C in the middle of writing."""
    weights = checkpoint.tensors()
    src = checkpoint.folder(tmp_path / "src")
    checkpoint.safetensors(src / "model.safetensors", weights)
    code = (
        "import pyggml, sys, time\n"
        "def slow(done, total):\n    print('x', flush=True)\n    time.sleep(5)\n"
        f"pyggml.convert({str(src)!r}, {str(tmp_path / 'x.gguf')!r}, progress=slow)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=20)
    assert child.returncode != 0
    assert [p.name for p in tmp_path.iterdir()] == ["src"]
