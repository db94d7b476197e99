"""Ctrl-C while the command `pyggml` is still being imported ends it without a word; a library's import changes nothing.

Importing takes longer than people wait before they press Ctrl-C at a mistyped line, and the interpreter would show
where in the imports it was. The system's own way to end is right there, for nothing is open yet.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def is_command() -> bool:
    """Whether this process is the command: its script, or `python -m pyggml`."""
    first = sys.argv[0] if getattr(sys, "argv", None) else ""
    if first == "-m":  # while the package of -m is imported
        return "pyggml" in sys.orig_argv or "-mpyggml" in sys.orig_argv
    return os.path.splitext(os.path.basename(first))[0] == "pyggml"


def be_silent() -> None:
    """From here on Ctrl-C ends the process as it ends any other program: status 130 in a shell, nothing printed."""
    if threading.current_thread() is threading.main_thread() and _handler() is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def listen() -> None:
    """From here on Ctrl-C is KeyboardInterrupt, unless whoever started the process wants it ignored."""
    if threading.current_thread() is threading.main_thread() and _handler() is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _handler() -> object:
    return signal.getsignal(signal.SIGINT)


if is_command():
    be_silent()
