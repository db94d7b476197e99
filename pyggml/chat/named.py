"""Which chat template of a file a chat uses: the default one, one by name, or a text of the caller's own.

Names and keys as other engines write them: tokenizer.chat_template, tokenizer.chat_template.NAME. Rendering is
template.py's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pyggml.errors import TemplateError

KEY = "tokenizer.chat_template"
NAMES = "tokenizer.chat_templates"
DEFAULT = "default"
WITH_TOOLS = "tool_use"


def plain_name(name: str) -> str:
    """A name as keys carry it: letters, digits and _.

    >>> plain_name("tool-use")
    'tool_use'
    """
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def key_of(name: str) -> str:
    """The metadata key of a template."""
    return KEY if name == DEFAULT else f"{KEY}.{name}"


def names(metadata: Mapping[str, Any]) -> list[str]:
    """The templates that a file holds, the default one first."""
    found = [key[len(KEY) + 1 :] for key in metadata if key.startswith(f"{KEY}.")]
    return [DEFAULT] * (KEY in metadata) + sorted(found)


def choose(metadata: Mapping[str, Any], template: str | None, tools: Any) -> tuple[str, str]:
    """(Jinja text, name) of the template to use.

    template: a name in the file, or a Jinja text. Without one, and with tools, the one called tool_use if there is
    one; else the default. Raises TemplateError where the file has none, or none of that name.
    """
    known = names(metadata)
    if template and not re.search(r"\{[{%#]", template):
        wanted = template if template in known else plain_name(template)
        if wanted not in known:
            near = get_close_matches(wanted, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise TemplateError(
                f"this file has no chat template called {template[:80]!r}; {hint}it has: {', '.join(known) or 'none'}"
            )
    elif template:
        return template, "template="
    else:
        wanted = WITH_TOOLS if tools and WITH_TOOLS in known else DEFAULT
    source = metadata.get(key_of(wanted))
    if not isinstance(source, str) or not source:
        if known:
            raise TemplateError(f"this file has no default chat template; choose one by template=: {', '.join(known)}")
        raise TemplateError(
            f"this file has no chat template ({KEY}); use generate() with a prompt of your own, or pass template="
        )
    return source, wanted
