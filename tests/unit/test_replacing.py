"""What may be written over and what may not, what a replaced file keeps, and what is left of writers that died."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pyggml
from pyggml.errors import ArgumentError, GGUFError
from pyggml.files import part_file as parts
from pyggml.files.atomic_file import beside, check_writable, refuse_sources, replacing, scratch, together

fcntl = pytest.importorskip("fcntl")
DEAD = ".pyggml-0123456789abcdef.part"


def write(path: Path, data: bytes = b"new") -> None:
    with replacing(path) as out:
        out.write(data)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# ---- what is read --------------------------------------------------------------------------------------------------


def test_an_input_is_known_under_every_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in.gguf"
    source.write_bytes(b"read")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "far").symlink_to("sub/../link")
    (tmp_path / "folder").symlink_to(tmp_path)
    os.link(source, tmp_path / "hard")
    monkeypatch.chdir(tmp_path / "sub")
    with open(source, "rb") as opened:
        ways = [
            source, tmp_path / "link", tmp_path / "far", tmp_path / "folder" / "in.gguf", tmp_path / "hard",
            "../in.gguf", f"{tmp_path}/sub/.././in.gguf", f"/proc/self/fd/{opened.fileno()}",
        ]  # fmt: skip
        for way in ways if os.path.isdir("/proc/self/fd") else ways[:-1]:
            for check in (refuse_sources, lambda a, b, error: check_writable(a, error, b)):
                with pytest.raises(
                    ArgumentError, match=r"would replace .*, which is read; give another name"
                ) as caught:
                    check(way, [source], ArgumentError)
                assert str(source) in str(caught.value)
                assert str(way) in str(caught.value)
            with pytest.raises(GGUFError, match="which is read"):
                pyggml.gguf.Writer(way, sources=[source])
    refuse_sources(tmp_path / "other", [source, tmp_path / "absent"], ArgumentError)
    with pytest.raises(ArgumentError, match="which is read"):  # a name that is looked for, though nothing is there
        refuse_sources("../absent", [tmp_path / "absent"], ArgumentError)
    assert source.read_bytes() == b"read"


def test_a_writer_knows_what_it_copies_from(tmp_path: Path) -> None:
    path, name = tmp_path / "a.gguf", "t"
    values = np.arange(32, dtype=np.float32)
    with pyggml.gguf.Writer(path) as out:
        out.add("k", "v")
        out.add_tensor(name, (32,), "f32", values)
    before = path.read_bytes()
    os.link(path, tmp_path / "hard")
    (tmp_path / "link").symlink_to(path)

    def copy_metadata(out: pyggml.gguf.Writer, file: pyggml.gguf.GGUFFile) -> None:
        out.add_metadata(file.metadata)

    def copy_key(out: pyggml.gguf.Writer, file: pyggml.gguf.GGUFFile) -> None:
        out.copy(file.metadata, "k")

    def stream(out: pyggml.gguf.Writer, file: pyggml.gguf.GGUFFile) -> None:
        out.add_tensor(name, (32,), "f32", lambda: [file.tensors[name].read()])

    def stream_rows(out: pyggml.gguf.Writer, file: pyggml.gguf.GGUFFile) -> None:
        out.add_tensor(name, (32,), "f32", lambda: iter([file.tensors[name].every(1)]))

    for take in (copy_metadata, copy_key, stream, stream_rows):
        for target in (path, tmp_path / "hard", tmp_path / "link"):
            for behind in (False, True):
                with pyggml.gguf.open(path) as file:
                    out = pyggml.gguf.Writer(target, behind=behind)
                    take(out, file)
                    with pytest.raises(GGUFError, match=r"a.gguf', which is open and copied"):
                        out.close()
        with pyggml.gguf.open(path) as file, pyggml.gguf.Writer(tmp_path / "other") as out:
            take(out, file)
        with pyggml.gguf.open(path) as file:
            os.rename(path, tmp_path / "moved")  # another file may take the name meanwhile
            with pyggml.gguf.Writer(path) as out:
                take(out, file)
        assert path.read_bytes() == (tmp_path / "other").read_bytes()
        os.replace(tmp_path / "moved", path)
        assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gguf", "hard", "link", "other"]
    with pyggml.gguf.open(path) as file:  # read, closed, written
        out = pyggml.gguf.Writer(path)
        out.add_metadata(file.metadata)
        out.add_tensor(name, (32,), "f32", file.tensors[name].data)
    out.add("more", 1)
    out.close()
    with pyggml.gguf.open(path) as file:
        assert (file.metadata["k"], file.metadata["more"]) == ("v", 1)
        assert file.tensors[name].data.tobytes() == values.tobytes()


def test_a_link_that_may_not_be_read_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of other users' processes in /proc: os.path.realpath raises there."""

    def forbidden(path: str) -> str:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os.path, "realpath", forbidden)
    refuse_sources(tmp_path / "new", [tmp_path / "link"], ArgumentError)
    with pytest.raises(ArgumentError, match="which is read"):
        refuse_sources(tmp_path / "new", [tmp_path / "sub" / ".." / "new"], ArgumentError)
    write(tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"new"


# ---- what is replaced ----------------------------------------------------------------------------------------------


def test_permissions_stay(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for mode in (0o600, 0o640, 0o755, 0o200):
        path.write_bytes(b"old")
        path.chmod(mode)
        with replacing(path) as out:
            (part,) = (p for p in tmp_path.iterdir() if p != path)
            assert stat.S_IMODE(part.stat().st_mode) == 0o600  # nobody reads it meanwhile
            out.write(b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        path.chmod(0o600)
        assert path.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_an_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    os.chown(path, 1234, 2345)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid, path.read_bytes()) == (1234, 2345, b"new")


@pytest.mark.parametrize("mode", [0o444, 0o400, 0o555])
def test_a_file_that_is_read_only_is_not_replaced(tmp_path: Path, mode: int) -> None:
    path, link = tmp_path / "x", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(mode)
    link.symlink_to(path)
    for target in (path, link):
        with pytest.raises(GGUFError, match="is read-only; it is not replaced: allow writing"):
            write(target)
    with pytest.raises(GGUFError, match="read-only"), together(tmp_path, replace=True) as files, files.open("x"):
        pass
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["link", "x"]


def test_links_stay_and_lead(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "link").symlink_to("to/x")
    write(tmp_path / "link")
    assert (tmp_path / "to" / "x").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "lost").symlink_to("nowhere/x")
    for name in ("loop", "lost"):
        with pytest.raises(GGUFError, match="cannot be written"):
            write(tmp_path / name)
    assert names(tmp_path) == ["link", "loop", "lost", "to"]


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match=r"the folder .*absent' does not exist; make it first"):
        write(tmp_path / "absent" / "x")
    with pytest.raises(GGUFError, match="is a directory and no regular file"):
        write(tmp_path)
    with pytest.raises(GGUFError, match="path is empty"):
        replacing("").__enter__()
    with pytest.raises(GGUFError, match="names a folder"):
        replacing(f"{tmp_path}/x/").__enter__()
    with pytest.raises(GGUFError, match="is a device and no regular file"):
        write(Path("/dev/null"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(GGUFError, match="cannot be written: "):
        write(tmp_path / "file" / "x")
    code = "from pyggml.files.atomic_file import replacing\nwith replacing('/dev/stdout') as out: pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is a FIFO and no regular file" in done.stderr
    assert names(tmp_path) == ["file"]


def test_an_error_of_the_maker_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), replacing(tmp_path / "x"):
        raise BrokenPipeError("of a progress bar")
    assert names(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = parts.create

    def full(path: str, *args: object) -> parts.Out:
        out = create(path, *args)  # type: ignore[arg-type]
        fd = os.open("/dev/full", os.O_WRONLY)
        os.dup2(fd, out.fileno())
        os.close(fd)
        return out

    monkeypatch.setattr(parts, "create", full)
    for size in (10, 5 << 20):  # at the flush, and at the write
        with pytest.raises(GGUFError, match="x' cannot be written: No space left on device"):
            write(tmp_path / "x", bytes(size))
        with pytest.raises(GGUFError, match="No space left"), pyggml.gguf.Writer(tmp_path / "x", behind=True) as out:
            out.add_tensor("t", (size,), "i8", bytes(size))
    assert names(tmp_path) == []


def test_a_closed_writer_and_two_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    first, second = pyggml.gguf.Writer(path), pyggml.gguf.Writer(path)
    first.add("k", 1)
    second.add("k", 2)
    second.close()
    first.close()
    first.close()
    with pyggml.gguf.open(path) as file:
        assert file.metadata["k"] == 1
    dropped = pyggml.gguf.Writer(tmp_path / "y.gguf")
    dropped.add("k", 1)
    del dropped
    assert names(tmp_path) == ["x.gguf"]


# ---- leftovers -----------------------------------------------------------------------------------------------------


def test_the_dead_are_removed_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (
        DEAD,
        ".pyggml-0123456789abcdef-1.part",
        ".pyggml-fedcba9876543210-7.part",
        f"{DEAD[:-9]}0000.part.gguf",
    ):
        (tmp_path / name).write_bytes(b"half")
    with caplog.at_level(logging.WARNING, "pyggml"):
        write(tmp_path / "x")
    assert names(tmp_path) == ["x"]
    assert "removed 4 files that a killed run left" in caplog.text
    assert DEAD in caplog.text
    caplog.clear()
    write(tmp_path / "x")
    assert not caplog.records


def test_the_living_and_what_is_not_ours_stay(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / ".pyggml-00000000000000aa.part").symlink_to(other)
    (tmp_path / ".pyggml-00000000000000ab.part").mkdir()
    os.mkfifo(tmp_path / ".pyggml-00000000000000ac.part")
    os.link(other, tmp_path / ".pyggml-00000000000000ad.part")
    for name in (".pyggml-notes.part", ".pyggml-0123.part", f"{DEAD}.bak", f"x{DEAD}", DEAD.upper()):
        (tmp_path / name).write_bytes(b"another's")
    before = names(tmp_path)
    with replacing(tmp_path / "x"):
        live = set(names(tmp_path)) - set(before)
        code = f"import sys; from pyggml.files import part_file; print(part_file.sweep({str(tmp_path)!r}))"
        for _ in range(2):
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            assert done.stdout == "[]\n"
        write(tmp_path / "y")  # this process too
        assert live <= set(names(tmp_path))
    assert names(tmp_path) == sorted([*before, "x", "y"])
    assert other.read_bytes() == b"precious"


def test_a_lock_that_somebody_holds_keeps_a_part(tmp_path: Path) -> None:
    (tmp_path / DEAD).write_bytes(b"half")
    (tmp_path / ".pyggml-0123456789abcdef-2.part").write_bytes(b"of the same")
    with open(tmp_path / DEAD, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert parts.sweep(str(tmp_path)) == []
    assert len(parts.sweep(str(tmp_path))) == 2
    assert names(tmp_path) == []


def test_without_locks_nothing_is_thought_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / DEAD).write_bytes(b"perhaps alive")

    def none(fd: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    write(tmp_path / "x")
    assert names(tmp_path) == [DEAD, "x"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs another user")
def test_parts_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / DEAD).write_bytes(b"another's")
    os.chown(tmp_path / DEAD, 1234, -1)
    assert parts.sweep(str(tmp_path)) == []


def test_a_part_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, made = parts.create, []

    def swept(path: str, *args: object) -> parts.Out:
        out = create(path, *args)  # type: ignore[arg-type]
        made.append(path)
        if len(made) == 1:
            os.unlink(path)
        return out

    monkeypatch.setattr(parts, "create", swept)
    write(tmp_path / "x")
    assert len(made) == 2
    assert names(tmp_path) == ["x"]


def test_what_went_by_itself_is_not_called_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"")
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: [*listed(folder), DEAD])  # renamed since
    assert parts.sweep(str(tmp_path)) == []


def test_a_part_between_its_making_and_its_lock_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / DEAD).write_bytes(b"")
    with open(tmp_path / DEAD, "rb") as writer, monkeypatch.context() as patch:
        patch.setattr(time, "sleep", lambda seconds: fcntl.flock(writer, fcntl.LOCK_EX))  # its writer comes to it
        assert parts.sweep(str(tmp_path)) == []
    assert parts.sweep(str(tmp_path)) == [DEAD]


