"""NumPy archives (.npz): arrays by name, never objects. Two-byte void or uint16 arrays are taken as bf16 bits where
their name ends in ":bf16"."""

from __future__ import annotations

import zipfile
from functools import partial
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pyggml.converters.stored import DTYPES, Stored, check_shape, file_size
from pyggml.errors import GGUFError
from pyggml.gguf_format import clip

_KINDS = {np.dtype(code).str: name for name, code in DTYPES.items() if name != "bf16"}


def read(path: str) -> dict[str, Stored]:
    """The arrays of an archive. Raises GGUFError."""
    file_size(path)
    found: dict[str, Stored] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".npy"):
                    stored = _head(path, archive, entry)
                    found[stored.name] = stored
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, RuntimeError, NotImplementedError) as e:
        if isinstance(e, GGUFError):
            raise
        raise GGUFError(f"{clip(path)} is no whole .npz archive: {e}") from None
    return found


def _head(path: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Stored:
    name = entry.filename.removesuffix(".npy")
    with archive.open(entry) as stream:
        version = npy.read_magic(stream)
        reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    bits = name.endswith(":bf16")
    kind = "bf16" if bits and dtype.itemsize == 2 else _KINDS.get(dtype.str)
    if kind is None or dtype.hasobject:
        raise GGUFError(f"{clip(path)}: array {clip(name)} has the type {clip(dtype.str)}, which is no plain number")
    dims, nbytes = check_shape(clip(path), name, list(shape), kind)
    if nbytes > entry.file_size:
        raise GGUFError(f"{clip(path)}: array {clip(name)} needs {nbytes} bytes, {entry.file_size} are there")
    name = name.removesuffix(":bf16")
    return Stored(name, dims, kind, partial(_array, path, entry.filename, dims, kind, fortran))


def _array(path: str, entry: str, shape: tuple[int, ...], kind: str, fortran: bool) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as stream:
            values = npy.read_array(stream, allow_pickle=False)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as e:
        raise GGUFError(f"{clip(path)}: {clip(entry)} cannot be read: {e}") from None
    return np.ascontiguousarray(values).view(DTYPES[kind]).reshape(shape)
