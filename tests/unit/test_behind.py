"""Writing behind: order, errors of the disk, errors of the one who makes the pieces."""

from __future__ import annotations

import _thread
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from unit.interrupts import struck

from pyggml.files.background_writer import Behind
from pyggml.gguf import Writer
from pyggml.gguf import open as open_gguf


class Slow(io.BytesIO):
    def write(self, piece: bytes) -> int:
        time.sleep(0.002)
        return super().write(piece)


class Full(io.BytesIO):
    def write(self, piece: bytes) -> int:
        raise OSError(28, "No space left on device")


def test_pieces_are_written_in_order() -> None:
    out, pieces = Slow(), [bytes([i]) * (i + 1) for i in range(40)]
    with Behind(out) as behind:
        for piece in pieces:
            behind.write(piece)
    assert out.getvalue() == b"".join(pieces)


def test_an_error_of_the_disk_reaches_the_one_who_writes() -> None:
    with pytest.raises(OSError, match="No space"), Behind(Full()) as behind:
        behind.write(b"one piece, whose error the end of the block raises")
    with pytest.raises(OSError, match="No space"), Behind(Full()) as behind:
        for _ in range(1000):  # and no wait for a place in the queue that never comes free
            behind.write(b"many")


def test_an_error_of_the_maker_ends_the_writing() -> None:
    out = Slow()
    with pytest.raises(KeyboardInterrupt), Behind(out) as behind:
        behind.write(b"first")
        raise KeyboardInterrupt
    assert out.getvalue() in (b"", b"first")


def test_a_large_file_is_flushed_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyggml.files.background_writer._TO_DISK", 1000)
    with open(tmp_path / "x", "wb") as out, Behind(out) as behind:
        for i in range(50):
            behind.write(bytes([i]) * 100)
    assert (tmp_path / "x").read_bytes() == b"".join(bytes([i]) * 100 for i in range(50))


def test_a_writer_gives_the_same_file(tmp_path: Path) -> None:
    values = np.arange(3 * 64, dtype=np.float32).reshape(3, 64)
    for behind in (False, True):
        with Writer(tmp_path / f"{behind}.gguf", behind=behind) as w:
            w.add("general.architecture", "llama")
            w.add_tensor("a", (3, 64), "f32", lambda: iter([values[:1], values[1:]]))
            w.add_tensor("b", (64,), "f32", values[0])
    assert (tmp_path / "True.gguf").read_bytes() == (tmp_path / "False.gguf").read_bytes()
    assert open_gguf(tmp_path / "True.gguf").tensors["a"].shape == (3, 64)


def test_an_error_leaves_no_trace(tmp_path: Path) -> None:
    def pieces() -> Iterator[np.ndarray]:
        yield np.zeros((1, 32), np.float32)
        raise MemoryError("while the second is made")

    with pytest.raises(MemoryError), Writer(tmp_path / "x.gguf", behind=True) as w:
        w.add_tensor("a", (2, 32), "f32", pieces)
    assert list(tmp_path.iterdir()) == []


def fell_to(before: int) -> bool:
    """Whether as many threads live as before, soon."""
    ends = time.monotonic() + 20
    while _thread._count() > before and time.monotonic() < ends:
        time.sleep(0.01)
    return _thread._count() <= before


def test_nothing_is_written_behind_the_end() -> None:
    """Ctrl-C or not: whoever closes the file after the block closes it behind the last write."""
    entered, ended, before = threading.Event(), [], _thread._count()

    class Waits(io.BytesIO):
        def write(self, piece: bytes) -> int:
            entered.set()
            time.sleep(0.05)
            ended.append(piece)
            return len(piece)

    with pytest.raises(KeyboardInterrupt), Behind(Waits()) as behind:
        behind.write(b"first")
        entered.wait()
        raise KeyboardInterrupt
    assert ended == [b"first"]
    assert fell_to(before)


def test_without_a_thread_it_writes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    out = io.BytesIO()
    with Behind(out) as behind:
        behind.write(b"one ")
        behind.write(b"two")
    assert out.getvalue() == b"one two"
    with pytest.raises(OSError, match="No space"), Behind(Full()) as behind:
        behind.write(b"x")


def test_ctrl_c_at_any_moment_leaves_no_thread() -> None:
    def work(i: int) -> None:
        with Behind(io.BytesIO()) as behind:
            for _ in range(4):
                behind.write(b"x" * 5000)

    before = _thread._count()
    assert struck(work, 300, 1e-3, seed=3) == 300
    assert fell_to(before)
