"""What a conversion starts from: all tensors of a directory or file, and the small files beside them.

Chooses the reader by what is there: safetensors first (nothing in it can run), then PyTorch, ONNX, NumPy.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from typing import Any

from pyggml.converters import numpy_zip, onnx, pickled, safetensors
from pyggml.converters.packed import merge_first
from pyggml.converters.stored import Stored
from pyggml.errors import ArgumentError, GGUFError, UnsupportedError, file_error
from pyggml.files.foreign import name_of, parse_json, read_bytes, read_text, reading
from pyggml.files.recognise import HEAD, not_fetched
from pyggml.files.regular_file import RegularFile
from pyggml.gguf.format import MAGIC
from pyggml.shown import clip

log = logging.getLogger("pyggml")

_READERS: dict[str, Callable[[str], dict[str, Stored]]] = {
    ".safetensors": safetensors.read,
    ".bin": pickled.read,
    ".pth": pickled.read,
    ".pt": pickled.read,
    ".onnx": onnx.read,
    ".npz": numpy_zip.read,
}
# Files of a directory in the order in which transformers looks for them; an index names the shards.
_INDEX_OF = {
    "model.safetensors": "model.safetensors.index.json", "pytorch_model.bin": "pytorch_model.bin.index.json",
}  # fmt: skip
_WHOLE = (*_INDEX_OF, "model.onnx", "model.npz", "model.pth", "model.pt")
_SMALL = re.compile(
    r"(?:config|params|adapter_config|generation_config|tokenizer\w*|special_tokens_map|added_tokens|vocab|merges)"
    r"\.(?:json|model|txt)$"
)
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.(safetensors|bin)$")
_LOOKED_FOR = (
    "config.json", "generation_config.json", "params.json", "tokenizer.json", "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt",
    "chat_template.jinja", "chat_template.json", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model",
    "spm.model", "encoder.json", "vocab.bpe",
)  # fmt: skip
_MOST_FOLDERS = 64  # a weight file may lie anywhere, in a home directory too
_NOT_MODELS = re.compile(r"optimizer|scheduler|training_args|rng_state|scaler", re.I)

MAX_JSON = 128 << 20  # the largest published tokenizer.json have some 35 MB
MAX_VALUES = 1 << 22  # of a JSON file; half a million merges are a million values


class Source:
    """A model as it came: folder, config (parsed config.json or params.json), tensors by their own names.

    original: the layout of Meta's releases (params.json and consolidated.*.pth), whose parts the family joins.
    """

    def __init__(self, folder: str, config: dict[str, Any], parts: list[dict[str, Stored]], original: bool) -> None:
        self.folder = folder
        self.config = config
        self.parts = parts
        self.original = original

    @property
    def tensors(self) -> dict[str, Stored]:
        """All tensors; a name in two parts is an error unless the layout splits tensors."""
        found: dict[str, Stored] = {}
        for part in self.parts:
            for name, stored in part.items():
                if name in found:
                    raise GGUFError(f"tensor {clip(name)} is in two files of {clip(self.folder)}")
                found[name] = stored
        return found

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object beside the weights; {} where it is not there."""
        return read_json(os.path.join(self.folder, name), missing_ok=True)

    def part(self, folder: str) -> dict[str, Stored]:
        """The tensors of a part of the model that lies in a folder of its own, as `model` or `pytorch_model`."""
        for name in ("model.safetensors", "pytorch_model.bin"):
            path = os.path.join(self.folder, folder, name)
            if os.path.lexists(path):
                return _read(path)
        raise GGUFError(f"{clip(os.path.join(self.folder, folder))} holds no weights, expected model.safetensors")

    def text(self, name: str) -> str | None:
        """A text file beside the weights, or None."""
        path = os.path.join(self.folder, name)
        if not os.path.lexists(path):
            return None
        text = read_text(path, MAX_JSON, "a text file of a model")
        return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str, missing_ok: bool = False) -> dict[str, Any]:
    """A JSON object from a file. Raises GGUFError."""
    if missing_ok and not os.path.lexists(path):
        return {}
    with reading(path, "JSON"):
        value = parse_json(read_bytes(path, MAX_JSON, "such a file"), MAX_VALUES)
        if not isinstance(value, dict):
            raise GGUFError(f"{name_of(path)} holds {type(value).__name__}, expected an object")
        return value


def open_source(path: str | os.PathLike[str]) -> Source:
    """The model in a directory, or in one weight file with its config beside it.

    Raises ArgumentError for a path that holds no model, GGUFError for one that is damaged.
    """
    text = os.fsdecode(os.fspath(path))
    if os.path.isdir(text):
        return _from_folder(text)
    ending = os.path.splitext(text)[1].lower()
    if ending not in _READERS:
        raise ArgumentError(
            f"{clip(text)} is no model that can be converted: expected a directory or a file ending in "
            f"{' '.join(_READERS)}"
        )
    folder = os.path.dirname(os.path.abspath(text))
    _check_adapter(folder, [os.path.basename(text)])
    return Source(folder, _config(folder), [_read(text)], original=False)


def _read(path: str) -> dict[str, Stored]:
    """The tensors of one weight file. Raises GGUFError for a pointer or a page in its place, with the cure."""
    _check_fetched(path)
    return _READERS[os.path.splitext(path)[1].lower()](path)


def _check_fetched(path: str) -> None:
    file = RegularFile(path, "a file of a model")
    try:  # pointers and pages are small, and large ones say what they are to the reader
        fault = not_fetched(file.read(0, min(HEAD, file.size))) if file.size <= 1 << 20 else None
    finally:
        file.close()
    if fault:
        raise GGUFError(f"{clip(path)}: {fault}")


