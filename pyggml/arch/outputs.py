"""What a forward pass ends in."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pyggml.graph import Node


@dataclass(frozen=True, slots=True)
class Outputs:
    """The nodes that a caller may ask for, by name; None where the architecture has none.

    logits: (wanted, n_vocab). embedding: (wanted or tokens, n_embd), what the logits are made from, or what an encoder
    says of its tokens. score: (wanted, n_labels), how well two texts fit each other, before any function that makes
    a probability of it; it is the first token's in an encoder, the last one's in a decoder.
    """

    logits: Node | None = None
    embedding: Node | None = None
    score: Node | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Those that are there, as Graph.finish takes them: a step returns the first unless it is asked for another."""
        return tuple(node for name in self.names if (node := getattr(self, name)) is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of nodes: the number that a session is given is a place in them."""
        return tuple(each.name for each in fields(self) if getattr(self, each.name) is not None)
