"""The command line: `pyggml COMMAND`. Each command calls one public function and prints; no sense lives here."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: runs a command; a PyggmlError becomes one line on stderr and exit code 1, Ctrl-C exit code 130."""
    from pyggml.cli.app import app
    from pyggml.errors import PyggmlError

    try:
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
