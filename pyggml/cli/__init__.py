"""The command line: `pyggml COMMAND`. Each command calls one public function and prints; no sense lives here.

Status: 0 done; 1 an error, said in one line on stderr; 2 an option or argument that is not understood; 130, 143, 129
ended by Ctrl-C, SIGTERM, SIGHUP; 141 nobody reads the output any more. PYGGML_DEBUG=1 shows tracebacks and the log.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pyggml import _start
from pyggml.errors import PyggmlError

FAILED, UNHEARD = 1, 141
_DEBUG = "PYGGML_DEBUG"

Command = Callable[[Sequence[str]], int]


def main(command: Command | None = None) -> None:
    """Entry point: runs the command of sys.argv and ends the process with its status, never with a traceback.

    command: in place of all commands, what answers the arguments with a status.
    """
    status = FAILED
    try:
        status = _guarded(sys.argv[1:], command)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else FAILED
    except KeyboardInterrupt:
        _start.be_silent()
        status = _stopped()
    _start.be_silent()  # nothing is left to clean up
    if not _flushed() and status == 0:
        status = FAILED
    if status == _start.INTERRUPTED:  # all is unwound; waiting for threads, and Python's own end by the signal, are not
        os._exit(status)
    sys.exit(status)


def _guarded(args: list[str], command: Command | None) -> int:
    """The status of a command. Whatever goes wrong is one line on stderr."""
    from pyggml.cli import streams

    debug = os.environ.get(_DEBUG, "") not in ("", "0")
    streams.prepare()
    _end_on_signals()
    logging.raiseExceptions = debug
    try:
        streams.check_descriptors()
        if command is None:
            from pyggml.cli.app import invoke

            command = invoke
        show_log(debug)
        _start.listen()
        status = command(args)
        sys.stdout.flush()
        return status
    except PyggmlError as e:
        _say(f"error: {e}", debug)
    except KeyboardInterrupt:
        _start.be_silent()
        return _stopped()
    except OSError as e:
        if e.errno == errno.EPIPE:
            return UNHEARD
        _say(f"error: {_of_system(e)}", debug)
    except SystemExit as e:
        if isinstance(e.__context__, BrokenPipeError):  # the help's printer has a status of its own for that
            return UNHEARD
        raise
    except MemoryError:
        _say("error: out of memory; take a smaller context (-c) or a smaller model", debug)
    except Exception as e:
        told = " ".join(f"{type(e).__name__}: {e}".split())[:300]
        _say(
            f"error: unexpected {told}. This is a fault of pyggml: please report it with the output of `pyggml info` "
            f"and of this command under {_DEBUG}=1",
            debug,
        )
    return FAILED


def show_log(debug: bool) -> None:
    """Warnings of the package on stderr, and with debug all it logs."""
    told = logging.StreamHandler()
    told.setFormatter(_Lines("%(levelname)s: %(message)s"))
    log = logging.getLogger("pyggml")
    log.addHandler(told)
    log.setLevel(logging.DEBUG if debug else logging.WARNING)
    log.propagate = False


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)


def _say(line: str, debug: bool = False) -> None:
    """One line on stderr, whatever state that is in."""
    with contextlib.suppress(OSError, ValueError):
        if debug:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line), file=sys.stderr, flush=True)


def _of_system(e: OSError) -> str:
    """What the system refused, as people say it."""
    reason = e.strerror or str(e)
    if e.errno == errno.EMFILE:
        return f"{reason}: this process may open no more; allow more with `ulimit -n 256`"
    if e.filename is not None:
        return f"{os.fsdecode(e.filename)}: {reason}"
    return f"the output cannot be written: {reason}"


def _stopped() -> int:
    _say("stopped")
    return _start.INTERRUPTED


def _flushed() -> bool:
    """Whether the output went out; what could not is dropped, so that the interpreter does not try again."""
    went = True
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            went = went and number != 1
            with contextlib.suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
    return went


def _end_on_signals() -> None:
    """SIGTERM and SIGHUP (a closed terminal) unwind too, so that no partial file is left."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: Any) -> None:
    sys.exit(128 + number)