def test_many_write_into_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pyggml.files.atomic_file import replacing\n"
        "for i in range(40):\n"
        "    with replacing(sys.argv[1] + f'/x{i % 3}') as out: out.write(b'whole' * 1000)\n"
    )
    tasks = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(3)]
    assert [task.communicate(timeout=120)[1] for task in tasks] == [b"", b"", b""]
    assert names(tmp_path) == ["x0", "x1", "x2"]
    assert all(p.read_bytes() == b"whole" * 1000 for p in tmp_path.iterdir())


# ---- sets ----------------------------------------------------------------------------------------------------------


def fill(folder: Path, replace: bool = True, stop: str = "") -> None:
    with together(folder, ArgumentError, replace=replace) as files:
        for name in ("index", "a", "b"):
            with files.open(name) as out:
                out.write(b"new " + name.encode())
                if name == stop:
                    raise KeyboardInterrupt


def test_a_file_that_came_meanwhile_is_said_as_one_that_was_there(tmp_path: Path) -> None:
    with (
        pytest.raises(FileExistsError, match=r"one' exists already; remove it or choose another name"),
        together(tmp_path, ArgumentError, replace=False) as files,
    ):
        with files.open("one") as out:
            out.write(b"new")
        (tmp_path / "one").write_bytes(b"another's")
    assert (tmp_path / "one").read_bytes() == b"another's"
    assert names(tmp_path) == ["one"]


