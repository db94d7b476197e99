"""The command line as a user meets it: text to stdout, the rest to stderr, errors in one line."""

import json
import math
import os
import subprocess
import sys

import pytest
from converters import checkpoint
from model import tiny
from typer.main import get_command

import pyggml
from pyggml.cli.app import app


def cli(*args, stdin="", timeout=60):
    return subprocess.run(
        [sys.executable, "-m", "pyggml", *map(str, args)], input=stdin, capture_output=True, text=True, timeout=timeout,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "160"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    return tiny.write(tmp_path_factory.mktemp("cli") / "x.gguf", extra={"tokenizer.chat_template": template}).path


def test_run_without_a_path_tells_a_story_and_says_so_once():
    done = cli("run", "Once upon a time", "--max-tokens", 20, "--seed", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Once upon a time")
    assert len(done.stdout) > 40
    assert done.stderr.count("bundled") == 1
    assert cli("run", "Once upon a time", "--max-tokens", 20, "--seed", 1).stdout == done.stdout


def test_run_reads_stdin_and_shows_stats(path):
    done = cli("run", path, "--max-tokens", 3, "--temperature", 0, "--stats", stdin="abc")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("abc")
    assert "tokens/s" in done.stderr
    assert "bundled" not in done.stderr


def test_inspect(path):
    done = cli("inspect", path)
    assert done.returncode == 0, done.stderr
    for word in ("general.architecture", "llama", "blk.0.attn_q.weight", "f32", "Q8_0", "Q4_0", "F16", "per layer"):
        assert word in done.stdout, word
    facts = json.loads(cli("inspect", path, "--json").stdout)
    assert facts["tensors"]["blk.0.attn_q.weight"]["shape"] == [64, 64]
    assert facts["parameters"]["total"] == sum(math.prod(t["shape"]) for t in facts["tensors"].values())
    assert facts["metadata"]["llama.block_count"] == 2
    assert facts["tensors"]["blk.0.attn_q.weight"]["computed"] == "W32A32"


def test_info():
    assert "isa" in cli("info").stdout
    facts = json.loads(cli("info", "--json").stdout)
    assert facts["isa"] in facts["isa_levels"]
    assert "q4_k" in facts["types"]


def test_formats():
    everything = json.loads(cli("formats", "--json").stdout)
    assert [f["name"] for f in everything] == [f.name for f in pyggml.formats()]
    some = cli("formats", "NF4", "q4_k")
    assert some.returncode == 0, some.stderr
    head, q4_k, nf4 = some.stdout.splitlines()
    assert "s/e/m" in head
    assert q4_k.split()[0] == "q4_k"
    assert "4.5" in q4_k.split()
    assert nf4.split()[0] == "nf4"
    bf16 = json.loads(cli("formats", "bf16", "--json").stdout)
    assert [(f["exponent"], f["mantissa"], f["sign"], f["block"]) for f in bf16] == [(8, 7, True, 1)]
    bad = cli("formats", "q4")
    assert bad.returncode == 1
    assert "'q4'" in bad.stderr
    assert not bad.stdout


def test_tokenize(path):
    assert json.loads(cli("tokenize", path, "the a", "--json").stdout) == [256, 259, 32, 97]
    assert "'the'" in cli("tokenize", path, "the a").stdout


def test_perplexity(path, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("the king and the fox " * 30)
    done = cli("perplexity", path, text, "--ctx", 64)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 1


def test_quantize(path, tmp_path):
    done = cli("quantize", path, tmp_path / "q.gguf", "pure:q8_0")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "q.gguf").exists()
    assert "->" in cli("quantize", path, tmp_path / "n.gguf", "pure:q8_0", "--dry-run").stdout
    assert not (tmp_path / "n.gguf").exists()


def test_bench():
    done = cli("bench", "--prompt", 16, "--generate", 4, "--repeat", 1, "--profile")
    assert done.returncode == 0, done.stderr
    assert "matmul" in done.stdout
    facts = json.loads(cli("bench", "--prompt", 16, "--generate", 4, "--repeat", 2, "--json").stdout)
    assert len(facts["prompt_per_second"]) == 2
    more = ("--depth", 32, "--batch", 3)
    facts = json.loads(cli("bench", "--prompt", 16, "--generate", 4, "--repeat", 1, "--json", *more).stdout)
    assert (facts["depth"], facts["batch"], len(facts["batch_per_second"])) == (32, 3, 1)
    assert "do not fit" in cli("bench", "--prompt", 16, "--depth", 100000).stderr
    assert "do not fit" in cli("bench", "--prompt", 100000).stderr  # never fewer than were asked for


def test_chat_remembers(path):
    done = cli("chat", path, "--max-tokens", 4, "--seed", 1, stdin="hello\nagain\n/reset\n/exit\n")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["run", "no.gguf", "x"], "no.gguf"),
        (["chat"], "story teller"),
        (["inspect", os.devnull], "null"),
        (["perplexity", "no.gguf", "no.txt"], "no.txt"),
        (["run", "a", "b"], "gguf"),
        (["run", "x", "--temperature", "-3"], "temperature"),
    ],
)
def test_errors_are_one_line(args, text):
    done = cli(*args)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_version_and_help():
    assert cli("--version").stdout.strip()
    assert "quantize" in cli("--help").stdout


def test_convert(tmp_path):
    src = checkpoint.folder(tmp_path / "src")
    checkpoint.safetensors(src / "model.safetensors", checkpoint.tensors())
    done = cli("convert", src, tmp_path / "x.gguf", "--dtype", "F16")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("llama: 21 tensors")
    assert cli("tokenize", tmp_path / "x.gguf", "the", "--json").stdout.strip() == "[259, 257]"
    assert f"pyggml can run it: pyggml run {tmp_path / 'x.gguf'}" in done.stdout
    bad = cli("convert", tmp_path / "nothing", tmp_path / "y.gguf")
    assert bad.returncode != 0
    assert "no model" in bad.stderr


@pytest.mark.parametrize("command", [c.name or c.callback.__name__ for c in app.registered_commands])
def test_help_has_an_example_that_parses(command):
    done = cli(command, "--help")
    assert done.returncode == 0
    examples = [line.split() for line in done.stdout.splitlines() if line.split()[:2] == ["pyggml", command]]
    assert examples, done.stdout
    known = {option for p in get_command(app).commands[command].params for option in p.opts}
    for example in examples:
        assert {word for word in example if word.startswith("-")} <= known
