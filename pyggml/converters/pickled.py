"""PyTorch checkpoints (.pt, .pth, .bin): tensors only, never code.

The pickle inside is not unpickled: opcodes.py walks it. Both layouts: the zip archive (PyTorch >= 1.6) and the older
run of pickles. Source: torch/serialization.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.archive import Archive
from pyggml.converters.opcodes import PickledTensor, Storage, Walker
from pyggml.converters.stored import DTYPES, MAX_DIMS, Stored, array_of, check_shape, check_total, reader
from pyggml.errors import GGUFError
from pyggml.files.foreign import name_of
from pyggml.files.regular_file import RegularFile
from pyggml.shown import clip

MAX_PICKLE = 32 << 20
_STEPS, _MOST_STEPS, _STEPS_EACH = 1 << 18, 1 << 22, 64  # a tensor takes some 40
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@reader("PyTorch checkpoint")
def read(path: str) -> dict[str, Stored]:
    """The tensors of a checkpoint by name. Raises GGUFError for anything that is not a dict of tensors."""
    file = RegularFile(path, "a PyTorch checkpoint")
    found = _read_zip(path) if file.read(0, min(4, file.size)) == b"PK\3\4" else _read_legacy(file)
    check_total(name_of(path), found.values(), file.size)
    return found


def _steps(storages: int) -> int:
    """How many steps the pickle of a file with about so many storages may take."""
    return min(_STEPS + _STEPS_EACH * storages, _MOST_STEPS)


def _state(value: Any, what: str) -> dict[str, PickledTensor]:
    """The dict of tensors in a checkpoint: itself, or under the names that trainers use."""
    for key in ("state_dict", "model_state_dict", "model", "module"):
        if type(value) is dict and type(value.get(key)) is dict:
            value = value[key]
            break
    if type(value) is not dict:
        raise GGUFError(f"{what} holds {type(value).__name__}, expected a dict of tensors")
    found = {name: each for name, each in value.items() if type(name) is str and type(each) is PickledTensor}
    if not found:
        raise GGUFError(f"{what} holds no tensors")
    return found


def _stored(
    what: str, name: str, tensor: PickledTensor, read_part: Callable[[Storage, int, int], NDArray[Any]]
) -> Stored:
    where = f"{what}: tensor {clip(name)}"
    storage, offset, stride = tensor.storage, tensor.offset, tensor.stride
    shape, _ = check_shape(what, name, tensor.shape, storage.dtype)
    good = type(offset) is int and offset >= 0 and isinstance(stride, tuple) and len(stride) == len(shape) <= MAX_DIMS
    if not good or not all(type(s) is int and s >= 0 for s in stride):
        raise GGUFError(f"{where} has the strides {clip(stride)} at {clip(offset)}, not fit for its shape {shape}")
    if 0 in shape:
        return Stored(name, shape, storage.dtype, partial(np.empty, shape, DTYPES[storage.dtype]))
    last = offset + sum((dim - 1) * s for dim, s in zip(shape, stride, strict=True))
    if last >= storage.count:
        raise GGUFError(f"{where} reaches value {last} of a storage of {storage.count}")

    def get() -> NDArray[Any]:
        if math.prod(shape) > storage.count:  # of no matter in a buffer that the converter leaves out
            raise GGUFError(
                f"{where} makes {math.prod(shape)} values of a storage of {storage.count}: it repeats them (strides "
                f"{clip(stride)}); save its contiguous() copy"
            )
        flat = read_part(storage, offset, last + 1 - offset)
        steps = tuple(s * flat.itemsize for s in stride)
        view = np.lib.stride_tricks.as_strided(flat, shape, steps, writeable=False)
        return np.ascontiguousarray(view).reshape(shape)

    return Stored(name, shape, storage.dtype, get)


def _part(file: RegularFile, places: dict[str, int], storage: Storage, first: int, count: int) -> NDArray[Any]:
    begin = places[storage.key] + first * np.dtype(DTYPES[storage.dtype]).itemsize
    return array_of(file, begin, (count,), storage.dtype)


def _nbytes(storage: Storage) -> int:
    return storage.count * np.dtype(DTYPES[storage.dtype]).itemsize


def _read_zip(path: str) -> dict[str, Stored]:
    archive = Archive(path)
    what, entries = archive.what, archive.entries
    pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise GGUFError(f"{what} holds {len(pickles)} data.pkl, expected one: it is no PyTorch checkpoint")
    root = pickles[0].removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order is not None and archive.head(order, 6) != b"little":
        raise GGUFError(f"{what} was written on a big-endian machine, which is not supported")
    raw = archive.read(entries[pickles[0]], MAX_PICKLE, checked=False)
    state = _state(Walker(raw, what, _steps(len(entries))).value(), what)
    places: dict[str, int] = {}
    for key, storage in {tensor.storage.key: tensor.storage for tensor in state.values()}.items():
        entry, nbytes = entries.get(f"{root}data/{key}"), _nbytes(storage)
        if entry is None:
            raise GGUFError(f"{what}: the storage {clip(key)} is missing")
        if entry.method or nbytes > entry.size:
            raise GGUFError(f"{what}: the storage {clip(key)} should hold {nbytes} bytes, plain")
        places[key] = archive.place(entry)
    part = partial(_part, archive.file, places)
    return {name: _stored(what, name, tensor, part) for name, tensor in state.items()}


def _read_legacy(file: RegularFile) -> dict[str, Stored]:
    what = name_of(file.path)
    walker = Walker(file.read(0, min(file.size, MAX_PICKLE)), what, _steps(file.size >> 16))
    if walker.value() != _LEGACY_MAGIC:
        raise GGUFError(f"{what} is no PyTorch checkpoint")
    walker.value()  # protocol
    system = walker.value()
    if type(system) is dict and system.get("little_endian") is False:
        raise GGUFError(f"{what} was written on a big-endian machine, which is not supported")
    state = _state(walker.value(), what)
    keys = walker.value()
    at = walker.at
    storages = walker.storages
    places: dict[str, int] = {}
    for key in keys if type(keys) is list else []:
        storage = storages.get(key) if type(key) is str else None
        if storage is None or key in places:
            raise GGUFError(f"{what}: a storage that no tensor reads; save it as safetensors")
        nbytes = _nbytes(storage)
        count = int.from_bytes(file.read(at, 8), "little") if at + 8 <= file.size else -1
        if count != storage.count or at + 8 + nbytes > file.size:
            raise GGUFError(f"{what} was cut or is damaged: a storage of {count} values at byte {at} of {file.size}")
        places[key] = at + 8
        at += 8 + nbytes
    if places.keys() != storages.keys():
        raise GGUFError(f"{what} was cut: {len(storages) - len(places)} storages are missing")
    return {name: _stored(what, name, tensor, partial(_part, file, places)) for name, tensor in state.items()}
