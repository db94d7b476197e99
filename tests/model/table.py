"""docs/MODELS.md: every architecture that runs, what it was compared with, and how far it was from that.

python tests/model/table.py [--shared DIR] [--only WORD]: random models of transformers (needs torch and transformers),
and the reference models of DIR/conformance where they are at hand. Prints the page; takes some minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from converters import test_hybrids
from converters import test_other_families as others
from converters import test_transformers as converted
from model import published, test_decoders, test_encoders, test_gemma, test_kin_of_bert

import pyggml
from pyggml import arch
from pyggml.converters import families
from pyggml.errors import PyggmlError

Rows = NDArray[np.float32]
HEAD = """# Models

Made by `python tests/model/table.py`; the tests that hold it are `tests/model` and `tests/converters`. Each row is an
architecture (`general.architecture`) and the worst of the small random models that were compared.

- *compared with*: T, random models of transformers; C, the reference models of transformers that llama.cpp's converter
  wrote (`tests/model/test_conformance.py`); O, the oracle in numpy, where transformers has no such model. The number
  says how many models.
- *F32*: the largest difference of a logit (of an encoder: of a token's row), as a share of the largest one; f32 cache.
- *Q8_0*, *Q4_K_M*: of the file in that type to the file in f32: mean KL in nats (encoders: 1 - the smallest cosine).
  Rows of so small models rarely hold 256 values, so that Q4_K_M falls back to other types in most of them, and random
  weights lose more than trained ones. It says that quantized files run, not how good they are.
- *state*: a session that was saved and loaded goes on with the same bits. Encoders have none.
- *converts*: values of `model_type` that `convert` reads; back: and writes again from a GGUF.
"""


@dataclass
class Case:
    """A file, ids, and what transformers says of them."""

    path: Path
    ids: list[int]
    want: Rows
    encoder: bool = False
    mark: str = "T"


def cases(shared: Path | None) -> Iterator[tuple[str, Callable[[Path], Case]]]:
    """Name, and how it is made in a folder."""
    for name, family in (test_decoders.FAMILIES | test_encoders.FAMILIES).items():

        def of_family(folder: Path, family: published.Family = family) -> Case:
            ids = test_encoders.IDS if family.encoder else test_decoders.IDS
            path = folder / "x.gguf"
            return Case(path, ids, published.make(family, path, ids), family.encoder)

        yield name, of_family
    delta = {name: {**converted.DELTA, **told} for name, told in converted.DELTA_FAMILIES.items()}
    for name, told in {**converted.FAMILIES, **delta}.items():

        def of_checkpoint(folder: Path, name: str = name, told: dict[str, Any] = told) -> Case:
            want = converted.saved(folder / name, name, {**converted.BASE, **told})
            pyggml.convert(folder / name, folder / "x.gguf", dtype="f32")
            return Case(folder / "x.gguf", converted.IDS, want)

        yield name, of_checkpoint
    wanted = {name: others.DECODERS[name] for name in ("lfm2_moe", "mpt")} | test_hybrids.HYBRIDS
    for name, case in wanted.items():
        for i, change in enumerate(({}, *case.changes[:2])):

            def of_hybrid(folder: Path, name: str = name, told: dict[str, Any] = {**case.told, **change}) -> Case:  # noqa: B006
                want = others.made(folder / "hf", name, {**converted.BASE, **told})
                pyggml.convert(folder / "hf", folder / "x.gguf", dtype="f32")
                return Case(folder / "x.gguf", converted.IDS, want)

            yield f"{name}, {i}", of_hybrid
    for name in test_kin_of_bert.SETTINGS:

        def by_hand(folder: Path, name: str = name) -> Case:
            path = test_kin_of_bert.write(folder / "x.gguf", name)
            with pyggml.load(path) as m:
                return Case(path, test_kin_of_bert.IDS, test_kin_of_bert.truth(name, m), True, "O")

        yield name, by_hand
    for name in test_gemma.CASES:

        def of_gemma(folder: Path, name: str = name) -> Case:
            want = test_gemma.made(name, folder / name)
            pyggml.convert(folder / name, folder / "x.gguf", dtype="f32")
            return Case(folder / "x.gguf", test_gemma.IDS, want)

        yield name, of_gemma
    for each in sorted((shared / "conformance").iterdir()) if shared else ():
        if not (each / "reference.npz").exists():
            continue

        def of_reference(folder: Path, each: Path = each) -> Case:
            with np.load(each / "reference.npz") as data:
                key = "logits_1" if "logits_1" in data else "token_embd_1"
                return Case(each / "model-f32.gguf", data["prompt_1"].tolist(), data[key], key[0] == "t", "C")

        yield each.name, of_reference


def rows(path: Path, case: Case) -> tuple[str, Rows]:
    """Architecture, and a file's rows of the case's ids."""
    with pyggml.load(path, kv_type="f32") as m:
        found = m.embed(case.ids, pooling="none", normalize=False) if case.encoder else m.logits(case.ids)
        return m.config.arch, found


def keeps_state(case: Case, folder: Path) -> bool:
    """Whether a saved session goes on as the one it was saved from."""
    half = len(case.ids) // 2
    with pyggml.load(case.path) as m, closing(m.session()) as a, closing(m.session()) as b:
        a.step(case.ids[:half], 0)
        a.save(folder / "state")
        b.load(folder / "state")
        return bool((a.step(case.ids[half:]) == b.step(case.ids[half:])).all())


def lost(case: Case, exact: Rows, quantized: Rows) -> float:
    """Mean KL of rows of logits; of an encoder's rows 1 - the smallest cosine."""
    a, b = exact.astype(np.float64), quantized.astype(np.float64)
    if case.encoder:
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        return float(1 - cosines.min())
    p, q = (x - x.max(1, keepdims=True) for x in (a, b))
    p, q = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (p, q))
    return float((np.exp(p) * (p - q)).sum(1).mean())


