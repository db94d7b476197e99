"""The reader: values, tensors, split files, the watch over the file. Hostile files are in tests/attack."""

from __future__ import annotations

import errno
import gc
import os
import struct
from pathlib import Path

import gguf as oracle
import numpy as np
import pytest
from attack import build as b

import pyggml.gguf as gguf
from pyggml.errors import GGUFError, OutOfMemory, ShapeError, UnsupportedError
from pyggml.quant.types import QuantType


def descriptors() -> int:
    gc.collect()  # the traceback of an error holds its map
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return b.write(tmp_path, b.llama())


# ---- against the gguf package ----------------------------------------------------------------------------------

FILES = [
    "models/stories260K.gguf",
    "conformance/llama/model-f32.gguf",
    "conformance/bert/model-f32.gguf",
    "conformance/qwen2_moe/model-f32.gguf",
    "vocab/ggml-vocab-llama-spm.gguf",
]


@pytest.mark.parametrize("name", FILES)
def test_reads_what_the_gguf_package_reads(shared: Path, name: str) -> None:
    theirs = oracle.GGUFReader(shared / name)
    with gguf.open(shared / name) as file:
        assert list(file.metadata) == [key for key in theirs.fields if not key.startswith("GGUF.")]
        for key, value in file.metadata.items():
            expected = theirs.fields[key].contents()
            assert (value.tolist() if isinstance(value, np.ndarray) else value) == expected, key
        assert list(file.tensors) == [tensor.name for tensor in theirs.tensors]
        for tensor in theirs.tensors:
            info = file.tensors[tensor.name]
            assert info.shape == tuple(int(dim) for dim in tensor.shape[::-1])
            assert (info.type.id, info.offset, info.nbytes) == (tensor.tensor_type, tensor.data_offset, tensor.n_bytes)
            assert info.data.tobytes() == tensor.data.tobytes()


def test_reads_what_the_gguf_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    theirs = oracle.GGUFWriter(path, "llama")
    theirs.add_uint8("a.u8", 255)
    theirs.add_int16("a.i16", -5)
    theirs.add_uint64("a.u64", 2**63)
    theirs.add_float64("a.f64", 0.1)
    theirs.add_bool("a.yes", True)
    theirs.add_string("a.text", "\u00e9\u4e16")
    theirs.add_array("a.words", ["x", "", "yz"])
    theirs.add_array("a.numbers", [1, -2, 3])
    theirs.add_custom_alignment(64)
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    theirs.add_tensor("cube", values)
    theirs.write_header_to_file()
    theirs.write_kv_data_to_file()
    theirs.write_tensors_to_file()
    theirs.close()
    with gguf.open(path) as file:
        m = file.metadata
        assert (m["a.u8"], m["a.i16"], m["a.u64"], m["a.f64"]) == (255, -5, 2**63, 0.1)
        assert (m["a.yes"], m["a.text"], m["a.words"]) == (True, "\u00e9\u4e16", ["x", "", "yz"])
        assert m["a.numbers"].tolist() == [1, -2, 3]
        assert file.alignment == 64
        assert file.tensors["cube"].shape == (2, 3, 4)
        assert (file.tensors["cube"].data.view("<f4").reshape(2, 3, 4) == values).all()


# ---- values ----------------------------------------------------------------------------------------------------


def values_file(folder: Path, **values: b.Value) -> gguf.GGUFFile:
    return gguf.open(b.write(folder, b.gguf([b.pair(key, value) for key, value in values.items()])))


@pytest.mark.parametrize(
    ("kind", "value"),
    [(b.U8, 200), (b.I8, -7), (b.U16, 65535), (b.I16, -3), (b.U32, 2**32 - 1), (b.I32, -(2**31)), (b.F32, 1.5),
     (b.BOOL, True), (b.U64, 2**64 - 1), (b.I64, -(2**63)), (b.F64, 1e300), (b.STR, "x\0y")],
)  # fmt: skip
def test_scalars(tmp_path: Path, kind: int, value: object) -> None:
    with values_file(tmp_path, k=b.val(kind, value)) as file:
        assert file.metadata["k"] == value
        assert type(file.metadata["k"]) is type(value)
        assert file.metadata.array_length("k") is None


