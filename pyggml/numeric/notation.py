"""W4A8 and its kin: bits of weights and of activations, as papers write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyggml.arguments import text as read_text
from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.quant import QuantType, QuantTypeLike

_FORM = re.compile(r"W(\d+)A(\d+)(?:G(\d+))?", re.I)

_RECIPES = {
    (16, 16): "BF16", (16, 32): "F16", (8, 8): "Q8_0", (6, 8): "Q6_K", (5, 8): "Q5_K_M", (4, 8): "Q4_K_M",
    (3, 8): "Q3_K_M", (2, 8): "Q2_K", (32, 32): "F32",
}  # fmt: skip
"""The usual recipe of each pair. Weights in blocks always meet activations of 8 bits here; what a file holds of W4A16
(weight-only quantization) is the same, so that form names it too."""


@dataclass(frozen=True)
class Notation:
    """Bits of weights and activations; group: values under a scale, None where nothing was said."""

    weight: int
    activation: int
    group: int | None = None

    def __str__(self) -> str:
        return f"W{self.weight}A{self.activation}" + (f"G{self.group}" if self.group else "")

    @property
    def recipe(self) -> str:
        """The recipe of quantize_file that it means.

        Raises UnsupportedError for a pair that is no recipe's, naming the nearest one.
        """
        found = _RECIPES.get((self.weight, self.activation))
        if found is None and self.weight <= 8 and self.activation in (16, 32):
            found = _RECIPES.get((self.weight, 8))
        if found is None:
            near = min(_RECIPES, key=lambda pair: (abs(pair[0] - self.weight), abs(pair[1] - self.activation)))
            raise UnsupportedError(
                f"{self} is not computed here: quantized weights meet 8-bit activations, floats meet floats; "
                f"the nearest is W{near[0]}A{near[1]} ({_RECIPES[near]})"
            )
        return found

    @property
    def type(self) -> QuantType:
        """The tensor type that it means: the recipe's own. Raises UnsupportedError as recipe does."""
        return QuantType.parse(self.recipe.removesuffix("_M"))


def is_notation(text: str) -> bool:
    """Whether a text has that form."""
    return _FORM.fullmatch(text.strip()) is not None


def notation(text: str) -> Notation:
    """Reads W4A8 or W4A16G128, in any case. Raises ArgumentError.

    >>> notation("w4a8").recipe, notation("W4A16").type
    ('Q4_K_M', QuantType.Q4_K)
    """
    found = _FORM.fullmatch(read_text("text", text).strip())
    if not found:
        raise ArgumentError(f"{text[:40]!r} is no notation such as W4A8 or W4A16G128")
    weight, activation, group = found.groups()
    return Notation(int(weight), int(activation), int(group) if group else None)


def notation_of(kind: QuantTypeLike) -> Notation:
    """How a product with weights of a type is computed: block types with 8-bit activations, bf16 with 16, others 32.

    >>> str(notation_of(QuantType.Q4_K)), str(notation_of(QuantType.F16))
    ('W4A8', 'W16A32')
    """
    kind = QuantType.parse(kind, "kind")
    if kind.is_block:
        digits = re.search(r"\d", kind.name)
        return Notation(int(digits.group()) if digits else 8, 8)
    return Notation(round(kind.bits_per_weight), 16 if kind.name == "bf16" else 32)
