"""Small files that ask for much: every reader of foreign files refuses them at once, in little memory, by file name.

And what looks like them but is honest: shared weights, links inside a cache, many small tensors.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import re
import resource
import struct
import threading
import time
import zipfile

import numpy as np
import pytest
from converters import checkpoint

import pyggml
from pyggml import ArgumentError, GGUFError, PyggmlError
from pyggml.chat.template import ChatTemplate
from pyggml.converters import numpy_zip, onnx, pickled, safetensors, sentencepiece
from pyggml.files.foreign import parse_json, reading
from pyggml.gguf.format import clip
from pyggml.recipes import Rule, load_recipe
from pyggml.recipes.costs import Sensitivity
from pyggml.recipes.importance import Imatrix
from pyggml.recipes.patterns import Pattern
from pyggml.tokenizer import pretokenizers
from pyggml.tokenizer.limits import check_description, check_regex

READERS = {
    "pt": pickled.read, "safetensors": safetensors.read, "npz": numpy_zip.read, "onnx": onnx.read,
    "model": sentencepiece.read, "dat": Imatrix.load, "toml": load_recipe, "yaml": load_recipe,
    "json": Sensitivity.load,
}  # fmt: skip
HANG = 20  # seconds: what hangs does so for minutes
MEMORY = 200 << 20


def bomb(reader: str, data: bytes, folder, match: str) -> None:
    """A file's bytes must be refused soon, in little memory, by a short error that names the file."""
    path = folder / f"bomb.{reader}"
    path.write_bytes(data)
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(PyggmlError, match=match) as caught:
        READERS[reader](str(path))
    assert time.monotonic() - begin < HANG
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < MEMORY
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 2000


