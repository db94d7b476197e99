"""formats(): every number format the package knows, GGUF's types and the others, as one table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from pyggml import _native
from pyggml.keywords import known_only
from pyggml.numeric import minifloat
from pyggml.quant.names import WIDTHS
from pyggml.quant.types import QuantType


@dataclass(frozen=True)
class Format:
    """One format. bits: of a code; block: values under one scale; exponent, mantissa: None for what is no float; low,
    high: what a code may be before its scale (a float's finite range); gguf: whether files may hold it."""

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


@known_only
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
    """What the native table and the decoder say of a GGUF type."""
    width = 8 * kind.bytes // kind.elems
    exponent: int | None = None
    mantissa: int | None = None
    if kind.kind == "int":
        bits: float = width
        low, high = -(2.0 ** (width - 1)), 2.0 ** (width - 1) - 1
    elif kind.kind == "float":
        bits, exponent = width, _exponent_bits(kind)
        mantissa = width - 1 - exponent
        high = (2 - 2.0**-mantissa) * 2.0 ** (2 ** (exponent - 1) - 1)
        low = -high
    else:
        bits, exponent, mantissa, low, high = _codes(kind)
    return Format(
        kind.name, round(bits, 3), kind.sub, low < 0, exponent, mantissa, low, high, kind.bits_per_weight,
        kind.kind != "act", kind.encodes,
    )  # fmt: skip


def _exponent_bits(kind: QuantType) -> int:
    """Of an IEEE-like type: only with the right width the bias in its place, and nothing else, decodes to 1."""
    width = 8 * kind.bytes
    for bits in range(2, width - 1):
        one = (2 ** (bits - 1) - 1) << (width - 1 - bits)
        if _native.dequantize(kind.id, one.to_bytes(kind.bytes, "little"), 1, 1)[0] == 1:
            return bits
    raise AssertionError(f"{kind.name} is no float with a sign, an exponent and a mantissa")


@cache
def _codes(kind: QuantType) -> tuple[float, int | None, int | None, float, float]:
    """bits, exponent, mantissa, low, high of a block type's codes.

    Codes in proportion to the values of a small float are that float, at its own scale. Others have the bits that tell
    them apart; where a weight has fewer, codes are chosen together (rows of a grid) and have its whole bits.
    """
    codes = _native.type_codes(kind.id)
    for spec in minifloat.SPECS.values():
        values = sorted({value for value in minifloat.table_of(spec).tolist() if math.isfinite(value)})
        top = minifloat.top(spec)
        if len(codes) == len(values) and all(c * top == v * codes[-1] for c, v in zip(codes, values, strict=True)):
            return spec.bits, spec.exponent, spec.mantissa, -top, top
    apart = math.log2(len(codes))
    return apart if apart <= kind.bits_per_weight else int(kind.bits_per_weight), None, None, codes[0], codes[-1]


def code_bits(kind: QuantType) -> int:
    """Whole bits of a code of a block type, as its name counts them: 4 of q4_1, 1 of tq1_0.

    >>> code_bits(QuantType.Q4_1), code_bits(QuantType.TQ1_0), code_bits(QuantType.MXFP4)
    (4, 1, 4)
    """
    return min(math.ceil(_codes(kind)[0]), int(kind.bits_per_weight))
