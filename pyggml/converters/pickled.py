"""PyTorch checkpoints (.pt, .pth, .bin): tensors only, never code.

The pickle inside is not unpickled: its opcodes are walked here, one by one, and nothing but plain values, dicts and
tensors over storages can come of it. Any other name in it is an error that says the name. Both layouts: the zip
archive (PyTorch >= 1.6) and the older run of pickles. Sources: pickletools, torch/serialization.py.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.stored import DTYPES, MAX_DIMS, Stored, check_shape, file_size, mapped, slice_of
from pyggml.errors import GGUFError, PyggmlError
from pyggml.gguf_format import clip

MAX_PICKLE = 256 << 20
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_STORAGES = {
    "DoubleStorage": "f64", "FloatStorage": "f32", "HalfStorage": "f16", "BFloat16Storage": "bf16",
    "LongStorage": "i64", "IntStorage": "i32", "ShortStorage": "i16", "CharStorage": "i8", "ByteStorage": "u8",
    "BoolStorage": "bool",
}  # fmt: skip
_DICTS = {"collections OrderedDict"}
_TENSORS = {"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor"}
_PARAMETERS = {"torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state"}


class _Name:
    """A global that a pickle names: "module name"."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class _Storage:
    __slots__ = ("count", "dtype", "key")

    def __init__(self, key: str, dtype: str, count: int) -> None:
        self.key, self.dtype, self.count = key, dtype, count


class _Tensor:
    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride


_MARK = object()


def read(path: str) -> dict[str, Stored]:
    """The tensors of a checkpoint by name. Raises GGUFError for anything that is not a dict of tensors."""
    file_size(path)
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except PyggmlError:
        raise
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, RuntimeError, OverflowError) as e:
        raise GGUFError(f"{clip(path)} is no whole PyTorch checkpoint: {e}") from None


# ---- the opcodes -----------------------------------------------------------------------------------------------