def zipped(entries: dict[str, bytes], way: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", way) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


def table(data: bytes) -> bytes:
    """A safetensors file with that table."""
    return len(data).to_bytes(8, "little") + data


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file(reader, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    os.symlink("loop", tmp_path / "loop")
    (tmp_path / "device").symlink_to("/dev/zero")
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as file:
        file.truncate(1 << 40)
    for name in ("fifo", "folder", "loop", "device", "none", "sparse"):
        path = tmp_path / name
        if reader in ("toml", "yaml", "json"):
            path = path.rename(tmp_path / f"{name}.{reader}") if path.is_file() else path
        begin = time.monotonic()
        with pytest.raises(PyggmlError, match=name):
            READERS[reader](str(path))
        assert time.monotonic() - begin < HANG


PICKLES = {
    "lists": (b"\x80\x02" + b"]" * 3_000_000 + b".", "more than .* steps"),
    "marks": (b"\x80\x02" + b"(" * 3_000_000 + b".", "more than .* steps"),
    "a dict made again and again": (
        b"\x80\x02]q\0(" + b"K\x01K\x02\x86" * 20000 + b"e0ccollections\nOrderedDict\nq\x01" + b"h\x01h\0\x85R0" * 9000,
        "more than .* steps",
    ),
    "a long number": (b"\x80\x02\x8b\0\0\x10\0" + b"\x7f" * (1 << 20) + b".", "a number of 1048576 bytes"),
    "bytes beyond the file": (b"\x80\x02\x8e" + struct.pack("<Q", 1 << 62) + b"abc.", "4611686018427387904"),
    "keys of one hash": (b"\x80\x02}(\x8a\x0a" + ((1 << 61) - 1).to_bytes(10, "little") + b"Nu.", "very large"),
    "a name of 2^60 items": (
        b"\x80\x02K\x01" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"\x8c\x01x\x93.",
        "no text",
    ),
    "a stride of 0": (
        b"\x80\x02}(X\1\0\0\0a" + checkpoint.tensor_opcodes("0", (1 << 26, 16), (0, 1), 16) + b"u.",
        "repeat the same bytes",
    ),
    "text opcodes": (b"\x80\x02V" + b"a" * 100_000, "UNICODE"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_pickles(name, layout, tmp_path):
    data, match = PICKLES[name]
    way = zipfile.ZIP_STORED if name == "a stride of 0" else zipfile.ZIP_DEFLATED
    if layout == "zip":
        bomb("pt", zipped({"archive/data.pkl": data, "archive/data/0": bytes(64)}, way), tmp_path, match)
    elif name != "a stride of 0":  # judged when the magic number was seen
        bomb("pt", data, tmp_path, match)


def test_a_weight_that_layers_share_is_fine_and_a_multiplied_one_is_not(tmp_path):
    def shared(count: int, size: int) -> bytes:
        rows = [checkpoint._text(f"t{i}") + checkpoint.tensor_opcodes("0", (size,), (1,), size) for i in range(count)]
        return zipped(
            {"a/data.pkl": b"\x80\x02}(" + b"".join(rows) + b"u.", "a/data/0": bytes(4 * size)}, zipfile.ZIP_STORED
        )

    (tmp_path / "x.pt").write_bytes(shared(40, 1000))
    assert len(pickled.read(str(tmp_path / "x.pt"))) == 40
    bomb("pt", shared(2000, 100_000), tmp_path, "repeat the same bytes")


def test_an_expanded_tensor_is_refused_when_it_is_read(tmp_path):
    rows = checkpoint._text("mask") + checkpoint.tensor_opcodes("0", (100, 4), (0, 1), 4)
    rows += checkpoint._text("w") + checkpoint.tensor_opcodes("0", (1, 4), (0, 1), 4)
    data = {"a/data.pkl": b"\x80\x02}(" + rows + b"u.", "a/data/0": np.arange(4, dtype=np.float32).tobytes()}
    (tmp_path / "x.pt").write_bytes(zipped(data, zipfile.ZIP_STORED))
    found = pickled.read(str(tmp_path / "x.pt"))
    assert found["w"].read().tolist() == [[0, 1, 2, 3]]
    with pytest.raises(GGUFError, match=r"x\.pt'.* makes 400 values of a storage of 4"):
        found["mask"].read()


def test_archives(tmp_path):
    head = (
        b"\x93NUMPY\1\0" + struct.pack("<H", 70) + b"{'descr': '<f8', 'fortran_order': False, 'shape': (134217728,), }"
    )
    bomb("npz", zipped({"a.npy": head.ljust(80) + bytes(1 << 20)}), tmp_path, "needs 1073741824 bytes")
    bomb("npz", zipped({"a.npy": b"\x93NUMPY\2\0" + struct.pack("<I", 1 << 31) + bytes(9 << 20)}), tmp_path, "header")
    many = {f"{i}.npy": head.replace(b"134217728", b"  1048576").ljust(80) + bytes(8 << 20) for i in range(12)}
    bomb("npz", zipped(many), tmp_path, "repeat the same bytes")
    bomb("npz", zipped({"/a.npy": head}), tmp_path, "leaves the archive")
    bomb("npz", zipped({"a.npy": head}, zipfile.ZIP_LZMA), tmp_path, "method 14")
    whole = zipped({"a.npy": head.replace(b"134217728", b"        1").ljust(80) + bytes(8)})
    broken = bytearray(whole)
    broken[45] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(broken)
    with pytest.raises(GGUFError, match=r"x\.npz"):
        numpy_zip.read(str(tmp_path / "x.npz"))["a"].read()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (table(b'{"a":[' + b"[]," * (3 << 20) + b"1]}"), "more than"),
        (table(b'{"a":' * 50_000), "nested too deeply"),
        (table(b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,1]}}'), "5000 digits"),
        (table(b'{"a":{},"a":{}}'), "comes twice"),
        (table(json.dumps({"a": {"dtype": "U8", "shape": [1] * 99_999}}).encode()), "has the shape"),
        (table(b'{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "no JSON"),
    ],
)  # fmt: skip
def test_tables_of_safetensors(data, match, tmp_path):
    bomb("safetensors", data, tmp_path, match)


def test_protocol_buffers(tmp_path):
    field = checkpoint.field
    bomb("onnx", field(7, field(1, b"") * 530_000), tmp_path, "more than .* fields")
    bomb("onnx", field(7, field(5, field(2, 1) + field(8, b"a" * 5000))), tmp_path, "a text of 5000 bytes")
    bomb("onnx", field(7, field(5, field(1, b"\1" * 1_000_000))), tmp_path, "at most 8")
    bomb("onnx", field(7, field(5, b"\x08" + b"\xff" * 9 + b"\x7f")), tmp_path, "64 bits")
    bomb("onnx", field(7, field(5, b"\x08" + b"\xff" * 12)), tmp_path, "damaged or cut")
    bomb("model", field(1, b"") * 2_000, tmp_path, "has no text")
    bomb("model", field(1, field(1, b"a" * 5000)), tmp_path, "a text of 5000 bytes")


def test_external_data_through_links(tmp_path):
    """A cache keeps files under other names elsewhere and links them into a folder."""
    weights = {"lm_head.weight": checkpoint.tensors()["lm_head.weight"]}
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    checkpoint.onnx(snapshot / "model.onnx", weights)
    for name in ("model.onnx", "weights.bin"):
        os.rename(snapshot / name, blobs / f"sha-{name}")
        os.symlink(f"../../blobs/sha-{name}", snapshot / name)
    got = onnx.read(str(snapshot / "model.onnx"))["lm_head.weight"].read()
    assert np.array_equal(got, weights["lm_head.weight"])
    (snapshot / "weights.bin").unlink()
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(got.nbytes))
    os.symlink(secret, snapshot / "weights.bin")
    with pytest.raises(GGUFError, match="not in the model's own folder"):
        onnx.read(str(snapshot / "model.onnx"))


def test_recipes(tmp_path):
    for text, match in (
        ("a." * 50_000 + "a = 1", "nested deeper"),
        ("a = " + "[" * 50_000, "nested deeper"),
        ("max_size = 0x" + "f" * 50_000, "integer of"),
        ("max_size = " + "9" * 50_000, "no TOML"),
        ("[[rules]]\n" * 9000, "at most 4096 rules"),
        ("[[rules]]\n" * 600_000, "tables; a recipe has at most"),
        ("#\n" * 4_000_000, "lines; a recipe has at most"),
        ("''" * 4_000_000, "quotes and comments; a recipe has at most"),
        ("a=" + "9" * 9_000_000, "at most outside of texts"),
        ("a=[" + "1," * 4_000_000, "values; a recipe has at most"),
        ("x" * (1 << 19), "at most"),
        ("x" * (1 << 25), "at most"),
        ("[types]\n" + "'" + "(" * 900 + "' = 'q4_0'", "nested too deeply|no regular"),
    ):
        bomb("toml", text.encode(), tmp_path, match)
    pytest.importorskip("yaml")
    laughs = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
    )
    for text, match in (
        (laughs, "aliases"),
        ("a: " + "[" * 9000, "brackets"),
        ("- " * 9000, "nested deeper"),
        ("max_size: " + "9" * 9000, "digits"),
        ("note: !!python/object/apply:os.system [x]", "constructor"),
        ("note: 2026-99-99", "month"),
    ):
        bomb("yaml", text.encode(), tmp_path, match)


def test_importance_matrices(tmp_path):
    bomb("dat", struct.pack("<i", 1 << 30), tmp_path, "number of entries")
    bomb("dat", struct.pack("<iiciI", 1, 1, b"a", 1, 1 << 26), tmp_path, "cut")
    entry = struct.pack("<icii", 1, b"a", 1, 1) + struct.pack("<f", 1)
    bomb("dat", struct.pack("<i", 2) + 2 * entry, tmp_path, "comes twice")


# ---- expressions over names ------------------------------------------------------------------------------------


def _expression(rng: random.Random, depth: int = 0) -> str:
    way = rng.random()
    if depth > 3 or way < 0.35:
        return rng.choice(
            ["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\.", "0", r"\b", "^", "$", "(?i:A)", "[a-c]", "x"]
        )
    inner = _expression(rng, depth + 1)
    if way < 0.6:
        return inner + _expression(rng, depth + 1)
    if way < 0.75:
        return f"(?:{inner}|{_expression(rng, depth + 1)})"
    if way < 0.9:
        return f"(?:{inner}){rng.choice(['*', '+', '?', '{2}', '{1,3}', '*?', '+?', '{2,}'])}"
    return rng.choice([f"(?={inner})", f"(?!{inner})", "(?<=a)", "(?<![ab]0)", f"({inner}|)"])


def test_patterns_mean_what_python_means():
    rng, compared = random.Random(11), 0
    for _ in range(1500):
        text = _expression(rng)
        try:
            wanted = re.compile(text)
        except re.error:
            continue
        pattern = Pattern(text)
        for _ in range(4):
            name = "".join(rng.choice("aabbc0.A \n") for _ in range(rng.randrange(9)))
            assert pattern.search(name) == (wanted.search(name) is not None), (text, name)
            compared += 1
    assert compared > 4000


@pytest.mark.parametrize(
    "text", ["(a+)+$", "(a|a)*$b", "(.*)*(.*)*(.*)*x", "(?=(a+)+$)a*b", "(?:a?){99}b", "(a*)*" * 20 + "b"]
)
def test_patterns_that_would_hang(text):
    begin = time.monotonic()
    assert not Rule(text, "q4_0").matcher(4)("a" * 1000 + "!")
    assert time.monotonic() - begin < HANG


@pytest.mark.parametrize("text", [r"(a)\1", "(", "a" * 2000, "(a{1000}){1000}", "((a?){90}){90}"])
def test_patterns_that_are_refused(text):
    with pytest.raises(ArgumentError, match="rule"):
        Rule(text, "q4_0")


def test_patterns_in_threads():
    pattern = Pattern("^(?!.*norm).*(?<=_)q")
    names = [f"blk.{i}.attn_{kind}" for i in range(50) for kind in ("q", "k", "norm")]
    wrong: list[str] = []

    def ask() -> None:
        wrong.extend(name for name in names if pattern._search(name) != name.endswith("_q"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- tokenizers and templates ----------------------------------------------------------------------------------


LONG_MAP = base64.b64encode(struct.pack("<I", 1024) + bytes(1024) + b"x" * 300 + b"\0").decode()


def test_what_a_tokenizer_json_may_ask():
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 9}
    nothing = {"type": "Replace", "pattern": {"Regex": ""}, "content": "x" * 99}
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    for table_, match in (
        ({"normalizer": {"type": "Sequence", "normalizers": [grow] * 2}}, "many times longer"),
        ({"normalizer": nothing}, "replaces nothing"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 1000}}, "more than 256 steps"),
        ({"normalizer": {"type": "Prepend", "prepend": "x" * 9999}}, "many times longer"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": LONG_MAP}}, "of a character"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "damaged"),
        ({"model": {"merges": ["a b"] * 1_100_000}}, "1,100,000 entries"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]}}, "repeats repeats"),
        ([], "expected an object"),
    ):
        with pytest.raises(GGUFError, match=match):
            check_description(json.dumps(table_), "tokenizer.json")
    with pytest.raises(GGUFError, match="nested too deeply"):
        check_description("[" * 50_000, "tokenizer.json")


