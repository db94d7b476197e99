"""Calls into `llguidance`: imported late; its errors and Rust panics leave as GrammarError; nothing cuts one in two."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import GrammarError, UnsupportedError
from ..files.foreign import is_panic, said
from ..leaving import whole

T = TypeVar("T")


class ForkedLock:
    """A lock that a forked child has open, whoever held it: only the forking thread lives on there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *what: object) -> None:
        self._lock.release()


def library() -> Any:
    """The module. Raises UnsupportedError that names the extra."""
    try:
        import llguidance
    except ImportError as e:
        raise UnsupportedError(f"constrained output needs llguidance ({e}): pip install 'pyggml[constrain]'") from None
    return llguidance


def call(what: str, function: Callable[..., T], *args: object) -> T:
    """function(*args). what: names the work in the message of an error."""
    try:
        return whole(function, *args)
    except BaseException as e:  # a Rust panic is no Exception
        if isinstance(e, Exception) or is_panic(e):
            raise GrammarError(f"{what}: {said(e)}") from None
        raise
