"""Beginning a thread where a Ctrl-C may come at any moment, and where there may be none left."""

from __future__ import annotations

import _thread
import sys
from collections.abc import Callable


def begun(work: Callable[[], object]) -> bool:
    """Begins work() in a thread that the interpreter does not wait for; False if it can begin none.

    Not by threading.Thread, which waits and asks in Python code. A Ctrl-C in start() leaves a lock taken that the new
    thread waits for for ever, or comes out as RuntimeError("release unlocked lock"), of the same class as "can't start
    new thread"; one in main_thread().is_alive() marks the main thread as ended.

    >>> begun(lambda: None)
    True
    """
    if sys.is_finalizing():  # where a thread begins and never comes to its work
        return False
    try:
        _thread.start_new_thread(work, ())
    except RuntimeError:
        return False
    return True
