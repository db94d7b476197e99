"""Tables of text that fit their width: a terminal's, or what COLUMNS says; a pipe gets names whole.

A column is named with marks in front: `>` aligns right, `~` may be cut in the middle where a width is known, `=` is a
value that is cut even in a pipe, for --json has it whole.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

_GAP = "  "
_LEAST = 8  # of a column that is cut
_PIPE = 80


def width() -> int | None:
    """Columns of the terminal, or of COLUMNS; None for a pipe."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told) > 0:
        return max(int(told), 20)
    return max(shutil.get_terminal_size().columns, 20) if sys.stdout.isatty() else None


def show(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", wide: int | None = None) -> str:
    """The lines of a table, with a title and heads. wide: the width to fit; None asks width().

    >>> print(show(["~name", ">bytes"], [["blk.0.attn_q.weight", "1,024"], ["x", "8"]], wide=20))
    name           bytes
    --------------------
    blk.0...eight  1,024
    x                  8
    """
    wide = width() if wide is None else wide
    marks = [column[: len(column) - len(column.lstrip(">~="))] for column in columns]
    heads = [column.lstrip(">~=") for column in columns]
    body = [[*row, *[""] * (len(heads) - len(row))] for row in rows]
    sizes = [max(len(line[i]) for line in [heads, *body]) for i in range(len(heads))]
    _fit(sizes, marks, wide)
    lines = [_line(heads, sizes, marks), "-" * (sum(sizes) + len(_GAP) * (len(sizes) - 1))]
    lines += [_line(row, sizes, marks) for row in body]
    return "\n".join([*([title] if title else []), *lines])


def paragraph(head: str, text: str, indent: int) -> str:
    """head and a text beside it, wrapped; further lines stand under the text."""
    first = f"{head:<{indent}}"
    wide = max(width() or _PIPE, indent + 20)
    return textwrap.fill(
        text, wide, initial_indent=first, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def middle(text: str, most: int) -> str:
    """text, its middle left out where it is longer than most.

    >>> middle("model.layers.11.weight", 12)
    'model...ight'
    """
    if len(text) <= most:
        return text
    if most < 5:
        return text[:most]
    head = (most - 3 + 1) // 2
    return text[:head] + "..." + text[len(text) - (most - 3 - head) :]


def _fit(sizes: list[int], marks: Sequence[str], wide: int | None) -> None:
    """Shrinks the columns that may be cut, the widest first, values before names."""
    for mark, most in (("=", wide or _PIPE), ("~", wide)):
        while most is not None and (over := sum(sizes) + len(_GAP) * (len(sizes) - 1) - most) > 0:
            cut = [i for i in range(len(sizes)) if mark in marks[i] and sizes[i] > _LEAST]
            if not cut:
                break
            widest = max(cut, key=lambda i: sizes[i])
            others = max((sizes[i] for i in cut if i != widest), default=_LEAST)
            sizes[widest] = max(sizes[widest] - over, min(others, sizes[widest] - 1), _LEAST)


def _line(cells: Sequence[str], sizes: Sequence[int], marks: Sequence[str]) -> str:
    made = []
    for cell, size, mark in zip(cells, sizes, marks, strict=True):
        text = middle(cell, size)
        made.append(text.rjust(size) if ">" in mark else text.ljust(size))
    return _GAP.join(made).rstrip()
