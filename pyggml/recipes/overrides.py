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
    """Raises ArgumentError where the file can be run and, with the changes, no more; warns of a key that is not there.

    changes: key -> value, None removes it.
    """
    for key, value in changes.items():
        if value is None and key not in file.metadata:
            log.warning("metadata: %s is to be removed, and the file has no such key", clip(key))
    if not changes or _why_not(file, file.metadata, changes):
        return
    why = _why_not(file, _Changed(file.metadata, changes), changes)
    if why:
        raise ArgumentError(f"metadata: with {', '.join(map(clip, changes))} changed, the file would not load: {why}")


def _why_not(file: gguf.GGUFFile, metadata: Any, changes: Mapping[str, Any]) -> str:
    """What a file with such metadata lacks to be run, "" for nothing; the tokenizer is judged if a change is of it."""
    try:
        made = build(file, arch.config(metadata))
        check_vocab(metadata, made.n_vocab)
        if any(key.startswith(_TOKENIZER) for key in changes):
            tokenizer.from_metadata(metadata)
    except PyggmlError as error:
        return str(error)
    return ""
