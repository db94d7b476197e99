"""survey: a model in many recipes, each measured against the source. What the report draws and tables are made of.

Files are made in a temporary folder, one at a time, and removed. Drawing is in report.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from pyggml import _native, gguf
from pyggml.arguments import PathLike, function, texts, threads
from pyggml.arguments import path as read_path
from pyggml.engine import scoring
from pyggml.errors import ArgumentError
from pyggml.files.atomic_file import scratch
from pyggml.files.texts import files_of
from pyggml.gguf import TensorInfo
from pyggml.keywords import known_only
from pyggml.recipes.comparison import Comparison, compare
from pyggml.recipes.importance import imatrix as collect
from pyggml.recipes.mixes import FLOATS, MIXES
from pyggml.recipes.rewrite import quantize_file
from pyggml.recipes.watch import TextOrIds, chunking, words_of

Progress = Callable[[int, int], None]
_SAMPLE = 1 << 20  # values of a tensor that its error is measured on


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One file: its recipe, whether importance was used, bytes of the file, bits per weight, distance to the source.

    types: of each tensor; errors: root of the relative squared error of each changed tensor, unweighted.
    source: the file that it was made of; texts: the files of text that were read.
    """

    recipe: str
    importance: bool
    nbytes: int
    bits_per_weight: float
    found: Comparison
    types: dict[str, str]
    errors: dict[str, float]
    source: str = ""
    texts: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        made = asdict(self)
        del made["texts"]
        return made


@known_only
def survey(
    source: PathLike,
    text: TextOrIds,
    recipes: Sequence[str] | None = None,
    *,
    importance: TextOrIds | None = None,
    n_ctx: int | None = None,
    n_chunk: int | None = None,
    n_threads: int = 0,
    progress: Progress | None = None,
) -> list[Surveyed]:
    """Writes source in every recipe and measures each file on text, in the order of bits per weight.

    text: a str is the text, a pathlib.Path a file of it; or ids.
    recipes: mixes or pure:TYPE; None: every mix but floats. importance: another text; with it every recipe is also
    written with the importance of columns it gives. n_ctx, n_chunk: as compare takes them; the other text is read in
    chunks of n_ctx, too. progress(files_done, files). Raises what quantize_file and compare
    raise.

    >>> from pyggml.model import BUNDLED
    >>> rows = survey(BUNDLED, "Once upon a time there was a king who had three sons.", ["Q4_0", "Q2_K"])
    >>> [row.recipe for row in rows], rows[0].found.kl_mean > rows[1].found.kl_mean
    (['Q2_K', 'Q4_0'], True)
    """
    from pyggml.model import load

    source, n_threads, progress = read_path("source", source), threads(n_threads), function("progress", progress)
    n_ctx, n_chunk = chunking(n_ctx, n_chunk)
    words = words_of("survey: text", text)
    other_words = None if importance is None else words_of("survey: importance", importance)
    names = [name for name in MIXES if name not in FLOATS] if recipes is None else texts("recipes", recipes)
    if not names:
        raise ArgumentError("a survey needs at least one recipe")
    made = []
    with scratch() as path, load(source, n_threads=n_threads or None) as model:
        scoring.chunk(n_ctx, model.n_ctx)  # before anything is written
        ways: list[Any] = [None]
        if other_words is not None:
            ways.append(collect(model, other_words, n_ctx=n_ctx))
        total = len(names) * len(ways)
        for name in names:
            for weights in ways:
                quantize_file(source, path, name, imatrix=weights, allow_requantize=True, n_threads=n_threads)
                with load(path, n_threads=n_threads or None) as other:
                    found = compare(model, other, words, n_ctx=n_ctx, n_chunk=n_chunk)
                made.append(_row(name, weights is not None, source, path, found, n_threads))
                if progress is not None:
                    progress(len(made), total)
    made = [replace(row, texts=files_of(text, importance)) for row in made]
    return sorted(made, key=lambda row: (row.bits_per_weight, row.recipe, row.importance))


def _row(name: str, importance: bool, source: PathLike, path: str, found: Comparison, n_threads: int) -> Surveyed:
    with gguf.open(source) as a, gguf.open(path) as b:
        infos = list(b.tensors.values())
        bits = 8 * sum(t.nbytes for t in infos) / max(sum(t.n_elements for t in infos), 1)
        changed = {n: t for n, t in b.tensors.items() if t.type != a.tensors[n].type}
        errors = {n: relative_error(a.tensors[n], t, n_threads) for n, t in changed.items()}
        types = {t.name: t.type.name for t in infos}
        return Surveyed(name, importance, b.size, bits, found, types, errors, os.fsdecode(source))


def relative_error(a: TensorInfo, b: TensorInfo, n_threads: int = 0) -> float:
    """sqrt(sum (a - b)^2 / sum a^2) of two tensors of one shape, on evenly spaced rows."""
    k = a.shape[-1]
    n = a.n_elements // k
    step = -(-n * k // _SAMPLE)
    x, y = (
        _native.dequantize(t.type.id, t.every(step).reshape(-1), -(-n // step), k, n_threads).astype(np.float64)
        for t in (a, b)
    )
    return math.sqrt(float(np.square(x - y).sum()) / (float(np.square(x).sum()) or 1.0))


def layers_of(types: Mapping[str, str]) -> tuple[list[str], int]:
    """Kinds of matrices in the layers, and how many layers there are.

    >>> layers_of({"blk.0.attn_q.weight": "q4_k", "blk.1.attn_q.weight": "q4_k", "output.weight": "q6_k"})
    (['attn_q'], 2)
    """
    kinds: dict[str, None] = {}
    last = -1
    for name in types:
        head, _, rest = name.partition(".")
        number, _, tail = rest.partition(".")
        if head == "blk" and number.isdigit() and tail.endswith(".weight"):
            last = max(last, int(number))
            if "norm" not in tail:
                kinds[tail.removesuffix(".weight")] = None
    return list(kinds), last + 1