def _check_adapter(folder: str, weights: list[str]) -> None:
    """Raises UnsupportedError where the weights are those of a LoRA or another adapter, naming its base."""
    if not os.path.isfile(os.path.join(folder, "adapter_config.json")):
        return
    if not any(name.startswith("adapter_model") for name in weights):
        return
    said = read_json(os.path.join(folder, "adapter_config.json")).get("base_model_name_or_path")
    base = clip(said) if isinstance(said, str) and said else ""
    raise UnsupportedError(f"{clip(folder)} holds an adapter (LoRA or its like), no whole model. {merge_first(base)}")


def is_gguf(path: str) -> bool:
    """Whether it is a GGUF file: by its first bytes, or its name where they are something else."""
    if os.path.isdir(path) or path.lower().endswith(".gguf") or not os.path.isfile(path):
        return path.lower().endswith(".gguf") and not os.path.isdir(path)
    file = RegularFile(path, "a model")
    try:
        return file.read(0, min(4, file.size)) in (MAGIC, MAGIC[::-1])
    finally:
        file.close()


def files_of(path: str | os.PathLike[str]) -> list[str]:
    """Every file that a conversion of path may read, there or not, so that nothing is written over it.

    That is whatever lies in the directory (and in folders of it, as sentence-transformers and chat templates have
    them) and is no .gguf, and the names that are looked for. An empty list where there is no such directory.
    """
    text = os.fsdecode(os.fspath(path))
    folder = text if os.path.isdir(text) else os.path.dirname(os.path.abspath(text))
    found = [text] if os.path.isfile(text) else []
    found += [os.path.join(folder, name) for name in (*_WHOLE, *_INDEX_OF.values(), *_LOOKED_FOR)]
    for top, folders, names in os.walk(folder):
        folders[:] = [] if top != folder else folders[:_MOST_FOLDERS]
        found += [os.path.join(top, name) for name in names if not name.lower().endswith(".gguf")]
    return found


def model_files(folder: str) -> list[str]:
    """Names in a directory that a conversion of it, or transformers, would take for parts of its model."""
    known = {*_WHOLE, *_INDEX_OF.values(), *_LOOKED_FOR, "modules.json", "1_Pooling", "2_Dense", "3_Dense",
             "additional_chat_templates"}  # fmt: skip
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(name for name in names if name in known or _SMALL.fullmatch(name) or _SHARD.match(name))


def _config(folder: str) -> dict[str, Any]:
    path = os.path.join(folder, "config.json")
    if not os.path.isfile(path):
        raise GGUFError(f"{clip(folder)} has no config.json: it says the architecture and the sizes, put it there")
    return read_json(path)


def _from_folder(folder: str) -> Source:
    try:
        names = sorted(os.listdir(folder))
    except OSError as e:
        raise file_error(f"{clip(folder)} cannot be read: {e.strerror}", e, folder) from None
    _check_adapter(folder, names)
    for name in names:
        if _SMALL.fullmatch(name) and os.path.isfile(os.path.join(folder, name)):
            _check_fetched(os.path.join(folder, name))
    consolidated = [name for name in names if re.fullmatch(r"consolidated(\.\d+)?\.(pth|safetensors)", name)]
    if "params.json" in names and consolidated and "config.json" not in names:
        parts = [_read(os.path.join(folder, name)) for name in consolidated]
        return Source(folder, read_json(os.path.join(folder, "params.json")), parts, original=True)
    config = _config(folder)
    for name in (*_WHOLE, *names):
        index = _INDEX_OF.get(name, "")
        if name in names and not _NOT_MODELS.search(name) and os.path.splitext(name)[1] in _READERS:
            shard = _SHARD.match(name)
            if shard:
                return Source(folder, config, _numbered(folder, shard), original=False)
            if index in names:
                log.info("%s: %s is taken as the whole model, %s is not read", clip(folder), name, index)
            return Source(folder, config, [_read(os.path.join(folder, name))], original=False)
        if index in names:
            return Source(folder, config, _sharded(folder, index), original=False)
    raise ArgumentError(f"{clip(folder)} holds no weights: expected one of {' '.join(_WHOLE)}, or shards of them")


def _sharded(folder: str, index: str) -> list[dict[str, Stored]]:
    table = read_json(os.path.join(folder, index)).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise GGUFError(f"{clip(folder)}: {index} has no weight_map")
    files: dict[str, set[str]] = {}
    for tensor, name in table.items():
        if not isinstance(name, str) or os.path.basename(name) != name or os.path.splitext(name)[1] not in _READERS:
            raise GGUFError(f"{clip(folder)}: {index} places {clip(tensor)} in {clip(name)}, which is no weight file")
        files.setdefault(name, set()).add(tensor)
    parts = []
    for name, wanted in sorted(files.items()):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise GGUFError(f"{clip(folder)}: shard {name} is missing, {index} places {len(wanted)} tensors in it")
        part = _read(path)
        lost = wanted - part.keys()
        if lost:
            raise GGUFError(f"{clip(path)} lacks {clip(min(lost))}, which {index} places in it")
        parts.append({tensor: part[tensor] for tensor in part if tensor in wanted})
    return parts


def _numbered(folder: str, shard: re.Match[str]) -> list[dict[str, Stored]]:
    """Shards by their names alone, where the index is missing."""
    stem, _, count, ending = shard.groups()
    parts = []
    for number in range(1, int(count) + 1):
        path = os.path.join(folder, f"{stem}-{number:05d}-of-{count}.{ending}")
        if not os.path.isfile(path):
            raise GGUFError(f"shard {clip(path)} is missing, {int(count)} belong together")
        parts.append(_read(path))
    return parts
