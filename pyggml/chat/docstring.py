"""What a docstring says of a function and of its parameters, in the three ways people write them.

Google's sections with indented lines, numpy's underlined headings, Sphinx' fields.
"""

from __future__ import annotations

import inspect
import re

_GOOGLE = re.compile(
    r"(args|arguments|parameters|params|keyword args|keyword arguments|other parameters|returns?|yields?|raises|"
    r"examples?|notes?|warnings?|warns|see also|references|attributes|todo):\s*",
    re.I,
)
_OF_PARAMETERS = re.compile(r"(args|arguments|parameters|params|keyword arg(ument)?s|other parameters)", re.I)
_NAMED = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)\n]*\))?\s*:\s*(.*)")
_NUMPY_NAMES = re.compile(r"\*{0,2}(\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?")
_SPHINX = re.compile(r"[:@](?:param|parameter|arg|argument|key|keyword)\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)")
_FIELD = re.compile(r"[:@]\w+[^:]*:")


def read(text: str | None) -> tuple[str, dict[str, str]]:
    """(what it does, parameter -> what it is), each on one line.

    >>> read("Adds.\\n\\nArgs:\\n    a (int): the first,\\n        or more\\n    b: the second\\n\\nReturns: a sum")
    ('Adds.', {'a': 'the first, or more', 'b': 'the second'})
    """
    lines = inspect.cleandoc(text or "").splitlines()
    said: list[str] = []
    found: dict[str, list[str]] = {}
    into: list[str] | None = said  # where lines go
    section = ""  # "google" or "numpy" inside of a section of parameters
    depth = 0  # of the names of a Google section
    for i, line in enumerate(lines):
        bare, indent = line.strip(), len(line) - len(line.lstrip())
        below = lines[i + 1].strip() if i + 1 < len(lines) else ""
        field = _SPHINX.match(bare)
        if field:
            into, section = found.setdefault(field[1], [field[2]]), ""
        elif _FIELD.match(bare) and bare[0] in ":@":
            into, section = None, ""
        elif bare and not indent and len(below) >= 3 and set(below) <= {"-", "="}:
            into, section = None, "numpy" if _OF_PARAMETERS.fullmatch(bare) else ""
        elif bare and set(bare) <= {"-", "="} and len(bare) >= 3 and into is None:
            continue
        elif not indent and _GOOGLE.match(bare):
            into, depth = None, 0
            section = "google" if _OF_PARAMETERS.fullmatch(bare.partition(":")[0]) else ""
        elif section == "numpy" and not indent and bare:
            names = _NUMPY_NAMES.fullmatch(bare)
            into = []
            for name in re.findall(r"\w+", names[1]) if names else []:
                found[name] = into
        elif section == "google" and bare and (not depth or indent <= depth):
            depth = depth or indent
            name = _NAMED.match(bare) if indent else None
            into = found.setdefault(name[1], [name[2]]) if name else None
        elif into is not None:
            into.append(bare)
    return _one_line(said), {name: _one_line(parts) for name, parts in found.items() if _one_line(parts)}


def _one_line(parts: list[str]) -> str:
    return " ".join(" ".join(parts).split())
