"""A model's plan as a file, for the C runtime: the ops of the forward pass, and where its weights lie in the GGUF file
or in its parts.

The form is that of native/core/plan_file.c, which writes and reads it; here is only known where tensors lie.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyggml import _native
from pyggml.errors import UnsupportedError
from pyggml.files.atomic_file import replacing
from pyggml.gguf import GGUFFile

if TYPE_CHECKING:
    from pyggml.gguf import TensorInfo


def export_plan(path: str | os.PathLike[str], plan: _native.Plan, file: GGUFFile, ends: Iterable[int]) -> None:
    """Writes the plan of a model that was loaded from file, or from its parts; ends: ids that end a text.

    Raises UnsupportedError where a weight does not lie in the file as it is used.
    """
    weights = [_stored(name, file.tensors.get(name)) for name in plan.weight_names]
    made = plan.save(
        [file.header(part) for part in range(len(file.paths))],
        file.sizes,
        [info.part for info in weights],
        [info.offset for info in weights],
        sorted(ends),
    )
    with replacing(path, sources=file.paths) as out:
        out.write(made)


def _stored(name: str, info: TensorInfo | None) -> TensorInfo:
    if info is None:
        raise UnsupportedError(f"weight {name} is made at load and lies in no file: this plan cannot be exported")
    return info
