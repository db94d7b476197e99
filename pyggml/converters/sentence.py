"""What sentence-transformers puts behind a model: the pooling, and matrices for the architectures that have a place.

modules.json lists the parts, each in a folder of its own. Matrices without a bias and an activation may as well come
before the pooling, which is a sum.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from pyggml.converters import families
from pyggml.converters.family import Config
from pyggml.converters.source import Source
from pyggml.converters.stored import Stored
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.shown import clip

_PLAIN = ("Transformer", "Pooling", "Normalize")
_DENSE = "Dense"
_FIRST = 2  # the number of the first matrix: its folder's, as published


def behind(source: Source) -> tuple[dict[str, Stored], dict[str, Any]]:
    """Matrices behind the model, and keys of the pooling.

    Raises UnsupportedError where more is computed than a GGUF of the model's architecture can say.
    """
    pooling = source.json(os.path.join("1_Pooling", "config.json"))
    kept = {key: value for key, value in pooling.items() if key.startswith("pooling_")}
    modules = _modules(source)
    kinds = [kind for kind, _ in modules]
    dense = [folder for kind, folder in modules if kind == _DENSE]
    more = [kind for kind in kinds if kind not in (*_PLAIN, _DENSE)]
    if not more and dense and not _has_places(source, len(dense), kinds):
        more = [_DENSE]
    if more:
        raise UnsupportedError(
            f"{clip(source.folder)}: modules.json puts {', '.join(map(clip, more))} behind the model, which a GGUF of "
            "these architectures cannot say"
        )
    found = {f"dense_{_FIRST + i}.linear.weight": _matrix(source, folder) for i, folder in enumerate(dense)}
    return found, kept


def _modules(source: Source) -> list[tuple[str, str]]:
    """Kind and folder of each part."""
    try:
        modules = json.loads(source.text("modules.json") or "[]")
        return [(str(each["type"]).rpartition(".")[2], str(each.get("path", ""))) for each in modules]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as e:
        raise GGUFError(f"{clip(source.folder)}: modules.json is no list of modules: {e}") from None


def _has_places(source: Source, n: int, kinds: list[str]) -> bool:
    """Whether the architecture has so many matrices, and they stand behind the pooling."""
    names = families.of(Config(source.config, clip(source.folder))).names
    known = all(f"dense_{_FIRST + i}.linear" in names for i in range(n))
    return known and "Pooling" in kinds[: kinds.index(_DENSE)]


def _matrix(source: Source, folder: str) -> Stored:
    told = source.json(os.path.join(folder, "config.json"))
    where = clip(os.path.join(source.folder, folder))
    act = str(told.get("activation_function", "Tanh")).rpartition(".")[2]
    if told.get("bias", True) is not False or act != "Identity":
        raise UnsupportedError(
            f"{where}: a layer with bias {clip(told.get('bias', True))} and activation {clip(act)}, but a GGUF has a "
            "matrix alone"
        )
    tensors: Mapping[str, Stored] = source.part(folder)
    if set(tensors) != {"linear.weight"}:
        raise GGUFError(
            f"{where} holds {', '.join(map(clip, sorted(tensors)[:5])) or 'no tensor'}, expected linear.weight"
        )
    return tensors["linear.weight"]