def test_a_set_appears_as_a_whole(tmp_path: Path) -> None:
    for stop in ("index", "b"):
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path, stop=stop)
        assert names(tmp_path) == []
    fill(tmp_path, replace=False)
    with pytest.raises(ArgumentError, match=r"index' exists already; remove it or choose another name"):
        fill(tmp_path, replace=False)
    (tmp_path / "a").write_bytes(b"old")
    fill(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        n: b"new " + n.encode() for n in ("index", "a", "b")
    }


@pytest.mark.parametrize("replace", [True, False])
def test_half_a_set_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool) -> None:
    if replace:
        for name in ("index", "a", "b"):
            (tmp_path / name).write_bytes(b"old")
    put, left = (os.replace if replace else os.link), [2]

    def stopped(*paths: str) -> None:
        put(*paths)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace" if replace else "link", stopped)
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, replace)
    assert names(tmp_path) == []


def test_a_note_removes_only_what_it_knows(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"placed")
    known = [
        parts.placed(str(tmp_path / name), name) for name in ("index", "a", "b", "c") if (tmp_path / name).exists()
    ]
    note = tmp_path / DEAD

    def leave(rows: object) -> None:
        note.write_bytes(b"pyggml set\n" + json.dumps(rows).encode())

    leave(known)  # all are there: the set is whole
    assert parts.sweep(str(tmp_path)) == [DEAD]
    assert names(tmp_path) == ["a", "b", "c"]
    (tmp_path / "b").unlink()
    (tmp_path / "b").write_bytes(b"written by somebody else since")
    for rows in ([["../x", 1, 2, 3]], {"a": 1}, [[1]], "text", [["a", "x", 1, 1]]):
        leave(rows)
        assert parts.sweep(str(tmp_path)) == [DEAD]
        assert names(tmp_path) == ["a", "b", "c"]
    leave(known)
    assert sorted(parts.sweep(str(tmp_path))) == [DEAD, "a", "c"]
    assert (tmp_path / "b").read_bytes() == b"written by somebody else since"


