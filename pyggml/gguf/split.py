"""One file into several that lie together, and back: names and keys as llama.cpp's split files have them.

The first part carries the metadata, all parts say which they are. Reading them needs nothing from here: gguf.open
takes any part. Source: llama.cpp's gguf-split.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from pyggml import gguf
from pyggml.arguments import PathLike, flag, function, whole_or_none
from pyggml.arguments import path as read_path
from pyggml.errors import ArgumentError
from pyggml.files.atomic_file import refuse_sources, together
from pyggml.gguf.format import MAX_SPLITS, align_up
from pyggml.keywords import known_only
from pyggml.shown import clip
from pyggml.sizes import byte_size

_PIECE = 64 << 20

Progress = Callable[[int, int], None]


@known_only
def split_file(
    src: PathLike,
    prefix: PathLike,
    *,
    max_tensors: int | None = None,
    max_size: int | str | None = None,
    metadata_alone: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Writes src as PREFIX-00001-of-0000N.gguf ... and returns the paths.

    A part holds at most max_tensors tensors and about max_size bytes of them ("2G", or a number; one tensor at least);
    without either, 128 tensors. metadata_alone: the first part has no tensors, so it downloads at once.
    progress(bytes_done, total).
    The parts appear together when all are written, the first last. Raises ArgumentError where one exists already or a
    limit makes no sense, GGUFError for a broken source; a failure leaves no part behind.

    >>> import pyggml, tempfile
    >>> from pyggml.model import BUNDLED
    >>> parts = pyggml.split_file(BUNDLED, tempfile.mkdtemp() + "/x", max_size=2_000_000)
    >>> parts[0][-21:], pyggml.gguf.open(parts[1]).arch
    ('x-00001-of-00004.gguf', 'llama')
    """
    most = whole_or_none("max_size", None if max_size is None else byte_size(max_size, "max_size"), 1)
    max_tensors = whole_or_none("max_tensors", max_tensors, 1)
    src, prefix = read_path("src", src), read_path("prefix", prefix)
    metadata_alone, progress = flag("metadata_alone", metadata_alone), function("progress", progress)
    with gguf.open(src) as file:
        groups = list(_groups(file, max_tensors if max_tensors or most else 128, most))
        groups = [[], *groups] if metadata_alone else groups or [[]]
        if len(groups) > MAX_SPLITS:
            raise ArgumentError(f"split: {len(groups)} parts, at most {MAX_SPLITS} are allowed; use larger ones")
        folder, stem = _split_prefix(prefix)
        names = [f"{stem}-{i + 1:05d}-of-{len(groups):05d}.gguf" for i in range(len(groups))]
        counter = _Counter(sum(t.nbytes for t in file.tensors.values()), progress)
        with together(folder, ArgumentError, replace=False, sources=file.paths) as files:
            for name in names:
                files.check(name)
            for number, (name, group) in enumerate(zip(names, groups, strict=True)):
                out = gguf.Writer(name, alignment=file.alignment)
                if number == 0:
                    out.add_metadata(file.metadata)
                out.add("split.no", number, "u16")
                out.add("split.count", len(groups), "u16")
                out.add("split.tensors.count", len(file.tensors), "i32")
                _add(out, group, counter)
                with files.open(name) as opened:
                    out.write(opened)
    return [os.path.join(folder, name) for name in names]


@known_only
def merge_file(src: PathLike, dst: PathLike, *, progress: Progress | None = None) -> str:
    """Writes the split file that src is a part of (any part) as one file dst, and returns its path.

    Raises ArgumentError where src is not split or dst is one of its parts, GGUFError for a missing or broken part.
    """
    src, dst, progress = read_path("src", src), read_path("dst", dst), function("progress", progress)
    with gguf.open(src) as file:
        if len(file.paths) < 2:
            raise ArgumentError(f"{clip(file.path)} is no part of a split file: there is nothing to merge")
        refuse_sources(dst, file.paths, ArgumentError, "which is one of the parts")
        counter = _Counter(sum(t.nbytes for t in file.tensors.values()), progress)
        with gguf.Writer(dst, alignment=file.alignment, sources=file.paths) as out:
            out.add_metadata(file.metadata)
            _add(out, list(file.tensors.values()), counter)
    return dst


def _split_prefix(prefix: str) -> tuple[str, str]:
    """Folder and stem of the parts. Raises ArgumentError for a prefix that names a folder or a device."""
    folder, stem = os.path.split(prefix)
    if stem in ("", ".", ".."):
        raise ArgumentError(f"prefix {clip(prefix)} names a folder, expected what the parts' names begin with")
    if os.path.exists(prefix) and not (os.path.isfile(prefix) or os.path.isdir(prefix)):
        raise ArgumentError(f"prefix {clip(prefix)} is a device, expected what the parts' names begin with")
    return folder, stem


def _groups(file: gguf.GGUFFile, max_tensors: int | None, max_size: int | None) -> Iterator[list[gguf.TensorInfo]]:
    group: list[gguf.TensorInfo] = []
    size = 0
    for info in file.tensors.values():
        nbytes = align_up(info.nbytes, file.alignment)
        full = (max_tensors is not None and len(group) == max_tensors) or (
            max_size is not None and size + nbytes > max_size
        )
        if group and full:
            yield group
            group, size = [], 0
        group.append(info)
        size += nbytes
    if group:
        yield group


def _add(out: gguf.Writer, tensors: list[gguf.TensorInfo], counter: _Counter) -> None:
    for info in tensors:
        out.add_tensor(info.name, info.shape, info.type, lambda t=info: counter.pieces(t))


class _Counter:
    """Yields tensors in pieces and reports how many bytes went by."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def pieces(self, info: gguf.TensorInfo) -> Iterator[NDArray[np.uint8]]:
        for at in range(0, info.nbytes, _PIECE):
            piece = info.read(at, min(at + _PIECE, info.nbytes))
            yield piece
            self.done += piece.nbytes
            if self.progress is not None:
                self.progress(self.done, self.total)
