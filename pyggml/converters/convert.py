"""convert(): a model directory or file -> GGUF, and GGUF -> safetensors: read, plan, write beside, verify, rename.

Knows no family and no file format of its own: those are in families/ and in the readers.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pyggml.arguments import PathLike, function, mapping, text, text_or_none
from pyggml.arguments import path as read_path
from pyggml.converters import families, packed, sentence, verify, vocab
from pyggml.converters.export import to_safetensors
from pyggml.converters.families.llama import JOINED_BY_COLUMNS, from_params
from pyggml.converters.family import Config, Meta
from pyggml.converters.meaning import check_all_taken
from pyggml.converters.source import Source, files_of, is_gguf, open_source
from pyggml.converters.stored import Stored
from pyggml.converters.write import Made, data_of, plan
from pyggml.errors import ArgumentError, FileMissing, GGUFError
from pyggml.files.atomic_file import beside, check_writable
from pyggml.files.foreign import reading
from pyggml.gguf import Writer
from pyggml.gguf.writer import check_settable
from pyggml.keywords import known_only
from pyggml.quant.types import QuantType
from pyggml.recipes import quantize_file
from pyggml.recipes.choose import parse
from pyggml.shown import clip

log = logging.getLogger("pyggml")

_FILE_TYPE = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Converted:
    """What convert() made: path, architecture, tensors, bytes, and whether a tokenizer came along.

    runs: whether pyggml itself can run it; why_not says what it lacks ("" where it runs).
    """

    path: str
    arch: str
    n_tensors: int
    nbytes: int
    tokenizer: str | None
    runs: bool
    why_not: str


@known_only
def convert(
    src: PathLike,
    dst: PathLike,
    *,
    dtype: str | QuantType = "auto",
    quantize: str | None = None,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Makes a GGUF of a model, or safetensors of a GGUF.

    src: a Hugging Face directory (safetensors or PyTorch shards, config.json, tokenizer files), one weight file with
    its config.json beside it (.safetensors .bin .pth .pt .onnx .npz), Meta's directory (params.json,
    consolidated.*.pth), or a .gguf file, which becomes a directory dst with model.safetensors, config.json and the
    files of the tokenizer. FP8 and INT8 weights beside their scales are multiplied out, other packed ones are refused.
    dtype: "f32", "f16", "bf16", "q8_0", or "auto" (16-bit weights stay what they are, others become f32); norms,
    biases and routers are always f32. quantize: a recipe for quantize_file, e.g. "Q4_K_M". metadata: values to add or
    to put in place of what was found, e.g. {"general.license": "mit"}.

    Nothing of a source is ever run. An existing dst is replaced when the new file is whole and verified; a file of the
    source directory is never replaced, but for a .gguf.
    Raises GGUFError for a source that is damaged or contradicts itself, UnsupportedError for a model_type that is not
    known, ArgumentError for a path or dtype that cannot be used.
    """
    src, dst = read_path("src", src), read_path("dst", dst)
    name, metadata = text_or_none("name", name), None if metadata is None else mapping("metadata", metadata)
    check_settable(metadata or {})
    dtype = text("dtype", dtype) if not isinstance(dtype, QuantType) else dtype.name
    progress = function("progress", progress)
    if quantize is not None:
        parse(text("quantize", quantize))  # a wrong name is said before the work
    if not os.path.lexists(src):
        message = f"src {clip(src)} is no model: it does not exist"
        raise FileMissing(message, errno.ENOENT, os.strerror(errno.ENOENT), src)
    if is_gguf(src):
        if quantize is not None or dtype.lower() != "auto" or name is not None or metadata:
            raise ArgumentError("a .gguf becomes safetensors as it is; to change its types or metadata, use quantize")
        arch, count, nbytes, tokenizer = to_safetensors(src, dst, progress)
        return Converted(dst, arch, count, nbytes, tokenizer, False, "safetensors are for other programs")
    wanted = "auto" if dtype.lower() == "auto" else QuantType.parse(dtype, "dtype").name
    if wanted != "auto" and wanted not in _FILE_TYPE:
        raise ArgumentError(f"dtype is {clip(dtype)}, expected auto, {', '.join(_FILE_TYPE)}")
    sources = files_of(src)
    check_writable(dst, ArgumentError, sources)
    source = open_source(src)
    with reading(source.folder, "model"):
        tensors, config = _whole(source)
        c = Config(config, clip(os.path.join(source.folder, "config.json")))
        family = families.of(c)
        c = c.with_defaults(family.defaults, family.spelled)
        extra, said = family.of_config(c)
        tensors = packed.plain(tensors, c)
        said |= family.read(tensors, c)
        made = plan(tensors, family, c, wanted)
        made += [_extra(key, values) for key, values in extra.items()]
        meta = _general(source, family.arch, made, name, wanted) | said
        embedding = next((each.shape[0] for each in made if each.name == "token_embd.weight"), None)
        meta |= _rows(meta, f"{family.arch}.vocab_size", embedding, c)
        check_all_taken(c, family.computes, family.arch)
        meta |= vocab.metadata(source, c, embedding, metadata, family.vocabulary)
        meta |= {key: (value, None) for key, value in (metadata or {}).items()}
    why_not = _write(dst, sources, meta, made, c, quantize, progress)
    kind = meta.get("tokenizer.ggml.model")
    return Converted(dst, family.arch, len(made), os.path.getsize(dst), kind[0] if kind else None, not why_not, why_not)


