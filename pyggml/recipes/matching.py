"""Which rule speaks for a tensor: the first that matches its name.

Rules that name one tensor whole, as a saved choice has one for every matrix, are looked up and not tried one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pyggml.recipes.patterns import whole_name
from pyggml.recipes.recipe import Rule


class Rules:
    """Rules in their order, for a model of n_layer layers. Raises ArgumentError for a bad expression.

    >>> rules = Rules([Rule(r"^blk\\.0\\.ffn_up\\.weight$", "q8_0"), Rule("ffn_up", "q4_0")], 2)
    >>> [rules.first(f"blk.{i}.ffn_up.weight").type for i in range(2)], rules.first("output.weight")
    (['q8_0', 'q4_0'], None)
    """

    def __init__(self, rules: Iterable[Rule], n_layer: int) -> None:
        self._named: dict[str, tuple[int, Rule]] = {}
        self._others: list[tuple[int, Rule, Callable[[str], bool]]] = []
        for number, rule in enumerate(rules):
            name = None if rule.layers else whole_name(rule.match)
            if name is not None:
                self._named.setdefault(name, (number, rule))
            else:
                self._others.append((number, rule, rule.matcher(n_layer)))

    def first(self, name: str) -> Rule | None:
        """The rule for a tensor; None where none matches."""
        keys = (name, name[:-1]) if name.endswith("\n") else (name,)  # $ is also before a last line end
        number, found = min((self._named[key] for key in keys if key in self._named), default=(None, None))
        for other, rule, matches in self._others:
            if number is not None and other > number:
                break
            if matches(name):
                return rule
        return found
