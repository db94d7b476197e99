"""pyggml: a workbench for GGUF language models with its own C core.

>>> import pyggml
>>> m = pyggml.load()                       # the bundled story teller, or load("x.gguf")
>>> text = str(m.generate("Once upon a time", max_tokens=8))
>>> m.close()
"""

from __future__ import annotations

from pyggml import (
    _start,  # noqa: F401 - first: Ctrl-C during the imports below
    gguf,
)
from pyggml._native import version as _version
from pyggml.completion import Completion
from pyggml.converters import convert
from pyggml.embed import get_include
from pyggml.engine.session import Session
from pyggml.errors import (
    ArgumentError,
    BackendError,
    Cancelled,
    ContextFull,
    GGUFError,
    NumericError,
    OutOfMemory,
    PyggmlError,
    ShapeError,
    TemplateError,
    UnsupportedError,
)
from pyggml.estimate import estimate
from pyggml.gguf.split import merge_file, split_file
from pyggml.info import info
from pyggml.model import Model, load
from pyggml.numeric import formats
from pyggml.quant.tensor import Tensor, dequantize, quantize
from pyggml.quant.types import QuantType
from pyggml.recipes import (
    Imatrix,
    Recipe,
    Rule,
    Sensitivity,
    compare,
    imatrix,
    load_recipe,
    quantize_file,
    sensitivity,
    strategy,
)

__version__ = _version()


def __dir__() -> list[str]:
    """The public names only."""
    return __all__


__all__ = [
    "ArgumentError",
    "BackendError",
    "Cancelled",
    "Completion",
    "ContextFull",
    "GGUFError",
    "Imatrix",
    "Model",
    "NumericError",
    "OutOfMemory",
    "PyggmlError",
    "QuantType",
    "Recipe",
    "Rule",
    "Sensitivity",
    "Session",
    "ShapeError",
    "TemplateError",
    "Tensor",
    "UnsupportedError",
    "__version__",
    "compare",
    "convert",
    "dequantize",
    "estimate",
    "formats",
    "get_include",
    "gguf",
    "imatrix",
    "info",
    "load",
    "load_recipe",
    "merge_file",
    "quantize",
    "quantize_file",
    "sensitivity",
    "split_file",
    "strategy",
]