@pytest.mark.parametrize("kind", [b.U8, b.I8, b.U16, b.I16, b.U32, b.I32, b.F32, b.BOOL, b.U64, b.I64, b.F64])
def test_number_arrays_are_read_only_copies(tmp_path: Path, kind: int) -> None:
    with values_file(tmp_path, k=b.arr(kind, [0, 1, 1])) as file:
        array = file.metadata["k"]
        assert array.tolist() == [0, 1, 1]
        assert array.dtype.isnative
        assert file.metadata["k"] is array
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        assert file.metadata.array_length("k") == 3
    assert array.tolist() == [0, 1, 1]


def test_string_arrays_decode_late_and_give_their_bytes(tmp_path: Path) -> None:
    with values_file(tmp_path, k=b.arr(b.STR, ["a", b"\xff\xfe", "\u00e9", ""])) as file:
        assert file.metadata["k"] == ["a", "\ufffd\ufffd", "\u00e9", ""]
        assert file.metadata.raw_strings("k") == [b"a", b"\xff\xfe", "\u00e9".encode(), b""]
        assert file.metadata.type_of("k") == "arr[str]"


def test_raw_strings_of_something_else_is_an_error(tmp_path: Path) -> None:
    with values_file(tmp_path, k=b.u32(1), n=b.arr(b.I32, [1])) as file:
        for key, kind in (("k", "u32"), ("n", r"arr\[i32\]")):
            with pytest.raises(GGUFError, match=f"'{key}' is {kind}, expected"):
                file.metadata.raw_strings(key)
        with pytest.raises(KeyError):
            file.metadata["absent"]


def test_empty_and_nested_arrays(tmp_path: Path) -> None:
    inner = b.arr(b.STR, ["p", "qr"])[1] + b.arr(b.U8, [7])[1]
    deep = struct.pack("<IQ", b.ARR, 1) + struct.pack("<IQ", b.ARR, 1) + b.arr(b.F32, [2.0])[1]
    with values_file(
        tmp_path, e=b.arr(b.STR, []), f=b.arr(b.F64, []), n=(b.ARR, struct.pack("<IQ", b.ARR, 2) + inner),
        d=(b.ARR, deep), last=b.u32(9),
    ) as file:  # fmt: skip
        assert file.metadata["e"] == []
        assert file.metadata["f"].shape == (0,)
        assert file.metadata["n"][0] == ["p", "qr"]
        assert file.metadata["n"][1].tolist() == [7]
        assert file.metadata["d"][0][0].tolist() == [2.0]
        assert file.metadata["last"] == 9


def test_long_strings_decode_late(tmp_path: Path) -> None:
    with values_file(tmp_path, k=b.string("\u00e9" * 10_000)) as file:
        assert file.metadata["k"] == "\u00e9" * 10_000


# ---- tensors ---------------------------------------------------------------------------------------------------


def test_shapes_are_row_major_and_data_is_a_read_only_copy(model: Path) -> None:
    with gguf.open(model) as file:
        info = file.tensors["blk.0.attn_k.weight"]
        assert (info.shape, info.type, info.n_elements, info.nbytes) == ((16, 32), QuantType.F32, 512, 2048)
        data = info.data
        assert (data.dtype, data.shape, data.flags.writeable, data.flags.owndata) == (np.uint8, (2048,), False, True)
        assert model.read_bytes()[info.offset : info.offset + 2048] == data.tobytes()
    assert data.sum() > 0  # and stays when the file goes


def test_read_into_copies_without_the_map(model: Path) -> None:
    with gguf.open(model) as file:
        info = file.tensors["blk.0.attn_k.weight"]
        out = np.empty(512, np.float32)
        info.read_into(out)
        assert out.tobytes() == info.data.tobytes()
        for bad in (bytearray(2047), b"\0" * 2048, np.empty((2048, 2), np.uint8)[:, 0]):
            with pytest.raises(ShapeError, match=r"attn_k.*2048"):
                info.read_into(bad)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [8, 16, 32, 4096])
def test_versions_and_alignments(tmp_path: Path, version: int, alignment: int) -> None:
    pairs = [b.pair("general.alignment", b.u32(alignment))]
    raw = b.gguf(pairs, [b.tensor("t", [3])], struct.pack("<3f", 1, 2, 3), version=version, alignment=alignment)
    with gguf.open(b.write(tmp_path, raw)) as file:
        assert (file.version, file.alignment, file.tensors["t"].offset % alignment) == (version, alignment, 0)
        assert file.tensors["t"].data.view("<f4").tolist() == [1, 2, 3]


