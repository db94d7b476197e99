"""Runs the draft 2020-12 files of JSON-Schema-Test-Suite: PYTHONPATH=.:tests python tests/constrain/suite.py FOLDER

FOLDER holds additionalProperties.json and so on. Counts, for each file, schemas that are refused, valid documents that
are accepted or not (properties come in the schema's order), and invalid ones: none of these may be accepted.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from constrain.vocabularies import ids_of

import pyggml
from pyggml.constrain import grammar
from pyggml.errors import GrammarError
from pyggml.tokenizer import Tokenizer


def run(folder: Path, tokenizer: Tokenizer, n_vocab: int) -> tuple[Counter[str], list[str]]:
    """Counts, and what went wrong, one line each."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for path in sorted(folder.rglob("*.json")):
        for group in json.loads(path.read_text("utf-8")):
            where = f"{path.name}: {group['description']}"
            try:
                made = grammar(tokenizer, n_vocab, schema=group["schema"])
            except GrammarError as e:
                counts["schemas refused"] += 1
                if "#" not in str(e):
                    wrong.append(f"{where}: an error without a place: {e}")
                continue
            counts["schemas compiled"] += 1
            for test in group["tests"]:
                accepted = accepts(made.begin(), tokenizer, test["data"])
                counts[f"{'valid' if test['valid'] else 'INVALID'} {'accepted' if accepted else 'refused'}"] += 1
                if accepted and not test["valid"]:
                    wrong.append(f"{where}: {test['description']}: {json.dumps(test['data'])[:200]}")
    return counts, wrong


def accepts(constraint: Any, tokenizer: Tokenizer, document: Any) -> bool:
    """Whether the document, as Python writes it, is a whole text."""
    text = json.dumps(document, ensure_ascii=False)
    try:
        ids = ids_of(tokenizer, text)
    except UnicodeEncodeError:
        return False
    if constraint.fits(ids) < len(ids):
        return False
    for token in ids:
        constraint.take(token)
    return bool(constraint.may_end)


if __name__ == "__main__":
    with pyggml.load() as model:
        found, faults = run(Path(sys.argv[1]), model.tokenizer, model.n_vocab)
    for line in faults:
        print("WRONG", line)
    for name, count in sorted(found.items()):
        print(f"{count:5} {name}")
    sys.exit(bool(faults))