def walk(stream: Any, what: str) -> Any:
    """The value of one pickle. Raises GGUFError for an opcode or a global that tensors do not need."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for op, arg, _ in pickletools.genops(stream):
            name = op.name
            if name == "STOP":
                return stack.pop()
            act = _ACTIONS.get(name)
            if act is None:
                raise GGUFError(f"{what} is refused: its pickle uses {name}, which no file of tensors needs")
            act(stack, memo, arg, what)
    except (IndexError, KeyError, TypeError, AttributeError) as e:
        raise GGUFError(f"{what} is damaged: its pickle contradicts itself ({e})") from None
    raise GGUFError(f"{what} was cut: its pickle has no end")


def _push(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    stack.append(arg)


def _constant(value: Any) -> Callable[..., None]:
    def act(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
        stack.append(value() if callable(value) else value)

    return act


def _to_mark(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1
    while stack[at] is not _MARK:
        at -= 1
        if at < 0:
            raise IndexError("a mark is missing")
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _tuple(count: int | None) -> Callable[..., None]:
    def act(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
        items = _to_mark(stack) if count is None else stack[len(stack) - count :]
        if count:
            if len(items) != count:
                raise IndexError("the stack is too short")
            del stack[len(stack) - count :]
        stack.append(tuple(items))

    return act


def _set_items(table: Any, items: list[Any]) -> None:
    if type(table) is not dict or len(items) % 2:
        raise TypeError("items are set on what is no dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int):
            raise TypeError(f"a dict has a key of type {type(key).__name__}")
        table[key] = value


def _setitem(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    items = [stack.pop(-2), stack.pop()]
    _set_items(stack[-1], items)


def _setitems(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    items = _to_mark(stack)
    _set_items(stack[-1], items)


def _dict(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    table: dict[Any, Any] = {}
    _set_items(table, _to_mark(stack))
    stack.append(table)


def _list(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    stack.append(_to_mark(stack))


def _append(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    item = stack.pop()
    if type(stack[-1]) is not list:
        raise TypeError("an item is appended to what is no list")
    stack[-1].append(item)


def _appends(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    items = _to_mark(stack)
    if type(stack[-1]) is not list:
        raise TypeError("items are appended to what is no list")
    stack[-1].extend(items)


def _put(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    memo[int(arg)] = stack[-1]


def _memoize(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    memo[len(memo)] = stack[-1]


def _get(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    stack.append(memo[int(arg)])


def _global(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    stack.append(_Name(_allowed(str(arg), what)))


def _stack_global(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    name, module = stack.pop(), stack.pop()
    stack.append(_Name(_allowed(f"{module} {name}", what)))


def _allowed(name: str, what: str) -> str:
    module, _, last = name.partition(" ")
    if name in _DICTS or name in _TENSORS or name in _PARAMETERS or (module == "torch" and last in _STORAGES):
        return name
    raise GGUFError(
        f"{what} is refused: its pickle names {clip(name.replace(' ', '.'))}, and only tensors are read, never code. "
        "Save it as safetensors where you trust it"
    )


def _reduce(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    args, name = stack.pop(), stack.pop()
    if type(name) is not _Name or type(args) is not tuple:
        raise TypeError("something that is no known function is called")
    if name.text in _DICTS:
        table: dict[Any, Any] = {}
        for pair in args[0] if args else ():
            _set_items(table, list(pair))
        stack.append(table)
    elif name.text in _TENSORS:
        storage, offset, shape, stride = args[:4]
        if type(storage) is not _Storage:
            raise TypeError("a tensor without a storage")
        stack.append(_Tensor(storage, offset, shape, stride))
    elif name.text in _PARAMETERS:
        if type(args[0]) is not _Tensor:
            raise TypeError("a parameter without a tensor")
        stack.append(args[0])
    else:
        raise TypeError(f"{name.text} is called")


def _build(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    stack.pop()  # attributes of a state dict: versions of modules, of no use here
    if type(stack[-1]) is not dict:
        raise TypeError("attributes are set on what is no dict")


def _persistent(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    kind, name, key, _, count = stack.pop()[:5]
    if kind != "storage" or type(name) is not _Name or type(count) is not int or type(key) not in (str, int):
        raise TypeError("a reference that is no storage")
    module, _, last = name.text.partition(" ")
    if module != "torch" or last not in _STORAGES:
        raise TypeError(f"a storage of type {name.text}")
    stack.append(_Storage(str(key), _STORAGES[last], count))


def _pop(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    stack.pop()


def _pop_mark(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    _to_mark(stack)


def _nothing(stack: list[Any], memo: dict[int, Any], arg: Any, what: str) -> None:
    pass


_ACTIONS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    **dict.fromkeys(
        (
            "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "BINUNICODE",
            "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
            "SHORT_BINBYTES", "BINBYTES8",
        ),
        _push,
    ),
    "NONE": _constant(None), "NEWTRUE": _constant(True), "NEWFALSE": _constant(False), "MARK": _constant(_MARK),
    "EMPTY_TUPLE": _constant(()), "EMPTY_LIST": _constant(list), "EMPTY_DICT": _constant(dict),
    "TUPLE": _tuple(None), "TUPLE1": _tuple(1), "TUPLE2": _tuple(2), "TUPLE3": _tuple(3),
    "DICT": _dict, "LIST": _list, "SETITEM": _setitem, "SETITEMS": _setitems, "APPEND": _append,
    "APPENDS": _appends, "PUT": _put, "BINPUT": _put, "LONG_BINPUT": _put, "MEMOIZE": _memoize, "GET": _get,
    "BINGET": _get, "LONG_BINGET": _get, "GLOBAL": _global, "STACK_GLOBAL": _stack_global, "REDUCE": _reduce,
    "BUILD": _build, "BINPERSID": _persistent, "POP": _pop, "POP_MARK": _pop_mark,
}  # fmt: skip


# ---- from the value to tensors ---------------------------------------------------------------------------------


def _state(value: Any, path: str) -> dict[str, _Tensor]:
    """The dict of tensors in a checkpoint: itself, or under the names that trainers use."""
    for key in ("state_dict", "model_state_dict", "model", "module"):
        if type(value) is dict and type(value.get(key)) is dict:
            value = value[key]
            break
    if type(value) is not dict:
        raise GGUFError(f"{clip(path)} holds {type(value).__name__}, expected a dict of tensors")
    found = {name: each for name, each in value.items() if type(name) is str and type(each) is _Tensor}
    if not found:
        raise GGUFError(f"{clip(path)} holds no tensors")
    return found


def _stored(path: str, name: str, tensor: _Tensor, read_storage: Callable[[_Storage], NDArray[Any]]) -> Stored:
    where = f"{clip(path)}: tensor {clip(name)}"
    storage, offset, stride = tensor.storage, tensor.offset, tensor.stride
    shape, _ = check_shape(clip(path), name, tensor.shape, storage.dtype)
    good = type(offset) is int and offset >= 0 and isinstance(stride, tuple) and len(stride) == len(shape) <= MAX_DIMS
    if not good or not all(type(s) is int and s >= 0 for s in stride):
        raise GGUFError(f"{where} has the strides {clip(stride)} at {clip(offset)}, not fit for its shape {shape}")
    last = offset + sum((dim - 1) * s for dim, s in zip(shape, stride, strict=True))
    if 0 not in shape and last >= storage.count:
        raise GGUFError(f"{where} reaches value {last} of a storage of {storage.count}")

    def get() -> NDArray[Any]:
        flat = read_storage(storage)
        steps = tuple(s * flat.itemsize for s in stride)
        if 0 in shape:
            return np.empty(shape, flat.dtype)
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False))

    return Stored(name, shape, storage.dtype, get)


def _read_zip(path: str) -> dict[str, Stored]:
    what = clip(path)
    data = mapped(path)
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise GGUFError(f"{what} holds {len(pickles)} data.pkl, expected one: it is no PyTorch checkpoint")
        root = pickles[0].removesuffix("data.pkl")
        if entries[pickles[0]].file_size > MAX_PICKLE:
            raise GGUFError(f"{what}: the table of tensors has {entries[pickles[0]].file_size} bytes")
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder")[:6] != b"little":
            raise GGUFError(f"{what} was written on a big-endian machine, which is not supported")
        state = _state(walk(io.BytesIO(archive.read(pickles[0])), what), path)
    places: dict[str, int] = {}
    for storage in {tensor.storage.key: tensor.storage for tensor in state.values()}.values():
        entry = entries.get(f"{root}data/{storage.key}")
        nbytes = storage.count * np.dtype(DTYPES[storage.dtype]).itemsize
        if entry is None:
            raise GGUFError(f"{what}: the storage {clip(storage.key)} is missing")
        if entry.compress_type != zipfile.ZIP_STORED or not 0 <= nbytes <= entry.file_size:
            raise GGUFError(f"{what}: the storage {clip(storage.key)} should hold {nbytes} bytes, plain")
        head = data[entry.header_offset : entry.header_offset + 30].tobytes()
        if len(head) != 30 or head[:4] != b"PK\3\4":
            raise GGUFError(f"{what} is damaged at byte {entry.header_offset}")
        begin = entry.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        if begin + nbytes > data.size:
            raise GGUFError(f"{what} was cut: a storage ends at byte {begin + nbytes} of {data.size}")
        places[storage.key] = begin

    def read_storage(storage: _Storage) -> NDArray[Any]:
        return slice_of(data, places[storage.key], (storage.count,), storage.dtype)

    return {name: _stored(path, name, tensor, read_storage) for name, tensor in state.items()}


def _read_legacy(path: str) -> dict[str, Stored]:
    what = clip(path)
    data = mapped(path)
    with open(path, "rb") as stream:
        if walk(stream, what) != _LEGACY_MAGIC:
            raise GGUFError(f"{what} is no PyTorch checkpoint")
        walk(stream, what)  # protocol
        system = walk(stream, what)
        if type(system) is dict and system.get("little_endian") is False:
            raise GGUFError(f"{what} was written on a big-endian machine, which is not supported")
        state = _state(walk(stream, what), path)
        keys = walk(stream, what)
        at = stream.tell()
    storages = {tensor.storage.key: tensor.storage for tensor in state.values()}
    places: dict[str, int] = {}
    for key in keys if type(keys) is list else []:
        storage = storages.get(str(key))
        if storage is None:
            raise GGUFError(f"{what}: a storage that no tensor reads; save it as safetensors")
        count = int.from_bytes(data[at : at + 8].tobytes(), "little")
        nbytes = count * np.dtype(DTYPES[storage.dtype]).itemsize
        if count != storage.count or at + 8 + nbytes > data.size:
            raise GGUFError(f"{what} was cut or is damaged: a storage of {count} values at byte {at} of {data.size}")
        places[storage.key] = at + 8
        at += 8 + nbytes
    if places.keys() != storages.keys():
        raise GGUFError(f"{what} was cut: {len(storages) - len(places)} storages are missing")
    return {name: _stored(path, name, tensor, partial(_legacy_storage, data, places)) for name, tensor in state.items()}


def _legacy_storage(data: NDArray[np.uint8], places: dict[str, int], storage: _Storage) -> NDArray[Any]:
    return slice_of(data, places[storage.key], (storage.count,), storage.dtype)
