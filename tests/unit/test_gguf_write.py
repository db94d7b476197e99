"""The writer: types it chooses, what it refuses, and that a target is replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import gguf as oracle
import numpy as np
import pytest
from attack import build as b

import pyggml.gguf as gguf
from pyggml import quantize
from pyggml.errors import ArgumentError, ArgumentTypeError, GGUFError, ShapeError


def one(path: Path, value: object, kind: str | None = None) -> tuple[object, str]:
    """value after a trip through a file, and its stored type."""
    with gguf.Writer(path) as out:
        out.add("k", value, kind)
    with gguf.open(path) as file:
        got = file.metadata["k"]
        return (got.tolist() if isinstance(got, np.ndarray) else got), file.metadata.type_of("k")


# ---- types -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "bool"),
        (0, "u32"),
        (2**32 - 1, "u32"),
        (-1, "i32"),
        (2**32, "u64"),
        (-(2**31) - 1, "i64"),
        (0.5, "f32"),
        ("\u00e9", "str"),
        ([1, -2], "arr[i32]"),
        ([1, 2**32 - 1], "arr[u32]"),
        ([-1, 2**32 - 1], "arr[i64]"),
        ([1, 2**64 - 1], "arr[u64]"),
        ([0.5, 1.5], "arr[f32]"),
        ([True, False], "arr[bool]"),
        (["a", ""], "arr[str]"),
        (("a", "b"), "arr[str]"),
    ],
)
def test_inferred_types(tmp_path: Path, value: object, kind: str) -> None:
    expected = list(value) if isinstance(value, tuple) else value
    assert one(tmp_path / "x", value) == (expected, kind)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?", ">u2", ">f8"])
def test_numpy_keeps_its_dtype(tmp_path: Path, dtype: str) -> None:
    array = np.array([0, 1, 1], dtype)
    name = {"f4": "f32", "f8": "f64", "?": "bool"}.get(dtype.lstrip(">")) or f"{dtype[-2]}{int(dtype[-1]) * 8}"
    assert one(tmp_path / "x", array) == ([0, 1, 1], f"arr[{name}]")
    assert one(tmp_path / "x", array[1]) == (1, name)


@pytest.mark.parametrize("kind", ["u8", "uint8", "U8", gguf.ValueType.U8])
def test_named_types(tmp_path: Path, kind: str) -> None:
    assert one(tmp_path / "x", 7, kind) == (7, "u8")
    assert one(tmp_path / "x", [7], kind) == ([7], "arr[u8]")
    assert one(tmp_path / "x", [], kind) == ([], "arr[u8]")
    assert one(tmp_path / "x", np.array([7.0]).astype(int), kind) == ([7], "arr[u8]")


def test_doubles_and_integers_as_floats(tmp_path: Path) -> None:
    assert one(tmp_path / "x", 0.1, "f64") == (0.1, "f64")
    assert one(tmp_path / "x", 3, "f32") == (3.0, "f32")


def test_nested_lists(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with gguf.Writer(path) as out:
        out.add("k", [[1, 2], [3]])
        out.add("s", [["a"], ["b", "c"]])
        out.add("e", [[], [1]], "u8")
    with gguf.open(path) as file:
        assert [array.tolist() for array in file.metadata["k"]] == [[1, 2], [3]]
        assert file.metadata["s"] == [["a"], ["b", "c"]]
        assert [array.tolist() for array in file.metadata["e"]] == [[], [1]]


# ---- refusals --------------------------------------------------------------------------------------------------


def deep(levels: int) -> list[object]:
    value: list[object] = [1]
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("key", "value", "kind", "message"),
    [
        ("", 1, None, "empty"),
        ("a\0b", 1, None, "NUL"),
        ("\ud800", 1, None, "Unicode"),
        ("k" * 65536, 1, None, "65535"),
        ("k", 256, "u8", "0 to 255"),
        ("k", -1, "u32", "from 0"),
        ("k", 1.5, "i32", "integer"),
        ("k", True, "i32", "integer"),
        ("k", 1, "bool", "bool"),
        ("k", 1, "str", "expected str"),
        ("k", "x", "f32", "number"),
        ("k", 1e300, "f32", "f32 cannot hold"),
        ("k", 10**400, "f64", "f64 cannot hold"),
        ("k", 2**64, None, "64-bit"),
        pytest.param("k", [1 << 20_000], None, "64-bit", id="huge in a list"),
        pytest.param("k", 1 << 20_000, "u8", "0 to 255", id="huge"),
        ("k", None, None, "NoneType"),
        ("k", {}, None, "dict"),
        ("k", [], None, "empty list"),
        ("k", [1, "a"], None, "mixes"),
        ("k", [1, [2]], None, "mixes"),
        ("k", deep(9), None, "deeper than 8"),
        ("k", "\ud800", None, "Unicode"),
        ("k", 1, "q4_0", "unknown value type"),
        ("k", [1], "arr", "elements"),
        ("general.alignment", 64, None, "alignment="),
    ],
)
def test_illegal_metadata(tmp_path: Path, key: str, value: object, kind: str | None, message: str) -> None:
    out = gguf.Writer(tmp_path / "x")
    with pytest.raises(GGUFError, match=message):
        out.add(key, value, kind)


def test_the_deepest_legal_nesting_can_be_read_back(tmp_path: Path) -> None:
    with gguf.Writer(tmp_path / "x") as out:
        out.add("k", deep(8))
    with gguf.open(tmp_path / "x") as file:
        value = file.metadata["k"]
    for _ in range(7):
        (value,) = value
    assert value.tolist() == [1]


def test_added_twice(tmp_path: Path) -> None:
    out = gguf.Writer(tmp_path / "x")
    out.add("k", 1)
    out.add_tensor("t", (1,), "f32", bytes(4))
    with pytest.raises(GGUFError, match="'k' was added twice"):
        out.add("k", 2)
    with pytest.raises(GGUFError, match="'t' was added twice"):
        out.add_tensor("t", (1,), "f32", bytes(4))


@pytest.mark.parametrize("alignment", [0, 1, 4, 12, 33, -32, 2**25, 2**32, True, 32.0, "32"])
def test_illegal_alignments(tmp_path: Path, alignment: object) -> None:
    with pytest.raises(GGUFError, match=r"general\.alignment"):
        gguf.Writer(tmp_path / "x", alignment=alignment)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "shape", "kind", "data", "error", "message"),
    [
        ("", (1,), "f32", bytes(4), GGUFError, "empty"),
        ("a\0", (1,), "f32", bytes(4), GGUFError, "NUL"),
        ("n" * 1025, (1,), "f32", bytes(4), GGUFError, "1024"),
        ("t", (), "f32", bytes(4), GGUFError, "0 dimensions"),
        ("t", (1,) * 5, "f32", bytes(4), GGUFError, "5 dimensions"),
        ("t", (0, 4), "f32", b"", GGUFError, "at least 1"),
        ("t", (-1,), "f32", bytes(4), GGUFError, "at least 1"),
        ("t", (2**32, 2**31), "f32", bytes(4), GGUFError, "2\\^63"),
        ("t", (2, 31), "q4_0", bytes(36), GGUFError, "multiple of 32"),
        ("t", (2, 2), "f32", bytes(15), ShapeError, "16 bytes, got 15"),
        ("t", (2, 2), "f32", np.zeros((2, 2), np.int32), ShapeError, "float32"),
        ("t", (2, 32), "q4_0", np.zeros(9, np.float32), ShapeError, "uint8"),
        ("t", (2, 2), "q9", bytes(16), ArgumentError, "q9"),
    ],
)
def test_illegal_tensors(
    tmp_path: Path, name: str, shape: tuple[int, ...], kind: str, data: object, error: type[Exception], message: str
) -> None:
    out = gguf.Writer(tmp_path / "x")
    with pytest.raises(error, match=message):
        out.add_tensor(name, shape, kind, data)  # type: ignore[arg-type]


# ---- tensors and copies ----------------------------------------------------------------------------------------


def test_the_gguf_package_reads_our_file(tmp_path: Path) -> None:
    cube = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    blocks = np.frombuffer(os.urandom(2 * 36), np.uint8)
    with gguf.Writer(tmp_path / "x.gguf", alignment=64) as out:
        out.add("general.architecture", "llama")
        out.add("words", ["a", "\u00e9", ""])
        out.add("numbers", [1, 2])
        out.add("flag", True)
        out.add_tensor("cube", cube.shape, "f32", cube.transpose(0, 2, 1).copy().transpose(0, 2, 1))
        out.add_tensor("blocks", (2, 64), "q4_0", lambda: (blocks[i : i + 7] for i in range(0, 72, 7)))
    theirs = oracle.GGUFReader(tmp_path / "x.gguf")
    fields = {key: field.contents() for key, field in theirs.fields.items()}
    assert (fields["words"], fields["numbers"], fields["flag"]) == (["a", "\u00e9", ""], [1, 2], True)
    tensors = {tensor.name: tensor for tensor in theirs.tensors}
    assert (tensors["cube"].data == cube).all()
    assert tensors["cube"].shape.tolist() == [4, 3, 2]
    assert tensors["blocks"].data.tobytes() == blocks.tobytes()
    assert all(tensor.data_offset % 64 == 0 for tensor in theirs.tensors)


@pytest.mark.parametrize("name", ["models/stories260K.gguf", "conformance/qwen2_moe/model-f32.gguf"])
def test_a_copied_file_is_the_same_bytes(tmp_path: Path, shared: Path, name: str) -> None:
    with gguf.open(shared / name) as file, gguf.Writer(tmp_path / "x") as out:
        out.add_metadata(file.metadata)
        for info in file.tensors.values():
            out.add_tensor(info.name, info.shape, info.type, lambda info=info: [info.data])
    mine, theirs = (tmp_path / "x").read_bytes(), (shared / name).read_bytes()
    assert mine[: len(theirs)] == theirs
    assert not mine[len(theirs) :].strip(b"\0")  # padding behind the last tensor


def test_copies_keep_type_and_broken_bytes(tmp_path: Path) -> None:
    raw = b.gguf([b.pair("k", b.arr(b.STR, [b"\xff", "a"])), b.pair("n", b.val(b.I16, -3)), b.pair("drop", b.u32(1))])
    with gguf.open(b.write(tmp_path, raw)) as file, gguf.Writer(tmp_path / "y") as out:
        out.add_metadata(file.metadata, skip=["drop"])
        with pytest.raises(GGUFError, match="twice"):
            out.copy(file.metadata, "k")
    with gguf.open(tmp_path / "y") as file:
        assert list(file.metadata) == ["k", "n"]
        assert file.metadata.raw_strings("k") == [b"\xff", b"a"]
        assert file.metadata.type_of("n") == "i16"


@pytest.mark.parametrize("raw", [b"", b"\1\0\0", b"\1\0\0\0\0"])
def test_raw_values_are_checked(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(GGUFError, match="'k'"):
        gguf.Writer(tmp_path / "x").add_raw("k", gguf.ValueType.U32, raw)


def test_a_file_without_anything(tmp_path: Path) -> None:
    with gguf.Writer(tmp_path / "x"):
        pass
    with gguf.open(tmp_path / "x") as file:
        assert (len(file.metadata), len(file.tensors)) == (0, 0)


# ---- the target ------------------------------------------------------------------------------------------------


class Deliberate(Exception):
    pass


def failing_chunks() -> object:
    yield bytes(8)
    raise Deliberate


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (lambda: [bytes(15)], ShapeError),
        (lambda: [bytes(8), bytes(9)], ShapeError),
        (list, ShapeError),
        (failing_chunks, Deliberate),
    ],
)
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, data: object, error: type[Exception]) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"before")
    with pytest.raises(error), gguf.Writer(path) as out:
        out.add_tensor("t", (4,), "f32", data)  # type: ignore[arg-type]
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["x.gguf"]


def test_an_error_in_the_block_writes_nothing(tmp_path: Path) -> None:
    out = gguf.Writer(tmp_path / "x")
    with contextlib.suppress(Deliberate), out:
        out.add("k", 1)
        raise Deliberate
    assert os.listdir(tmp_path) == []
    with pytest.raises(GGUFError, match="closed"):
        out.add("k", 1)


def test_replaces_a_file_and_follows_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.gguf", tmp_path / "link.gguf"
    real.write_bytes(b"before")
    link.symlink_to(real)
    with gguf.Writer(link) as out:
        out.add("k", 5)
    assert link.is_symlink()
    with gguf.open(real) as file:
        assert file.metadata["k"] == 5
    assert sorted(os.listdir(tmp_path)) == ["link.gguf", "real.gguf"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        gguf.Writer(tmp_path / "x").close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_never_replaces_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "fifo", tmp_path / "folder", "/dev/null"):
        with pytest.raises(GGUFError, match="no regular file"):
            gguf.Writer(target).close()
    for target in (tmp_path / "absent" / "x", tmp_path / ("n" * 300) / "x", "a\0b"):
        with pytest.raises(GGUFError, match=r"cannot be written|is no path"):
            gguf.Writer(target).close()


def test_an_array_has_the_shape_of_its_tensor(tmp_path):
    x = np.arange(64, dtype=np.float32)
    with gguf.Writer(tmp_path / "x.gguf") as out:
        out.add("general.architecture", "llama")
        for bad in (x.reshape(32, 2), x.reshape(1, 2, 32)):
            with pytest.raises(ShapeError, match=r"tensor 't' has shape \(2, 32\), outermost first, its array \("):
                out.add_tensor("t", (2, 32), "f32", bad)
        out.add_tensor("whole", (2, 32), "f32", x.reshape(2, 32))
        out.add_tensor("flat", (2, 32), "f32", x)
        out.add_tensor("raw", (2, 32), "f32", x.view(np.uint8).reshape(1, -1))
    with gguf.open(tmp_path / "x.gguf") as file:
        assert [info.data.tobytes() for info in file.tensors.values()] == [x.tobytes()] * 3


def test_a_tensor_is_taken_as_what_it_is(tmp_path):
    made = quantize(np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32), "q8_0")
    with gguf.Writer(tmp_path / "x.gguf") as out:
        out.add("general.architecture", "llama")
        for shape, kind in (((32, 2), "f32"), ((1, 64), "q8_0"), ((2, 32), "q4_0")):
            with pytest.raises(ShapeError, match=r"a Tensor of type q8_0 and shape \(2, 32\); add it as what it is"):
                out.add_tensor("t", shape, kind, made)
        out.add_tensor("t", made.shape, made.type, made)
    with gguf.open(tmp_path / "x.gguf") as file:
        assert file.tensors["t"].data.tobytes() == made.raw.tobytes()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: None, "returns must be an iterable of arrays or bytes, got None"),
        (lambda: b"1234", "returns must be an iterable"),
        (lambda: "1234", "returns must be an iterable"),
        (lambda: [1, 2], "yields must be an array or bytes, got 1"),
        (lambda: [None], "yields must be an array or bytes, got None"),
        (lambda: [memoryview(bytes(8))[::2]], "yields must be an array or bytes"),
    ],
)
def test_what_a_function_gives_is_named(data, said, tmp_path):
    out = gguf.Writer(tmp_path / "x.gguf")
    out.add_tensor("t", (1,), "f32", data)
    with pytest.raises(ArgumentTypeError, match=f"what data of 't' {said}"):
        out.close()
    assert not list(tmp_path.iterdir())
