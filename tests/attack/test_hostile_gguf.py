"""Hostile GGUF files by name: each must leave as a PyggmlError that names the problem, soon and in little memory.

The heavy ones run in a child process under limits of 2 s of CPU and 500 MB. Files come from build.py, not from our
writer. Wrong numbers in a sound header are in test_hostile_numbers.py, tensors that fit no model in
test_hostile_models.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from attack import build as b

import pyggml
import pyggml.gguf as gguf
from pyggml.config import Config
from pyggml.errors import GGUFError, PyggmlError, UnsupportedError
from pyggml.estimate import estimate

BIG = [2**63, 2**63 - 1, 2**64 - 1, 2**62, 2**40]


def read_all(path: Path | str | bytes) -> gguf.GGUFFile:
    """Opens, decodes every value, touches every tensor's ends and reads the numbers of the model."""
    with gguf.open(path) as file:
        repr(file)
        for key in file.metadata:
            _ = file.metadata[key]
            file.metadata.raw(key)
        for info in file.tensors.values():
            assert len(info.data) == info.nbytes
            _ = int(info.data[0]) + int(info.data[-1])
        estimate(file)
        Config.from_metadata(file.metadata)
        return file


def refused(folder: Path, raw: bytes, message: str, kind: type[PyggmlError] = GGUFError) -> None:
    with pytest.raises(kind, match=message) as error:
        read_all(b.write(folder, raw))
    assert len(str(error.value)) < 2000
    assert "x.gguf" in str(error.value)


def plain(*pairs: bytes, n_pairs: int | None = None) -> bytes:
    return b.gguf(pairs, n_pairs=n_pairs)


def test_the_model_all_these_are_made_from_is_sound(tmp_path: Path) -> None:
    assert len(read_all(b.write(tmp_path, b.llama())).tensors) == 12


# ---- truncation ------------------------------------------------------------------------------------------------


def test_truncation_at_every_byte(tmp_path: Path) -> None:
    raw = b.llama()
    with gguf.open(b.write(tmp_path, raw)) as file:
        first = min(info.offset for info in file.tensors.values())
        edges = {info.offset + info.nbytes + step for info in file.tensors.values() for step in (-1, 0, 1)}
    path = tmp_path / "cut.gguf"
    for length in sorted({*range(first + 65), *edges} - {len(raw), len(raw) + 1}):
        path.write_bytes(raw[:length])
        with pytest.raises(PyggmlError) as error:
            read_all(path)
        assert re.search("cut|empty|left|cannot hold|no GGUF file", str(error.value)), (length, str(error.value))


# ---- header ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("magic", [b"GGML", b"ggjt", b"PK\x03\x04", b"\0\0\0\0", b"gguf"])
def test_another_magic(tmp_path: Path, magic: bytes) -> None:
    refused(tmp_path, b.gguf(magic=magic), "no GGUF file")


def test_big_endian(tmp_path: Path) -> None:
    refused(tmp_path, b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian", UnsupportedError)
    refused(tmp_path, b"FUGG" + struct.pack(">IQQ", 3, 0, 0), "big-endian", UnsupportedError)


@pytest.mark.parametrize(("version", "message"), [(0, "version 0"), (1, "version 1 "), (4, "version 4"), (99, "99")])
def test_other_versions(tmp_path: Path, version: int, message: str) -> None:
    refused(tmp_path, b.gguf(version=version), message, UnsupportedError)


@pytest.mark.parametrize("count", BIG)
def test_metadata_count_beyond_the_file(tmp_path: Path, count: int) -> None:
    refused(tmp_path, b.gguf(n_pairs=count), f"{count} metadata keys")


@pytest.mark.parametrize("count", BIG)
def test_tensor_count_beyond_the_file(tmp_path: Path, count: int) -> None:
    refused(tmp_path, b.gguf(n_tensors=count), f"{count} tensors")


@pytest.mark.parametrize("length", BIG)
def test_key_length_beyond_the_file(tmp_path: Path, length: int) -> None:
    refused(tmp_path, b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, length) + bytes(64), f"{length} bytes")


