"""Recipes: which tensor of a file becomes which type, and the streaming rewrite of a file by such a recipe."""

from pyggml.recipes.files import load_recipe, parse_recipe
from pyggml.recipes.recipe import Recipe, Rule
from pyggml.recipes.rewrite import Change, quantize_file
from pyggml.recipes.strategy import strategy

__all__ = ["Change", "Recipe", "Rule", "load_recipe", "parse_recipe", "quantize_file", "strategy"]
