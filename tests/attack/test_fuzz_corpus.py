"""What fuzzing and attacks found, replayed; and some changes of good files for every reader, the same at every run.

tests/fuzz/fuzz.py draws them for as long as one wants.
"""

from __future__ import annotations

import random
import time
import warnings
from pathlib import Path

import pytest
from fuzz import mutate, seeds, targets

CORPUS = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"
FOUND = sorted(CORPUS.glob("*/*"))
HANG = 20  # seconds; what hangs would do so for minutes or for ever, no speed is promised


def test_the_corpus_is_there_and_small() -> None:
    assert {path.parent.name for path in FOUND} <= set(targets.TARGETS) == set(seeds.ALL)
    assert len(FOUND) > 30
    assert sum(path.stat().st_size for path in FOUND) < 100_000


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_is_refused_at_once(path: Path, tmp_path: Path) -> None:
    begin = time.monotonic()
    said = targets.run(path.parent.name, path.read_bytes(), tmp_path)
    assert time.monotonic() - begin < HANG
    assert said or path.name == "repeats"  # expressions of rules may repeat as they like


@pytest.mark.parametrize("reader", seeds.ALL)
def test_good_files_are_read(reader: str, tmp_path: Path) -> None:
    refusals = [targets.run(reader, data, tmp_path) for data in seeds.ALL[reader]()]
    assert not all(refusals), refusals


@pytest.mark.parametrize("reader", seeds.ALL)
def test_changed_files_are_read_or_refused(reader: str, tmp_path: Path) -> None:
    rng, corpus, refused = random.Random(7), seeds.ALL[reader](), 0
    begin = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(25 if reader == "folder" else 100):
            data = mutate.changed(reader, rng.choice(corpus), rng, corpus)
            refused += bool(targets.run(reader, data, tmp_path))
    assert refused
    assert time.monotonic() - begin < 10 * HANG