@pytest.mark.parametrize("length", BIG)
def test_string_length_beyond_the_file(tmp_path: Path, length: int) -> None:
    refused(tmp_path, plain(b.pair("k", (b.STR, struct.pack("<Q", length) + bytes(64)))), f"'k'.*{length} bytes")


@pytest.mark.parametrize("item", range(13))
@pytest.mark.parametrize("count", BIG)
def test_array_length_beyond_the_file(tmp_path: Path, item: int, count: int) -> None:
    refused(tmp_path, plain(b.pair("k", (b.ARR, struct.pack("<IQ", item, count) + bytes(64)))), f"'k'.*{count}")


@pytest.mark.parametrize("length", BIG)
def test_string_in_an_array_beyond_the_file(tmp_path: Path, length: int) -> None:
    body = struct.pack("<IQ", b.STR, 2) + b.text("a") + struct.pack("<Q", length) + bytes(64)
    refused(tmp_path, plain(b.pair("k", (b.ARR, body))), "'k'")


@pytest.mark.parametrize("kind", [13, 255, 2**31, 2**32 - 1])
def test_unknown_value_types(tmp_path: Path, kind: int) -> None:
    refused(tmp_path, plain(b.pair("k", (kind, bytes(8)))), f"'k'.*unknown type {kind}")
    refused(tmp_path, plain(b.pair("k", (b.ARR, struct.pack("<IQ", kind, 1) + bytes(8)))), f"'k'.*unknown type {kind}")


@pytest.mark.parametrize("value", [2, 255])
def test_bools_that_are_neither(tmp_path: Path, value: int) -> None:
    refused(tmp_path, plain(b.pair("k", b.val(b.BOOL, value))), f"'k'.*bool of value {value}")
    refused(tmp_path, plain(b.pair("k", b.arr(b.BOOL, [0, value, 1]))), "'k'.*not 0 or 1")


# ---- nesting and masses ----------------------------------------------------------------------------------------


def test_nesting_100000_deep(tmp_path: Path) -> None:
    body = struct.pack("<IQ", b.ARR, 1) * 100_000 + b.arr(b.U8, [1])[1]
    refused(tmp_path, plain(b.pair("k", (b.ARR, body))), "'k' nests arrays deeper than 8")


def test_nesting_of_eight_is_read_and_of_nine_refused(tmp_path: Path) -> None:
    for levels, fine in ((8, True), (9, False)):
        body = struct.pack("<IQ", b.ARR, 1) * (levels - 1) + b.arr(b.U8, [1])[1]
        path = b.write(tmp_path, plain(b.pair("k", (b.ARR, body))))
        if fine:
            with gguf.open(path) as file:
                assert file.metadata.array_length("k") == 1
                assert len(file.metadata["k"]) == 1
        else:
            with pytest.raises(GGUFError, match="deeper"):
                gguf.open(path)


LIMITED = """
import resource, sys, time
import pyggml.gguf as gguf
from pyggml.errors import PyggmlError
used = resource.getrusage(resource.RUSAGE_SELF)
begun = used.ru_utime + used.ru_stime
resource.setrlimit(resource.RLIMIT_CPU, (int(begun) + 10, int(begun) + 10))
try:
    with gguf.open(sys.argv[1]) as file:
        for key in file.metadata:
            file.metadata[key]
    outcome = "read"
except PyggmlError as error:
    outcome = type(error).__name__ + ": " + str(error)
used = resource.getrusage(resource.RUSAGE_SELF)
assert used.ru_utime + used.ru_stime - begun < 6.0, "more than 6 s of CPU"
with open("/proc/self/status") as status:  # ru_maxrss would count what the parent held before exec
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1])
assert peak < 500 * 1024, f"{peak} kB"
print(outcome)
print(f"{used.ru_utime + used.ru_stime - begun:.2f} s, {peak // 1024} MB", file=sys.stderr)
"""


