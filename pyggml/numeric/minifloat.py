"""Floats of 4 and 8 bits: E2M1 of the OCP microscaling formats, E4M3 and E5M2 of the OCP 8-bit formats.

Rounding is to nearest, ties to the even code. Every value table follows from a format's three numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import flag
from pyggml.errors import NumericError
from pyggml.numeric.coded import F32, Coded, grouped, pack, scaled, ungrouped


@dataclass(frozen=True)
class Spec:
    """exponent and mantissa bits; finite: codes of a magnitude that are numbers (the rest is infinity and NaN)."""

    name: str
    exponent: int
    mantissa: int
    finite: int
    infinity: bool

    @property
    def bits(self) -> int:
        """With the sign."""
        return 1 + self.exponent + self.mantissa


SPECS = {
    spec.name: spec
    for spec in (
        Spec("fp4_e2m1", 2, 1, 8, False),
        Spec("fp8_e4m3", 4, 3, 127, False),
        Spec("fp8_e5m2", 5, 2, 124, True),
    )
}


@cache
def magnitudes(spec: Spec) -> NDArray[np.float64]:
    """Values of all codes without the sign bit, as the exponent and mantissa say, special ones included."""
    codes = np.arange(1 << (spec.exponent + spec.mantissa))
    exponent, mantissa = codes >> spec.mantissa, codes & ((1 << spec.mantissa) - 1)
    bias = (1 << (spec.exponent - 1)) - 1
    fraction = mantissa / (1 << spec.mantissa)
    return np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))


def top(spec: Spec) -> float:
    """The largest finite value."""
    return float(magnitudes(spec)[spec.finite - 1])


def encode(
    values: F32, spec: Spec, granularity: str | None = None, group: int | None = None, saturate: bool = True
) -> Coded:
    """A cast, after division by the scale that brings each group's largest value to the top where a group is named."""
    parts: dict[str, NDArray[Any]] = {}
    saturate = flag("saturate", saturate)
    if granularity is not None or group is not None:
        if not np.isfinite(values).all():
            raise NumericError(
                f"{spec.name}: NaN and infinity have no scale; without granularity and group they are cast"
            )
        groups, _ = grouped(values, granularity or "channel", group)
        scale = (np.abs(groups).max(1, initial=0.0) / np.float32(top(spec))).astype(np.float32)
        parts["scale"] = scale
        safe = np.where(scale > 0, scale, np.float32(1))
        values = ungrouped(groups / safe[:, None], values.shape)
    codes = cast(values, spec, saturate)
    decode = partial(_decode, spec=spec, shape=values.shape, granularity=granularity, group=group)
    return Coded(spec.name, values.shape, spec.bits, pack(codes, spec.bits), parts, decode)


def cast(values: F32, spec: Spec, saturate: bool = True) -> NDArray[np.uint8]:
    """Codes of values. Beyond the top: the top (saturate), else infinity, NaN, or NumericError."""
    table = magnitudes(spec)
    nan = np.isnan(values)
    size = np.where(nan, 0, np.abs(values.astype(np.float64)))
    beyond = float(2 * table[spec.finite - 1] - table[spec.finite - 2])  # the next value, were there one
    steps = np.append(table[: spec.finite], beyond)
    middles = (steps[:-1] + steps[1:]) / 2
    code = np.searchsorted(middles, size, "left")
    tie = (code < len(middles)) & (size == middles[np.minimum(code, len(middles) - 1)])
    code = np.where(tie & (code & 1 == 1), code + 1, code)
    over = code >= spec.finite
    if saturate:
        code = np.minimum(code, spec.finite - 1)
    elif over.any() and spec.finite == len(table):
        raise NumericError(f"{spec.name} ends at {top(spec)}, the largest value is {float(size.max())}")
    elif not spec.infinity:
        code = np.where(over, len(table) - 1, code)
    if nan.any():
        if spec.finite == len(table):
            raise NumericError(f"{spec.name} cannot hold NaN")
        code = np.where(nan, len(table) - (1 if not spec.infinity else 2), code)
    return (code | np.signbit(values).astype(np.int64) << (spec.bits - 1)).astype(np.uint8)


@cache
def table_of(spec: Spec) -> F32:
    """The value of every code, infinities and NaN included."""
    half = magnitudes(spec).copy()
    half[spec.finite :] = np.nan
    if spec.infinity:
        half[spec.finite] = np.inf
    return np.concatenate([half, -half]).astype(np.float32)


def _decode(
    codes: NDArray[np.uint8],
    parts: dict[str, NDArray[Any]],
    spec: Spec,
    shape: tuple[int, ...],
    granularity: str | None,
    group: int | None,
) -> F32:
    values = table_of(spec)[codes].reshape(shape)
    if "scale" not in parts:
        return values
    groups, _ = grouped(values, granularity or "channel", group)
    return ungrouped(scaled(groups, parts["scale"]), shape)
