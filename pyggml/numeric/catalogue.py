"""formats(): every number format the package knows, GGUF's types and the others, as one table."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pyggml.numeric import minifloat
from pyggml.quant.names import WIDTHS
from pyggml.quant.types import QuantType

_FLOATS = {"f64": (11, 52, 1.797e308), "f32": (8, 23, 3.403e38), "bf16": (8, 7, 3.39e38), "f16": (5, 10, 65504.0)}
_CODES = {
    "q4_0": (-8, 7), "q4_1": (0, 15), "q5_0": (-16, 15), "q5_1": (0, 31), "q8_0": (-127, 127), "q8_1": (-127, 127),
    "q8_k": (-127, 127), "q2_k": (0, 3), "q3_k": (-4, 3), "q4_k": (0, 15), "q5_k": (0, 31), "q6_k": (-32, 31),
    "iq4_nl": (-127, 113), "iq4_xs": (-127, 113), "mxfp4": (-6, 6), "nvfp4": (-6, 6), "tq1_0": (-1, 1),
    "tq2_0": (-1, 1), "q1_0": (-1, 1), "q2_0": (-1, 2), "iq2_xxs": (-43, 43), "iq2_xs": (-43, 43), "iq2_s": (-43, 43),
    "iq3_xxs": (-62, 62), "iq3_s": (-15, 15), "iq1_s": (-1.125, 1.125), "iq1_m": (-1.125, 1.125),
}  # fmt: skip
"""What a code may be before its scale, by type."""


@dataclass(frozen=True)
class Format:
    """One format. bits: of a code; block: values under one scale; exponent, mantissa: None for what is no float; low,
    high: of a code before its scale (a float's finite range); gguf: whether files may hold it."""

    name: str
    bits: float
    block: int
    sign: bool
    exponent: int | None
    mantissa: int | None
    low: float
    high: float
    bits_per_weight: float
    gguf: bool
    writable: bool


class Formats(list[Format]):
    """A list of Format that prints as a table."""

    def __str__(self) -> str:
        head = f"{'format':<11}{'bits':>5}{'block':>6}  {'s/e/m':<7}{'range of a code':>23}{'bits/weight':>12}  file"
        rows = [head]
        for f in self:
            parts = f"{int(f.sign)}/{f.exponent}/{f.mantissa}" if f.exponent is not None else f"{int(f.sign)}/-/-"
            span = f"{f.low:.4g} .. {f.high:.4g}"
            file = ("GGUF" if f.writable else "GGUF, read") if f.gguf else "-"
            block = str(f.block) if f.block else "any"
            rows.append(f"{f.name:<11}{f.bits:>5.3g}{block:>6}  {parts:<7}{span:>23}{f.bits_per_weight:>12.4g}  {file}")
        return "\n".join(rows)


def formats() -> Formats:
    """Every number format: GGUF's types, small floats, codebooks and integers.

    >>> {f.name: f.bits_per_weight for f in formats()}["q4_k"]
    4.5
    """
    found = Formats(_of_type(kind) for kind in QuantType)
    for spec in minifloat.SPECS.values():
        top = minifloat.top(spec)
        found.append(
            Format(spec.name, spec.bits, 1, True, spec.exponent, spec.mantissa, -top, top, spec.bits, False, True)
        )
    for bits in WIDTHS:
        found.append(Format(f"nf{bits}", bits, 64, True, None, None, -1, 1, bits + _nf_scale(bits), False, True))
    for bits in WIDTHS:
        found.append(Format(f"quantile{bits}", bits, 64, True, None, None, -1, 1, bits + 0.5, False, True))
    for bits in WIDTHS:
        top = 2 ** (bits - 1) - 1
        found.append(Format(f"int{bits}", bits, 0, True, None, None, -top, top, bits, False, True))
    return found


def _nf_scale(bits: int) -> float:
    """Bits of scales a weight: 32 for 64 values, or 8 and a share of the second scales."""
    return (8 + 32 / 256) / 64 if bits == 4 else 0.5


def _of_type(kind: QuantType) -> Format:
    name = kind.name
    if name in _FLOATS:
        exponent, mantissa, top = _FLOATS[name]
        bits = 1 + exponent + mantissa
        return Format(name, bits, 1, True, exponent, mantissa, -top, top, bits, True, kind.encodes)
    if kind.kind == "int":
        bits = int(name[1:])
        return Format(name, bits, 1, True, None, None, -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1, bits, True, False)
    low, high = _CODES[name]
    fp4 = name in ("mxfp4", "nvfp4")
    code = math.log2(3) if name in ("tq1_0", "tq2_0") else float(re.findall(r"\d", name)[0])
    return Format(
        name, round(code, 3), kind.sub, low < 0, 2 if fp4 else None, 1 if fp4 else None, low, high,
        kind.bits_per_weight, kind.kind == "block", kind.encodes,
    )  # fmt: skip
