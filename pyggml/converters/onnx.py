"""ONNX files: the initialisers of the main graph, inside the file or beside it as external data.

A weight that only a MatMul reads has lost its name in the export: it takes the node's path and is turned, so that
"/model/layers.0/mlp/up_proj/MatMul" gives "model.layers.0.mlp.up_proj.weight" (out, in). The architecture is not read
from the graph: a config.json beside the file says it. Field numbers: onnx.proto3.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters import protobuf as pb
from pyggml.converters.stored import DTYPES, Stored, check_shape, mapped, slice_of
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.gguf_format import clip

_TYPES = {
    1: "f32", 2: "u8", 3: "i8", 4: "u16", 5: "i16", 6: "i32", 7: "i64", 9: "bool", 10: "f16", 11: "f64", 12: "u32",
    13: "u64", 16: "bf16",
}  # fmt: skip
_NODE_OPS = ("MatMul", "Gemm", "Gather", "Add")


def read(path: str) -> dict[str, Stored]:
    """The initialisers by name. Raises GGUFError."""
    what = clip(path)
    graph: memoryview | None = None
    data = mapped(path)
    for number, value in pb.fields(data.data, what):
        if number == 7:
            graph = pb.message(value, what)
    if graph is None:
        raise GGUFError(f"{what} holds no graph: it is no ONNX model, or was cut")
    raw: dict[str, Stored] = {}
    readers: dict[str, list[tuple[str, str, int]]] = {}
    for number, value in pb.fields(graph, what):
        if number == 5:
            stored = _initialiser(path, pb.message(value, what))
            raw[stored.name] = stored
        elif number == 1:
            _note_readers(pb.message(value, what), what, readers)
    return dict(_named(stored, readers.get(stored.name, [])) for stored in raw.values())


def _note_readers(node: memoryview, what: str, readers: dict[str, list[tuple[str, str, int]]]) -> None:
    inputs: list[str] = []
    name = op = ""
    for number, value in pb.fields(node, what):
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


def _initialiser(path: str, tensor: memoryview) -> Stored:
    what = clip(path)
    dims: list[int] = []
    kind = 0
    name = ""
    inline: memoryview | None = None
    numbers: list[pb.Value] = []
    outside: dict[str, str] = {}
    external = False
    for number, value in pb.fields(tensor, what):
        if number == 1:
            dims += pb.packed(value, what)
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
    dtype = _TYPES.get(kind)
    if dtype is None:
        raise UnsupportedError(f"{what}: initialiser {clip(name)} has the element type {kind}, which is not supported")
    shape, nbytes = check_shape(what, name, dims, dtype)
    if external:
        return _outside(path, name, shape, dtype, nbytes, outside)
    if inline is None and numbers:
        return Stored(name, shape, dtype, partial(_listed, numbers, shape, dtype, f"{what}: {clip(name)}"))
    if inline is None or len(inline) != nbytes:
        got = 0 if inline is None else len(inline)
        raise GGUFError(f"{what}: initialiser {clip(name)} of shape {list(shape)} needs {nbytes} bytes, it has {got}")
    return Stored(name, shape, dtype, partial(_inline, inline, shape, dtype))


def _inline(raw: memoryview, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    return np.frombuffer(bytes(raw), DTYPES[dtype]).reshape(shape)


def _listed(numbers: list[pb.Value], shape: tuple[int, ...], dtype: str, what: str) -> NDArray[Any]:
    """Numbers written one by one: floats and doubles as fixed bits, everything else as varints."""
    wide = np.dtype(DTYPES[dtype])
    if dtype in ("f32", "f64"):
        raw = b"".join(v.to_bytes(wide.itemsize, "little") if isinstance(v, int) else bytes(v) for v in numbers)
        values = np.frombuffer(raw, wide) if len(raw) % wide.itemsize == 0 else np.empty(0, wide)
    else:
        plain = [n for value in numbers for n in pb.packed(value, what)]
        bits = np.dtype("<u2") if dtype == "f16" else wide
        values = np.array(plain, np.uint64).astype(bits).view(wide)
    if values.size != np.prod(shape, dtype=np.int64):
        raise GGUFError(f"{what} has {values.size} values, its shape {list(shape)} needs another number")
    return values.reshape(shape)


def _outside(path: str, name: str, shape: tuple[int, ...], dtype: str, nbytes: int, where: dict[str, str]) -> Stored:
    what = f"{clip(path)}: initialiser {clip(name)}"
    location = where.get("location", "")
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    target = os.path.realpath(os.path.join(folder, location))
    if not location or os.path.isabs(location) or os.path.commonpath([folder, target]) != folder:
        raise GGUFError(f"{what} lies in {clip(location)}, which is not in the model's own folder")
    try:
        offset, length = int(where.get("offset", "0")), int(where.get("length", str(nbytes)))
    except ValueError:
        raise GGUFError(f"{what} has the offset {clip(where.get('offset'))}, expected a number") from None
    data = mapped(target)
    if length != nbytes or offset < 0 or offset + nbytes > data.size:
        raise GGUFError(f"{what} needs {nbytes} bytes at {offset} of {clip(location)}, which has {data.size} bytes")
    return Stored(name, shape, dtype, partial(slice_of, data, offset, shape, dtype))


def _pair(entry: memoryview, what: str) -> tuple[str, str]:
    key = value = ""
    for number, each in pb.fields(entry, what):
        if number == 1:
            key = pb.text(each, what)
        elif number == 2:
            value = pb.text(each, what)
    return key, value
