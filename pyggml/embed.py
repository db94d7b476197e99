"""Where the C library lies, for pipelines in C, C++ and Cython: include folder, compiler and linker flags, CMake.

The facts are those of the installed pkg-config file (lib/pkgconfig/pgg.pc); nothing is stated twice.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from pyggml.errors import UnsupportedError
from pyggml.keywords import known_only

__all__ = ["cflags", "cmake_dir", "get_include", "libs"]


def _home() -> Path:
    """The folder that holds include/ and lib/."""
    folders = sys.modules["pyggml"].__path__
    for folder in folders:
        if (Path(folder) / "include" / "pgg.h").is_file():
            return Path(folder)
    raise UnsupportedError(
        f"the C library is not installed in {', '.join(folders)}: this is a source tree or a cut-down build; "
        "install the package (pip install .) to embed it"
    )


def _fields() -> dict[str, str]:
    """Name -> value of the pkg-config file, variables resolved."""
    file = _home() / "lib" / "pkgconfig" / "pgg.pc"
    variables = {"pcfiledir": str(file.parent)}
    fields: dict[str, str] = {}
    for line in file.read_text(encoding="ascii").splitlines():
        match = re.match(r"(\w+)\s*([=:])\s*(.*)", line)
        if match is None:
            continue
        name, kind, value = match.groups()
        if kind == "=":
            variables[name] = str(Path(_expand(value, variables)).resolve())
        else:
            fields[name] = value
    # Quoted after expansion: a path may hold spaces.
    return {name: shlex.join(_expand(word, variables) for word in value.split()) for name, value in fields.items()}


def _expand(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: variables[match.group(1)], text)


@known_only
def get_include() -> str:
    """The folder of pgg.h, for include_dirs; `from pyggml._native cimport ...` needs it too.

    Raises:
        UnsupportedError: in a source tree, where the library is not installed.

    >>> import os, pyggml
    >>> os.path.exists(os.path.join(pyggml.get_include(), "pgg.h"))
    True
    """
    return str(_home() / "include")


def cflags() -> str:
    """Compiler flags, quoted for a shell: `-I.../include`."""
    return _fields()["Cflags"]


def libs() -> str:
    """Linker flags of the static library and what it needs, quoted for a shell: `-L.../lib -lpgg ...`."""
    return _fields()["Libs"]


def cmake_dir() -> str:
    """The folder for CMake: `cmake -Dpgg_DIR=$(python -m pyggml --cmake-dir)`, then find_package(pgg CONFIG)."""
    return str(_home() / "lib" / "cmake" / "pgg")
