"""Metadata that a user changes in a file: what could be run before must be runnable after. Writes nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pyggml import arch, gguf, tokenizer
from pyggml.engine.build import build, check_vocab
from pyggml.errors import ArgumentError, PyggmlError
from pyggml.shown import clip

log = logging.getLogger("pyggml")

_TOKENIZER = "tokenizer."


class _Changed(Mapping[str, Any]):
    """The metadata of a file with other values; None removes a key."""

    def __init__(self, old: gguf.Metadata, new: Mapping[str, Any]) -> None:
        self._old, self._new = old, new

    def __getitem__(self, key: str) -> Any:
        if key in self._new:
            if self._new[key] is None:
                raise KeyError(key)
            return self._new[key]
        return self._old[key]

    def __iter__(self) -> Any:
        yield from (key for key in self._old if key not in self._new)
        yield from (key for key, value in self._new.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def array_length(self, key: str) -> int | None:
        """As gguf.Metadata."""
        if key not in self._new:
            return self._old.array_length(key)
        value = self[key]
        return len(value) if hasattr(value, "__len__") and not isinstance(value, str | bytes) else None

    def raw_strings(self, key: str) -> list[bytes]:
        """As gguf.Metadata."""
        if key not in self._new:
            return self._old.raw_strings(key)
        return [each if isinstance(each, bytes) else str(each).encode() for each in self[key]]


def check(file: gguf.GGUFFile, changes: Mapping[str, Any]) -> None:
    """Raises ArgumentError where the file can be run and, with the changes, no more.

    changes: key -> value, None removes it. Warns of one that is not there, and where only the tokenizer is lost: token
    ids still run.
    """
    for key, value in changes.items():
        if value is None and key not in file.metadata:
            log.warning("metadata: %s is to be removed, and the file has no such key", clip(key))
    if not changes:
        return
    names, changed = ", ".join(map(clip, changes)), _Changed(file.metadata, changes)
    why = "" if _no_model(file, file.metadata) else _no_model(file, changed)
    if why:
        raise ArgumentError(f"metadata: with {names} changed, the file would not load: {why}")
    if any(key.startswith(_TOKENIZER) for key in changes) and not _no_tokenizer(file.metadata):
        why = _no_tokenizer(changed)
        if why:
            log.warning("metadata: with %s changed, the file takes token ids only: %s", names, why)


def _no_model(file: gguf.GGUFFile, metadata: Any) -> str:
    """What a file with such metadata lacks to be run; "" where nothing."""
    try:
        check_vocab(metadata, build(file, arch.config(metadata)).n_vocab)
    except PyggmlError as error:
        return str(error)
    return ""


def _no_tokenizer(metadata: Any) -> str:
    """What such metadata lacks to make tokens of texts; "" where nothing."""
    try:
        tokenizer.from_metadata(metadata)
    except PyggmlError as error:
        return str(error)
    return ""
