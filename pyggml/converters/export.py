"""GGUF -> safetensors: the tables of families/ read backwards. Quantized tensors become 16-bit floats.

The small files beside the weights are export_config.py's and export_tokenizer.py's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml import _native, gguf
from pyggml.converters import export_tokenizer, families, safetensors
from pyggml.converters.export_config import config_of, named, said_of
from pyggml.converters.family import Change, Config, Family
from pyggml.converters.source import model_files
from pyggml.errors import ArgumentError, GGUFError, UnsupportedError, file_error
from pyggml.files.atomic_file import together
from pyggml.gguf import GGUFFile, TensorInfo
from pyggml.quant.tensor import naming
from pyggml.quant.types import QuantType
from pyggml.shown import clip

_SKIPPED = re.compile(r"^rope_(freqs|factors_\w+)\.weight$")
_DTYPES = {"f32": "f32", "f16": "f16", "bf16": "bf16"}


_OF_FILES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".onnx", ".npz", ".json")


def to_safetensors(
    src: str | os.PathLike[str], dst: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None
) -> tuple[str, int, int, str | None]:
    """Writes dst/model.safetensors, dst/config.json and the files of the tokenizer.

    Returns (architecture, tensors, bytes of the weights, the tokenizer's model or None where none came along).

    dst may not be an existing file. Raises UnsupportedError for an architecture whose tables do not turn back,
    ArgumentError for a folder with other files of a model, which its readers would mix with these.
    """
    folder = os.fsdecode(os.fspath(dst))
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise GGUFError(f"{clip(folder)} exists and is no directory; it is not replaced")
    ending = os.path.splitext(folder)[1].lower()
    if ending in _OF_FILES and not os.path.isdir(folder):
        raise ArgumentError(
            f"dst {clip(folder)} ends as a file does; a .gguf becomes a directory with model.safetensors, config.json "
            "and the tokenizer in it: give a name without an ending"
        )
    with gguf.open(src) as file:
        model_type = _model_type(file)
        family = families.find(model_type)
        config = config_of(file, model_type)
        c = Config(config, "the file's metadata", spelled=family.spelled)
        rows = [row for info in file.tensors.values() for row in _rows(info, family, c, file)]
        rows += [(name, v.shape, "f32", partial(np.copy, v)) for name, v in family.kept(said_of(file), c).items()]
        config["tie_word_embeddings"] = "output.weight" not in file.tensors
        total, done = sum(int(np.prod(row[1], dtype=np.int64)) for row in rows), 0

        def counted(read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
            nonlocal done
            values = read()
            done += values.size
            if progress is not None:
                progress(done, total)
            return values

        config |= named(model_type, [kind for _, shape, kind, _ in rows if len(shape) > 1])
        path = os.path.join(folder, "model.safetensors")
        small = export_tokenizer.files_of(file.metadata, config.get("max_position_embeddings"))
        small = {"config.json": json.dumps(config, indent=1).encode(), **small}  # first: without it nothing opens
        made = [(name, shape, kind, partial(counted, read)) for name, shape, kind, read in rows]
        with _made(folder), together(folder, replace=True, sources=file.paths) as files:
            for name in (*small, "model.safetensors"):
                files.check(name)
            others = [name for name in model_files(folder) if name not in small and name != "model.safetensors"]
            if others:
                raise ArgumentError(
                    f"{clip(folder)} holds files of another model, which would be taken for this one's: "
                    f"{', '.join(map(clip, others[:5]))}; give a new folder"
                )
            for name, content in small.items():
                with files.open(name) as out:
                    out.write(content)
            with files.open("model.safetensors") as out:
                safetensors.write_to(out, path, made)
        tokenizer = file.metadata.get("tokenizer.ggml.model")
        known = tokenizer if len(small) > 1 and isinstance(tokenizer, str) else None
        return file.arch, len(rows), os.path.getsize(path), known


def _model_type(file: GGUFFile) -> str:
    """Of several that share an architecture the one that says what the file has."""
    model_type = families.by_arch(file.arch)[0]
    windows = bool(file.metadata.get(f"{file.arch}.attention.sliding_window"))
    if model_type == "llama" and any("_exps." in name for name in file.tensors):
        return "mixtral"
    if model_type == "bert" and "cls.output.weight" in file.tensors:
        return "bert ranking"
    if file.metadata.get("mamba.ssm.dt_b_c_rms") is True:
        return "falcon_mamba"
    if model_type == "granitemoehybrid" and not any("_exps." in name for name in file.tensors):
        return f"{model_type} dense"
    return {"llama": "mistral", "olmo2": "olmo3"}.get(model_type, model_type) if windows else model_type


@contextlib.contextmanager
def _made(folder: str) -> Iterator[None]:
    """A directory, made if need be and then removed again where the block fails before anything is in it."""
    new, above = [], os.path.abspath(folder)
    while not os.path.lexists(above):
        new.append(above)
        above = os.path.dirname(above)
    try:
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as e:
            raise file_error(f"{clip(folder)} cannot be made: {e.strerror}", e, folder) from e
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for each in new:
                os.rmdir(each)
        raise


def _rows(info: TensorInfo, family: Family, c: Config, file: GGUFFile) -> list[safetensors.Row]:
    """The source tensors that one GGUF tensor came from; of several that came from one the first has them all."""
    if _SKIPPED.match(info.name):
        return []
    numbers = re.findall(r"\.(\d+)\.", info.name)
    end = re.search(r"\.(weight|bias)$", info.name)
    stem = re.sub(r"\.\d+\.", ".#.", info.name[: end.start()] if end else info.name)
    names = [name for name, to in family.names.items() if to == stem]
    parts = _beside(info, stem, names, family, file)
    if parts:
        names = [name for name, to in family.names.items() if isinstance(to, tuple) and stem in to]
    if not names:  # a name that is whole in the GGUF has no ending of its own in the source either
        whole = re.sub(r"\.\d+\.", ".#.", info.name)
        names, end = [name for name, to in family.names.items() if to == whole], None
    change = family.change_of(info.name)
    if not names or (change is not None and change.back is None):
        raise UnsupportedError(f"tensor {clip(info.name)} of a {family.arch} file has no way back to safetensors")
    name, bare = names[0], names[0] in family.bare
    for number in numbers:
        name = name.replace("#", number, 1)
    name = (
        ("" if stem in ("output", "cls.output") else family.prefix) + name + (end.group() if end and not bare else "")
    )
    kind = _DTYPES.get(info.type.name, "bf16")
    if "#" not in name:
        shape = info.shape
        if change is not None and change.back is not None:
            shape = change.back(np.broadcast_to(np.zeros(1, np.float32), shape), c).shape
        if not parts:
            return [(name, shape, kind, partial(_values, info, None, kind, change, c))]
        if parts[0].name != info.name:
            return []
        shape = (*shape[:-2], sum(part.shape[-2] for part in parts), shape[-1])
        reads = [partial(_values, part, None, kind, family.change_of(part.name), c) for part in parts]
        return [(name, shape, kind, lambda: np.concatenate([read() for read in reads], axis=-2))]
    return [
        (name.replace("#", str(e)), info.shape[1:], kind, partial(_values, info, e, kind, change, c))
        for e in range(info.shape[0])
    ]


def _beside(info: TensorInfo, stem: str, names: list[str], family: Family, file: GGUFFile) -> list[TensorInfo]:
    """The tensors whose rows, one under another, were one tensor of the source: that of info and others, or none."""
    joined = next((to for to in family.names.values() if isinstance(to, tuple) and stem in to), ())
    if names or len(joined) < 2 or info.name.endswith(".bias"):
        return []
    found = [file.tensors.get(info.name.replace(stem.rsplit(".", 1)[-1], to.rsplit(".", 1)[-1])) for to in joined]
    return [each for each in found if each is not None] if all(found) else []


def _values(info: TensorInfo, expert: int | None, kind: str, change: Change | None, c: Config) -> NDArray[Any]:
    shape = info.shape if expert is None else info.shape[1:]
    size = info.nbytes // (1 if expert is None else info.shape[0])
    at = 0 if expert is None else expert * size
    raw = info.read(at, at + size)
    plain = info.type.name == kind and (change is None or not change.floats)
    if plain:
        values: NDArray[Any] = raw.view({"f32": "<f4", "f16": "<f2", "bf16": "<u2"}[kind]).reshape(shape)
    else:
        k = shape[-1]
        rows = int(np.prod(shape, dtype=np.int64)) // k
        values = _native.dequantize(info.type.id, raw, rows, k).reshape(shape)
    if change is not None and change.back is not None:
        values = change.back(values, c)
    if plain or kind == "f32":
        return np.ascontiguousarray(values)
    with naming(info.name, info.type.name):
        made = _native.quantize(QuantType.parse(kind).id, np.ascontiguousarray(values.reshape(-1, values.shape[-1])))
    return made.view("<u2").reshape(values.shape)