def test_expressions_of_known_tokenizers_are_fine():
    for pre in pretokenizers.TABLE.values():
        for regex in pre.regexes:
            check_regex(regex, "x")
    check_regex(r"(?=(\d{3})+(?!\d))|[[:alpha:]]+|\P{L}+|\p{^N}+|\h+", "x")


def test_a_format_that_is_searched_again_and_again():
    begin = time.monotonic()
    for source in ("{{ ('%(' * 500000) % 1 }}", "{{ '%(a(b))1000000000d' % {'a(b)': 1} }}"):
        with pytest.raises(pyggml.PyggmlError, match="brackets in it"):
            ChatTemplate(source).render([{"role": "user", "content": "x"}])
    assert time.monotonic() - begin < HANG
    assert ChatTemplate("{{ '%5s|%(a)d%%' % {'a': 2} }}".replace("%5s", "%(a)5s")).render([]) == "    2|2%"


# ---- the mechanism ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "more memory than there is"),
        (RecursionError("x"), "nested too deeply"),
        (KeyError("k"), "KeyError"),
        (struct.error("s"), "error: s"),
        (zipfile.BadZipFile("z"), "BadZipFile: z"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "bad"),
        (ValueError("v" * 9000), "vvv"),
        (GGUFError("inside"), "inside"),
    ],
)
def test_errors_of_libraries_become_ours(error, said):
    with pytest.raises(GGUFError, match=said) as caught, reading("a/model.bin", "model"):
        raise error
    assert "a/model.bin" in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_what_the_user_did_is_not_the_files_fault():
    for error in (KeyboardInterrupt, SystemExit):
        with pytest.raises(error), reading("x", "model"):
            raise error
    with pytest.raises(ArgumentError, match=r"'x': too few"), reading("x", "model"):
        raise ArgumentError("too few")


