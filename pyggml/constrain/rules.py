"""How large a grammar may be: the parser follows rules by native recursion, and too deep a chain ends the process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import GrammarError

MOST_BYTES = 256 << 10
MOST_RULES = 2000
MOST_LEVELS = 256


def check_size(text: str, what: str) -> None:
    """Raises GrammarError for a source that is too long."""
    size = len(text.encode("utf-8", "replace"))
    if size > MOST_BYTES:
        raise GrammarError(f"{what} has {size:,} bytes, at most {MOST_BYTES:,} are compiled")


def check_rules(uses: Mapping[str, Iterable[str]], what: str) -> None:
    """uses: the rules that each rule names. Raises GrammarError for too many, or too long a chain of them.

    >>> check_rules({"a": ["b"], "b": ["a"]}, "grammar")
    """
    if len(uses) > MOST_RULES:
        raise GrammarError(f"{what} has {len(uses):,} rules, at most {MOST_RULES:,} are compiled")
    deep = too_deep({name: [(each, 1) for each in named] for name, named in uses.items()})
    if deep is not None:
        raise GrammarError(
            f"{what}: rule {deep} lies within more than {MOST_LEVELS} others; at most so many are followed, one within "
            "the other"
        )


def too_deep(uses: Mapping[str, Iterable[tuple[str, int]]]) -> str | None:
    """uses: what each name refers to, and how many levels deep within it. -> a name that is more than MOST_LEVELS deep,
    in the order in which a parser follows them.

    >>> too_deep({"a": [("b", 1)], "b": [("a", 1)]}), too_deep({"a": [("b", 300)], "b": []})
    (None, 'b')
    """
    seen: set[str] = set()
    for first in uses:
        if first in seen:
            continue
        seen.add(first)
        chain = [(0, iter(uses[first]))]
        while chain:
            level, rest = chain[-1]
            name, more = next((each for each in rest if each[0] in uses and each[0] not in seen), ("", 0))
            if not more:
                chain.pop()
                continue
            seen.add(name)
            chain.append((level + more, iter(uses[name])))
            if level + more > MOST_LEVELS:
                return name
    return None
