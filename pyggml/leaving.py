"""Calls into other people's C++ and Rust, which nothing may cut in two: not the end of the interpreter, not a fork.

A daemon thread that is in such a call when the interpreter ends is killed inside it, and their run times answer with
abort(). A child forked at that moment has their locks, taken by a thread that it does not have. So both wait until
nobody is inside, and who comes then waits outside. Our own core needs none of this.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Generic, TypeVar

from pyggml import _native
from pyggml.threads import begun

T = TypeVar("T")

_MOST = 10.0  # seconds that an end or a fork waits: what is inside ends by itself, a hung disk may not
_PATIENCE = 3.0  # seconds that a thread waits outside: an exit handler may be waiting for that thread
_END = 0  # no thread has this ident

_inside: set[int] = set()  # threads in a call, by their idents
_making: set[int] = set()  # values that a thread makes
_shut: set[int] = set()  # threads that fork, or _END
_leaver = [0]  # the thread that ends the interpreter; it is not killed, and its handlers may use everything


def whole(call: Callable[..., T], *args: object) -> T:
    """call(*args), not cut in two.

    >>> whole(max, 1, 2)
    2
    """
    me = threading.get_ident()
    if me in _inside:
        return call(*args)
    _inside.add(me)  # before looking: either who shuts the door sees this, or the shut door is seen here
    try:
        if _shut:
            _wait_outside(me)
        return call(*args)
    finally:
        _inside.discard(me)


def _wait_outside(me: int) -> None:
    until = time.monotonic() + _PATIENCE
    while _shut and time.monotonic() < until and not (_END in _shut and me == _leaver[0]):
        _inside.discard(me)
        time.sleep(0.005)
        _inside.add(me)


def _end() -> None:
    _leaver[0] = threading.get_ident()
    _shut.add(_END)
    with contextlib.suppress(KeyboardInterrupt):  # which is seen when the waiting is over
        _native.wait_empty(_inside, _MOST, _leaver[0])
        _native.wait_empty(_making, _MOST)
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        _end_by_signal()


def _end_by_signal() -> None:
    """Lets the process end by SIGINT, as after any Ctrl-C that nobody caught: shells stop their loops by that.

    The interpreter forgets it whenever a thread evaluates a text, as dataclasses do that are imported beside loading;
    a text that ends so again tells it anew.
    """
    with contextlib.suppress(KeyboardInterrupt):
        eval("stop()", {"stop": _stop})


def _stop() -> None:
    raise KeyboardInterrupt


def _before_fork() -> None:
    me = threading.get_ident()
    _shut.add(me)
    _native.wait_empty(_inside, _MOST, me)


def _after_fork() -> None:
    _shut.discard(threading.get_ident())


def _in_child() -> None:
    me = threading.get_ident()
    _shut.intersection_update({_END})
    _inside.intersection_update({me})
    _making.clear()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


class Made(Generic[T]):
    """A value made in a thread of its own; get() waits for it and raises what making it raised.

    Without a thread (the system has none left, the interpreter is ending, or this is a child forked meanwhile) get()
    makes it. The interpreter waits for the thread before it ends.

    >>> Made(lambda: 7).get()
    7
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._error: BaseException | None = None
        self._process = os.getpid()
        self._over = threading.Lock()  # a lock and no event: a signal cannot leave it in between
        self._over.acquire()
        _making.add(id(self))  # before looking, as in whole()
        if _END in _shut or not begun(self._run):
            self._ended()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended()

    def _ended(self) -> None:
        self._over.release()
        _making.discard(id(self))

    def _work(self) -> None:
        try:
            self._made.append(self._make())
        except BaseException as e:
            self._error = e.with_traceback(None)  # its frames hold this object

    def get(self) -> T:
        """The value."""
        if not self._made and self._error is None:
            self.wait()
        if not self._made and self._error is None:
            self._work()
        if self._error is not None:
            raise copy.copy(self._error)  # a copy, for the same reason
        return self._made[0]

    def wait(self) -> None:
        """Until the thread has ended; where threads stand still for good, not at all."""
        if os.getpid() == self._process and not sys.is_finalizing():
            with self._over:
                pass


def imported(module: str) -> None:
    """Imports a module, in a thread of its own; what is loaded already costs nothing.

    Two threads that import the same one wait for each other in Python code, where a Ctrl-C leaves a lock taken that
    every later import of it waits for; this one, in its own thread, meets none.

    >>> imported("string")
    """
    spec = getattr(sys.modules.get(module), "__spec__", None)
    if spec is None or getattr(spec, "_initializing", False):
        Made(partial(whole, import_module, module)).get()