def test_json_is_bounded_before_it_is_parsed():
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, "\\ud83d\\ude42"]}', 9) == {"a": [1, 2.5, "\U0001f642"]}
    with pytest.raises(GGUFError, match="more than 9 values"):
        parse_json(b"[" + b"1," * 10 + b"1]", 9)
    with pytest.raises(GGUFError, match="400 digits"):
        parse_json(b"9" * 400, 9)
    with pytest.raises(GGUFError, match="'a' comes twice"):
        parse_json(b'{"a": 1, "b": 2, "a": 1}', 9, unique=True)


def test_shown_values_are_bounded():
    value: object = 1
    for _ in range(90):
        value = (value, value)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for each in (value, deep, {i: i for i in range(1000)}, "x" * 10**6, [10**5000], b"\0" * 10**6):
        assert len(clip(each)) <= 120
    assert clip([1, "a", (2,), {"k": None}]) == "[1, 'a', (2,), {'k': None}]"


def test_a_source_that_is_cut_while_it_is_read(tmp_path):
    """What is read is not mapped: a file that another program cuts is an error, never the end of the process."""
    src = checkpoint.folder(tmp_path / "src")
    checkpoint.safetensors(src / "model.safetensors", checkpoint.tensors())

    def cut(done: int, total: int) -> None:
        os.truncate(src / "model.safetensors", 4096)

    with pytest.raises(GGUFError, match=r"model\.safetensors.* changed after it was opened"):
        pyggml.convert(src, tmp_path / "x.gguf", progress=cut)
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_many_small_tensors_are_fine(tmp_path):
    weights = {f"t.{i}": np.ones((2, 2), np.float32) for i in range(5000)}
    checkpoint.torch_zip(tmp_path / "x.pt", weights)
    checkpoint.safetensors(tmp_path / "x.safetensors", weights)
    assert len(pickled.read(str(tmp_path / "x.pt"))) == len(safetensors.read(str(tmp_path / "x.safetensors"))) == 5000