def test_a_scratch_path_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / DEAD).write_bytes(b"")
    with scratch() as path:
        write(Path(path))
        write(Path(path), b"again")
        assert len(names(tmp_path)) == 2
    assert names(tmp_path) == []


def test_a_file_is_looked_at_before_it_gets_its_name(tmp_path: Path) -> None:
    with beside(tmp_path / "x") as new:
        new.out.write(b"bad")
        new.out.flush()
        assert Path(new.part).read_bytes() == b"bad"
    assert names(tmp_path) == []


# ---- threads and signals -------------------------------------------------------------------------------------------

BEHIND = """
import os, signal, sys, threading, time
import pyggml
def pieces():
    for i in range(60):
        yield bytes(1000)
        if i == 20:
            ready.set()
        time.sleep(0.002)
ready = threading.Event()
def work():
    with pyggml.gguf.Writer(sys.argv[1], behind=True) as out:
        out.add_tensor("t", (60000,), "i8", pieces)
threading.Thread(target=work, daemon=sys.argv[2] == "daemon").start()
ready.wait()
"""


@pytest.mark.parametrize("how", ["daemon", "joined"])
def test_the_interpreter_ends_while_a_thread_writes(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", BEHIND, str(tmp_path / "x.gguf"), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    write(tmp_path / "y")
    assert names(tmp_path) == (["y"] if how == "daemon" and not (tmp_path / "x.gguf").exists() else ["x.gguf", "y"])
