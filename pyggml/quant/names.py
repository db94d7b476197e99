"""Words that stand where a type is due and are no type of GGUF's: W4A8 and its kin, and formats no file can hold."""

from __future__ import annotations

import re

from pyggml.errors import UnsupportedError

NOTATION = re.compile(r"W(\d+)A(\d+)(?:G(\d+))?", re.I)
"""Bits of weights and of activations, and values under a scale, as papers write them."""

_RECIPES = {
    (16, 16): "BF16", (16, 32): "F16", (8, 8): "Q8_0", (6, 8): "Q6_K", (5, 8): "Q5_K_M", (4, 8): "Q4_K_M",
    (3, 8): "Q3_K_M", (2, 8): "Q2_K", (32, 32): "F32",
}  # fmt: skip
"""The usual recipe of each pair. Weights in blocks always meet activations of 8 bits here; what a file holds of W4A16
(weight-only quantization) is the same, so that form names it too."""

SMALL_FLOATS = ("fp4_e2m1", "fp8_e4m3", "fp8_e5m2")
WIDTHS = range(2, 9)
"""Bits of the integers and codebooks of numeric/."""


def recipe_of_bits(weight: int, activation: int) -> str:
    """The recipe of quantize_file that such bits mean. Raises UnsupportedError for a pair that is no recipe's.

    >>> recipe_of_bits(4, 8), recipe_of_bits(4, 16)
    ('Q4_K_M', 'Q4_K_M')
    """
    found = _RECIPES.get((weight, activation))
    if found is None and weight <= 8 and activation in (16, 32):
        found = _RECIPES.get((weight, 8))
    if found is None:
        near = min(_RECIPES, key=lambda pair: (abs(pair[0] - weight), abs(pair[1] - activation)))
        raise UnsupportedError(
            f"W{weight}A{activation} is not computed here: quantized weights meet 8-bit activations, floats meet "
            f"floats; the nearest is W{near[0]}A{near[1]} ({_RECIPES[near]})"
        )
    return found


def is_notation(text: str) -> bool:
    """Whether a text has the form of NOTATION."""
    return NOTATION.fullmatch(text.strip()) is not None


def type_name_of_notation(text: str) -> str:
    """The name of the type whose recipe W4A8 and its kin mean; text is_notation().

    >>> type_name_of_notation("w4a8")
    'q4_k'
    """
    found = NOTATION.fullmatch(text.strip())
    assert found is not None
    return recipe_of_bits(int(found[1]), int(found[2])).removesuffix("_M").lower()


def is_format(name: str) -> bool:
    """Whether a name in any case is a format that no GGUF can hold.

    >>> is_format("NF4"), is_format("q4_0")
    (True, False)
    """
    word = name.strip().lower()
    return word in SMALL_FLOATS or word in {f"{kind}{bits}" for kind in ("int", "nf", "quantile") for bits in WIDTHS}
