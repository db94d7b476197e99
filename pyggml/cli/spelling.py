"""Messages of the package as the command line says them: options, as they were typed, in place of Python's parameters.

Only of the command that runs, and never inside of quotes, paths, metadata keys or calls of Python.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from pyggml.cli.usage import Usage, before_end, typed
from pyggml.errors import PyggmlError

# What Python calls what the command line calls otherwise.
_OTHERS = {"n_threads": "threads", "use": "strategy", "metadata": "override_kv", "rules": "tensor_type"}

_WORD = re.compile(
    r"""(?<!\w)'[^']*'(?!\w)|(?<!\w)"[^"]*"(?!\w)|"""  # quoted: stays
    r"""(?<![\w.'"/\\-])(?P<name>[a-z]\w+)(?![\w(/]|\.\w)(?P<set>=(?:True\b|(?=\S)))?"""
)
_HEAD = re.compile(r"(?:\[\d+\])?(?: must be | is -?\d| is not used|: )")
_IN_CALL = re.compile(r"\w\([^()]*$")

_options: ContextVar[Mapping[str, str] | None] = ContextVar("options", default=None)


def as_typed(text: str) -> str:
    """A message with the options of the command that runs.

    A name with a _ is a parameter wherever it stands; a word only at the head of a message or before a value.
    """
    names = _options.get() or {}

    def put(found: re.Match[str]) -> str:
        name, value = found["name"], found["set"]
        if name not in names or _IN_CALL.search(text, 0, found.start()):
            return found[0]
        if "_" in name or value or (found.start() == 0 and _HEAD.match(text, found.end())):
            return names[name] + (" " if value == "=" else "")
        return found[0]

    return _WORD.sub(put, text)


@contextlib.contextmanager
def speaking(command: Any, args: Sequence[str]) -> Iterator[None]:
    """While a command of these arguments runs, what it raises and logs has its options."""
    before = _options.set(_names(command, args))
    log = logging.getLogger("pyggml")
    log.addFilter(_respell)
    try:
        yield
    except PyggmlError as e:
        if e.args and isinstance(e.args[0], str) and not isinstance(e, Usage):  # which says them already
            e.args = (as_typed(e.args[0]), *e.args[1:])
        raise
    finally:
        log.removeFilter(_respell)
        _options.reset(before)


def _respell(record: logging.LogRecord) -> bool:
    record.msg, record.args = as_typed(record.getMessage()), None
    return True


def _names(command: Any, args: Sequence[str]) -> dict[str, str]:
    """What Python may call each option of a command -> how it was typed, or its first name where it was not."""
    made: dict[str, str] = {}
    for option in getattr(command, "params", ()):
        spellings = [name for name in option.opts if name.startswith("-")]
        if spellings:
            given = typed(spellings, before_end(args))
            for name in (option.name, *spellings):
                made.setdefault(name.lstrip("-").replace("-", "_"), given[0] if given else spellings[0])
    return made | {name: made[ours] for name, ours in _OTHERS.items() if ours in made}