def _rows(meta: Meta, key: str, embedding: int | None, c: Config) -> Meta:
    """The rows of the embedding, whatever config.json says: a file that contradicts itself does not open elsewhere."""
    if key not in meta or embedding is None or meta[key][0] == embedding:
        return {}
    log.warning("%s: vocab_size is %s, the embedding has %d rows, which count", c.where, meta[key][0], embedding)
    return {key: (embedding, "u32")}


def _extra(name: str, values: Any) -> Made:
    def read() -> Any:
        return values

    stored = Stored(name, values.shape, "f32", read)
    return Made(name, (stored,), False, None, values.shape, QuantType.parse("f32"))


def _whole(source: Source) -> tuple[dict[str, Stored], dict[str, Any]]:
    """Tensors and config; the parts of Meta's layout are joined, pooling of sentence-transformers is added."""
    if not source.original:
        matrices, pooling = sentence.behind(source)
        return source.tensors | matrices, {**source.config, **pooling}
    parts = source.parts
    joined = {name: _joined(name, [_part(part, name) for part in parts], source) for name in parts[0]}
    for part in parts[1:]:
        if part.keys() != parts[0].keys():
            raise GGUFError(f"{clip(source.folder)}: the consolidated parts hold different tensors")
    up, embedding = joined.get("layers.0.feed_forward.w1.weight"), joined.get("tok_embeddings.weight")
    if up is None or embedding is None:
        raise GGUFError(f"{clip(source.folder)}: the consolidated files hold no Llama model")
    return joined, from_params(source.config, up.shape[0], embedding.shape[0])


def _part(part: dict[str, Stored], name: str) -> Stored:
    if name not in part:
        raise GGUFError(f"{clip(name)} is missing in one of the consolidated parts")
    return part[name]


def _joined(name: str, parts: list[Stored], source: Source) -> Stored:
    if len(parts) == 1 or len(parts[0].shape) < 2:
        return parts[0]
    axis = 1 if any(word in name for word in JOINED_BY_COLUMNS) else 0
    if name.startswith("tok_embeddings") and parts[0].shape[1] != source.config.get("dim"):
        axis = 1  # Llama 1 and 2 cut the embedding by columns, Llama 3 by rows
    if any(part.shape[1 - axis] != parts[0].shape[1 - axis] or part.dtype != parts[0].dtype for part in parts):
        raise GGUFError(f"{clip(name)}: its parts do not fit together")
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)

    def read() -> Any:
        return np.concatenate([part.read() for part in parts], axis=axis)

    return Stored(name, tuple(shape), parts[0].dtype, read)


def _general(source: Source, arch: str, made: list[Made], name: str | None, dtype: str) -> Meta:
    types = {each.type.name for each in made if len(each.shape) > 1 and each.type.name != "f32"}
    mostly = dtype if dtype != "auto" else next(iter(types), "f32")
    said = source.config.get("_name_or_path")
    title = name or (os.path.basename(said.rstrip("/")) if isinstance(said, str) and said else "")
    meta: Meta = {
        "general.architecture": (arch, None),
        "general.type": ("model", None),
        "general.name": (title or os.path.basename(os.path.abspath(source.folder)), None),
        "general.size_label": (_size_label(made), None),
        "general.file_type": (_FILE_TYPE.get(mostly, 0), "u32"),
        "general.quantization_version": (2, "u32"),
    }
    return meta


def _size_label(made: list[Made]) -> str:
    """Parameters as model names show them: 1.2B, 460K; experts as 8x7B with what one of them and the rest make."""
    total = experts = count = 0
    for each in made:
        size = int(np.prod(each.shape, dtype=np.int64))
        total += size
        if "_exps." in each.name:
            experts += size
            count = each.shape[0]
    label = _short(total - experts + experts // count) if count else _short(total)
    return f"{count}x{label}" if count else label


def _short(n: int) -> str:
    value, unit = float(n), ""
    for name in ("K", "M", "B", "T"):
        if value < 1000:
            break
        value, unit = value / 1000, name
    return f"{value:.1f}{unit}" if value < 10 and unit in ("B", "T") else f"{round(value)}{unit}"


def _write(
    dst: str | os.PathLike[str],
    sources: list[str],
    meta: Meta,
    made: list[Made],
    c: Config,
    quantize: str | None,
    progress: Progress | None,
) -> str:
    """Writes the file, checked; returns why it cannot be run here, "" where it can."""
    total = sum(int(np.prod(each.shape, dtype=np.int64)) // each.type.elems * each.type.bytes for each in made)
    written = 0

    def done(nbytes: int) -> None:
        nonlocal written
        written += nbytes
        if progress is not None:
            progress(written, total)

    with beside(dst, GGUFError, sources) as new:
        out = Writer(dst)
        for key, (value, kind) in meta.items():
            out.add(key, value, kind)
        for each in made:
            out.add_tensor(each.name, each.shape, each.type, partial(_call, data_of(each, c, done)))
        out.write(new.out)
        new.out.flush()
        why_not = verify.tensors(new.part, made, c.where)
        if quantize is None:
            new.put()
        else:
            quantize_file(new.part, dst, quantize, allow_requantize=True, progress=progress)
    return why_not


def _call(pieces: Callable[[], Any]) -> Any:
    return pieces()
