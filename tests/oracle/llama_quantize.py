"""llama.cpp's own quantizer through llama-cpp-python: the truth about which tensor of a file becomes which type.

Needs the oracle extra. Imports no pyggml; types are read back by a few lines here, because the gguf package does not
know the newest ids.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FTYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12,
    "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "IQ2_XXS": 19, "IQ2_XS": 20,
    "Q2_K_S": 21, "IQ3_XS": 22, "IQ3_XXS": 23, "IQ1_S": 24, "IQ4_NL": 25, "IQ3_S": 26, "IQ3_M": 27, "IQ2_S": 28,
    "IQ2_M": 29, "IQ4_XS": 30, "IQ1_M": 31, "BF16": 32, "TQ1_0": 36, "TQ2_0": 37, "MXFP4_MOE": 38, "Q1_0": 40,
    "Q2_0": 41,
}  # fmt: skip


def quantize(
    src: Path,
    dst: Path,
    ftype: str,
    *,
    imatrix: Mapping[str, Any] | None = None,
    pure: bool = False,
    output_type: int | None = None,
    embedding_type: int | None = None,
    overrides: Mapping[str, int] | None = None,
) -> dict[str, str] | None:
    """{tensor: type} of the file that llama.cpp writes, or None where it refuses."""
    import llama_cpp

    llama_cpp.llama_log_set(_Lazy.get(), None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread, params.ftype, params.pure, params.allow_requantize = 1, FTYPES[ftype], pure, True
    if output_type is not None:
        params.output_tensor_type = output_type
    if embedding_type is not None:
        params.token_embedding_type = embedding_type
    kept: list[Any] = []
    if overrides:
        rows = (llama_cpp.llama_cpp.llama_model_tensor_override * (len(overrides) + 1))()
        for i, (pattern, kind) in enumerate(overrides.items()):
            rows[i].pattern, rows[i].type = pattern.encode(), kind
        params.tt_overrides = ctypes.cast(rows, type(params.tt_overrides))
        kept.append(rows)
    if imatrix is not None:
        made = (llama_cpp.llama_model_imatrix_data * (len(imatrix) + 1))()
        for i, (name, values) in enumerate(imatrix.items()):
            flat = np.ascontiguousarray(values, np.float32).reshape(-1)
            kept.append(flat)
            made[i].name, made[i].size = name.encode(), flat.size
            made[i].data = flat.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = ctypes.cast(made, type(params.imatrix))
        kept.append(made)
    rc = llama_cpp.llama_model_quantize(str(src).encode(), str(dst).encode(), ctypes.byref(params))
    if rc:
        return None
    return types_of(dst)


TYPES = {
    0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 10: "q2_k", 11: "q3_k", 12: "q4_k",
    13: "q5_k", 14: "q6_k", 16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s", 20: "iq4_nl", 21: "iq3_s",
    22: "iq2_s", 23: "iq4_xs", 29: "iq1_m", 30: "bf16", 34: "tq1_0", 35: "tq2_0", 39: "mxfp4", 40: "nvfp4", 41: "q1_0",
    42: "q2_0",
}  # fmt: skip
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def types_of(path: Path) -> dict[str, str]:
    """{tensor: type} from the header of a file."""
    raw, at = path.read_bytes(), 8

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(raw[at - size : at], "little")

    def skip(kind: int) -> None:
        nonlocal at
        if kind == 8:
            n = number(8)
            at += n
        elif kind == 9:
            inner, count = number(4), number(8)
            for _ in range(count):
                skip(inner)
        else:
            at += _SIZES[kind]

    n_tensors, n_keys = number(8), number(8)
    for _ in range(n_keys):
        skip(8)
        skip(number(4))
    found = {}
    for _ in range(n_tensors):
        n = number(8)
        at += n
        name = raw[at - n : at].decode()
        n_dims = number(4)
        at += 8 * n_dims
        found[name] = TYPES[number(4)]
        at += 8
    return found


def _silent() -> Any:
    import llama_cpp

    return llama_cpp.llama_log_callback(lambda level, text, data: None)


class _Lazy:
    """The callback, made when llama_cpp is first needed and kept alive after."""

    made: Any = None

    @classmethod
    def get(cls) -> Any:
        cls.made = cls.made or _silent()
        return cls.made
