"""The command line: `pyggml COMMAND`. Each command calls one public function and prints; no sense lives here."""

from __future__ import annotations

import signal
import sys
from typing import Any


def main() -> None:
    """Entry point: runs a command; a PyggmlError becomes one line on stderr and exit code 1, Ctrl-C exit code 130.

    A request to end (SIGTERM, or SIGHUP of a closed terminal) unwinds too, so that no partial file is left: 143, 129.
    """
    from pyggml.errors import PyggmlError

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        from pyggml.cli.app import app

        app()
    except PyggmlError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


def _end(number: int, frame: Any) -> None:
    sys.exit(128 + number)
