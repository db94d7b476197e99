"""ONNX files: the initialisers of the main graph, inside the file or beside it as external data.

A weight that only a MatMul reads has lost its name in the export: it takes the node's path and is turned, so that
"/model/layers.0/mlp/up_proj/MatMul" gives "model.layers.0.mlp.up_proj.weight" (out, in). The architecture is not read
from the graph: a config.json beside the file says it. Field numbers: onnx.proto3.
"""

from __future__ import annotations

import math
import os
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters import protobuf as pb
from pyggml.converters.stored import DTYPES, FLOATS, MAX_DIMS, Stored, array_of, check_shape, check_total, reader
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.files.foreign import name_of
from pyggml.files.regular_file import RegularFile
from pyggml.shown import clip

_TYPES = {
    1: "f32", 2: "u8", 3: "i8", 4: "u16", 5: "i16", 6: "i32", 7: "i64", 9: "bool", 10: "f16", 11: "f64", 12: "u32",
    13: "u64", 16: "bf16",
}  # fmt: skip
_MAX_FIELDS = 1 << 19  # of the whole model; a graph of ten thousand nodes has some 100,000
_STRING = 8
_MOST_CONSTANT = 1 << 20  # numbers of a mask or of positions; whole weights that were quantized have 8 bits
_NODE_OPS = ("MatMul", "Gemm", "Gather", "Add")


@reader("ONNX model")
def read(path: str) -> dict[str, Stored]:
    """The initialisers by name. Raises GGUFError."""
    file = RegularFile(path, "an ONNX model")
    what = name_of(path)
    graph: pb.Part | None = None
    for number, value in pb.fields(pb.whole(file, what, _MAX_FIELDS)):
        if number == 7:
            graph = pb.message(value, what)
    if graph is None:
        raise GGUFError(f"{what} holds no graph: it is no ONNX model, or was cut")
    raw: dict[str, Stored] = {}
    readers: dict[str, list[tuple[str, str, int]]] = {}
    beside: dict[str, RegularFile] = {}
    for number, value in pb.fields(graph):
        if number == 5:
            stored = _initialiser(file, pb.message(value, what), beside)
            if stored is None or _is_constant(stored):
                continue
            if stored.name in raw:
                raise GGUFError(f"{what}: two initialisers are called {clip(stored.name)}")
            raw[stored.name] = stored
        elif number == 1:
            _note_readers(pb.message(value, what), what, readers)
    check_total(what, raw.values(), file.size + sum(each.size for each in beside.values()))
    return dict(_named(stored, readers.get(stored.name, [])) for stored in raw.values())


def _is_constant(stored: Stored) -> bool:
    """Whether it belongs to the graph and not to the model: shapes and positions, a factor, a bound.

    Quantized weights are whole numbers too, and are left to be refused by name.
    """
    count = math.prod(stored.shape)
    if stored.dtype in FLOATS:
        return count == 1 and not stored.name.endswith((".weight", ".bias"))
    return stored.dtype in ("i32", "i64", "bool") and count <= _MOST_CONSTANT


def _note_readers(node: pb.Part, what: str, readers: dict[str, list[tuple[str, str, int]]]) -> None:
    inputs: list[str] = []
    name = op = ""
    for number, value in pb.fields(node):
        if number == 1:
            inputs.append(pb.text(value, what))
        elif number == 3:
            name = pb.text(value, what)
        elif number == 4:
            op = pb.text(value, what)
    if op in _NODE_OPS:
        for place, each in enumerate(inputs):
            readers.setdefault(each, []).append((op, name, place))


def _named(stored: Stored, readers: list[tuple[str, str, int]]) -> tuple[str, Stored]:
    """The name a weight had in the model, and the weight as (out, in)."""
    if "::" not in stored.name and not stored.name.isdigit():
        return stored.name, stored
    for op, node, place in readers:
        if op == "MatMul" and place == 1 and node.endswith("/MatMul") and len(stored.shape) == 2:
            name = node.removesuffix("/MatMul").strip("/").replace("/", ".") + ".weight"
            turned = (stored.shape[1], stored.shape[0])
            return name, Stored(name, turned, stored.dtype, partial(_turned, stored))
    return stored.name, stored


def _turned(stored: Stored) -> NDArray[Any]:
    return np.ascontiguousarray(stored.read().T)