@dataclass
class Line:
    """The worst of an architecture's models."""

    marks: list[str]
    error: float = 0.0
    q8_0: float = 0.0
    q4_k_m: float = 0.0
    state: str = "-"


def measure(case: Case, folder: Path, lines: dict[str, Line]) -> None:
    """Adds a case to its architecture's line."""
    name, exact = rows(case.path, case)
    line = lines.setdefault(name, Line([]))
    line.marks.append(case.mark)
    line.error = max(line.error, float(np.abs(exact - case.want).max() / np.abs(case.want).max()))
    for kind in ("q8_0", "q4_k_m"):
        target = folder / f"{kind}.gguf"
        pyggml.quantize_file(case.path, target, kind)
        setattr(line, kind, max(getattr(line, kind), lost(case, exact, rows(target, case)[1])))
    if not case.encoder:
        line.state = "same bits" if line.state != "LOST" and keeps_state(case, folder) else "LOST"


def conversions(name: str) -> str:
    """The types of checkpoints that become files of an architecture."""
    there = [each for each in families.kinds() if families.find(each).arch == name]
    try:
        back = [families.by_arch(name)[0]]
    except PyggmlError:
        back = []
    family = families.find(back[0]) if back else None
    if family is not None and any(change.back is None for change in family.change.values()):
        back = []
    found = {each.partition(" ")[0]: " (and back)" if each in back else "" for each in reversed(there)}
    return ", ".join(f"{each}{end}" for each, end in sorted(found.items())) or "-"


def main() -> None:
    """Prints the page; what went wrong goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    lines: dict[str, Line] = {}
    for name, make in cases(given.shared):
        if given.only not in name:
            continue
        with tempfile.TemporaryDirectory() as place:
            try:
                measure(make(Path(place)), Path(place), lines)
            except Exception as e:  # the page says what was seen; the rest is told
                print(f"{name}: {type(e).__name__}: {str(e)[:300]}", file=sys.stderr)
    print(HEAD)
    print("| architecture | compared with | F32 | Q8_0 | Q4_K_M | state | converts |\n|---|---|---|---|---|---|---|")
    for name in arch.names():
        line = lines.get(name)
        if line is None:
            print(f"| {name} | not here | | | | | {conversions(name)} |")
            continue
        marks = ", ".join(f"{line.marks.count(mark)} {mark}" for mark in "TCO" if mark in line.marks)
        print(f"| {name} | {marks} | {line.error:.1e} | {line.q8_0:.1e} | {line.q4_k_m:.1e} | {line.state} | "
              f"{conversions(name)} |")  # fmt: skip


if __name__ == "__main__":
    main()
