"""Those who wait for a place: calls take turns, so that a list of a thousand prompts does not stand in front of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from pyggml.engine.generation import Generation


class Turns:
    """Groups of tickets, one group a call; within a group they keep their order."""

    def __init__(self) -> None:
        self._groups: deque[deque[Generation]] = deque()
        self._n = 0  # of all; other threads ask for it while this one changes the groups

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Generation]:
        for group in self._groups:
            yield from group

    def add(self, tickets: Iterable[Generation]) -> None:
        """Another call."""
        if group := deque(tickets):
            self._groups.append(group)
            self._n += len(group)

    def back(self, ticket: Generation) -> None:
        """One that had its place and goes on as soon as there is one again."""
        self._groups.appendleft(deque([ticket]))
        self._n += 1

    def first(self, ready: Callable[[Generation], bool]) -> Generation | None:
        """Whose turn it is, of those at the head of their group that are ready; who is not keeps its turn."""
        return next((group[0] for group in self._groups if ready(group[0])), None)

    def leave(self, ticket: Generation) -> None:
        """Takes the head of a group, which comes last then."""
        group = next(group for group in self._groups if group[0] is ticket)
        self._groups.remove(group)
        group.popleft()
        self._n -= 1
        if group:
            self._groups.append(group)

    def take(self, which: Callable[[Generation], bool]) -> list[Generation]:
        """Takes all of a kind."""
        found = [ticket for ticket in self if which(ticket)]
        if found:
            groups = (deque(each for each in group if not which(each)) for group in self._groups)
            self._groups = deque(group for group in groups if group)
            self._n -= len(found)
        return found
