"""Text from files and pipes: marks and line ends are no text, a str is text and a Path a file, errors name the byte."""

from __future__ import annotations

import codecs
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from model import tiny

import pyggml
from pyggml.files import texts
from pyggml.files.texts import decode, read_text, text_of


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny.write(tmp_path_factory.mktemp("texts") / "x.gguf").path)


STORY = "Once upon a time there was a king who had three sons, and the youngest was called Jack. " * 4


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"), (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)  # fmt: skip
def test_marks_and_line_ends_are_no_text(mark: bytes, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(mark + "caf\u00e9\r\none\rtwo\n\ufeff".encode(encoding))
    assert read_text(tmp_path / "t.txt") == "caf\u00e9\none\ntwo\n\ufeff"  # a mark inside is text
    (tmp_path / "e.txt").write_bytes(mark)
    assert read_text(tmp_path / "e.txt") == ""


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"ab\xe9\n", "no UTF-8 text: byte 0xe9 at offset 2"),
        (codecs.BOM_UTF8 + b"ab\xff", "byte 0xff at offset 5"),
        (codecs.BOM_UTF16_LE + b"a\0b", "no UTF-16-LE text: byte 0x62 at offset 4"),
        ("ab".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("ab".encode("utf-16-be"), "UTF-16 without a byte order mark"),
        (b"GGUF\x03\xff", "is a GGUF file"),
    ],
)
def test_what_is_no_text(raw: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(raw)
    with pytest.raises(pyggml.ArgumentError, match=said) as caught:
        read_text(tmp_path / "t.txt")
    assert "t.txt" in str(caught.value)
    with pytest.raises(pyggml.ArgumentError, match=r"^standard input"):
        decode(raw, "standard input")


@pytest.mark.parametrize("name", ["nothing.txt", ".", "a\0b", "x" * 5000])
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(pyggml.ArgumentError, match=r"cannot be read|is no path"):
        read_text(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_pipes_are_read_to_their_end_and_nobody_waits_for_nobody(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(pyggml.ArgumentError, match=r"fifo' cannot be read: it is a FIFO into which nobody writes"):
        read_text(fifo)
    writer = os.open(fifo, os.O_RDWR)  # which waits for no reader

    def write() -> None:
        time.sleep(0.1)
        os.write(writer, b"one\r\ntwo")
        time.sleep(0.1)
        with open(writer, "wb") as file:
            file.write(b"!" * 200_000)

    thread = threading.Thread(target=write)
    thread.start()
    assert read_text(fifo) == "one\ntwo" + "!" * 200_000
    thread.join()
    ours, theirs = os.pipe()
    os.close(theirs)
    assert read_text(f"/dev/fd/{ours}") == ""  # there was a writer, who had nothing to say
    os.close(ours)


def test_no_more_is_read_than_a_text_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "sparse.txt", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(pyggml.ArgumentError, match=r"sparse.txt' is longer than 268,435,456 bytes; take a part"):
        read_text(tmp_path / "sparse.txt")
    with open(tmp_path / "model.gguf", "wb") as file:
        file.write(b"GGUF\3\0\0\0")
        file.truncate(1 << 40)
    with pytest.raises(pyggml.ArgumentError, match=r"is a GGUF file; a text is wanted"):
        read_text(tmp_path / "model.gguf")
    assert decode(b"GGUF is a format", "x") == "GGUF is a format"
    if os.path.exists("/dev/zero"):
        with pytest.raises(pyggml.ArgumentError, match=r"/dev/zero' cannot be read: it is a device"):
            read_text("/dev/zero")
        assert read_text("/dev/null") == ""
    if os.path.exists("/proc/version"):  # says that it has no bytes
        assert "Linux" in read_text("/proc/version")
    monkeypatch.setattr(texts, "MOST", 10)
    for raw in (b"x" * 11, b"\xef\xbb\xbf" + b"x" * 8):
        with pytest.raises(pyggml.ArgumentError, match=r"^standard input is longer than 10 bytes"):
            decode(raw, "standard input")


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.txt").write_text("x")
    assert read_text("~/t.txt") == "x"


@pytest.mark.parametrize("bad", [None, b"text", 5, ["a"], {}])
def test_only_text_and_paths(bad: Any) -> None:
    with pytest.raises(pyggml.ArgumentError, match=r"^words must be text \(str\) or the pathlib.Path of a text file"):
        text_of(bad, "words")


def calls(model: Any, text: Any, out: Path) -> dict[str, Any]:
    """Every call that measures on text, as thunks whose results compare."""
    return {
        "perplexity": lambda: model.perplexity(text, 32),
        "compare": lambda: pyggml.compare(model, model, text, n_ctx=32),
        "imatrix": lambda: pyggml.imatrix(model, text, n_ctx=32, n_chunk=1)["blk.0.attn_q.weight"].tolist(),
        "sensitivity": lambda: pyggml.sensitivity(model, text, types=["q4_0"], n_kl=0, n_ctx=32, n_chunk=1).tensors,
        "quantize_file": lambda: [
            row.new
            for row in pyggml.quantize_file(
                model._loaded.file.path,
                "",
                target_bpw=6,
                text=text,
                sensitivity=COSTS[0],
                allow_requantize=True,
                dry_run=True,
            )
        ],
    }


COSTS: list[Any] = []


def test_a_path_is_a_file_and_a_str_is_text(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "held.txt"
    file.write_bytes(codecs.BOM_UTF8 + STORY.replace(". ", ".\r\n").encode())
    plain = STORY.replace(". ", ".\n")
    with pyggml.load(path) as model:
        COSTS[:] = [pyggml.sensitivity(model, plain, types=["q4_0", "q8_0"], n_kl=0, n_ctx=32, n_chunk=1)]
        (tmp_path / "short.txt").write_bytes(codecs.BOM_UTF8 + STORY[:60].encode())
        assert model.score(tmp_path / "short.txt").tolist() == model.score(STORY[:60]).tolist()
        for name, call in calls(model, plain, tmp_path).items():
            assert calls(model, file, tmp_path)[name]() == call(), name
        for name, call in calls(model, str(file), tmp_path).items():
            with pytest.raises(pyggml.ArgumentError, match=r"there is a file of this name: pass pathlib.Path"):
                call()
            assert name
        for call in calls(model, "held-out.txt", tmp_path).values():
            with pytest.raises(pyggml.ArgumentError, match=r"looks like a path"):
                call()
        for call in calls(model, tmp_path / "no.txt", tmp_path).values():
            with pytest.raises(pyggml.ArgumentError, match=r"no.txt' cannot be read"):
                call()


def test_too_few_positions_are_refused_with_both_counts() -> None:
    with pyggml.load() as model:
        n = len(model.tokenize("the king"))
        for call in (pyggml.imatrix, pyggml.sensitivity, lambda m, text: pyggml.compare(m, m, text)):
            with pytest.raises(pyggml.ArgumentError, match=f"has {n} tokens, at least 8 are needed"):
                call(model, "the king")
        with pytest.raises(pyggml.ArgumentError, match=f"has {n} tokens, at least 512 are needed"):
            model.perplexity("the king")


@pytest.mark.parametrize("bad", [None, b"some bytes of text", 7, {"a": 1}, 1.5, [1.5], ["a"]])
def test_text_of_another_kind(bad: Any) -> None:
    with pyggml.load() as model:
        for call in (pyggml.imatrix, lambda m, text: pyggml.compare(m, m, text)):
            with pytest.raises(pyggml.ArgumentError, match=r"text must be text \(str\)|text\[0\] must be a whole"):
                call(model, bad)


def test_models_or_paths(path: Path) -> None:
    with pyggml.load(path) as model:
        for same in (path, str(path)):
            assert pyggml.compare(same, model, STORY) == pyggml.compare(model, model, STORY)
            assert pyggml.imatrix(same, STORY).sums.keys() == pyggml.imatrix(model, STORY).sums.keys()
            assert pyggml.sensitivity(same, STORY, types=["q4_0"], n_kl=0).tensors.keys()
        model.logits([1, 2])  # is still open
    for call in (pyggml.imatrix, pyggml.sensitivity):
        with pytest.raises(pyggml.ArgumentError, match="model must be a Model or the path of a GGUF file, got 3"):
            call(3, STORY)
    with pytest.raises(pyggml.ArgumentError, match="compare: b must be a Model or the path"):
        pyggml.compare(path, None, STORY)
    with pytest.raises(pyggml.GGUFError, match=r"nothing\.gguf"):
        pyggml.imatrix("nothing.gguf", STORY)


def test_imatrix_is_named_after_its_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "calibration.txt").write_text(STORY)
    assert pyggml.imatrix(path, tmp_path / "calibration.txt").datasets == ["calibration.txt"]
    assert pyggml.imatrix(path, STORY).datasets == ["text"]