def limited(path: Path) -> str:
    """What reading path comes to, in a child that may use 6 s (a slow machine needs 2) and 500 MB."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    print(done.stderr)
    return done.stdout.strip()


def sparse(path: Path, head: bytes, size: int) -> Path:
    """head, then zeros up to size bytes that take no room on the disk."""
    path.write_bytes(head)
    os.truncate(path, size)
    return path


def test_48_million_empty_strings(tmp_path: Path) -> None:
    n = 48_000_000
    head = plain(b.pair("k", (b.ARR, struct.pack("<IQ", b.STR, n))))
    assert f"'k' has {n} strings" in limited(sparse(tmp_path / "x", head, len(head) + 8 * n))


def test_the_most_strings_that_are_allowed(tmp_path: Path) -> None:
    n = 1 << 21
    head = plain(b.pair("k", (b.ARR, struct.pack("<IQ", b.STR, n))))
    head = head[: head.index(struct.pack("<IQ", b.STR, n)) + 12]
    assert limited(sparse(tmp_path / "x", head, len(head) + 8 * n)) == "read"


def test_many_arrays_of_many_strings(tmp_path: Path) -> None:
    n = 1 << 21
    one = struct.pack("<IQ", b.STR, n) + bytes(8 * n)
    raw = b.gguf([b.pair(f"k{i}", (b.ARR, one)) for i in range(3)])
    assert "strings, at most" in limited(b.write(tmp_path, raw))


def test_16_million_arrays_inside_an_array(tmp_path: Path) -> None:
    n = 16_000_000
    head = plain(b.pair("k", (b.ARR, struct.pack("<IQ", b.ARR, n))))
    assert "nested arrays" in limited(sparse(tmp_path / "x", head, len(head) + 12 * n))


def test_arrays_that_multiply_by_nesting(tmp_path: Path) -> None:
    level = b.arr(b.U8, [])[1]
    for _ in range(3):
        level = struct.pack("<IQ", b.ARR, 60) + level * 60
    assert "nested arrays" in limited(b.write(tmp_path, plain(b.pair("k", (b.ARR, level)))))


def test_400_million_flags(tmp_path: Path) -> None:
    n = 400_000_000
    head = plain(b.pair("k", (b.ARR, struct.pack("<IQ", b.BOOL, n))))
    assert f"{n} elements" in limited(sparse(tmp_path / "x", head, len(head) + n))


def test_a_string_of_a_gigabyte(tmp_path: Path) -> None:
    n = 1 << 30
    head = plain(b.pair("k", (b.STR, struct.pack("<Q", n))))
    assert f"{n} bytes, at most" in limited(sparse(tmp_path / "x", head, len(head) + n))
    head = plain(b.pair("k", (b.ARR, struct.pack("<IQQ", b.STR, 1, n))))
    assert "at most" in limited(sparse(tmp_path / "x", head, len(head) + n))


def test_27_million_keys(tmp_path: Path) -> None:
    n = 27_000_000
    head = b.gguf(n_pairs=n)
    assert f"{n} metadata keys, at most" in limited(sparse(tmp_path / "x", head, 27 * n))


def test_10_million_tensors(tmp_path: Path) -> None:
    n = 10_000_000
    head = b.gguf(n_tensors=n)
    assert f"{n} tensors, at most" in limited(sparse(tmp_path / "x", head, 40 * n))


def test_as_many_tensors_as_are_allowed(tmp_path: Path) -> None:
    records = [b.tensor(f"t{i}", [1], 0, 32 * i) for i in range(1 << 17)]
    assert limited(b.write(tmp_path, b.gguf((), records, bytes(32 << 17)))) == "read"


def test_as_many_keys_as_are_allowed(tmp_path: Path) -> None:
    raw = b.gguf([b.pair(f"k{i}", b.arr(b.STR, ["a"])) for i in range(1 << 16)])
    assert limited(b.write(tmp_path, raw)) == "read"


# ---- names -----------------------------------------------------------------------------------------------------

NAMES = {
    "empty": (b"", "is empty"),
    "NUL": (b"a\0b", "NUL"),
    "only NUL": (b"\0", "NUL"),
    "bad UTF-8": (b"a\xff", "not valid UTF-8"),
    "cut UTF-8": (b"a\xe4\xb8", "not valid UTF-8"),
    "overlong UTF-8": (b"\xc0\xaf", "not valid UTF-8"),
    "surrogate": (b"\xed\xa0\x80", "not valid UTF-8"),
    "too long": (b"k" * 65536, "at most"),
}


@pytest.mark.parametrize("name", NAMES)
def test_bad_keys(tmp_path: Path, name: str) -> None:
    raw, message = NAMES[name]
    refused(tmp_path, plain(b.pair(raw, b.u32(1))), f"metadata key.*{message}")


@pytest.mark.parametrize("name", NAMES)
def test_bad_tensor_names(tmp_path: Path, name: str) -> None:
    raw, message = NAMES[name]
    refused(tmp_path, b.gguf((), [b.tensor(raw, [1])], bytes(32)), f"tensor.*{message}")


def test_duplicate_keys(tmp_path: Path) -> None:
    refused(tmp_path, plain(b.pair("a.b", b.u32(1)), b.pair("a.b", b.f32(1))), "'a.b' appears twice")


def test_duplicate_tensors(tmp_path: Path) -> None:
    records = [b.tensor("t", [1], 0, 0), b.tensor("u", [1], 0, 32), b.tensor("t", [1], 0, 64)]
    refused(tmp_path, b.gguf((), records, bytes(96)), "'t' appears twice")


def test_bad_utf8_in_values_is_replaced_not_refused(tmp_path: Path) -> None:
    raw = b.gguf([b.pair("k", b.string(b"a\xff\0b")), b.pair("l", b.arr(b.STR, [b"\xff"]))])
    with gguf.open(b.write(tmp_path, raw)) as file:
        assert (file.metadata["k"], file.metadata["l"]) == ("a\ufffd\0b", ["\ufffd"])


# ---- tensors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 5, 255, 2**31, 2**32 - 1])
def test_number_of_dims(tmp_path: Path, n: int) -> None:
    refused(tmp_path, b.gguf((), [b.tensor("t", [1], n_dims=n)], bytes(64)), f"'t' has {n} dimensions")


@pytest.mark.parametrize("dims", [[0], [32, 0], [0, 32]])
def test_empty_dims(tmp_path: Path, dims: list[int]) -> None:
    refused(tmp_path, b.gguf((), [b.tensor("t", dims)], bytes(64)), "'t'.*at least 1")


@pytest.mark.parametrize(
    "dims",
    [[2**63], [2**64 - 1], [2**32, 2**32], [2**16, 2**16, 2**16, 2**16], [2**63, 2], [2**62, 2], [1, 2**64 - 1]],
)
def test_products_that_overflow(tmp_path: Path, dims: list[int]) -> None:
    refused(tmp_path, b.gguf((), [b.tensor("t", dims)], bytes(64)), r"'t'.*fewer than 2\^63")


@pytest.mark.parametrize("dims", [[2**62], [2**61 - 8], [2**40], [2**31, 2**31]])
def test_sizes_beyond_the_file(tmp_path: Path, dims: list[int]) -> None:
    refused(tmp_path, b.gguf((), [b.tensor("t", dims)], bytes(64)), "'t' lies at bytes")


@pytest.mark.parametrize(("kind", "k"), [(2, 33), (8, 31), (12, 128), (39, 16), (40, 32), (41, 64), (20, 1)])
def test_rows_that_are_no_multiple_of_the_block(tmp_path: Path, kind: int, k: int) -> None:
    refused(tmp_path, b.gguf((), [b.tensor("t", [k, 256], kind)], bytes(1 << 16)), f"'t' has rows of {k} values")


@pytest.mark.parametrize("kind", [4, 5, 31, 32, 33, 36, 37, 38])
def test_removed_types(tmp_path: Path, kind: int) -> None:
    refused(
        tmp_path, b.gguf((), [b.tensor("t", [256], kind)], bytes(512)), f"'t'.*id {kind} .*removed", UnsupportedError
    )


@pytest.mark.parametrize("kind", [43, 99, 255, 2**31, 2**32 - 1])
def test_unknown_types(tmp_path: Path, kind: int) -> None:
    refused(tmp_path, b.gguf((), [b.tensor("t", [256], kind)], bytes(512)), f"'t'.*unknown.*{kind}", UnsupportedError)


@pytest.mark.parametrize("offset", [1, 8, 16, 31, 33])
def test_misaligned_offsets(tmp_path: Path, offset: int) -> None:
    refused(
        tmp_path, b.gguf((), [b.tensor("t", [1], 0, offset)], bytes(256)), f"'t' is at offset {offset}, no multiple"
    )


@pytest.mark.parametrize("offset", [64, 2**32, 2**62, 2**63, 2**64 - 32])
def test_offsets_beyond_the_file(tmp_path: Path, offset: int) -> None:
    refused(tmp_path, b.gguf((), [b.tensor("t", [8], 0, offset)], bytes(64)), "'t' lies at bytes.*the file has")


@pytest.mark.parametrize("order", [False, True])
@pytest.mark.parametrize("second", [0, 32, 96])
def test_overlapping_tensors(tmp_path: Path, second: int, order: bool) -> None:
    records = [b.tensor("t", [32], 0, 0), b.tensor("u", [32], 0, second)]
    raw = b.gguf((), records[::-1] if order else records, bytes(512))
    refused(tmp_path, raw, "overlap")


def test_tensors_out_of_order_are_fine(tmp_path: Path) -> None:
    records = [b.tensor("t", [8], 0, 64), b.tensor("u", [8], 0, 0), b.tensor("v", [8], 0, 32)]
    with gguf.open(b.write(tmp_path, b.gguf((), records, bytes(96)))) as file:
        assert list(file.tensors) == ["t", "u", "v"]


@pytest.mark.parametrize("alignment", [0, 1, 2, 4, 7, 9, 12, 24, 33, 2**25, 2**31, 2**32 - 1])
def test_illegal_alignments(tmp_path: Path, alignment: int) -> None:
    refused(tmp_path, plain(b.pair("general.alignment", b.u32(alignment))), f"alignment is {alignment}, expected")


@pytest.mark.parametrize("value", [b.val(b.U64, 32), b.val(b.I32, 32), b.f32(32), b.string("32"), b.arr(b.U32, [32])])
def test_alignments_of_another_type(tmp_path: Path, value: b.Value) -> None:
    refused(tmp_path, plain(b.pair("general.alignment", value)), r"general\.alignment is .*expected u32")


# ---- the file itself -------------------------------------------------------------------------------------------


def test_a_file_cut_after_it_was_opened(tmp_path: Path) -> None:
    path = b.write(tmp_path, b.llama())
    with gguf.open(path) as file:
        info = file.tensors["output.weight"]
        os.truncate(path, info.offset)
        for call in (file.check_unchanged, lambda: info.data, lambda: info.read_into(bytearray(info.nbytes))):
            with pytest.raises(GGUFError, match=r"changed after it was opened.*load it again"):
                call()
        with pytest.raises(GGUFError, match="changed after it was opened"):
            _ = file.metadata["tokenizer.ggml.tokens"]


def test_a_file_rewritten_after_it_was_opened(tmp_path: Path) -> None:
    path = b.write(tmp_path, b.llama())
    with gguf.open(path) as file:
        os.utime(path, ns=(0, 0))
        with pytest.raises(GGUFError, match="it was rewritten"):
            file.check_unchanged()


def test_a_file_cut_while_it_is_copied(tmp_path: Path) -> None:
    path = b.write(tmp_path, b.llama())
    with gguf.open(path) as file:
        info = file.tensors["output.weight"]
        os.truncate(path, info.offset + 10)
        with pytest.raises(GGUFError, match="it was cut"):
            info._file.read_into(info.offset, memoryview(bytearray(info.nbytes)))


def test_fifo_without_a_writer_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(GGUFError, match="is a FIFO"):
        gguf.open(tmp_path / "fifo")


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/tty"])
def test_devices(device: str) -> None:
    with pytest.raises(GGUFError, match=r"character device|cannot be opened|does not exist"):
        gguf.open(device)


def test_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("s")
        with pytest.raises(GGUFError, match=r"cannot be opened|is a socket"):
            gguf.open("s")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match="is a directory"):
        gguf.open(tmp_path)


def test_symlink_loop(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(GGUFError, match=r"cannot be opened.*symbolic links"):
        gguf.open(tmp_path / "a")


def test_missing_empty_and_forbidden(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match=r"absent\.gguf' does not exist"):
        gguf.open(tmp_path / "absent.gguf")
    refused(tmp_path, b"", "is empty")
    if os.geteuid():
        path = b.write(tmp_path, b.llama())
        path.chmod(0)
        with pytest.raises(GGUFError, match="cannot be opened: Permission"):
            gguf.open(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [("", "does not exist"), ("a\0b", "no path"), (b"a\0b", "no path"), ("x" * 5000, "cannot be opened"),
     ("/" * 100_000, "cannot be opened"), ("\ud800", "no path|does not exist"), ("a\nb", "does not exist"),
     (b"\xff\xfe", "does not exist"), ("/etc/passwd/x", "cannot be opened"), ("file:///x.gguf", "does not exist")],
)  # fmt: skip
def test_odd_paths(path: str | bytes, message: str) -> None:
    with pytest.raises(GGUFError, match=message) as error:
        gguf.open(path)
    assert len(str(error.value)) < 2000
    assert str(error.value).isprintable()


@pytest.mark.parametrize("path", [None, 0, 1.5, ["x"]])
def test_things_that_are_no_path(path: object) -> None:
    with pytest.raises(TypeError):
        gguf.open(path)  # type: ignore[arg-type]


# ---- any byte --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0x00, 0x80, 0xFF])
def test_every_header_byte_replaced(tmp_path: Path, value: int) -> None:
    """No single byte makes anything but a PyggmlError (or a file that is still readable)."""
    raw = bytearray(b.llama())
    with gguf.open(b.write(tmp_path, bytes(raw))) as file:
        end = min(info.offset for info in file.tensors.values())
    path = tmp_path / "y.gguf"
    messages = []
    for i in range(end):
        before, raw[i] = raw[i], value
        path.write_bytes(raw)
        raw[i] = before
        try:
            read_all(path)
        except PyggmlError as error:
            messages.append(str(error))
    assert len(messages) > end // 4
    assert max(map(len, messages)) < 2000


def test_every_header_byte_replaced_and_loaded(tmp_path: Path) -> None:
    """The same through the whole way: load, and generate where it loads."""
    raw = bytearray(b.llama())
    path = b.write(tmp_path, bytes(raw))
    with gguf.open(path) as file:
        end = min(info.offset for info in file.tensors.values())
    loaded = 0
    for i in range(end):
        before, raw[i] = raw[i], 0xFF
        path.write_bytes(raw)
        raw[i] = before
        with contextlib.suppress(PyggmlError), pyggml.load(path) as model:
            model.generate("a b", max_tokens=2)
            loaded += 1
    assert 0 < loaded < end // 4
