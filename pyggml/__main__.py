"""`python -m pyggml`: flags for compilers (--cflags --libs --cmake-dir --include), else the command line of cli.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyggml import embed
from pyggml.cli import main as command_line
from pyggml.errors import ArgumentError

FLAGS = {
    "--cflags": embed.cflags,
    "--libs": embed.libs,
    "--cmake-dir": embed.cmake_dir,
    "--include": embed.get_include,
}


def main() -> None:
    """Answers compiler flags without loading anything; hands all else to the command line."""
    asked = sys.argv[1:]
    command_line(_flags if any(arg in FLAGS for arg in asked) else None)


def _flags(args: Sequence[str]) -> int:
    strange = [arg for arg in args if arg not in FLAGS]
    if strange:
        raise ArgumentError(f"no flag for compilers: {strange[0]!a}; there are {', '.join(FLAGS)}")
    print(" ".join(FLAGS[arg]() for arg in args))
    return 0


if __name__ == "__main__":
    main()
