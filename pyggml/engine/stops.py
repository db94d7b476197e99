"""Stop strings over a stream of text pieces: what may still become a stop is held back, the rest goes on at once.

The result does not depend on how the text is cut into pieces. Pure text: no tokens, no model.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyggml.arguments import texts
from pyggml.chat.marks import cut
from pyggml.errors import ArgumentError


class StopStrings:
    """An incremental matcher. The stop that is complete first wins; it and all behind it is cut off.

    >>> s = StopStrings(["END"])
    >>> s.push("one E"), s.push("N"), s.push("D two")
    (('one ', False), ('', False), ('', True))
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = texts("stop", stops, or_one=True)
        if "" in self._stops:
            raise ArgumentError("an empty stop string would stop at once; leave it out")
        self._held = ""
        self._stopped = False

    def push(self, text: str) -> tuple[str, bool]:
        """Add a piece. Returns the text that is certain now and whether a stop was met; then always ("", True)."""
        if self._stopped:
            return "", True
        if not self._stops:
            return text, False
        certain, stop, self._held = cut(self._held + text, self._stops)
        if stop:
            self._stopped = True
            self._held = ""
        return certain, self._stopped

    def flush(self) -> str:
        """The held text, at the end of a stream that met no stop."""
        held, self._held = self._held, ""
        return held
