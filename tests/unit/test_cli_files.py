"""What commands leave behind when they are stopped, when the disk is full, and where nothing can be written."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from converters import checkpoint
from model import tiny

import pyggml

resource = pytest.importorskip("resource")  # limits and signals as POSIX has them

TEXT = "Once upon a time there was a king who had three sons and a horse. " * 4
SLOW = """
import contextlib, os, sys, time
from pyggml.cli import main, show
count = [0]
@contextlib.contextmanager
def slow(what):
    def tick(done, total):
        count[0] += 1
        if count[0] == int(os.environ["TICKS"]):
            print("now", flush=True)
            time.sleep(60)
    yield tick
show.progress = slow
main()
"""
"""The command line, but standing still at a call of the progress bar."""

COMMANDS = {
    "quantize": ("quantize x.gguf new/out.gguf q4_0", 5),
    "convert": ("convert hf new/out.gguf", 5),
    "convert and quantize": ("convert hf new/out.gguf --quantize q8_0", 26),
    "to safetensors": ("convert x.gguf new/folder/deep", 5),
    "split": ("split x.gguf new/part --max-tensors 4", 14),
    "merge": ("merge part-00001-of-00008.gguf new/out.gguf", 5),
    "imatrix": ("imatrix x.gguf --text t.txt -o new/im.gguf -c 16", 2),
    "sensitivity": ("sensitivity x.gguf --text t.txt -o new/s.json -c 16 --types q4_0", 2),
    "report": ("report x.gguf --text t.txt -o new/r.html -c 16 --recipes Q4_0,Q8_0", 1),
    "target": ("quantize x.gguf new/out.gguf --target-bpw 6 --text t.txt", 2),
}
WRITING = ("quantize", "convert", "to safetensors", "split", "merge")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    tiny.write(folder / "x.gguf", n_embd=64, n_head=2, head_dim=32, n_ff=128, n_layer=3)
    assert len(pyggml.split_file(folder / "x.gguf", folder / "part", max_tensors=4)) == 8
    checkpoint.safetensors(checkpoint.folder(folder / "hf") / "model.safetensors", checkpoint.tensors())
    (folder / "t.txt").write_text(TEXT)
    return folder


def environment(place, **more):
    paths = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    own = {"PYTHONPATH": os.pathsep.join(paths), "NO_COLOR": "1", "COLUMNS": "160", "TMPDIR": str(place / "new")}
    return {**os.environ, **own, **more}


@pytest.fixture
def new(place):
    (place / "new").mkdir()
    yield place / "new"
    shutil.rmtree(place / "new")


@pytest.mark.parametrize(
    ("name", "number"),
    [*((name, signal.SIGTERM) for name in COMMANDS), *((name, signal.SIGINT) for name in WRITING)],
)
def test_a_stopped_command_leaves_nothing(place, new, name, number):
    if name == "report":
        pytest.importorskip("matplotlib")
    words, ticks = COMMANDS[name]
    there = []
    if name in ("quantize", "convert", "merge"):
        (new / "out.gguf").write_bytes(b"what was there")
        there = ["out.gguf"]
    task = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words.split()], cwd=place, env=environment(place, TICKS=str(ticks)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        if task.stdout.readline() != "now\n":
            raise AssertionError(task.communicate(timeout=60)[1])
        assert name in ("imatrix", "sensitivity", "target") or len(list(new.iterdir())) > len(there)
        task.send_signal(number)
        _, err = task.communicate(timeout=60)
    finally:
        task.kill()
    assert task.returncode == 128 + number, err
    assert "Traceback" not in err
    assert [p.name for p in new.iterdir()] == there
    assert all(p.read_bytes() == b"what was there" for p in new.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        *(words for words, _ in COMMANDS.values()),
        "perplexity x.gguf t.txt -c 16",
        "compare x.gguf x.gguf --text t.txt -c 16",
        "bench x.gguf -p 8 -n 2 -r 1",
    ],
)
def test_a_bar_on_a_terminal_and_silence_elsewhere(place, new, words):
    pty = pytest.importorskip("pty")
    if words.startswith("report"):
        pytest.importorskip("matplotlib")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pyggml", *words.split()]
    task = subprocess.Popen(
        command, cwd=place, env=environment(place, TERM="xterm"), stderr=theirs, stdout=subprocess.DEVNULL
    )
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # how a terminal says that all is read
        while more := os.read(ours, 1 << 16):
            drawn += more
    os.close(ours)
    assert task.wait(timeout=60) == 0, drawn
    assert "100%" in drawn.decode()
    shutil.rmtree(new)
    new.mkdir()
    done = run(place, words)
    assert (done.returncode, done.stderr) == (0, "")


def run(place, words, limit=None, slow=False):
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, *(["-c", SLOW] if slow else ["-m", "pyggml"]), *words.split()], cwd=place,
        env=environment(place, TICKS="1"), capture_output=True, text=True, timeout=30,
        preexec_fn=small if limit else None,
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("report", "target")])
def test_a_full_disk_is_one_line(place, new, name):
    limit = 1000 if name in ("imatrix", "sensitivity") else 20_000
    done = run(place, COMMANDS[name][0], limit)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "cannot be written: File too large" in done.stderr
    assert list(new.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_that_is_not_there(place, new, name):
    """Said before anything is measured: the bar would stand still at its first step."""
    if name == "report":
        pytest.importorskip("matplotlib")
    words = COMMANDS[name][0].replace("new/", "new/" if name == "to safetensors" else "nowhere/")
    if name == "to safetensors":
        (new / "folder").write_text("a file")
    done = run(place, words, slow=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "folder" in done.stderr or "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "nowhere").exists()


@pytest.mark.parametrize(
    "words",
    [
        "imatrix x.gguf --text t.txt -o x.gguf",
        "imatrix x.gguf --text t.txt -o t.txt",
        "sensitivity x.gguf -o x.gguf",
        "report x.gguf --text r.html -o r.html",
        "quantize x.gguf new/out.gguf q4_0 --save-recipe x.gguf",
        "quantize part-00001-of-00008.gguf part-00002-of-00008.gguf q4_0",
        "merge part-00001-of-00008.gguf part-00002-of-00008.gguf",
        "imatrix part-00001-of-00008.gguf --text t.txt -o part-00003-of-00008.gguf",
        "sensitivity part-00001-of-00008.gguf -o part-00003-of-00008.gguf",
        "sensitivity x.gguf --text t.txt -o hard.txt",
        "report x.gguf --text t.txt --importance r.html -o r.html",
        "quantize x.gguf x.gguf q4_0",
        "quantize x.gguf link.gguf q4_0",
        "quantize x.gguf new/../x.gguf q4_0",
        "quantize x.gguf im.gguf q4_0 --imatrix im.gguf",
        "quantize x.gguf r.toml --recipe r.toml",
        "quantize x.gguf types.txt q4_0 --tensor-type-file types.txt",
        "quantize x.gguf t.txt --target-bpw 6 --text t.txt",
        "quantize x.gguf new/out.gguf q4_0 --tensor-type-file types.txt --save-recipe types.txt",
        "quantize part-00001-of-00008.gguf new/out.gguf q4_0 --save-recipe part-00002-of-00008.gguf",
        "split part-00001-of-00008.gguf part --max-tensors 4",
        "convert hf/model.safetensors hf/model.safetensors",
        "convert hf/model.safetensors hf/config.json",
        "convert hf hf/model.safetensors",
        "convert hf hf/config.json",
        "convert hf hf/tokenizer.json --quantize q8_0",
        "convert hf hf/tokenizer_config.json",
        "convert hf hf/1_Pooling/config.json",
        "convert hf hf/merges.txt",
        "convert hf hard.json",
        "convert hf hf/link.json",
        "convert x.gguf st",
    ],
)
def test_what_is_read_is_not_replaced(place, new, words):
    if words.startswith("report"):
        pytest.importorskip("matplotlib")
        (place / "r.html").write_text(TEXT)
    if not (place / "im.gguf").exists():
        pyggml.Imatrix({"output.weight": np.ones((1, 64))}, {"output.weight": np.ones(1)}).save(place / "im.gguf")
        (place / "r.toml").write_text('base = "Q4_0"\n')
        (place / "types.txt").write_text("ffn_down=q8_0\n")
        (place / "link.gguf").symlink_to("x.gguf")
        (place / "hf" / "1_Pooling").mkdir()
        (place / "hf" / "1_Pooling" / "config.json").write_text("{}")
        (place / "st").mkdir()
        (place / "st" / "model.safetensors").symlink_to(place / "x.gguf")
        (place / "hf" / "link.json").symlink_to(place / "hf" / "config.json")
        os.link(place / "t.txt", place / "hard.txt")
        os.link(place / "hf" / "config.json", place / "hard.json")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    done = run(place, words)
    assert done.returncode == 1, done.stdout
    assert "another name" in done.stderr
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