def test_onnx_that_is_cut_while_it_is_parsed(tmp_path, monkeypatch):
    """It is read by position: a map would end the process."""
    path = tmp_path / "m.onnx"
    checkpoint.onnx(path, checkpoint.tensors(), checkpoint.onnx_constants() + checkpoint.field(2, bytes(1 << 18)))
    first = onnx._initialiser

    def cut(*given):
        os.truncate(path, 100)
        return first(*given)

    monkeypatch.setattr(onnx, "_initialiser", cut)
    with pytest.raises(GGUFError, match=r"m\.onnx' changed after it was opened: its size went from \d+ to 100"):
        onnx.read(str(path))


def test_onnx_says_how_many_numbers_it_has_before_they_are_read(tmp_path):
    """A sparse file costs nothing, the terabyte of zeros in it would."""
    field = checkpoint.field
    size = 1 << 40
    tensor = field(1, 4) + field(2, 1) + field(8, b"a.weight") + b"\x22" + checkpoint._varint(size)  # float_data
    inner = b"\x2a" + checkpoint._varint(len(tensor) + size) + tensor
    head = field(1, 8) + b"\x3a" + checkpoint._varint(len(inner) + size) + inner
    with open(tmp_path / "m.onnx", "wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
    with pytest.raises(GGUFError, match="more or fewer values than its shape"):
        onnx.read(str(tmp_path / "m.onnx"))["a.weight"].read()
