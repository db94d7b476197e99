"""Architectures: the file that declares a GGUF name serves it. Each file says how a forward pass is built and no more.

A module has `NAMES` (values of general.architecture) and `build(g, c, w) -> Node` with a Graph, a Config and Weights.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from types import ModuleType

from pyggml.arch.needs import NEEDS
from pyggml.errors import BackendError, UnsupportedError

_ROOMS = ("layers", "needs")  # modules here that are no architecture


@cache
def _registry() -> dict[str, ModuleType]:
    found: dict[str, ModuleType] = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name not in _ROOMS:
            module = importlib.import_module(f"{__name__}.{info.name}")
            found.update(dict.fromkeys(module.NAMES, module))
    if not found:  # a folder that cannot be read looks empty; an error is not remembered
        raise BackendError("the architectures cannot be listed: too many open files, or a damaged installation")
    return found


def names() -> list[str]:
    """Architectures that can be run, sorted.

    >>> "llama" in names()
    True
    """
    return sorted(_registry())


def find(name: str) -> ModuleType:
    """The module that serves an architecture.

    Raises UnsupportedError naming the architecture, the nearest known one and what it would need.
    """
    module = _registry().get(name)
    if module is not None:
        return module
    shown = name if len(name) <= 60 else name[:57] + "..."
    near = difflib.get_close_matches(name, names(), 1, 0.5)
    need = NEEDS.get(name)
    raise UnsupportedError(
        f"unknown model architecture {shown!r}"
        + (f"; the nearest known is {near[0]!r}" if near else "")
        + (f"; beyond a llama block it needs: {need}" if need else "; what it needs beyond a llama block is not known")
        + f". Known: {', '.join(names())}"
    )
