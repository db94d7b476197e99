"""Alternating runs: engines of an item take turns round by round, with a probe of the machine before and behind.

Knows rounds, time limits and what went wrong; what is measured stands in sections.py.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import card
import records
from worker import Missing, Worker

HERE = Path(__file__).resolve().parent
SCRIPTS = {
    "pyggml": HERE / "model.py",
    "llama.cpp": HERE / "rivals" / "llama_cpp_python.py",
    "llama.cpp public": HERE / "rivals" / "llama_cpp_public.py",
    "openvino": HERE / "rivals" / "openvino_int4.py",
}


@dataclass(frozen=True)
class Who:
    """An engine in one of its ways."""

    engine: str
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.engine} {self.variant}".strip()


@dataclass
class Runner:
    """Options of a run, and what it has found."""

    models: Path
    shared: Path
    rounds: int
    threads: int
    quick: bool
    end: float  # monotonic; no new item starts behind it
    engines: tuple[str, ...]
    pythons: dict[str, str]
    kinds: tuple[str, ...] = ()  # files of the speed section, where they are named
    patience: float = 180.0
    found: list[records.Record] = field(default_factory=list)
    beside: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    save: Callable[[], None] = lambda: None
    probes: list[dict[str, float]] = field(default_factory=list)  # of the item that runs

    # ---- engines ---------------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        """A model of this run."""
        return self.models / f"{name}.gguf"

    def start(self, who: Who, path: Path, public: bool = False, **options: Any) -> Worker:
        """A process with its model. Missing where it cannot be had."""
        if who.engine not in self.engines:
            raise Missing(f"{who.engine} is not asked for")
        if who.engine == "openvino":
            path = self.models / "1b-openvino-int4"
        if not path.exists():
            raise Missing(f"there is no {path.name}")
        key = who.engine + (" public" if public and who.engine == "llama.cpp" else "")
        options = {"threads": self.threads, "n_ctx": 1024, **options, "mmap": who.variant != "copied"}
        made = Worker(SCRIPTS[key], self.pythons.get(who.engine), self.patience, path=str(path), **options)
        self.versions[who.engine] = made.version
        return made

    @contextlib.contextmanager
    def together(self, whos: list[Who], path: Path, **options: Any) -> Iterator[dict[Who, Worker]]:
        """All engines that can be had, each with its model loaded."""
        if path.is_file():
            resident(path)
        workers: dict[Who, Worker] = {}
        try:
            for who in whos:
                try:
                    workers[who] = self.start(who, path, **options)
                except Missing as error:
                    self.problem(f"{path.stem}: {who}: {error}")
            yield workers
        finally:
            for made in workers.values():
                made.close()

    # ---- turns -----------------------------------------------------------------------------------------------

    def alternate(
        self,
        what: str,
        workers: dict[Who, Worker],
        job: Callable[[Worker], float],
        seconds: float,
        warm: Callable[[Worker], object] | None = None,
        threads: int | None = None,
    ) -> Taken:
        """job of every engine in turn -> its values. Ends behind rounds, or after seconds; warm is not counted.

        The machine is probed before each counted round. Engines that fail leave the item, with a word in problems.
        """
        taken = Taken({who: [] for who in workers})
        stop = time.monotonic() + seconds
        for turn in range(-1 if warm else 0, self.rounds):
            if turn > 0 and time.monotonic() > min(stop, self.end):
                break
            names = [who for who in taken.values if who in workers]
            if turn >= 0 and names:
                taken.probes.append(self.probe(threads or self.threads))
            at = turn % len(names) if names else 0
            for who in names[at:] + names[:at]:
                try:
                    if turn < 0 and warm:
                        warm(workers[who])
                    else:
                        taken.values[who].append(job(workers[who]))
                except Missing as error:
                    self.problem(f"{what}: {who}: {error}")
                    workers.pop(who).close()
        taken.values = {who: values for who, values in taken.values.items() if values}
        self.probes += taken.probes
        return taken

    @contextlib.contextmanager
    def item(self, section: str, name: str, threads: int | None = None) -> Iterator[list[Pending]]:
        """A section's part: the figures that were put into the list become records, with the probes of its rounds."""
        threads = threads or self.threads
        start = time.monotonic()
        if start > self.end:
            raise OutOfTime(f"{section} {name}: no time left")
        print(f"{section} {name} ...", file=sys.stderr, flush=True)
        self.probes = [self.probe(threads)]
        pending: list[Pending] = []
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        yield pending
        for p in pending:
            more = {"threads": threads, **p.more}
            self.found.append(records.record(section, p.what, p.values, p.unit, p.limits(), **more))
        self.beside.append(
            {
                "section": section,
                "item": name,
                "seconds": round(time.monotonic() - start, 1),
                "load": load,
                "rates": self.probes,
            }
        )
        self.save()

    def probe(self, threads: int) -> dict[str, float]:
        """The machine's rates of this minute, at these threads, within half a second."""
        return card.rates((threads,), seconds=0.03)

    def problem(self, text: str) -> None:
        """Something is not measured: said now, and kept."""
        if text not in self.problems:
            self.problems.append(text)
            print(f"  not measured: {text}", file=sys.stderr, flush=True)


class OutOfTime(RuntimeError):
    """The run's own time is used up."""


@dataclass
class Pending:
    """A figure on its way to a record; limit makes of a value and the rates beside it what bounds it."""

    what: str
    values: list[float]
    unit: str
    more: dict[str, Any]
    limit: Callable[[float, dict[str, float]], records.Limit | None] | None = None
    probes: list[dict[str, float]] = field(default_factory=list)

    def limits(self) -> list[records.Limit]:
        """One for each value, from the probe before its round."""
        if self.limit is None:
            return []
        found = [self.limit(value, rates) for value, rates in zip(self.values, self.probes, strict=False)]
        return [limit for limit in found if limit]


@dataclass
class Taken:
    """Values of each engine, and the machine's rates before each round."""

    values: dict[Who, list[float]]
    probes: list[dict[str, float]] = field(default_factory=list)


def resident(path: Path) -> None:
    """Reads a file once, so that it is in the page cache before any clock starts."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass
