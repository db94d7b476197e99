"""GGUF files: open() reads one (or all parts of a split one), Writer writes one.

file.py opens and checks, metadata.py reads keys and values, writer.py writes, split.py cuts and joins, format.py has
the numbers and limits of the format. Source: the GGUF format description (ggml/docs/gguf.md), versions 2 and 3.
"""

from __future__ import annotations

from pyggml.gguf.file import GGUFFile, TensorInfo, open  # noqa: A004 - the word users look for
from pyggml.gguf.format import ValueType
from pyggml.gguf.metadata import Metadata, MetadataValue
from pyggml.gguf.writer import Writer


def __dir__() -> list[str]:
    """The public names only."""
    return __all__


__all__ = ["GGUFFile", "Metadata", "MetadataValue", "TensorInfo", "ValueType", "Writer", "open"]
