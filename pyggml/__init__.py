"""pyggml: a workbench for GGUF language models with its own C core.

>>> import pyggml
>>> m = pyggml.load()                       # the bundled story teller, or load("x.gguf")
>>> text = str(m.generate("Once upon a time", max_tokens=8))
>>> m.close()
"""

from __future__ import annotations

from pyggml import _start  # noqa: F401 - first: Ctrl-C during the imports below

# isort: split
from pyggml import _built  # noqa: F401 - before what needs the native part

# isort: split
from pyggml import gguf
from pyggml._native import version as _version
from pyggml.answer import Part, ToolCall
from pyggml.completion import Completion
from pyggml.embed import get_include
from pyggml.engine.session import Session
from pyggml.errors import (
    ArgumentError,
    BackendError,
    Cancelled,
    ContextFull,
    GGUFError,
    GrammarError,
    NumericError,
    OutOfMemory,
    PyggmlError,
    QueueFull,
    ShapeError,
    TemplateError,
    UnsupportedError,
)
from pyggml.estimate import estimate
from pyggml.gguf.split import merge_file, split_file
from pyggml.info import info
from pyggml.model import Model, load
from pyggml.quant.tensor import Tensor, dequantize, quantize
from pyggml.quant.types import QuantType

TYPE_CHECKING = False  # typing's, which nothing may be imported for before _start
if TYPE_CHECKING:  # what most programs never ask for: imported when it is
    from pyggml import converters as converters
    from pyggml import numeric as numeric
    from pyggml import recipes as recipes
    from pyggml.converters.convert import convert
    from pyggml.numeric import formats
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

_LATER = {
    "converters": "convert",
    "numeric": "formats",
    "recipes": "Imatrix Recipe Rule Sensitivity compare imatrix load_recipe quantize_file sensitivity strategy",
}
"""Rooms that are imported with the first use of one of their public names, or of themselves."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A public name that is imported with its first use."""
        from importlib import import_module

        from pyggml.keywords import no_attribute
        from pyggml.leaving import imported

        for room, names in _LATER.items():
            if name == room or name in names.split():
                imported(f"pyggml.{room}")  # a fork waits for it
                module = import_module(f"pyggml.{room}")
                found = module if name == room else getattr(module, name)
                globals()[name] = found
                return found
        raise no_attribute("pyggml", name, __all__, import_module(__name__))


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
    "GrammarError",
    "Imatrix",
    "Model",
    "NumericError",
    "OutOfMemory",
    "Part",
    "PyggmlError",
    "QuantType",
    "QueueFull",
    "Recipe",
    "Rule",
    "Sensitivity",
    "Session",
    "ShapeError",
    "TemplateError",
    "Tensor",
    "ToolCall",
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
