"""The pre-tokenizer of a tokenizer.json, recognised by what it does: its regular expressions, compared with the table
of pyggml.tokenizer.pretokenizers. Never by a hash of outputs. None for one that is not in the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.tokenizer import pretokenizers

_GPT2 = pretokenizers.TABLE["gpt-2"].regexes[0]
# Spellings of one expression in published files -> the table's.
_SAME = {
    r"'(?i:[sdmt]|ll|ve|re)": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"(?i:[sdmt]|ll|ve|re)": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
}


def recognise(table: Mapping[str, Any]) -> str | None:
    """The `tokenizer.ggml.pre` of a byte-level BPE tokenizer, the first name of its family."""
    found = _regexes(table.get("pre_tokenizer"))
    if found is None:
        return None
    ignore = bool(table["model"].get("ignore_merges"))
    wanted = tuple(_plain(each) for each in found)
    same = [
        (name, pre)
        for name, pre in pretokenizers.TABLE.items()
        if tuple(_plain(each) for each in pre.regexes) == wanted
    ]
    for name, pre in same:
        if pre.ignore_merges == ignore:
            return _PREFERRED.get(name, name)
    return None


_PREFERRED = {"llama3": "llama-bpe"}
"""The name that files usually carry, where the table begins with another."""


def _plain(regex: str) -> str:
    for one, other in _SAME.items():
        regex = regex.replace(one, other)
    return regex


def _regexes(node: Any) -> list[str] | None:
    """The expressions of a chain of splits ending in ByteLevel; None where something else is in it."""
    if not isinstance(node, dict):
        return None
    kind = node.get("type")
    if kind == "Sequence":
        steps = node.get("pretokenizers")
        found: list[str] = []
        for step in steps if isinstance(steps, list) else [None]:
            part = _regexes(step)
            if part is None:
                return None
            found += part
        return found
    if kind == "Split":
        pattern = node.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        keeps = (node.get("behavior"), bool(node.get("invert"))) in (("Isolated", False), ("Removed", True))
        return [regex] if isinstance(regex, str) and keeps else None
    if kind == "ByteLevel":
        if node.get("add_prefix_space"):
            return None
        return [_GPT2] if node.get("use_regex", True) else []
    if kind == "Digits":
        return [r"\p{N}"] if node.get("individual_digits") else [r"\p{N}+"]
    return None


def prepends_space(table: Mapping[str, Any]) -> bool:
    """Whether the normalizer (or a Metaspace) puts a blank before the text."""
    steps: list[Any] = [table.get("normalizer"), table.get("pre_tokenizer")]
    while steps:
        step = steps.pop()
        if not isinstance(step, dict):
            continue
        if step.get("type") == "Prepend":
            return True
        if step.get("type") == "Metaspace":
            return step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True) is not False
        for key in ("normalizers", "pretokenizers"):
            if isinstance(step.get(key), list):
                steps += step[key]
    return False
