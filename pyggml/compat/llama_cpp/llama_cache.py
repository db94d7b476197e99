"""Caches of states by the tokens they hold. Prefixes are reused without one: set_cache() keeps it and asks nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from pyggml.compat.llama_cpp.state import LlamaState
from pyggml.compat.llama_cpp.verdicts import no_name

TYPE_CHECKING = False


class BaseLlamaCache:
    """Made for isinstance()."""

    def __init__(self, capacity_bytes: int = 2 << 30) -> None:
        self.capacity_bytes = capacity_bytes


class LlamaRAMCache(BaseLlamaCache):
    """States by tokens, the oldest leaving where they take more than capacity_bytes.

    cache[tokens] is the state that shares the longest prefix with tokens.
    """

    def __init__(self, capacity_bytes: int = 2 << 30) -> None:
        super().__init__(capacity_bytes)
        self.cache_state: OrderedDict[tuple[int, ...], LlamaState] = OrderedDict()

    @property
    def cache_size(self) -> int:
        """Bytes held."""
        return sum(state.llama_state_size for state in self.cache_state.values())

    def _nearest(self, key: Sequence[int]) -> tuple[int, ...] | None:
        def shared(held: tuple[int, ...]) -> int:
            return next(
                (i for i, (a, b) in enumerate(zip(held, key, strict=False)) if a != b), min(len(held), len(key))
            )

        found = max(self.cache_state, key=shared, default=None)
        return found if found is not None and shared(found) else None

    def __getitem__(self, key: Sequence[int]) -> LlamaState:
        found = self._nearest(key)
        if found is None:
            raise KeyError("Key not found")
        self.cache_state.move_to_end(found)
        return self.cache_state[found]

    def __contains__(self, key: Sequence[int]) -> bool:
        return self._nearest(key) is not None

    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None:
        self.cache_state.pop(tuple(key), None)
        self.cache_state[tuple(key)] = value
        while self.cache_state and self.cache_size > self.capacity_bytes:
            self.cache_state.popitem(last=False)


LlamaCache = LlamaRAMCache

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """The reason why a name is not here."""
        raise no_name(__name__, name)
