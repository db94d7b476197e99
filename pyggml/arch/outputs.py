"""What a forward pass ends in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from pyggml.graph import Node


@dataclass(frozen=True, slots=True)
class Outputs:
    """The nodes that a caller may ask for, by name; None where the architecture has none.

    logits: (wanted, n_vocab). embedding: (wanted or tokens, n_embd), what the logits are made from, or what an encoder
    says of its tokens.
    """

    logits: Node | None = None
    embedding: Node | None = None

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """(name, node) of those that are there; the first is what a step returns unless it is asked for another."""
        nodes = ((each.name, getattr(self, each.name)) for each in fields(self))
        return ((name, node) for name, node in nodes if node is not None)

    @property
    def first(self) -> Node:
        """The node that a step returns unless it is asked for another."""
        return next(iter(self))[1]
