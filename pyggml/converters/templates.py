"""Chat templates of a model directory -> metadata, and back: one by default and others by name.

Keys: tokenizer.chat_template, tokenizer.chat_template.NAME, and the names in tokenizer.chat_templates. Which of them a
chat uses is chosen in pyggml/chat/named.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from pyggml.chat.named import DEFAULT, KEY, NAMES, key_of, plain_name
from pyggml.converters.family import Meta
from pyggml.converters.source import Source

_FOLDER = "additional_chat_templates"


def metadata(source: Source, settings: Mapping[str, Any]) -> Meta:
    """The keys of all templates. A file counts before tokenizer_config.json, which counts before chat_template.json."""
    found: dict[str, str] = {}
    for value in (source.json("chat_template.json").get("chat_template"), settings.get("chat_template")):
        found |= _templates(value)
    whole = source.text("chat_template.jinja")
    if whole is not None:
        found[DEFAULT] = whole.removeprefix("\ufeff")
    folder = os.path.join(source.folder, _FOLDER)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        text = source.text(os.path.join(_FOLDER, name)) if name.endswith(".jinja") else None
        if text is not None:
            found[plain_name(name.removesuffix(".jinja"))] = text.removeprefix("\ufeff")
    meta: Meta = {key_of(name): (text, None) for name, text in found.items()}
    names = sorted(name for name in found if name != DEFAULT)
    if names:
        meta[NAMES] = (names, "str")
    return meta


def _templates(value: Any) -> dict[str, str]:
    """Templates by name: one text, a list of {name, template}, or an object."""
    if isinstance(value, str):
        return {DEFAULT: value}
    pairs: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        pairs = ((each.get("name"), each.get("template")) for each in value if isinstance(each, dict))
    return {plain_name(n): text for n, text in pairs if isinstance(n, str) and n and isinstance(text, str)}


def files_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The files that hold the templates of a GGUF: path inside a model directory -> text."""
    found = {}
    for key in metadata:
        if key == KEY or (key.startswith(f"{KEY}.") and key != NAMES):
            text = metadata[key]
            name = key[len(KEY) + 1 :]
            if isinstance(text, str):
                found[f"{_FOLDER}/{plain_name(name)}.jinja" if name else "chat_template.jinja"] = text
    return found
