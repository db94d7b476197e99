"""`python -m pyggml`: flags for compilers (--cflags --libs --cmake-dir --include), else the command line of cli.py."""

from __future__ import annotations

import sys

from pyggml import embed
from pyggml.errors import PyggmlError

FLAGS = {
    "--cflags": embed.cflags,
    "--libs": embed.libs,
    "--cmake-dir": embed.cmake_dir,
    "--include": embed.get_include,
}


def main() -> int:
    """Answers compiler flags without loading anything; hands all else to the command line."""
    args = sys.argv[1:]
    if not args or any(arg not in FLAGS for arg in args):
        from pyggml.cli import main as cli_main

        cli_main()
        return 0
    try:
        print(" ".join(FLAGS[arg]() for arg in args))
    except PyggmlError as error:
        print(f"pyggml: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
