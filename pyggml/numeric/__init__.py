"""Number formats beyond GGUF's blocks, with numpy in and out: encode(x, "nf4") -> Coded, and .decode() back.

Small floats (minifloat.py), codebooks (codebook.py), integers at every granularity (affine.py); catalogue.py lists them
together with GGUF's types, notation.py reads W4A8. None of these has a GGUF type id: a GGUF writer refuses them.

>>> import numpy as np
>>> c = encode(np.linspace(-1, 1, 64, dtype=np.float32), "nf4", double=False)
>>> c.bits_per_weight, float(abs(c.decode() - np.linspace(-1, 1, 64)).max()) < 0.16
(4.5, True)
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pyggml.arguments import floats, text
from pyggml.errors import ArgumentError, NumericError, ShapeError
from pyggml.keywords import unknown
from pyggml.numeric import affine, codebook, minifloat
from pyggml.numeric.catalogue import Format, Formats, formats
from pyggml.numeric.coded import Coded
from pyggml.numeric.notation import Notation, notation, notation_of


def __dir__() -> list[str]:
    """The public names only."""
    return __all__


__all__ = ["Coded", "Format", "Formats", "Notation", "encode", "formats", "notation", "notation_of"]

_SHORT = {"fp4": "fp4_e2m1", "e2m1": "fp4_e2m1", "e4m3": "fp8_e4m3", "e5m2": "fp8_e5m2"}
_NAMES = "int2 to int8, nf2 to nf8, quantile2 to quantile8, fp4_e2m1, fp8_e4m3, fp8_e5m2"


def encode(x: ArrayLike, format: str, **options: Any) -> Coded:  # noqa: A002 - the word users look for
    """Floats of any shape -> Coded.

    "int4" .. "int8" (any width from 2): granularity="channel" (each row), "tensor" (per layer), or group=128 (runs of a
    row, any size); symmetric=True, or False for a zero point. "nf4" (nf2 .. nf8: the normal distribution's quantiles),
    "quantile4" (the data's own): block=64, double=True (QLoRA's 8-bit scales, nf4's default). "fp4_e2m1", "fp8_e4m3",
    "fp8_e5m2": granularity or group for scaled values, else a plain cast; saturate=True: what is beyond the top, an
    infinity too, becomes the top, else infinity where there is one, or NaN; NaN stays NaN, but fp4 has none, and no
    scale comes of either.

    Raises ArgumentError for an unknown format or option, NumericError for values it cannot hold, ShapeError for a
    single number.
    """
    values = floats("x", x)
    if values.ndim == 0:
        raise ShapeError("a single number cannot be encoded; give at least one row")
    name = text("format", format).strip().lower()
    name = _SHORT.get(name, name)
    found = re.fullmatch(r"(int|nf|quantile)([2-8])", name)
    maker: Any
    if found:
        kind, bits = found[1], int(found[2])
        maker = {"int": affine.encode, "nf": codebook.encode_normal, "quantile": codebook.encode_own}[kind]
        arguments: tuple[Any, ...] = (values, bits)
    elif name in minifloat.SPECS:
        maker, arguments = minifloat.encode, (values, minifloat.SPECS[name])
    else:
        raise ArgumentError(f"unknown number format {format[:40]!r}; known: {_NAMES}; GGUF's types: pyggml.quantize")
    if not np.isfinite(values).all() and name not in minifloat.SPECS:
        raise NumericError(f"{name} cannot hold NaN or infinity")
    known = list(inspect.signature(maker).parameters)[len(arguments) :]
    strange = [option for option in options if option not in known]
    if strange:
        raise unknown(f"encode to {name}", strange, known)
    made: Coded = maker(*arguments, **options)
    return made