def test_integer_and_activation_tensors_can_be_read(tmp_path: Path) -> None:
    records = [b.tensor("i", [2], 26, 0), b.tensor("a", [256], 15, 32)]
    with gguf.open(b.write(tmp_path, b.gguf([], records, bytes(32 + 292)))) as file:
        assert not file.tensors["i"].type.is_weight
        assert file.tensors["a"].nbytes == 292
        assert not file.tensors["a"].type.is_weight


# ---- the file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [str, os.fsencode, Path])
def test_paths_of_every_kind(tmp_path: Path, convert: type) -> None:
    path = b.write(tmp_path, b.llama(), "a name with spaces and \u00e9\u4e16.gguf")
    with gguf.open(convert(path)) as file:
        assert file.path == str(path)
        assert file.paths == (str(path),)
        assert file.size == path.stat().st_size


def test_opening_leaks_no_descriptor(model: Path, tmp_path: Path) -> None:
    broken = b.write(tmp_path, b.llama()[:100], "broken.gguf")
    before = descriptors()
    for _ in range(20):
        with gguf.open(model) as file:
            _ = file.metadata["tokenizer.ggml.tokens"]
        with pytest.raises(GGUFError):
            gguf.open(broken)
    assert descriptors() == before


def test_closed_files_say_so(model: Path) -> None:
    file = gguf.open(model)
    info = file.tensors["output.weight"]
    file.close()
    file.close()
    for call in (file.check_unchanged, lambda: info.data, lambda: info.read_into(bytearray(info.nbytes))):
        with pytest.raises(GGUFError, match="is closed"):
            call()
    with pytest.raises(GGUFError, match="is closed"):
        _ = file.metadata["tokenizer.ggml.tokens"]
    assert file.metadata["llama.block_count"] == 1
    assert "closed" in repr(file)


def test_a_replaced_file_does_not_disturb_an_open_one(model: Path) -> None:
    with gguf.open(model) as file:
        other = model.with_name("other")
        other.write_bytes(b.llama(fill=0.5))
        os.replace(other, model)
        file.check_unchanged()
        assert file.tensors["output.weight"].data.view("<f4")[0] == np.float32(0.01)


