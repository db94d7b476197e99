"""What each tensor loses at each type: weighted rounding error for all candidates, KL of the logits for a few.

The weighted error is sum(importance[j] * (w - q)^2) / sum(importance[j] * w^2): the share of a product's power that
rounding disturbs, were the columns independent. What that means for the model's predictions differs from tensor to
tensor, so for the types nearest to what is wanted the model is run with that one tensor replaced; between those,
KL grows with the error. Source of the measure: the second-order expansion of the loss that GPTQ-like methods use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.arguments import PathLike, function, list_of, mapping, threads, whole
from pyggml.arguments import path as read_path
from pyggml.engine import scoring
from pyggml.errors import ArgumentError, FileError, GGUFError, NumericError
from pyggml.files.atomic_file import replacing
from pyggml.files.foreign import name_of, parse_json, read_bytes, reading, said
from pyggml.files.texts import files_of
from pyggml.gguf import TensorInfo
from pyggml.keywords import known_only, methods_known_only
from pyggml.model import Model
from pyggml.quant.tensor import naming
from pyggml.quant.types import QuantType
from pyggml.recipes.choose import Named, quantizable
from pyggml.recipes.comparison import kl
from pyggml.recipes.encode import columns_of, encoded
from pyggml.recipes.importance import Imatrix
from pyggml.recipes.importance import imatrix as collect
from pyggml.recipes.opened import ModelOrPath, opened
from pyggml.recipes.watch import Stored, TextOrIds, Trial, chunking, chunks_of, log_softmax, words_of
from pyggml.sizes import bits_per_weight

CANDIDATES = (
    "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "q2_k", "iq3_xxs", "iq3_s", "q3_k", "iq4_xs", "q4_k", "q4_0",
    "iq4_nl", "q4_1", "q5_k", "q5_0", "q5_1", "q6_k", "q8_0", "f16", "f32",
)  # fmt: skip
CHUNKS = 4  # of text, where nothing else is said
_MAX_FILE, _MAX_VALUES = 256 << 20, 1 << 23  # of what save() writes: all types of as many tensors as a file has
_SAMPLE = 2 << 20  # values of a tensor that errors are measured on
_KEPT_LOGITS = 64 << 20  # values of the reference's distributions kept at once

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class TensorCost:
    """One tensor: its shape and type, error of each candidate type, and KL in nats where it was measured.

    What a type costs is measured or follows from the nearest measured one, as far as errors differ.
    """

    name: str
    shape: tuple[int, ...]
    old: str
    error: dict[str, float]
    kl: dict[str, float] = field(default_factory=dict)

    def cost(self, kind: str) -> float:
        """Expected KL in nats with this tensor alone in that type. 0 for the type it has."""
        if kind == self.old:
            return 0.0
        if kind in self.kl:
            return self.kl[kind]
        error = max(self.error[kind], 1e-12)
        if not self.kl:
            return error
        near = min(self.kl, key=lambda other: abs(math.log(max(self.error[other], 1e-12) / error)))
        return self.kl[near] * error / max(self.error[near], 1e-12)

    def nbytes(self, kind: str) -> int:
        """Bytes of the tensor in that type."""
        return math.prod(self.shape[:-1]) * QuantType.parse(kind).row_bytes(self.shape[-1])


@methods_known_only
@dataclass(slots=True)
class Sensitivity:
    """Costs of all tensors that a recipe may change, by name; save() and load() keep them for later choices."""

    tensors: dict[str, TensorCost]
    path: str = field(default="", repr=False, compare=False)  # where load() read it
    sources: tuple[str, ...] = field(default=(), repr=False, compare=False)  # files of model, text, imatrix

    def save(self, path: PathLike) -> None:
        """Writes JSON. Raises ArgumentError where path is one of the files that were read or cannot be written, and for
        costs that load() would refuse."""
        raw = json.dumps([asdict(t) for t in self.tensors.values()], indent=1).encode() + b"\n"
        try:
            _read(raw)
        except _UNREADABLE as e:
            raise ArgumentError(f"these costs cannot be saved, they could not be read again: {said(e)}") from None
        with replacing(path, ArgumentError, self.sources) as out:
            out.write(raw)

    @staticmethod
    def load(path: PathLike) -> Sensitivity:
        """Reads what save wrote. Raises ArgumentError for anything else."""
        path = read_path("path", path)
        with reading(path, "sensitivity file", ArgumentError):
            try:
                made = _read(read_bytes(path, _MAX_FILE, "a sensitivity file"))
            except FileError:
                raise
            except _UNREADABLE as e:
                raise ArgumentError(f"{name_of(path)} is no sensitivity file: {said(e)}") from None
        return Sensitivity(made, path)


_UNREADABLE = (GGUFError, AttributeError, ValueError, KeyError, TypeError, RecursionError)


def _read(raw: bytes) -> dict[str, TensorCost]:
    if len(raw) > _MAX_FILE:
        raise GGUFError(f"it has {len(raw)} bytes, a sensitivity file has at most {_MAX_FILE}")
    return {row["name"]: _cost(row) for row in parse_json(raw, _MAX_VALUES)}


def _cost(row: Mapping[str, Any]) -> TensorCost:
    error, measured = ({QuantType.parse(k).name: float(v) for k, v in row[key].items()} for key in ("error", "kl"))
    if (
        not all(math.isfinite(v) and v >= 0 for v in (*error.values(), *measured.values()))
        or not measured.keys() <= error.keys()
    ):
        raise ValueError(f"the costs of {row['name']!r:.80} make no sense")
    return TensorCost(
        str(row["name"]), tuple(map(int, row["shape"])), QuantType.parse(row["old"]).name, error, measured
    )


@known_only
def sensitivity(
    model: ModelOrPath,
    text: TextOrIds | None = None,
    *,
    near: float | str = 4.5,
    types: Sequence[str] | None = None,
    n_kl: int = 2,
    imatrix: Mapping[str, NDArray[np.float32]] | None = None,
    n_ctx: int | None = None,
    n_chunk: int | None = None,
    n_threads: int = 0,
    progress: Progress | None = None,
) -> Sensitivity:
    """Measures every matrix of a model at every candidate type.

    model: a Model, or the path of a GGUF file. text: what the model should keep doing well, a str or the pathlib.Path
    of a file, or ids; None: text it writes itself. near: bits per weight that matter most: there KL is measured, for
    at most n_kl types a tensor, on at most n_chunk chunks of n_ctx tokens. n_ctx None: 512, or the context where that
    is less; a text that is shorter is one chunk. n_chunk None: 4, or as many as 256 MiB of predictions are, one at
    least; with more, the model runs twice on those beyond. types: candidates, where rows fit them; None: the writable
    ones around near, and the next below and above it that the rows of a tensor fit.
    imatrix: the columns' importance, else collected from the text.
    progress(done, of_so_many): chunks read for the imatrix, then tensors. Raises ArgumentError for a text of fewer than
    8 tokens, and for an n_ctx beyond the context.

    >>> import pyggml
    >>> with pyggml.load() as m:
    ...     s = pyggml.sensitivity(m, "Once upon a time there was a king.", types=["q4_0"], n_kl=0)
    >>> 0.0 < s.tensors["blk.0.ffn_up.weight"].error["q4_0"] < 0.02
    True
    """
    n_ctx, n_chunk = chunking(n_ctx, n_chunk)
    n_kl, n_threads = whole("n_kl", n_kl, 0), threads(n_threads)
    imatrix = None if imatrix is None else mapping("imatrix", imatrix) if not isinstance(imatrix, Imatrix) else imatrix
    progress = function("progress", progress)
    bits = bits_per_weight(near, "near")
    kinds = None if types is None else writable(types)
    words = None if text is None else words_of("sensitivity: text", text)
    with opened("sensitivity: model", model, n_threads) as used:
        made = _measure(used, words, bits, kinds, n_kl, imatrix, n_ctx, n_chunk, n_threads, progress)
    made.sources += (*files_of(text), *((imatrix.path,) if isinstance(imatrix, Imatrix) and imatrix.path else ()))
    return made


def _measure(
    model: Model,
    text: str | list[int] | None,
    near: float,
    kinds: Sequence[QuantType] | None,
    n_kl: int,
    imatrix: Mapping[str, NDArray[np.float32]] | None,
    n_ctx: int | None,
    n_chunk: int | None,
    n_threads: int,
    progress: Progress | None,
) -> Sensitivity:
    n_ctx, most = scoring.chunk(n_ctx, model.n_ctx), n_chunk or CHUNKS
    words = own_text(model, n_ctx * most) if text is None else text
    judge = _Judge(model, chunks_of(model, words, n_ctx, most))
    if n_chunk is None:
        judge.chunks = judge.chunks[: judge.n_kept]
    weights = imatrix
    if weights is None:
        weights = collect(model, words, n_ctx=n_ctx, n_chunk=4 * most, progress=progress)
    infos = [info for info in model._loaded.file.tensors.values() if quantizable(info)]
    made = {}
    for number, info in enumerate(infos):
        importance = columns_of(weights.get(info.name), info)
        fitting = candidates(info, near) if kinds is None else [k for k in kinds if info.shape[-1] % k.elems == 0]
        cost = TensorCost(info.name, info.shape, info.type.name, _errors(info, fitting, importance, n_threads))
        changed = [kind for kind in fitting if kind.name in cost.error and kind != info.type]
        for kind in anchors(changed, near, n_kl):
            pieces = np.concatenate(list(encoded(info, kind, importance, n_threads)))
            cost.kl[kind.name] = judge.kl({info.name: Stored(info.name, kind, info.shape, pieces)})
        made[info.name] = cost
        if progress is not None:
            progress(number + 1, len(infos))
    return Sensitivity(made, sources=tuple(model._loaded.file.paths))


def candidates(info: Named, near: float | None = None) -> list[QuantType]:
    """The types for a tensor, coarse first: what its rows fit of CANDIDATES below its own type, and that type.

    near: only those around so many bits, among them the next below and the next above where there are any.
    """
    k, own = info.shape[-1], info.type
    known = [kind for kind in map(QuantType.parse, CANDIDATES) if kind.encodes and k % kind.elems == 0]
    kinds = [*(kind for kind in known if kind.bits_per_weight < own.bits_per_weight), own]
    if near is not None:
        bits = [kind.bits_per_weight for kind in kinds]
        low = max((b for b in bits if b <= near), default=min(bits))
        high = min((b for b in bits if b >= near), default=max(bits))
        low, high = min(min(near, 16.0) - 2, low), max(near + 4.1, 8.5, high)
        kinds = [kind for kind in kinds if low <= kind.bits_per_weight <= high]
    return sorted(kinds, key=lambda kind: kind.bits_per_weight)


def writable(types: Sequence[str]) -> list[QuantType]:
    """The types that a caller lists, coarse first. Raises ArgumentError or UnsupportedError for those that are none."""
    kinds = [QuantType.parse(t, "types") for t in list_of("types", types)]
    if not kinds or not all(kind.encodes and kind.is_weight for kind in kinds):
        raise ArgumentError(f"candidate types must be writable, got {', '.join(k.name for k in kinds) or 'none'}")
    return sorted(kinds, key=lambda kind: kind.bits_per_weight)


def anchors(kinds: Sequence[QuantType], near: float, count: int) -> list[QuantType]:
    """Types to measure KL at: the nearest to the wanted bits, then the nearest at least a bit apart from those."""
    chosen: list[QuantType] = []
    for kind in sorted(kinds, key=lambda k: abs(k.bits_per_weight - near)):
        if len(chosen) < count and all(abs(kind.bits_per_weight - c.bits_per_weight) >= 0.9 for c in chosen):
            chosen.append(kind)
    return chosen


def own_text(model: Model, count: int) -> list[int]:
    """About count tokens that the model writes itself, unbiased: calibration without any text."""
    ids: list[int] = []
    most = min(count, model.n_ctx - 2)
    for seed in range(64 * -(-count // most)):  # it may end each at once
        made = model.generate("", max_tokens=most, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
        start = model.tokenizer.bos_id if model.tokenizer.bos_id is not None else model.tokenizer.eos_id
        ids += [*([] if start is None else [start]), *made.tokens]
        if len(ids) >= count:
            break
    return ids[:count]


class _Judge:
    """KL of the model's predictions with some tensors replaced, against those it makes as it is.

    These are kept for the first n_kept chunks, and made again for others.
    """

    def __init__(self, model: Model, chunks: list[list[int]]) -> None:
        self.model, self.chunks = model, chunks
        self.n_kept = max(1, _KEPT_LOGITS // (model.n_vocab * len(chunks[0])))
        self._kept: dict[int, list[NDArray[np.float32]]] = {}

    def _trial(self, replaced: Mapping[str, Stored] | None = None) -> Trial:
        return Trial(self.model, len(self.chunks[0]), replaced)

    def _want(self, number: int) -> Iterable[NDArray[np.float32]]:
        if number in self._kept:
            return self._kept[number]
        with self._trial() as trial:
            made = list(_predictions(trial, self.chunks[number]))
        if number < self.n_kept:
            self._kept[number] = made
        return made

    def kl(self, replaced: Mapping[str, Stored]) -> float:
        """Mean over all positions, in nats."""
        parts = []
        with self._trial(replaced) as trial:
            for number, chunk in enumerate(self.chunks):
                for a, b in zip(self._want(number), _predictions(trial, chunk), strict=True):
                    parts.append(kl(a.astype(np.float64), b.astype(np.float64)))
        return float(np.concatenate(parts).mean())


def _predictions(trial: Trial, chunk: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    return (log_softmax(logits).astype(np.float32) for logits in trial.steps(chunk))


def _errors(
    info: TensorInfo, kinds: Sequence[QuantType], importance: NDArray[np.float32] | None, n_threads: int
) -> dict[str, float]:
    """{type: weighted error} on evenly spaced rows, of the types that hold their values; NumericError if none does."""
    k = info.shape[-1]
    rows = info.n_elements // k
    raw = info.every(-(-rows * k // _SAMPLE))
    x = _native.dequantize(info.type.id, raw.reshape(-1), len(raw), k, n_threads)
    columns = None if importance is None else np.ascontiguousarray(importance.mean(axis=0))
    power = np.ones(k) if columns is None else columns.astype(np.float64)
    whole = float((np.square(x, dtype=np.float64) @ power).sum()) or 1.0
    found = {}
    refused: NumericError | None = None
    for kind in kinds:
        if kind == info.type:
            found[kind.name] = 0.0  # copied, not rounded
            continue
        try:
            with naming(info.name, info.type.name):
                q = _native.quantize(kind.id, x, columns, n_threads)
        except NumericError as e:
            refused = e
            continue
        y = _native.dequantize(kind.id, q.reshape(-1), len(raw), k, n_threads)
        found[kind.name] = float((np.square(x - y, dtype=np.float64) @ power).sum()) / whole
    if refused is not None and not found:
        raise refused
    return found
