"""Objects that hold a file, memory or a thread: they cannot be pickled or copied, and say what to do instead."""

from __future__ import annotations

from typing import Any, NoReturn

from pyggml.errors import ArgumentTypeError


class Held:
    """A base class: pickle, copy and deepcopy raise ArgumentTypeError with the class's `_instead`."""

    __slots__ = ()
    _instead = "pass its path and open it in each process"

    def __reduce__(self) -> NoReturn:
        raise ArgumentTypeError(f"a {type(self).__name__} cannot be pickled or copied: {self._instead}")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self.__reduce__()
