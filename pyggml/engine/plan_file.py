"""A model's plan as a file, for the C runtime: the ops of the forward pass, and where its weights lie in the GGUF file.

The form is that of native/core/plan_file.c, which writes and reads it; here is only known where tensors lie.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pyggml import _native
from pyggml.errors import UnsupportedError
from pyggml.files.atomic_file import replacing
from pyggml.gguf import GGUFFile

if TYPE_CHECKING:
    from pyggml.gguf import TensorInfo


def export_plan(path: str | os.PathLike[str], plan: _native.Plan, file: GGUFFile, ends: Iterable[int]) -> None:
    """Writes the plan of a model that was loaded from file; ends: ids that end a text.

    Raises UnsupportedError where the file is split, or where a weight does not lie in it as it is used.
    """
    if len(file.paths) != 1:
        raise UnsupportedError(
            f"{file.path} is split into {len(file.paths)} parts, and a plan belongs to one file: merge it first "
            "(pyggml merge)"
        )
    offsets = [_place(name, file.tensors.get(name)) for name in plan.weight_names]
    made = plan.save(np.frombuffer(file.header(), np.uint8), file.size, offsets, sorted(ends))
    with replacing(path, sources=file.paths) as out:
        out.write(made)


def _place(name: str, info: TensorInfo | None) -> int:
    if info is None:
        raise UnsupportedError(f"weight {name} is made at load and lies in no file: this plan cannot be exported")
    return info.offset