def test_a_share_that_went_away(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*args: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with gguf.open(model) as file:
        info = file.tensors["output.weight"]
        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", stale)
            with pytest.raises(GGUFError, match="cannot be read at"):
                info.read_into(bytearray(info.nbytes))
        with monkeypatch.context() as patch:
            patch.setattr("pyggml.files.regular_file.os.fstat", stale)
            with pytest.raises(GGUFError, match="is gone"):
                file.check_unchanged()


def test_no_memory_for_an_array(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise MemoryError

    with gguf.open(model) as file:
        monkeypatch.setattr("pyggml.gguf.metadata._decode", refuse)
        with pytest.raises(OutOfMemory, match=r"8 elements of 'tokenizer\.ggml\.tokens'"):
            _ = file.metadata["tokenizer.ggml.tokens"]
    monkeypatch.setattr("pyggml.gguf.file.read_entries", refuse)
    with pytest.raises(OutOfMemory, match="no memory for its header"):
        gguf.open(model)


def test_repr_is_a_table(model: Path) -> None:
    with gguf.open(model) as file:
        lines = repr(file).splitlines()
    assert "GGUF v3" in lines[0]
    assert "12 tensors" in lines[0]
    assert any("llama.block_count" in line and line.rstrip().endswith("1") for line in lines)
    assert any("blk.0.attn_k.weight" in line and "f32" in line and "16 x 32" in line for line in lines)


def test_repr_of_strange_names_stays_printable_and_short(tmp_path: Path) -> None:
    pairs = [b.pair("\x1b[31m" + "k" * 60_000, b.string("\x1b]0;x\x07" * 1000))]
    pairs += [b.pair(f"k{i}", b.u32(i)) for i in range(1000)]
    records = [b.tensor(f"\u202e{i}", [8], 0, 32 * i) for i in range(1000)]
    with gguf.open(b.write(tmp_path, b.gguf(pairs, records, bytes(32 * 1000)))) as file:
        text = repr(file)
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert len(text) < 20_000
    assert "tensors more" in text


# ---- split files -----------------------------------------------------------------------------------------------


def split(folder: Path, n: int = 3, name: str = "m", **wrong: dict[str, b.Value | None]) -> list[Path]:
    """n parts of one tensor each; wrong[f"p{i}"] changes the metadata of part i."""
    paths = []
    for i in range(n):
        values: dict[str, b.Value | None] = {
            "split.no": b.val(b.U16, i), "split.count": b.val(b.U16, n), "split.tensors.count": b.val(b.I32, n)
        }  # fmt: skip
        if i == 0:
            values["general.architecture"] = b.string("llama")
        values.update(wrong.get(f"p{i}", {}))
        pairs = [b.pair(key, value) for key, value in values.items() if value is not None]
        raw = b.gguf(pairs, [b.tensor(f"t{i}", [8])], struct.pack("<8f", *[i] * 8))
        paths.append(b.write(folder, raw, f"{name}-{i + 1:05d}-of-{n:05d}.gguf"))
    return paths


@pytest.mark.parametrize("start", [0, 1, 2])
def test_any_part_opens_all_parts(tmp_path: Path, start: int) -> None:
    paths = split(tmp_path)
    with gguf.open(paths[start]) as file:
        assert list(file.tensors) == ["t0", "t1", "t2"]
        assert [info.part for info in file.tensors.values()] == [0, 1, 2]
        assert [info.path for info in file.tensors.values()] == [str(path) for path in paths]
        assert [info.data.view("<f4")[0] for info in file.tensors.values()] == [0, 1, 2]
        assert file.arch == "llama"
        assert file.path == str(paths[0])
        os.utime(paths[2], ns=(1, 1))
        with pytest.raises(GGUFError, match=r"00003-of-00003.*changed"):
            file.check_unchanged()


def test_a_split_file_of_the_gguf_package(tmp_path: Path) -> None:
    theirs = oracle.GGUFWriter(tmp_path / "s.gguf", "llama", split_max_tensors=2)
    for i in range(5):
        theirs.add_tensor(f"t{i}", np.full(8, i, np.float32))
    theirs.write_header_to_file(tmp_path / "s.gguf")
    theirs.write_kv_data_to_file()
    theirs.write_tensors_to_file()
    theirs.close()
    with gguf.open(tmp_path / "s-00001-of-00003.gguf") as file:
        assert [info.data.view("<f4")[0] for info in file.tensors.values()] == list(range(5))


def test_missing_part_is_named(tmp_path: Path) -> None:
    paths = split(tmp_path)
    paths[1].unlink()
    with pytest.raises(GGUFError, match=r"m-00002-of-00003.gguf' is missing"):
        gguf.open(paths[0])


def test_renamed_part_says_what_its_name_must_be(tmp_path: Path) -> None:
    paths = split(tmp_path)
    paths[0].rename(tmp_path / "plain.gguf")
    with pytest.raises(GGUFError, match=r"plain.gguf.*split in 3.*NAME-00001-of-00003"):
        gguf.open(tmp_path / "plain.gguf")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"p0": {"split.no": b.val(b.U16, 1)}}, "split.no is 1"),
        ({"p1": {"split.no": b.val(b.U16, 2)}}, "split.no and split.count"),
        ({"p1": {"split.count": b.val(b.U16, 2)}}, "split.no and split.count"),
        ({"p2": {"split.no": None, "split.count": None}}, "split.no and split.count"),
        ({"p0": {"split.count": b.u32(2**31)}}, "split.count is 2147483648"),
        ({"p0": {"split.count": b.string("3")}}, "split.count is '3'"),
        ({"p0": {"split.count": b.val(b.U16, 4)}}, "NAME-00001-of-00004"),
        ({"p2": {"split.tensors.count": b.val(b.I32, 4)}}, "split.tensors.count is 4, the parts hold 3"),
        ({"p0": {"split.tensors.count": b.val(b.I32, -1)}}, "split.tensors.count is -1"),
    ],
)
def test_contradicting_parts(tmp_path: Path, wrong: dict[str, dict[str, b.Value | None]], message: str) -> None:
    before = descriptors()
    with pytest.raises(GGUFError, match=message):
        gguf.open(split(tmp_path, **wrong)[0])
    assert descriptors() == before


def test_the_same_tensor_in_two_parts(tmp_path: Path) -> None:
    paths = split(tmp_path, 2)
    paths[1].write_bytes(paths[1].read_bytes().replace(b"t1", b"t0"))
    with pytest.raises(GGUFError, match="'t0' appears twice"):
        gguf.open(paths[0])


def test_arch_is_named_or_missing(tmp_path: Path) -> None:
    with values_file(tmp_path, k=b.u32(1)) as file, pytest.raises(GGUFError, match="architecture is missing"):
        _ = file.arch
    with pytest.raises(UnsupportedError):
        gguf.open(b.write(tmp_path, b.gguf(version=1)))
