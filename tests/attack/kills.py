"""kill -9 at every moment of every command that writes: destinations stay old, absent or whole, leftovers go.

    python tests/attack/kills.py 200            # so many kills at random times, over all commands in turn
    python tests/attack/kills.py 200 --steps    # at every change of the file system, one after the other

A command runs in a forked child of a process that has imported everything, so a kill costs some milliseconds. Behind
each the destination is judged by its bytes; then the command runs again to its end, and nothing but its result may be
there. test_kills.py runs the short form.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TEXT = "Once upon a time there was a king who had three sons and a horse. " * 4
EVENTS = frozenset({"open", "os.rename", "os.remove", "os.link", "os.chmod", "os.chown", "os.mkdir", "fcntl.flock"})
"""What may change a folder or a lock, as Python's audit hooks name it."""


@dataclass(frozen=True)
class Command:
    """Words of the command line; what it makes, all of one folder; whether those may be there before."""

    words: str
    made: tuple[str, ...]
    replaces: bool = True


COMMANDS = {
    "quantize": Command("quantize x.gguf new/out.gguf q4_0", ("out.gguf",)),
    "save recipe": Command("quantize x.gguf new/out.gguf q4_0 --save-recipe new/r.toml", ("out.gguf", "r.toml")),
    "convert": Command("convert hf new/out.gguf", ("out.gguf",)),
    "convert and quantize": Command("convert hf new/out.gguf --quantize q8_0", ("out.gguf",)),
    "to safetensors": Command(
        "convert x.gguf new",
        (
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ),
    ),
    "split": Command(
        "split x.gguf new/p --max-tensors 8", tuple(f"p-{i:05d}-of-00004.gguf" for i in range(1, 5)), False
    ),
    "merge": Command("merge part-00001-of-00004.gguf new/out.gguf", ("out.gguf",)),
    "imatrix": Command("imatrix x.gguf --text t.txt -o new/im.gguf -c 16", ("im.gguf",)),
    "sensitivity": Command("sensitivity x.gguf --text t.txt -o new/s.json -c 16 --types q4_0", ("s.json",)),
    "report": Command("report x.gguf --text t.txt -o new/r.html -c 16 --recipes Q4_0", ("r.html",)),
}
ALONE = ("save recipe",)  # files that are of use one without the other: each is old or whole
VARIES = ("report",)  # pictures hold the hour


