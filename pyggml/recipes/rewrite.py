"""quantize_file: reads a GGUF tensor by tensor, a few rows at a time, and writes it in other types.

Memory stays near the size of the pieces, not of the model. The destination appears only when it is complete. Which
type a tensor gets is decided in choose.py.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml import gguf
from pyggml.arguments import PathLike, flag, function, instance, mapping, threads
from pyggml.arguments import path as read_path
from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.files.atomic_file import check_writable
from pyggml.gguf import TensorInfo
from pyggml.gguf.writer import check_settable
from pyggml.keywords import known_only
from pyggml.numeric.notation import notation
from pyggml.quant.names import is_notation
from pyggml.quant.types import QuantType
from pyggml.recipes import overrides
from pyggml.recipes.choose import Choice, Numbers, choose, file_type, parse, quantizable
from pyggml.recipes.costs import Sensitivity
from pyggml.recipes.encode import columns_of, encoded
from pyggml.recipes.importance import Imatrix
from pyggml.recipes.measured import measured
from pyggml.recipes.mixes import COPY, WANTS_IMATRIX
from pyggml.recipes.patterns import whole_name
from pyggml.recipes.recipe import LAYER_NAMES, Recipe, Rule, RulesLike, as_rules
from pyggml.recipes.watch import TextOrIds, words_of
from pyggml.sizes import bits_per_weight, byte_size

log = logging.getLogger("pyggml")


_RECIPE = "the name of a recipe, like 'Q4_K_M', or a Recipe"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Change:
    """One tensor's way: its name, types before and after, bytes after, and why it is not the type asked for."""

    name: str
    old: str
    new: str
    nbytes: int
    why: str = ""


class Changes(list[Change]):
    """What became of each tensor, in the order of the file, and the recipe that was taken in the end."""

    def __init__(self, rows: Iterable[Change], taken: Recipe, free: Collection[str]) -> None:
        super().__init__(rows)
        self._taken, self._free = taken, free

    @property
    def recipe(self) -> Recipe:
        """The same choice as a recipe that names each matrix: from the same source it makes the same file.

        An imatrix and metadata that were given are no part of it.
        """
        rules, keep = [], []
        for row in self:
            if row.name in self._free:
                rules.append(Rule(f"^{re.escape(row.name)}$", row.new))
            elif row.new != row.old:
                keep.append(Rule(f"^{re.escape(row.name)}$", row.new))
        return Recipe(self._taken.base, rules, keep, note=self._taken.note)


