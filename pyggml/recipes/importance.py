"""Importance matrices: how strongly each column of each matrix is used, from text; llama.cpp's files of them.

The importance of column j is the mean of x[j]^2 over the tokens that a matrix met. Sources: llama.cpp's imatrix tool,
its GGUF form (tensors NAME.in_sum2 and NAME.counts) and its older binary form.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pyggml import _native, gguf
from pyggml.arguments import PathLike, floats, function, mapping, text_or_none, texts, whole
from pyggml.arguments import path as read_path
from pyggml.errors import ArgumentError, GGUFError
from pyggml.files.foreign import name_of, reading
from pyggml.files.regular_file import RegularFile
from pyggml.files.texts import files_of
from pyggml.keywords import known_only, methods_known_only
from pyggml.model import Model
from pyggml.recipes.opened import ModelOrPath, opened
from pyggml.recipes.watch import TextOrIds, Trial, chunking, chunks_of, words_of
from pyggml.shown import clip

_SUM, _COUNT = ".in_sum2", ".counts"
_MAX_ENTRIES = 1 << 17
_MAX_VALUES = 1 << 26
_MAX_TOTAL = 1 << 29  # values of all entries: 2 GiB; the largest models have a fifth of that
_MAX_NAME = 4096
_MAX_CHUNKS = 2**31 - 1  # and tokens of one

Progress = Callable[[int, int], None]


@methods_known_only
class Imatrix(Mapping[str, NDArray[np.float32]]):
    """Tensor name -> importance of its columns, float32 (k,) or, for stacked experts, (n_expert * k,).

    sums: {name: (n_expert or 1, k) sums of squares}, counts: {name: (n_expert or 1,) tokens}. An expert that met no
    token has importance 1 everywhere. datasets, n_chunk and chunk_size say where it comes from.

    >>> import numpy as np
    >>> im = Imatrix({"w": np.array([[8.0, 2.0]])}, {"w": np.array([2.0])})
    >>> im["w"].tolist(), len(im)
    ([4.0, 1.0], 1)
    """

    def __init__(
        self,
        sums: Mapping[str, NDArray[np.floating]],
        counts: Mapping[str, NDArray[np.floating]],
        datasets: Sequence[str] = (),
        n_chunk: int = 0,
        chunk_size: int = 0,
    ) -> None:
        self.sums = {name: floats(f"sums[{name!r}]", each) for name, each in mapping("sums", sums).items()}
        self.counts = {name: floats(f"counts[{name!r}]", each) for name, each in mapping("counts", counts).items()}
        for name, each in self.sums.items():
            if each.ndim != 2 or name not in self.counts or self.counts[name].size != len(each):
                raise ArgumentError(f"sums[{name!r}] must be (n, k) with n counts of the same name, got {each.shape}")
            for what, values in (("sums", each), ("counts", self.counts[name])):
                if not np.isfinite(values).all() or (values < 0).any():
                    raise ArgumentError(f"{what}[{name!r}] must be finite and not negative")
            if not _has_means(each, self.counts[name]):
                raise ArgumentError(f"sums[{name!r}] are too large for their counts")
        self.datasets = texts("datasets", datasets)
        self.n_chunk = whole("n_chunk", n_chunk, 0, _MAX_CHUNKS)
        self.chunk_size = whole("chunk_size", chunk_size, 0, _MAX_CHUNKS)
        self.path = ""  # where load() read it
        self.sources: tuple[str, ...] = ()  # files of the model it was collected from, and of the text

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        sums, counts = self.sums[name], self.counts[name].reshape(-1, 1)
        made = np.where(counts > 0, sums / np.maximum(counts, 1e-30), 1.0)
        return np.ascontiguousarray(made, np.float32).reshape(-1)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sums)

    def __len__(self) -> int:
        return len(self.sums)

    def __repr__(self) -> str:
        return f"<Imatrix of {len(self)} tensors, {self.n_chunk} chunks of {self.chunk_size} tokens>"

    def save(self, path: PathLike) -> None:
        """Writes llama.cpp's GGUF form. An existing file is replaced when all is written, but never the model's own or
        that of the text.

        Raises GGUFError where path is that or cannot be written, ArgumentError for what load() would refuse: no tensors
        at all, or more than 2^29 columns.
        """
        n = sum(each.size for each in self.sums.values())
        if not 0 < n <= _MAX_TOTAL:
            raise ArgumentError(f"an importance matrix of {n} columns cannot be saved, expected 1 to {_MAX_TOTAL}")
        with gguf.Writer(path, sources=self.sources) as out:
            out.add("general.type", "imatrix")
            out.add("imatrix.datasets", self.datasets or ["unknown"], "str")
            out.add("imatrix.chunk_count", self.n_chunk, "u32")
            out.add("imatrix.chunk_size", self.chunk_size, "u32")
            for name in sorted(self.sums):
                sums = np.ascontiguousarray(self.sums[name], np.float32)
                counts = np.ascontiguousarray(self.counts[name], np.float32).reshape(-1, 1)
                out.add_tensor(name + _SUM, sums.shape, "f32", sums)
                out.add_tensor(name + _COUNT, counts.shape, "f32", counts)

    @staticmethod
    def load(path: PathLike) -> Imatrix:
        """Reads the GGUF form or the older binary one. Raises GGUFError for a file that is neither, or broken."""
        path = read_path("path", path)
        with reading(path, "importance matrix"):
            file = RegularFile(path, "an importance matrix")
            try:
                known = file.read(0, min(4, file.size)) == b"GGUF"
                made = _from_gguf(path) if known else _from_dat(file)
            finally:
                file.close()
            made.path = path
            return made


@known_only
def imatrix(
    model: ModelOrPath,
    text: TextOrIds,
    *,
    n_ctx: int | None = None,
    n_chunk: int | None = None,
    dataset: str | None = None,
    progress: Progress | None = None,
) -> Imatrix:
    """Collects the importance of every matrix's columns while the model reads text, in chunks of n_ctx tokens.

    model: a Model, or the path of a GGUF file. text: a str is the text, a pathlib.Path a file of it; or ids.
    n_ctx None: 512, or the context where that is less; a text that is shorter is one chunk. n_chunk: at most so many
    chunks. dataset: what the file calls the text; None: the name of its file, or "text".
    The output matrix is measured too. Best with a model in f32, f16 or bf16 and a text like what it will meet.
    progress(chunks_done, chunks). Raises ArgumentError for a text of fewer than 8 tokens, and for an n_ctx
    beyond the context.

    >>> import pyggml
    >>> with pyggml.load() as m:
    ...     im = pyggml.imatrix(m, "Once upon a time there was a king who had three sons.")
    >>> im["blk.0.attn_q.weight"].shape == (m.config.n_embd,)
    True
    """
    n_ctx, n_chunk = chunking(n_ctx, n_chunk)
    words, progress = words_of("imatrix: text", text), function("progress", progress)
    dataset = text_or_none("dataset", dataset)
    name = os.path.basename(os.fsdecode(text)) if isinstance(text, os.PathLike) else "text"
    name = (name if dataset is None else dataset).encode("utf-8", "replace").decode()  # of a file: any bytes
    with opened("imatrix: model", model) as used:
        made = _collect(used, chunks_of(used, words, n_ctx, n_chunk), name, progress)
    made.sources += files_of(text)
    return made


def _collect(model: Model, chunks: list[list[int]], dataset: str, progress: Progress | None) -> Imatrix:
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, NDArray[np.float64]] = {}

    def note(names: Sequence[str], x: NDArray[np.float32], expert: int = 0, n_expert: int = 1) -> None:
        squares = np.einsum("ij,ij->j", x, x, dtype=np.float64)
        if not np.isfinite(squares).all():
            raise ArgumentError(f"imatrix: what {names[0]} reads is not finite; the model is damaged")
        for name in names:
            if name not in sums:
                sums[name], counts[name] = np.zeros((n_expert, x.shape[1])), np.zeros(n_expert)
            sums[name][expert] += squares
            counts[name][expert] += len(x)

    with Trial(model, len(chunks[0]), watch=True) as trial:
        for number, chunk in enumerate(chunks):
            at = 0
            for logits in trial.steps(chunk):
                n, at = min(trial.n_step, len(chunk) - at), at + len(logits)
                for names, x in trial.inputs(n, len(logits)):
                    note(names, x)
                for names, expert, n_expert, x in trial.expert_inputs(n):
                    note(names, x, expert, n_expert)
            if progress is not None:
                progress(number + 1, len(chunks))
    made = Imatrix(
        {name: total.astype(np.float32) for name, total in sums.items()},
        {name: n.astype(np.float32) for name, n in counts.items()},
        [dataset], len(chunks), len(chunks[0]),
    )  # fmt: skip
    made.sources = tuple(model._loaded.file.paths)
    return made


# ---- files -------------------------------------------------------------------------------------------------------


def _from_gguf(path: str | os.PathLike[str]) -> Imatrix:
    with gguf.open(path) as file:
        meta = file.metadata
        sums, counts, total = {}, {}, 0
        for full, info in file.tensors.items():
            if not full.endswith(_SUM):
                continue
            total += info.n_elements
            if total > _MAX_TOTAL:
                raise GGUFError(f"{file.path} says it has more than {_MAX_TOTAL} sums: no importance matrix")
            name = full.removesuffix(_SUM)
            count = file.tensors.get(name + _COUNT)
            if count is None or len(info.shape) > 2:
                raise GGUFError(
                    f"{clip(file.path)}: {full} of shape {info.shape} has no {name}{_COUNT} or is no matrix"
                )
            sums[name], counts[name] = _floats(info), _floats(count).reshape(-1)
            if len(counts[name]) != len(sums[name]):
                raise GGUFError(f"{file.path}: {name} has {len(sums[name])} sums, but {len(counts[name])} counts")
            if not _has_means(sums[name], counts[name]):
                raise GGUFError(f"{file.path}: {name} has sums that are too large for its counts")
        if not sums:
            raise GGUFError(f"{clip(file.path)} holds no {_SUM} tensors: it is no importance matrix")
        datasets = meta.get("imatrix.datasets", [])
        numbers = [meta.get(f"imatrix.{key}", 0) for key in ("chunk_count", "chunk_size")]
        whole = [n if isinstance(n, int) and 0 <= n <= _MAX_CHUNKS else 0 for n in numbers]
        names = datasets if isinstance(datasets, list) and all(isinstance(d, str) for d in datasets) else []
        return Imatrix(sums, counts, names, whole[0], whole[1])


def _has_means(sums: NDArray[np.float32], counts: NDArray[np.float32]) -> bool:
    """Whether the mean squares of all that met a token are finite."""
    counts = counts.reshape(-1)
    with np.errstate(over="ignore"):
        means = sums / np.maximum(counts, 1e-30)[:, None]
    return bool(np.isfinite(means[counts > 0]).all())


def _floats(info: gguf.TensorInfo) -> NDArray[np.float32]:
    if not info.type.is_weight:
        raise GGUFError(f"tensor {info.name} has type {info.type.name}, expected f32")
    k = info.shape[-1]
    values = _native.dequantize(info.type.id, info.data, info.n_elements // k, k, 1)
    if not np.isfinite(values).all() or (values < 0).any():
        raise GGUFError(f"tensor {info.name}: sums of squares and counts must be finite and not negative")
    return values


def _from_dat(file: RegularFile) -> Imatrix:
    """int32 entries; each: int32 length, name, int32 calls, int32 values, floats that grew by a mean at each call."""
    where, at, total = name_of(file.path), 0, 0
    sums: dict[str, NDArray[np.float32]] = {}
    counts: dict[str, NDArray[np.float32]] = {}

    def take(n: int, what: str) -> bytes:
        nonlocal at
        if n > file.size - at:
            raise GGUFError(f"{where} ends inside {what}: no importance matrix, or cut")
        at += n
        return file.read(at - n, n)

    def number(what: str, most: int) -> int:
        value = int.from_bytes(take(4, what), "little", signed=True)
        if not 0 <= value <= most:
            raise GGUFError(f"{where}: {what} is {value}: no importance matrix")
        return value

    for _ in range(number("the number of entries", _MAX_ENTRIES)):
        name = take(number("a name's length", _MAX_NAME), "a name").decode("utf-8", "replace")
        calls, values = number(f"the calls of {clip(name)}", 1 << 31), number("a number of values", _MAX_VALUES)
        total += values
        if not values or 4 * values > file.size - at or total > _MAX_TOTAL:
            raise GGUFError(f"{where}: {clip(name)} says {values} values: no importance matrix, or cut")
        found = np.frombuffer(take(4 * values, clip(name)), "<f4").astype(np.float32)
        if not np.isfinite(found).all() or (found < 0).any():
            raise GGUFError(f"{where}: {clip(name)} has values that are negative or not finite")
        if name in sums:
            raise GGUFError(f"{where}: {clip(name)} comes twice")
        sums[name], counts[name] = found[None], np.array([max(calls, 1)], np.float32)
    if not sums:
        raise GGUFError(f"{where} holds no entries: no importance matrix")
    n_chunk = number("the number of chunks", _MAX_CHUNKS) if at + 4 <= file.size else 0
    size = number("the dataset's name", _MAX_NAME) if at + 4 <= file.size else 0
    dataset = take(min(size, file.size - at), "the dataset's name").decode("utf-8", "replace")
    return Imatrix(sums, counts, [dataset] if size else [], n_chunk)
