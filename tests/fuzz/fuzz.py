"""Fuzzing of everything that reads what others wrote: whatever the bytes, only a PyggmlError, soon, in little memory.

PYTHONPATH=. python tests/fuzz/fuzz.py READER --seconds 600 [--seed 1] [--again FILE]

READER: one of targets.TARGETS. With atheris installed coverage guides the changes (--plain: not), else they are drawn
at random from the seed. What fails is written to build/fuzz/READER, with the reason beside it, and the run goes on; an
input that kills the process is left there as `current`. Small ones belong into tests/fuzz/corpus/READER, which
test_fuzz_corpus.py replays.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import logging
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)  # fuzz is the folder then, not this file

SECONDS = 2.0  # of processor time for one input
MEMORY = 200 << 20  # that one input may add
HANG = 60  # seconds until a dump of the stack and the end


class Run:
    """One reader, its corpus and its findings."""

    def __init__(self, reader: str, seed: int, seconds: float) -> None:
        from fuzz import mutate, seeds, targets

        self.reader, self.rng, self.end = reader, random.Random(seed), time.monotonic() + seconds
        self.changed, self.target = mutate.changed, targets.run
        self.corpus = [*seeds.ALL[reader](), *(p.read_bytes() for p in sorted((HERE / "corpus" / reader).glob("*")))]
        self.seen: set[str] = set()
        self.found: dict[str, int] = {}
        self.count, self.slowest = 0, 0.0
        self.out = Path("build/fuzz") / reader
        self.out.mkdir(parents=True, exist_ok=True)
        shm = Path("/dev/shm")
        self.place = tempfile.TemporaryDirectory(prefix="fuzz-", dir=shm if shm.is_dir() else None)

    def one(self, data: bytes) -> None:
        """One input, judged."""
        (self.out / "current").write_bytes(data)
        faulthandler.dump_traceback_later(HANG, exit=True)
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        why = ""
        try:
            said = self.target(self.reader, data, Path(self.place.name))
            kind = "".join(c for c in said.partition("'")[0] + said.rpartition("'")[2] if not c.isdigit())[:60]
            if kind not in self.seen and len(self.corpus) < 400:  # a refusal that is new may lead on
                self.seen.add(kind)
                self.corpus.append(data)
        except Exception as e:
            where = traceback.extract_tb(e.__traceback__)[-1]
            why = f"{type(e).__name__} {str(e)[:300]} at {where.filename}:{where.lineno}"
        finally:
            faulthandler.cancel_dump_traceback_later()
        took = time.process_time() - begin
        grew = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        self.count, self.slowest = self.count + 1, max(self.slowest, took)
        if took > SECONDS:
            why = why or f"slow: {took:.1f} s"
        if grew > MEMORY:
            why = why or f"large: {grew >> 20} MiB more"
        if why:
            self._keep(data, why)
        if time.monotonic() > self.end:
            self.report()
            self.place.cleanup()
            sys.stdout.flush()
            os._exit(bool(self.found))  # libFuzzer would take an exception for a crash

    def _keep(self, data: bytes, why: str) -> None:
        key = "".join(c for c in why[:90] if not c.isdigit())
        self.found[key] = self.found.get(key, 0) + 1
        if self.found[key] <= 3:
            name = hashlib.sha256(data).hexdigest()[:16]
            (self.out / name).write_bytes(data)
            (self.out / f"{name}.why").write_text(why + "\n")
            print(f"{self.reader}: {why}", flush=True)

    def report(self) -> None:
        """Prints what was done."""
        print(
            f"{self.reader}: {self.count} inputs, {len(self.seen)} kinds of answers, slowest {self.slowest:.2f} s, "
            f"{len(self.found)} kinds of findings {self.found or ''}"
        )

    def plain(self) -> None:
        """Changes at random."""
        for data in list(self.corpus):
            self.one(data)
        while True:
            self.one(self.changed(self.reader, self.rng.choice(self.corpus), self.rng, self.corpus))

    def guided(self, atheris: object) -> None:
        """Changes that coverage leads: ours and libFuzzer's own in turn."""

        def mutator(data: bytes, most: int, seed: int) -> bytes:
            rng = random.Random(seed)
            if rng.random() < 0.3:
                return bytes(atheris.Mutate(data, most))  # type: ignore[attr-defined]
            return self.changed(self.reader, data, rng, self.corpus[:20])[:most]

        with tempfile.TemporaryDirectory() as folder:
            for number, data in enumerate(self.corpus):
                (Path(folder) / str(number)).write_bytes(data)
            args = [sys.argv[0], folder, "-max_len=65536", "-timeout=120", "-rss_limit_mb=0", "-print_final_stats=0"]
            atheris.Setup([*args, "-verbosity=0", f"-artifact_prefix={self.out}/"], self.one, custom_mutator=mutator)  # type: ignore[attr-defined]
            atheris.Fuzz()  # type: ignore[attr-defined]


def main() -> None:
    """Reads the command line and fuzzes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="without coverage")
    parser.add_argument("--again", type=Path, help="one file, judged again")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    logging.disable()
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None or given.plain or given.again:
        run = Run(given.reader, given.seed, given.seconds)
    else:
        with atheris.instrument_imports(include=["pyggml"]):
            run = Run(given.reader, given.seed, given.seconds)
    if given.again:
        print(repr(run.target(given.reader, given.again.read_bytes(), Path(run.place.name))))
    elif atheris is None or given.plain:
        run.plain()
    else:
        run.guided(atheris)


if __name__ == "__main__":
    main()
