"""Small helpers of printing: progress bars (only on a terminal), sizes, flat values."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyggml.tokenizer import Tokenizer


@contextlib.contextmanager
def progress(what: str, still: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that draws a bar on stderr if that is a terminal that can draw.

    still: nothing is drawn between calls, so that what is timed there is alone.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, auto_refresh=not still) as bar:
        task = bar.add_task(what, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True, refresh=still)


def size(n: float) -> str:
    """Bytes as people read them.

    >>> size(1536), size(3 << 30)
    ('1.5 KiB', '3.0 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:.1f} {unit}" if unit != "B" else f"{n:.0f} B"
        n /= 1024
    raise AssertionError


def count(n: int) -> str:
    """Numbers of parameters.

    >>> count(5_800_000)
    '5.80 M'
    """
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= limit:
            return f"{n / limit:.2f} {unit}"
    return str(n)


def flat(value: Any) -> str:
    """Nested plain data on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {flat(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(flat(v) for v in value) or "none"
    return str(value)


def dumps(value: Any) -> str:
    """JSON that every reader takes: NaN and infinity, which it has no word for, as text.

    >>> dumps({"a": [1, float("nan")]}).split()
    ['{', '"a":', '[', '1,', '"nan"', ']', '}']
    """
    return json.dumps(_finite(value), indent=None if isinstance(value, list) and _flat(value) else 1)


def _flat(values: list[Any]) -> bool:
    return all(isinstance(value, int) for value in values)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def plain(text: str) -> str:
    """text without control characters, so that a file cannot steer the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def token(tokenizer: Tokenizer, number: int) -> str:
    """What a token stands for, quoted: its text, the bytes of a part of a character, or the name of a special one."""
    if tokenizer.is_special(number):
        return _quoted(tokenizer.token_text(number))
    raw = tokenizer.piece_bytes(number)
    try:
        return _quoted(raw.decode())
    except UnicodeDecodeError:
        return repr(raw)


def _quoted(text: str) -> str:
    """repr of text, in ASCII where the output's encoding lacks a character."""
    try:
        repr(text).encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return ascii(text)
    return repr(text)
