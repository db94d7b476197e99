"""Families the converter knows: each module's FAMILIES maps a config's model_type to its description."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from pyggml.converters.family import Config, Family
from pyggml.errors import UnsupportedError
from pyggml.shown import clip


@cache
def _registry() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for info in pkgutil.iter_modules(__path__):
        families: Mapping[str, Family] = importlib.import_module(f"{__name__}.{info.name}").FAMILIES
        found.update(families)
    return found


def names() -> list[str]:
    """Values of model_type that can be converted, sorted.

    >>> "llama" in names()
    True
    """
    return sorted({each.partition(" ")[0] for each in _registry()})


def kinds() -> list[str]:
    """What find() knows: values of model_type, and kinds of them behind a space, whose architecture is another.

    >>> [each for each in kinds() if each.startswith("nemotron_h")]
    ['nemotron_h', 'nemotron_h moe']
    """
    return sorted(_registry())


def find(model_type: object) -> Family:
    """The family of a config's model_type. Raises UnsupportedError naming the nearest known one."""
    family = _registry().get(str(model_type))
    if family is not None:
        return family
    if model_type is None:
        raise UnsupportedError(
            f"config.json has no model_type: a model of no type cannot be converted. Known: {', '.join(names())}"
        )
    near = difflib.get_close_matches(str(model_type)[:60], names(), 1, 0.5)
    raise UnsupportedError(
        f"config.json: models of type {clip(model_type)} cannot be converted"
        + (f"; the nearest known is {near[0]!r}" if near else "")
        + f". Known: {', '.join(names())}"
    )


def of(c: Config) -> Family:
    """The family that computes what a config.json asks for. Raises UnsupportedError as find() does."""
    family = find(c.get("model_type"))
    other = family.instead(c)
    return find(other) if other else family


def by_arch(arch: str) -> tuple[str, Family]:
    """(model_type, family) of a GGUF architecture: the first that has no experts of its own name."""
    for model_type, family in _registry().items():
        if family.arch == arch and model_type == (family.model_type or model_type):
            return model_type, family
    known = sorted({family.arch for family in _registry().values()})
    raise UnsupportedError(f"files of architecture {clip(arch)} cannot be turned back; known: {', '.join(known)}")