class Place:
    """A folder with what the commands read, and new/ for what they write. Temporary files go to new/ too."""

    def __init__(self, folder: Path) -> None:
        from converters import checkpoint
        from model import tiny

        import pyggml

        self.folder, self.new = folder, folder / "new"
        tiny.write(folder / "x.gguf", n_embd=64, n_head=2, head_dim=32, n_ff=128, n_layer=3)
        pyggml.split_file(folder / "x.gguf", folder / "part", max_tensors=8)
        checkpoint.safetensors(checkpoint.folder(folder / "hf") / "model.safetensors", checkpoint.tensors())
        (folder / "t.txt").write_text(TEXT)

    def clear(self, command: Command, old: bool) -> None:
        """An empty new/, or one with something in the place of every file that the command makes."""
        shutil.rmtree(self.new, ignore_errors=True)
        self.new.mkdir()
        for name in command.made if old and command.replaces else ():
            (self.new / name).write_bytes(b"old " + name.encode())

    def bytes(self) -> dict[str, str]:
        """What lies in new/: name -> hash."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.new.iterdir()}

    def start(self, command: Command, step: int | None = None) -> int:
        """The command in a forked child, which kills itself before its step-th change if one is named."""
        child = os.fork()
        if child:
            return child
        try:
            os.chdir(self.folder)
            tempfile.tempdir = str(self.new)  # asked, Python tries the folder with a file of its own
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            if step is not None:
                _count(step)
            _main(command.words.split())
        finally:
            os._exit(99)  # main() says its own code

    def run(self, command: Command, step: int | None = None, after: float | None = None) -> int | None:
        """Exit code, or None where it was killed: before a change, or after so many seconds."""
        child = self.start(command, step)
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None


def _count(step: int) -> None:
    left = [step]

    def hook(event: str, arguments: object) -> None:
        if event not in EVENTS or (event == "open" and not arguments[2] & os.O_CREAT):  # type: ignore[index]
            return
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _main(words: list[str]) -> None:
    from pyggml.cli import main

    sys.argv = ["pyggml", *words]
    try:
        main()
    except SystemExit as e:
        os._exit(e.code if isinstance(e.code, int) else 0 if e.code is None else 1)
    os._exit(0)


class Judge:
    """What must hold after a kill, and after the run behind it."""

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.name, self.command = place, name, COMMANDS[name]
        place.clear(self.command, False)
        start = time.perf_counter()
        code = place.run(self.command)
        self.seconds = time.perf_counter() - start
        self.whole = place.bytes()
        assert code == 0, f"{name} ended with {code}"
        assert sorted(self.whole) == sorted(self.command.made), f"{name} made {sorted(self.whole)}"

    def kill(self, old: bool, step: int | None = None, after: float | None = None) -> bool:
        """One kill and its judgement. False where the command was done before."""
        self.place.clear(self.command, old)
        before = self.place.bytes()
        killed = self.place.run(self.command, step, after)
        assert killed in (0, None), f"{self.name} ended with {killed}"
        self._after_kill(before)
        there = self._whole(self.place.bytes())
        code = self.place.run(self.command)
        # what is whole already is not split over: only then may the second run refuse, but it sweeps all the same
        assert code == 0 or (code == 1 and there and not self.command.replaces), f"the rerun of {self.name}: {code}"
        assert self._whole(self.place.bytes(), exactly=True), f"{self.name}: {sorted(self.place.bytes())} after a rerun"
        return killed is None

    def _after_kill(self, before: dict[str, str]) -> None:
        now = {name: value for name, value in self.place.bytes().items() if not name.startswith(".pyggml-")}
        states = {name: self._state(name, before.get(name), now.get(name)) for name in self.command.made}
        assert set(now) <= set(self.command.made), f"{self.name} left {sorted(now)}"
        wrong = [name for name, state in states.items() if state == "broken"]
        assert not wrong, f"{self.name}: {wrong} neither old nor whole"
        first = states[self.command.made[0]]
        if self.name not in ALONE and first != "absent":  # without the first nothing of a set opens
            assert set(states.values()) == {first}, f"{self.name}: a mixture, {states}"

    def _state(self, name: str, before: str | None, now: str | None) -> str:
        if now is None:
            return "absent"
        if now == before:
            return "old"
        return "whole" if now == self.whole[name] or self.name in VARIES else "broken"

    def _whole(self, now: dict[str, str], exactly: bool = False) -> bool:
        if self.name in VARIES:
            return set(now) == set(self.whole)
        return now == self.whole if exactly else all(now.get(name) == value for name, value in self.whole.items())


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """A place that goes away."""
    with tempfile.TemporaryDirectory() as folder:
        yield Place(Path(folder))


def every_step(judge: Judge, old: bool, stride: int = 1, most: int = 10_000) -> int:
    """Kills before each change of the file system that the command makes; how many there were."""
    kills = 0
    while kills < most and judge.kill(old, step=kills * stride):
        kills += 1
    return kills


def names() -> list[str]:
    """The commands that run here."""
    import importlib.util

    return [name for name in COMMANDS if name != "report" or importlib.util.find_spec("matplotlib")]


def at_random(count: int, say: Callable[[str], None] = print, seed: int | None = None) -> int:
    """Kills at random moments, over all commands in turn; how many hit a command before its end."""
    draw = random.Random(seed)
    hits = 0
    with place() as where:
        judges: dict[str, Judge] = {}
        for number in range(count):
            name = names()[number % len(names())]
            judge = judges[name] = judges.get(name) or Judge(where, name)
            hits += judge.kill(draw.random() < 0.5, after=draw.random() * judge.seconds * 1.1)
            if (number + 1) % 20 == 0:
                say(f"{number + 1} kills, {hits} of them before the end")
    return hits


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="kills, at most 10000")
    parser.add_argument("--steps", action="store_true", help="before each change instead of at random times")
    parser.add_argument("--stride", type=int, default=1, help="of the steps")
    parser.add_argument("--only", choices=COMMANDS, help="with --steps: this command alone")
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    count = min(options.count, 10_000)
    if not options.steps:
        print(f"{at_random(count, seed=options.seed)} of {count} kills hit; destinations old, absent or whole")
        return
    total = 0
    with place() as where:
        for name in [options.only] if options.only else names():
            judge = Judge(where, name)
            for old in (False, True):
                made = every_step(judge, old, options.stride, max(count - total, 0))
                total += made
                print(f"{name}, {'old files there' if old else 'nothing there'}: {made} kills")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import matplotlib.figure  # noqa: F401 - so that a fork has it

    main()
