"""The short form of kills.py: a few kills of each kind, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fcntl")
SCRIPT = Path(__file__).with_name("kills.py")


@pytest.mark.parametrize(
    "words", ["8 --seed 5", "3 --steps --only split --stride 13", "3 --steps --only quantize --stride 5"]
)
def test_kills_leave_nothing(words):
    paths = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words.split()], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "kills" in done.stdout


def test_the_judge_sees_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import kills

    judge = object.__new__(kills.Judge)
    judge.name, judge.command = "split", kills.COMMANDS["split"]
    judge.whole = dict.fromkeys(judge.command.made, "w")
    judge.place = type("P", (), {"bytes": lambda self: self.now})()
    first, *rest = judge.command.made
    for now in ({first: "w"}, {**judge.whole, rest[0]: "cut"}, {**judge.whole, "other": "x"}):
        judge.place.now = now
        with pytest.raises(AssertionError):
            judge._after_kill({})
    for now in ({}, judge.whole, {rest[0]: "w"}, {".pyggml-0123456789abcdef.part": "x"}):
        judge.place.now = now
        judge._after_kill({})
