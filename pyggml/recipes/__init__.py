"""Recipes: what a file's tensors become and what it costs: mixes, measuring, choosing by budget, rewriting."""

from pyggml.recipes.comparison import Comparison, compare
from pyggml.recipes.costs import Sensitivity, sensitivity
from pyggml.recipes.files import load_recipe, parse_recipe
from pyggml.recipes.importance import Imatrix, imatrix
from pyggml.recipes.recipe import Recipe, Rule
from pyggml.recipes.rewrite import Change, Changes, quantize_file
from pyggml.recipes.strategies import strategy


def __dir__() -> list[str]:
    """The public names only."""
    return __all__


__all__ = [
    "Change",
    "Changes",
    "Comparison",
    "Imatrix",
    "Recipe",
    "Rule",
    "Sensitivity",
    "compare",
    "imatrix",
    "load_recipe",
    "parse_recipe",
    "quantize_file",
    "sensitivity",
    "strategy",
]
