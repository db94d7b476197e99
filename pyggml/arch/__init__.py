"""Architectures: the file that declares a GGUF name serves it. Each file says how a forward pass is built and no more.

A module has `NAMES` (values of general.architecture), `config(r)`, which reads what is the architecture's own with a
Reader and returns a Config, and `build(g, c, w) -> Outputs` with a Graph, that Config and Weights. A decoder that
differs from Llama only by data is a row of decoders.py.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from pyggml.arch.needs import NEEDS
from pyggml.arch.outputs import Outputs as Outputs
from pyggml.config import Config, Reader
from pyggml.errors import BackendError, UnsupportedError
from pyggml.graph import Graph

if TYPE_CHECKING:
    from pyggml.engine.weights import Weights


@cache
def _registry() -> dict[str, ModuleType]:
    found: dict[str, ModuleType] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        found.update(dict.fromkeys(getattr(module, "NAMES", ()), module))
    if not found:  # a folder that cannot be read looks empty; an error is not remembered
        raise BackendError("the architectures cannot be listed: too many open files, or a damaged installation")
    return found


def names() -> list[str]:
    """Architectures that can be run, sorted.

    >>> "llama" in names()
    True
    """
    return sorted(_registry())


def config(metadata: Mapping[str, Any]) -> Config:
    """The numbers of a file's model, those of its architecture too: a subclass of Config.

    said holds what is left: keys that change the mathematics and that the architecture did not take. build() refuses
    them. Raises GGUFError for values that are missing or wrong, UnsupportedError where the architecture is not known.

    >>> c = config({"general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 64,
    ...     "llama.embedding_length": 32, "llama.feed_forward_length": 48, "llama.attention.head_count": 4,
    ...     "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.attention.scale": 0.5, "llama.logit_scale": 2.0})
    >>> c.attn_scale, [each.key for each in c.said]
    (0.5, ['llama.logit_scale'])
    """
    name = metadata.get("general.architecture")
    if isinstance(name, str) and name:
        find(name)
    r = Reader(metadata)
    c = cast(Config, find(r.arch).config(r))
    return replace(c, said=tuple(each for each in c.said if each.key.removeprefix(f"{c.arch}.") not in r.taken))


def _check_nothing_left(c: Config) -> int:
    """The longest context that is computed exactly; 0 where any is."""
    for each in c.said:
        if not each.n_ctx:
            raise UnsupportedError(
                f"{each.key} is {each.shown}, but architecture {c.arch} {each.does or 'does not know it'}; "
                "the file is a variant that cannot be run yet"
            )
    return min((each.n_ctx for each in c.said), default=0)


@dataclass(frozen=True, slots=True)
class Built:
    """outputs: what a step may return. n_ctx: the longest context that is computed as the file says; 0: any is."""

    outputs: Outputs
    n_ctx: int


def build(g: Graph, c: Config, w: Weights) -> Built:
    """The forward pass of c, which config() made, with every tensor and every key that matters used.

    Raises UnsupportedError where the architecture is not known or the file has a tensor or a key that it has no use
    for, GGUFError and ShapeError where tensors are missing or do not fit.
    """
    outputs = find(c.arch).build(g, c, w)
    w.check_all_taken(c.arch)
    bounds = (_check_nothing_left(c), g.n_positions)
    return Built(outputs, min((each for each in bounds if each), default=0))


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
