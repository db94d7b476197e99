"""quantize, split and merge as a user meets them: spellings, tables, and no partial file when interrupted."""

import os
import subprocess
import sys

import numpy as np
import pytest
from model import tiny
from typer.testing import CliRunner

import pyggml
from pyggml.cli.app import app

ENV = {**os.environ, "NO_COLOR": "1", "COLUMNS": "160"}


def cli(*args):
    return subprocess.run(
        [sys.executable, "-m", "pyggml", *map(str, args)], capture_output=True, text=True, timeout=60, env=ENV
    )


@pytest.fixture(scope="module")
def src(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return tiny.write(folder / "x.gguf", n_embd=256, n_head=8, head_dim=32, n_ff=512, n_layer=3).path


def types(path):
    with pyggml.gguf.open(path) as file:
        return {name: info.type.name for name, info in file.tensors.items()}


@pytest.mark.parametrize(
    ("args", "want"),
    [
        (["q4_0"], {"blk.0.attn_q.weight": "q4_0", "output.weight": "q6_k"}),
        (["Q4_K_M", "--tensor-type", "ffn_down=q6_k"], {"blk.1.ffn_down.weight": "q6_k"}),
        (["q8_0", "--output-type", "Q4_0"], {"output.weight": "q4_0"}),
        (["q8_0", "--quantize-output", "Q4_0"], {"output.weight": "q4_0"}),
        (["q8_0", "--keep-output", "Q6_K"], {"output.weight": "q6_k"}),
        (["q8_0", "--leave-output-tensor"], {"output.weight": "f32"}),
        (["q8_0", "--token-embedding-type", "q4_K"], {"token_embd.weight": "q4_k"}),
        (["q8_0", "--embedding-type", "FP16"], {"token_embd.weight": "f16"}),
        (["q4_0", "--keep", "norm=f32", "--keep", "attention_value"], {"blk.0.attn_v.weight": "f32"}),
        (["q4_0", "--keep-norm", "FP16"], {"blk.0.attn_norm.weight": "f16"}),
        (["Q4_K_M", "--pure"], {"output.weight": "q4_k", "blk.2.attn_v.weight": "q4_k"}),
        (["pure:Q5_1"], {"output.weight": "q5_1"}),
        ([], {"blk.0.attn_q.weight": "q4_k", "output.weight": "q6_k"}),
        (["q4_0", "1"], {"blk.0.attn_q.weight": "q4_0"}),
        (["W4A16", "-T", "ffn_down=W8A8"], {"blk.0.attn_q.weight": "q4_k", "blk.0.ffn_down.weight": "q8_0"}),
        (["w4a8", "--pure", "--output-type", "w5a8"], {"output.weight": "q5_k", "blk.2.attn_v.weight": "q4_k"}),
        (["q4_0", "--tensor-type", "layer_norm=f16"], {"blk.0.attn_norm.weight": "f16", "output_norm.weight": "f16"}),
        (["q4_0", "--tensor-type", "norm=q8_0"], {"blk.0.attn_norm.weight": "f32"}),
        (["q4_0", "--tensor-type", ".*=q8_0"], {"blk.0.attn_norm.weight": "f32", "blk.0.ffn_up.weight": "q8_0"}),
        (["--strategy", "mobile", "--memory", "4GiB", "--hardware", "arm"], {"blk.0.attn_q.weight": "q4_0"}),
    ],
)
def test_spellings(src, tmp_path, args, want):
    done = CliRunner().invoke(app, ["quantize", str(src), str(tmp_path / "q.gguf"), *args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "bits per weight" in done.output
    got = types(tmp_path / "q.gguf")
    assert {name: got[name] for name in want} == want
    with pyggml.load(tmp_path / "q.gguf") as model:
        assert np.isfinite(model.logits([256, 5, 6])).all()


def test_dry_run_shows_a_table(src, tmp_path):
    done = cli("quantize", src, tmp_path / "n.gguf", "Q4_K_M", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "blk.0.attn_norm.weight" in done.stdout
    assert "q4_k" in done.stdout
    assert not (tmp_path / "n.gguf").exists()
    assert done.stdout.splitlines()[-1] == cli("quantize", src, tmp_path / "n.gguf", "Q4_K_M").stdout.splitlines()[-1]


def test_patterns_from_a_file_and_metadata(src, tmp_path):
    (tmp_path / "t.txt").write_text("ffn_gate=q5_0  # a note\nffn_up=q5_1\n")
    done = cli(
        "quantize", src, tmp_path / "q.gguf", "q4_0", "--tensor-type-file", tmp_path / "t.txt",
        "--override-kv", "general.name=str:my model", "--override-kv", "llama.rope.freq_base=float:5e5",
        "--override-kv", "tokenizer.ggml.add_bos_token=bool:false", "--override-kv", "x.y=int:-3",
        "--override-kv", "tokenizer.ggml.pre=",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    got = types(tmp_path / "q.gguf")
    assert (got["blk.1.ffn_gate.weight"], got["blk.1.ffn_up.weight"]) == ("q5_0", "q5_1")
    with pyggml.gguf.open(tmp_path / "q.gguf") as file:
        assert file.metadata["general.name"] == "my model"
        assert file.metadata["llama.rope.freq_base"] == 5e5
        assert file.metadata["tokenizer.ggml.add_bos_token"] is False
        assert file.metadata["x.y"] == -3
        assert "tokenizer.ggml.pre" not in file.metadata


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["Q4_KM"], "did you mean"),
        (["q4_0", "--tensor-type", "ffn_down"], "PATTERN=TYPE"),
        (["q4_0", "--tensor-type", "ffn_(=q8_0"], "regular expression"),
        (["q4_0", "--tensor-type", "ffn=q9"], "unknown tensor type"),
        (["q4_0", "--override-kv", "a=b"], "int:1"),
        (["q4_0", "--tensor-type-file", "no.txt"], "no.txt"),
        (["nf4"], "no GGUF type"),
        (["fp8_e4m3"], "no GGUF type"),
        (["nvfp4"], "pure:nvfp4"),
        (["W4A4"], "W4A8"),
        (["q4_0", "--strategy", "mobile"], "give one of"),
        (["--strategy", "toaster"], "mobile"),
        (["--target-bpw", "0.5"], "out of reach: between"),
        (["--target-size", "1T"], "out of reach: between"),
    ],
)
def test_errors_are_one_line(src, tmp_path, args, text):
    done = cli("quantize", src, tmp_path / "q.gguf", *args)
    assert done.returncode == 1
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_type_in_the_place_of_the_file(src, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["quantize", str(src), "Q4_K_M"])
    assert isinstance(done.exception, pyggml.ArgumentError)
    assert "before it" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_warnings_name_what_has_no_effect(src, tmp_path, caplog):
    def said(*args):
        caplog.clear()
        done = CliRunner().invoke(app, ["quantize", str(src), str(tmp_path / "q.gguf"), *args, "--dry-run"])
        assert done.exit_code == 0, done.output
        return caplog.text

    assert "'atn_q' is found in no" in said("q4_0", "-T", "atn_q=q8_0", "-T", "attn_k=q8_0", "--keep", "router")
    assert "attn_k" not in caplog.text
    assert "router" not in caplog.text
    assert "computes with them as W4A8" in said("W4A16")
    assert said("W4A8") == said("q8_0") == ""


def test_requantizing_needs_the_flag(src, tmp_path):
    assert cli("quantize", src, tmp_path / "a.gguf", "q8_0").returncode == 0
    done = cli("quantize", tmp_path / "a.gguf", tmp_path / "b.gguf", "q4_0")
    assert done.returncode == 1
    assert "--allow-requantize" in done.stderr
    done = cli("quantize", tmp_path / "a.gguf", tmp_path / "b.gguf", "--target-bpw", 5)
    assert "--allow-requantize" in done.stderr
    assert cli("quantize", tmp_path / "a.gguf", tmp_path / "b.gguf", "q4_0", "--allow-requantize").returncode == 0


def test_split_and_merge(src, tmp_path):
    done = cli("split", src, tmp_path / "p", "--max-size", "1M", "--no-tensor-first-split")
    assert done.returncode == 0, done.stderr
    parts = done.stdout.split()
    assert len(parts) > 2
    assert parts[0].endswith(f"p-00001-of-{len(parts):05d}.gguf")
    with pyggml.gguf.open(parts[1]) as file, pyggml.gguf.open(src) as whole:
        assert list(file.tensors) == list(whole.tensors)
        assert file.metadata["split.count"] == len(parts)
        assert file.metadata.type_of("split.no") == "u16"
        assert file.metadata.type_of("split.tensors.count") == "i32"
        assert min(info.part for info in file.tensors.values()) == 1
    done = cli("merge", parts[-1], tmp_path / "one.gguf")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.gguf").read_bytes() == src.read_bytes()
    assert "exists already" in cli("split", src, tmp_path / "p", "--max-size", "1M", "--metadata-alone").stderr
    assert "nothing to merge" in cli("merge", src, tmp_path / "two.gguf").stderr
    assert cli("quantize", parts[0], tmp_path / "q.gguf", "q4_0").returncode == 0
    assert types(tmp_path / "q.gguf")["blk.0.ffn_up.weight"] == "q4_0"


def test_a_failed_split_leaves_no_part(src, tmp_path):
    calls = []

    def stop(done, total):
        calls.append(done)
        if len(calls) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pyggml.split_file(src, tmp_path / "p", max_tensors=4, progress=stop)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(pyggml.ArgumentError, match="max_size"):
        pyggml.split_file(src, tmp_path / "p", max_size=0)
    parts = pyggml.split_file(src, tmp_path / "p", max_tensors=4)
    with pytest.raises(pyggml.ArgumentError, match="one of the parts"):
        pyggml.merge_file(parts[0], parts[1])


def test_help_has_examples():
    for command in ("quantize", "split", "merge"):
        assert f"pyggml {command} " in cli(command, "--help").stdout


@pytest.mark.slow
def test_llama_cpp_loads_our_parts(shared, tmp_path, llama_cpp):
    src = shared / "conformance" / "llama" / "model-f32.gguf"
    parts = pyggml.split_file(src, tmp_path / "p", max_tensors=5)
    a = llama_cpp.Llama(str(src), verbose=False, logits_all=True, n_ctx=64)
    b = llama_cpp.Llama(parts[0], verbose=False, logits_all=True, n_ctx=64)
    for m in (a, b):
        m.eval([1, 2, 3, 4])
    assert np.array_equal(a.scores[:4], b.scores[:4])
