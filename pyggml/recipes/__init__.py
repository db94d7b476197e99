"""Recipes: which tensor of a file becomes which type, and the streaming rewrite of a file by such a recipe."""

from pyggml.recipes.recipe import Recipe, Rule
from pyggml.recipes.rewrite import Change, quantize_file

__all__ = ["Change", "Recipe", "Rule", "quantize_file"]
