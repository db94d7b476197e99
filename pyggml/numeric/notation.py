"""W4A8 and its kin: bits of weights and of activations, as papers write them."""

from __future__ import annotations

from dataclasses import dataclass

from pyggml.arguments import text as read_text
from pyggml.errors import ArgumentError
from pyggml.keywords import known_only
from pyggml.numeric.catalogue import code_bits
from pyggml.quant.names import NOTATION, recipe_of_bits
from pyggml.quant.types import QuantType, QuantTypeLike


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
        return recipe_of_bits(self.weight, self.activation)

    @property
    def type(self) -> QuantType:
        """The tensor type that it means: the recipe's own. Raises UnsupportedError as recipe does."""
        return QuantType.parse(self.recipe.removesuffix("_M"))


@known_only
def notation(text: str) -> Notation:
    """Reads W4A8 or W4A16G128, in any case. Raises ArgumentError.

    >>> notation("w4a8").recipe, notation("W4A16").type
    ('Q4_K_M', QuantType.Q4_K)
    """
    found = NOTATION.fullmatch(read_text("text", text).strip())
    if not found:
        raise ArgumentError(f"{text[:40]!r} is no notation such as W4A8 or W4A16G128")
    weight, activation, group = found.groups()
    return Notation(int(weight), int(activation), int(group) if group else None)


@known_only
def notation_of(kind: QuantTypeLike) -> Notation:
    """How a product with weights of a type is computed: block types with 8-bit activations, bf16 with 16, others 32.

    >>> str(notation_of(QuantType.Q4_K)), str(notation_of(QuantType.F16))
    ('W4A8', 'W16A32')
    """
    kind = QuantType.parse(kind, "kind")
    if kind.is_block:
        return Notation(code_bits(kind), 8)
    return Notation(round(kind.bits_per_weight), 16 if kind.name == "bf16" else 32)
