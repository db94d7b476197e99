"""What notebooks show: small HTML of facts and tables, everything escaped. Knows no object of the package."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence


def escaped(value: object) -> str:
    """Text of a value, safe inside of HTML; half surrogates become question marks, as pages are UTF-8.

    >>> escaped("<b>&"), escaped("a\\udcff")
    ('&lt;b&gt;&amp;', 'a?')
    """
    return html.escape(str(value).encode("utf-8", "replace").decode())


def preformatted(text: object) -> str:
    """Text as it is, long lines wrapped."""
    return f'<pre style="white-space: pre-wrap">{escaped(text)}</pre>'


def table(head: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> str:
    """Rows under a head; numbers to the right.

    >>> table(["a"], [[1]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td style="text-align: right">1</td></tr></tbody></table>'
    """
    caption = f"<caption>{escaped(title)}</caption>" if title else ""
    top = "".join(f"<th>{escaped(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def facts(title: str, values: Mapping[str, object]) -> str:
    """Names and values as a table."""
    return table(("", title), values.items())


def _cell(value: object) -> str:
    right = isinstance(value, int | float) and not isinstance(value, bool)
    shown = f"{value:,}" if right else value
    return f'<td style="text-align: {"right" if right else "left"}">{escaped(shown)}</td>'
