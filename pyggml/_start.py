"""Ctrl-C while the command `pyggml` is still being imported ends it without a word; a library's import changes nothing.

Importing takes longer than people wait before they press Ctrl-C at a mistyped line, and the interpreter would show
where in the imports it was. Ending at once is right there, for nothing is open yet. What is imported here is part of
the interpreter, so that this comes first.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys

INTERRUPTED = 130
"""The status of a process that Ctrl-C ended."""


def is_command() -> bool:
    """Whether this process is the command: its script, or `python -m pyggml`."""
    first = sys.argv[0] if getattr(sys, "argv", None) else ""
    if first == "-m":  # while the package of -m is imported
        return "pyggml" in sys.orig_argv or "-mpyggml" in sys.orig_argv
    return os.path.splitext(os.path.basename(first))[0] == "pyggml"


def be_silent() -> None:
    """From here on Ctrl-C ends the process at once: status 130, nothing printed."""
    _change(_signal.default_int_handler, _end)


def listen() -> None:
    """From here on Ctrl-C is KeyboardInterrupt again; who started the process may have it ignored, and that stays."""
    _change(_end, _signal.default_int_handler)


def _change(old: object, new: object) -> None:
    try:
        if _signal.getsignal(_signal.SIGINT) is old:
            _signal.signal(_signal.SIGINT, new)
    except ValueError:  # signals belong to the main thread
        pass


def _end(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)


if is_command():
    be_silent()
