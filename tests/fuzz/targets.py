"""What each reader is asked to do with a file: read everything there is. Only a PyggmlError may come of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from converters import checkpoint

import pyggml
from pyggml import arch
from pyggml.chat.template import ChatTemplate
from pyggml.config import Config
from pyggml.converters import numpy_zip, onnx, pickled, safetensors, sentencepiece
from pyggml.errors import PyggmlError
from pyggml.estimate import estimate
from pyggml.recipes import load_recipe
from pyggml.recipes.costs import Sensitivity
from pyggml.recipes.importance import Imatrix
from pyggml.tokenizer import from_metadata

Target = Callable[[Path], Any]
NAMES = ["blk.0.attn_q.weight", "blk.11.ffn_down_exps.weight", "token_embd.weight", "a" * 64]


def _gguf(path: Path) -> None:
    with pyggml.gguf.open(path) as file:
        for key in file.metadata:
            _ = file.metadata[key]
            file.metadata.raw(key)
            if file.metadata.type_of(key) == "arr[str]":
                file.metadata.raw_strings(key)
        for info in file.tensors.values():
            assert info.data.nbytes == info.nbytes
            assert info.offset + info.nbytes <= file.size
        repr(file)
        estimate(file)
        Config.from_metadata(file.metadata)
        arch.config(file.metadata)


def _tensors(read: Callable[[str], dict[str, Any]]) -> Target:
    def run(path: Path) -> None:
        size = os.path.getsize(path)
        for stored in read(str(path)).values():
            values = stored.read()
            assert values.shape == stored.shape
            assert values.nbytes <= (64 << 20) + 64 * size

    return run


def _recipe(path: Path) -> None:
    recipe = load_recipe(path)
    recipe.to_toml()
    for rule in (*recipe.keep, *recipe.rules):
        matches = rule.matcher(12)
        for name in NAMES:
            matches(name)


def _imatrix(path: Path) -> None:
    found = Imatrix.load(path)
    for name in found:
        assert (found[name] >= 0).all()
    repr(found)


MESSAGES = [{"role": "system", "content": "be short"}, {"role": "user", "content": "hello world"}]


def _template(path: Path) -> None:
    template = ChatTemplate(path.read_bytes().decode("utf-8", "replace"))
    template.render(MESSAGES)
    template.render(MESSAGES, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])


def _vocab(path: Path) -> None:
    try:
        metadata = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    halves = re.search(r"\\ud[89a-f]", path.read_text("utf-8", "replace"), re.I)  # of pairs: in no file
    if isinstance(metadata, dict) and not halves:
        made = from_metadata(metadata)
        for text in ("Hello, world! \u4f60\u597d 123", "<s> a</s>", "a" * 200 + "!"):
            made.decode(made.encode(text))


class _Folder:
    """A model's directory, of which one file is the given one; a new directory every time."""

    def __init__(self) -> None:
        self.weights: bytes | None = None

    def __call__(self, path: Path) -> None:
        name, _, content = path.read_bytes().partition(b"\0")
        place = path.parent / "model"
        for old in place.iterdir() if place.exists() else ():
            old.unlink()
        checkpoint.folder(place)
        if self.weights is None:
            checkpoint.safetensors(place / "model.safetensors", checkpoint.tensors())
            self.weights = (place / "model.safetensors").read_bytes()
        (place / "model.safetensors").write_bytes(self.weights)
        name_text = os.path.basename(name[:60].decode("latin-1")) or "x"
        if name_text in ("vocab.txt", "tokenizer.model"):
            (place / "tokenizer.json").unlink()
        (place / name_text).write_bytes(content)
        target = path.parent / "out.gguf"
        try:
            pyggml.convert(place, target)
            assert target.exists()
        finally:
            target.unlink(missing_ok=True)
        assert not list(path.parent.glob(".pyggml-*"))


TARGETS: dict[str, Target] = {
    "gguf": _gguf,
    "safetensors": _tensors(safetensors.read),
    "pickled": _tensors(pickled.read),
    "legacy": _tensors(pickled.read),
    "onnx": _tensors(onnx.read),
    "npz": _tensors(numpy_zip.read),
    "sentencepiece": lambda path: sentencepiece.read(str(path)),
    "imatrix": _imatrix,
    "toml": _recipe,
    "yaml": _recipe,
    "costs": Sensitivity.load,
    "template": _template,
    "vocab": _vocab,
    "folder": _Folder(),
}
ENDINGS = {"toml": ".toml", "yaml": ".yaml"}


def run(reader: str, data: bytes, folder: Path) -> str:
    """Gives data to a reader. Returns the refusal, "" if it was read; whatever is no PyggmlError leaves as it is."""
    path = folder / f"input{ENDINGS.get(reader, '')}"
    path.write_bytes(data)
    if reader == "onnx":
        (folder / "weights.bin").write_bytes(bytes(4096))
    try:
        TARGETS[reader](path)
    except PyggmlError as e:
        text = str(e)
        assert 0 < len(text) < 2000, f"a message of {len(text)} characters"
        if reader not in ("gguf", "template", "vocab", "folder"):
            assert path.name in text, f"no file's name in {text!r}"
        return text
    return ""