@known_only
def quantize_file(
    src: PathLike,
    dst: PathLike,
    recipe: str | Recipe = "Q4_K_M",
    *,
    imatrix: Mapping[str, Any] | PathLike | None = None,
    rules: RulesLike | None = None,
    keep: RulesLike | None = None,
    output_type: str | QuantType | None = None,
    embedding_type: str | QuantType | None = None,
    metadata: Mapping[str, Any] | None = None,
    target_bpw: float | str | None = None,
    target_size: int | str | None = None,
    text: TextOrIds | None = None,
    sensitivity: Sensitivity | PathLike | None = None,
    allow_requantize: bool = False,
    dry_run: bool = False,
    n_threads: int = 0,
    progress: Progress | None = None,
) -> Changes:
    """Writes src to dst with its matrices in other types and returns what became of each tensor.

    The list that is returned has a recipe, too: the choice with each matrix named, to save or to use again.

    recipe: a mix in any case ("Q4_K_M", "iq4_xs"): norms, routers, vectors and other small things stay, the rest gets
    the types that llama.cpp gives it; "W4A8" or "W4A16" is the mix of so many bits; "pure:Q4_K" puts every matrix into
    one type; "COPY" leaves the types; or a Recipe. A row that does not fit a type's block gets the next that does.
    rules: {name or regex: type}, the first that matches a tensor's name wins over the recipe; keep: the same for
    vectors too, a type of "" leaves what is there; both before the recipe's own. output_type, embedding_type: of the
    output matrix and the token embedding. All four also hold where a recipe with max_size falls back to a smaller mix.
    imatrix: {tensor name: importance of each column, k or n_expert * k values >= 0}, or a file of them.
    target_bpw, target_size ("4GiB"): choose a type for every matrix so that the whole predicts best in so many bits per
    weight, or bytes of the file; the recipe's base is then not used. This measures what each type costs on text (a str,
    the pathlib.Path of a text file, or ids; None: text the model writes itself), or takes a sensitivity made before or
    its file, and uses the imatrix it found.
    metadata: {key: value} to set, None removes a key; what would keep a model from loading is refused.
    allow_requantize: accept blocks that are quantized again (quality suffers twice); back to floats needs no leave, f32
    loses nothing. dry_run: only report. progress(bytes_done, bytes_total).

    Raises GGUFError for a broken source, ArgumentError for a recipe that makes no sense, UnsupportedError for a type
    that cannot be written, NumericError for NaN, infinity or numbers beyond a type in the source. An existing dst is
    replaced only when all is written, and never where it is one of the files that are read: src, a part of it, the
    imatrix, the sensitivity, the recipe.

    >>> import pyggml
    >>> from pyggml.model import BUNDLED
    >>> rows = pyggml.quantize_file(BUNDLED, "", "Q4_K_M", allow_requantize=True, dry_run=True)
    >>> {r.new for r in rows if "ffn_up" in r.name}
    {'q4_k'}
    """
    src, dst = read_path("src", src), read_path("dst", dst, empty=True)
    allow_requantize, dry_run = flag("allow_requantize", allow_requantize), flag("dry_run", dry_run)
    n_threads, progress = threads(n_threads), function("progress", progress)
    metadata = {} if metadata is None else mapping("metadata", metadata)
    check_settable(metadata)
    how = Recipe(recipe) if isinstance(recipe, str) else replace(instance("recipe", recipe, Recipe, _RECIPE))
    how.check()
    own_rules = as_rules(rules, "rules")
    how.rules = [*own_rules, *how.rules]
    how.keep = [*as_rules(keep, "keep"), *how.keep]
    own_output = None if output_type is None else QuantType.parse(output_type, "output_type").name
    own_embedding = None if embedding_type is None else QuantType.parse(embedding_type, "embedding_type").name
    smaller = [Recipe(base, [*own_rules], how.keep, own_output, own_embedding) for base in how.smaller]
    how.output_type, how.embedding_type = own_output or how.output_type, own_embedding or how.embedding_type
    bits_wanted = None if target_bpw is None else bits_per_weight(target_bpw, "target_bpw")
    bytes_wanted = None if target_size is None else byte_size(target_size, "target_size")
    words = None if text is None else words_of("quantize_file: text", text)
    if (bits_wanted, bytes_wanted) == (None, None):
        for unused, given in (("text", text), ("sensitivity", sensitivity)):
            if given is not None:
                log.warning("%s is not used: only target_bpw and target_size choose by it", unused)
    elif text is not None and sensitivity is not None:
        log.warning("text is not used: sensitivity says what each type costs")
    weights = _weights(imatrix)
    with gguf.open(src) as file:
        sources = [*file.paths, *_files("text", text), *_files("recipe", recipe)]
    for name, value in (("imatrix", imatrix), ("sensitivity", sensitivity)):
        sources += _files(name, value, names=True)
    if not dry_run:
        check_writable(dst, ArgumentError, sources)
    if bits_wanted is not None or bytes_wanted is not None:
        with gguf.open(src) as file:  # before the time is spent
            for info in filter(quantizable, () if allow_requantize else file.tensors.values()):
                if info.type.is_block:
                    raise _again(info.name, info.type.name)
        how, weights = measured(src, how, bits_wanted, bytes_wanted, words, sensitivity, weights, n_threads, progress)
    with gguf.open(src) as file:
        how, chosen = _fit(how, smaller, file, bool(weights))
        free = {name for name, info in file.tensors.items() if quantizable(info)}
        changes = Changes((_change(info, chosen[name]) for name, info in file.tensors.items()), how, free)
        _judge(file.tensors, changes, allow_requantize, dry_run)
        overrides.check(file, metadata)
        columns = _columns(weights, file.tensors)
        _warn(changes, weights, how, Numbers.from_metadata(file.metadata).n_layer)
        if dry_run:
            return changes
        counted = _Counter(sum(c.nbytes for c in changes), progress)
        base = parse(how.base)[0]
        own = {} if base == COPY else {"general.file_type": file_type(base), "general.quantization_version": 2}
        with gguf.Writer(dst, alignment=file.alignment, behind=True, sources=sources) as out:
            _copy_metadata(out, file.metadata, own, metadata)
            for name, info in file.tensors.items():
                kind = chosen[name].type
                pieces = encoded(info, kind, columns.get(name), n_threads)
                out.add_tensor(name, info.shape, kind, lambda p=pieces: counted(p))
    return changes


def _files(name: str, value: Any, names: bool = False) -> list[str]:
    """The file that an argument is or was read from. names: str is the name of one, not a text."""
    if isinstance(value, os.PathLike) or (names and isinstance(value, str)):
        return [read_path(name, value)]
    return [value.path] if isinstance(value, Imatrix | Sensitivity | Recipe) and value.path else []


def _weights(imatrix: Mapping[str, Any] | PathLike | None) -> Mapping[str, Any]:
    if imatrix is None or isinstance(imatrix, Mapping):
        return imatrix or {}
    return Imatrix.load(read_path("imatrix", imatrix))