def _initialiser(file: RegularFile, tensor: pb.Part, beside: dict[str, RegularFile]) -> Stored | None:
    """The tensor; None where it is text."""
    what = name_of(file.path)
    dims: list[int] = []
    kind = 0
    name = ""
    inline: pb.Part | None = None
    numbers: list[pb.Value] = []
    outside: dict[str, str] = {}
    external = False
    for number, value in pb.fields(tensor):
        if number == 1:
            dims += pb.packed(value, MAX_DIMS, f"{what}: the shape of an initialiser")
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8:
            name = pb.text(value, what)
        elif number == 9:
            inline = pb.message(value, what)
        elif number in (4, 5, 7, 10, 11):
            numbers.append(value)
        elif number == 13:
            key, entry = _pair(pb.message(value, what), what)
            outside[key] = entry
        elif number == 14:
            external = value == 1
    if kind == _STRING:
        return None
    dtype = _TYPES.get(kind)
    if dtype is None:
        raise UnsupportedError(f"{what}: initialiser {clip(name)} has the element type {kind}, which is not supported")
    shape, nbytes = check_shape(what, name, dims, dtype)
    if external:
        return _outside(file.path, name, shape, dtype, nbytes, outside, beside)
    if inline is None and numbers:
        return Stored(name, shape, dtype, partial(_listed, file, numbers, shape, dtype, f"{what}: {clip(name)}"))
    if (0 if inline is None else len(inline)) != nbytes:
        got = 0 if inline is None else len(inline)
        raise GGUFError(f"{what}: initialiser {clip(name)} of shape {list(shape)} needs {nbytes} bytes, it has {got}")
    begin = 0 if inline is None else inline.begin
    return Stored(name, shape, dtype, partial(array_of, file, begin, shape, dtype))


def _listed(file: RegularFile, numbers: list[pb.Value], shape: tuple[int, ...], dtype: str, what: str) -> NDArray[Any]:
    """Numbers written one by one: floats and doubles as fixed bits, everything else as varints."""
    file.check_unchanged()
    wide, count = np.dtype(DTYPES[dtype]), math.prod(shape)
    if dtype in ("f32", "f64"):
        if sum(1 if isinstance(v, int) else len(v) // wide.itemsize for v in numbers) != count:
            raise _miscounted(what, shape)
        raw = b"".join(v.to_bytes(8, "little")[: wide.itemsize] if isinstance(v, int) else v.raw for v in numbers)
        values = np.frombuffer(raw, wide) if len(raw) % wide.itemsize == 0 else np.empty(0, wide)
    else:
        parts = [np.array([v], np.uint64) if isinstance(v, int) else pb.varints(v, count, what) for v in numbers]
        bits = np.dtype("<u2") if dtype == "f16" else wide
        values = np.concatenate(parts).astype(bits).view(wide)
    if values.size != count:
        raise _miscounted(what, shape)
    return values.reshape(shape)


def _miscounted(what: str, shape: tuple[int, ...]) -> GGUFError:
    return GGUFError(f"{what} has more or fewer values than its shape {list(shape)} needs")


def _outside(
    path: str,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    nbytes: int,
    where: dict[str, str],
    beside: dict[str, RegularFile],
) -> Stored:
    what = f"{name_of(path)}: initialiser {clip(name)}"
    location = where.get("location", "")
    try:
        offset, length = int(where.get("offset", "0")[:24]), int(where.get("length", str(nbytes))[:24])
    except ValueError:
        raise GGUFError(f"{what} has the offset {clip(where.get('offset'))}, expected a number") from None
    if location not in beside:
        beside[location] = RegularFile(_beside(path, location, what), "external data of an ONNX model")
    data = beside[location]
    if length != nbytes or not 0 <= offset <= data.size - nbytes:
        raise GGUFError(f"{what} needs {nbytes} bytes at {offset} of {clip(location)}, which has {data.size} bytes")
    return Stored(name, shape, dtype, partial(array_of, data, offset, shape, dtype))


def _beside(path: str, location: str, what: str) -> str:
    """The path of external data: in the model's own folder, as it is named or where its file really lies.

    The second is what a cache of symbolic links needs, in which model and data lie together under other names.
    """
    words = location.replace("\\", "/").split("/")
    if not location or "\0" in location or os.path.isabs(location) or ".." in words or ":" in words[0]:
        raise GGUFError(f"{what} lies in {clip(location)}, which is not in the model's own folder")
    named = os.path.join(os.path.dirname(os.path.abspath(path)), location)
    target = os.path.realpath(named)
    for folder in (os.path.dirname(os.path.abspath(path)), os.path.dirname(os.path.realpath(path))):
        if os.path.commonpath([os.path.realpath(folder), target]) == os.path.realpath(folder):
            return named
    raise GGUFError(
        f"{what} lies in {clip(location)}, a link to {clip(target)}, which is not in the model's own folder"
    )


def _pair(entry: pb.Part, what: str) -> tuple[str, str]:
    key = value = ""
    for number, each in pb.fields(entry):
        if number == 1:
            key = pb.text(each, what)
        elif number == 2:
            value = pb.text(each, what)
    return key, value
