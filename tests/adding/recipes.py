"""docs/ADDING.md as data: which files each recipe names. A `<word>` stands for a word of the one who adds.

Only what the numbered steps name counts, and the paragraphs among them; what stands behind "Check:" does not.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("native/", "pyggml/", "tests/", "docs/", "bench/", "CMakeLists.txt")


def recipes(text: str | None = None) -> dict[str, list[str]]:
    """Heading -> patterns of paths, in the order in which they stand there."""
    if text is None:
        text = (ROOT / "docs" / "ADDING.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        heading, _, body = section.partition("\n")
        steps = body.partition("\nCheck:")[0]
        named = [word for word in re.findall(r"`([^`\s]+)`", steps) if word.startswith(TOPS)]
        found[heading.strip()] = list(dict.fromkeys(re.sub(r"<[^>]+>", "*", word) for word in named))
    return found


def names(patterns: list[str], path: str) -> bool:
    """Whether a recipe names a path: by itself, as a form, or by its folder."""
    return any(fnmatchcase(path, f"{pattern}*" if pattern.endswith("/") else pattern) for pattern in patterns)