def _fit(
    how: Recipe, smaller: list[Recipe], file: gguf.GGUFFile, has_imatrix: bool
) -> tuple[Recipe, dict[str, Choice]]:
    """The recipe, or the first of the smaller ones that stays below its max_size, and what it chooses."""
    numbers = Numbers.from_metadata(file.metadata)
    chosen = choose(how, file.tensors.values(), numbers, has_imatrix)
    if how.max_size is None:
        return how, chosen
    sizes = []
    for recipe in (how, *smaller):
        chosen = choose(recipe, file.tensors.values(), numbers, has_imatrix)
        sizes.append(sum(_change(info, chosen[name]).nbytes for name, info in file.tensors.items()))
        if sizes[-1] <= how.max_size:
            if recipe is not how and (len(how.rules), how.output_type, how.embedding_type) != (
                len(recipe.rules), recipe.output_type, recipe.embedding_type,
            ):  # fmt: skip
                log.warning(
                    "%s needs %s bytes, more than max_size: %s is taken, without the recipe's own rules and types",
                    how.base, f"{sizes[0]:,}", recipe.base,
                )  # fmt: skip
            return recipe, chosen
    raise ArgumentError(
        f"no mix of this recipe fits {how.max_size:,} bytes: {how.base} needs {sizes[0]:,}, the smallest {min(sizes):,}"
    )


def _change(info: TensorInfo, choice: Choice) -> Change:
    k = info.shape[-1]
    nbytes = info.n_elements // k * choice.type.row_bytes(k)
    return Change(info.name, info.type.name, choice.type.name, nbytes, choice.why)


def _judge(tensors: Mapping[str, TensorInfo], changes: list[Change], allow_requantize: bool, dry_run: bool) -> None:
    missing = sorted({c.new for c in changes if c.new != c.old and not QuantType.parse(c.new).encodes})
    if missing and not dry_run:
        able = ", ".join(t.name for t in QuantType if t.encodes)
        raise UnsupportedError(f"type {', '.join(missing)} cannot be written yet; writable: {able}")
    for c in changes:
        again = tensors[c.name].type.kind == "block" and QuantType.parse(c.new).is_block
        if c.new != c.old and again and not allow_requantize:
            raise _again(c.name, c.old)


def _again(name: str, old: str) -> ArgumentError:
    return ArgumentError(
        f"tensor {name} is already {old}; quantizing it again loses quality twice "
        "(allow_requantize=True does it all the same)"
    )


def _columns(weights: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> dict[str, NDArray[np.float32] | None]:
    """The weights of columns by tensor. Raises ArgumentError where they are another model's."""
    if weights and not any(name in weights for name in tensors):
        raise ArgumentError("the imatrix names no tensor of this file: it was made from another model")
    return {name: columns_of(weights[name], info) for name, info in tensors.items() if name in weights}


def _warn(changes: list[Change], weights: Mapping[str, Any], how: Recipe, n_layer: int) -> None:
    names = {change.name for change in changes}
    for rule in (*how.keep, *how.rules):
        if whole_name(rule.match) in names or any(map(rule.matcher(n_layer), names)):
            continue
        if rule.layers and any(map(Rule(rule.match).matcher(n_layer), names)):
            log.warning("the rule for %r in layers %s meets nothing: %d layers", rule.match, rule.layers, n_layer)
        elif rule.match.strip().lower() not in LAYER_NAMES:
            log.warning("the pattern %r is found in no tensor's name", rule.match)
    bits = notation(how.base) if is_notation(how.base) else None
    if bits is not None and bits.weight <= 8 < bits.activation:
        log.warning("a file holds weights alone; this package computes with them as W%dA8", bits.weight)
    poor = [c for c in changes if c.new != c.old and c.new in WANTS_IMATRIX and c.name not in weights]
    if poor:
        kinds = ", ".join(sorted({c.new for c in poor}))
        log.warning(
            "%d tensors become %s without importance weights, which costs much quality; give an imatrix",
            len(poor),
            kinds,
        )


def _copy_metadata(out: gguf.Writer, old: gguf.Metadata, own: dict[str, int], new: dict[str, Any]) -> None:
    out.add_metadata(old, skip=(*own, *new))
    for key, number in own.items():
        if key not in new:
            out.add(key, number, "u32")
    for key, value in new.items():
        if value is not None:
            kind = old.type_of(key) if key in old else "u32" if key in own else None
            out.add(key, value, kind if kind and not kind.startswith("arr") and "[" not in kind else None)


class _Counter:
    """Passes pieces on and reports how many bytes went by."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def __call__(self, pieces: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        for piece in pieces:
            yield piece
            self.done += piece.nbytes
            if self.progress is not None:
                self.progress(self.done, self.total)
