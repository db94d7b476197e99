"""Architectures: the file that declares a GGUF name serves it. Each file says how a forward pass is built and no more.

A module has `NAMES` (values of general.architecture) and `build(g, c, w) -> Node` with a Graph, a Config and Weights.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, cast

from pyggml.arch.needs import NEEDS
from pyggml.config import Asked, Config
from pyggml.errors import BackendError, UnsupportedError
from pyggml.graph import Graph, Node

if TYPE_CHECKING:
    from pyggml.engine.weights import Weights

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


@dataclass(frozen=True, slots=True)
class Built:
    """out: the node of the logits. n_ctx: the longest context that is computed as the file says; 0: any is."""

    out: Node
    n_ctx: int


def build(g: Graph, c: Config, w: Weights) -> Built:
    """The forward pass of c.arch, with every tensor and every key that matters used.

    Raises UnsupportedError where the architecture is not known or the file has a tensor or a key that it has no use
    for, GGUFError and ShapeError where tensors are missing or do not fit.
    """
    module = find(c.arch)
    asked = Asked(c)
    out = module.build(g, cast(Config, asked), w)
    w.check_all_taken(c.arch)
    return Built(out, asked.check_all_taken())


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
