"""Measures everything the goals name, engines alternating, and writes one result: the command behind PERFORMANCE.md.

    python bench/run.py [--quick] [--only SECTION ...] [--models DIR] [--rounds N] [--openvino PYTHON]

Sections: load, memory, small, speed, thread, experts, real (a published model), batch, depth, types, kernels; alone:
truth (truth.py: what runs lose on a real model) and caches (caches.py: what types of caches lose), which end with
status 1 where a type is less exact than llama.cpp. Missing synthetic models are made first (11 GB; not counted in the
time). The result is written behind every item, so an ended run keeps what it has.
--minutes bounds the run: items that would begin later are named as not measured. `python bench/report.py` turns results
into the table.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import card
import limits
import records
import sections
import synthetic
from kernel_section import kernels
from runner import HERE, OutOfTime, Runner

NAMES = [*sections.SECTIONS, "kernels"]
ALONE = ("truth", "caches")
"""Modules with a result of their own."""


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, three files, depth 1024: about 3 minutes")
    parser.add_argument("--only", nargs="+", choices=[*NAMES, *ALONE], metavar="SECTION", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--models", type=Path, default=HERE / "models", help="folder of the synthetic models")
    parser.add_argument("--shared", type=Path, default=HERE.parents[1] / "shared", help="vocabulary and small models")
    parser.add_argument("--files", nargs="+", choices=sections.FILES, default=[], help="of the section speed")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds of every item")
    parser.add_argument("--threads", type=int, default=card.cores())
    parser.add_argument("--minutes", type=float, default=25, help="no item begins later")
    parser.add_argument("--engines", nargs="+", default=["pyggml", "llama.cpp", "openvino"])
    parser.add_argument(
        "--openvino",
        default=os.environ.get("PYGGML_BENCH_OPENVINO", ""),
        help="the Python of an environment with openvino-genai (default: $PYGGML_BENCH_OPENVINO, else this one)",
    )
    parser.add_argument("--kernels", choices=["quick", "full"], default="quick", help="selection of the kernel bench")
    parser.add_argument("--name", help="first part of the result's name; default: run, or the sections")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    return parser.parse_args()


def usable(args: argparse.Namespace, problems: list[str]) -> tuple[str, ...]:
    """The engines that can run here."""
    found = []
    for name in args.engines:
        if name == "llama.cpp" and importlib.util.find_spec("llama_cpp") is None:
            problems.append("llama.cpp: llama-cpp-python is not installed (pip install '.[bench]')")
        elif name == "openvino" and not args.openvino and importlib.util.find_spec("openvino_genai") is None:
            problems.append("openvino: name its Python with --openvino, see bench/rivals/openvino_export.py")
        elif name == "openvino" and args.openvino and not shutil.which(args.openvino):
            problems.append(f"openvino: there is no {Path(args.openvino).name}")
        else:
            found.append(name)
    return tuple(found)


def make_models(run: Runner, args: argparse.Namespace, wanted: set[str]) -> None:
    """Writes the models that are missing."""
    needed = sections.files(run) if "speed" in wanted else []
    needed += ["1b-q4_k_m"] if wanted & {"load", "memory", "thread", "batch", "depth"} else []
    needed += ["1b-q8_0"] if "thread" in wanted else []
    needed += ["moe-q4_k"] if "experts" in wanted else []
    vocab = args.shared / "vocab" / synthetic.VOCAB.name
    for name in dict.fromkeys(needed):
        path = run.path(name)
        if path.is_file():
            continue
        if not vocab.is_file():
            raise SystemExit(f"{path.name} is missing, and {vocab} to make it from; see --models and --shared")
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"making {path.name} ...", file=sys.stderr, flush=True)
        shape, kind = name.split("-", 1)
        synthetic.write(str(path), kind, vocab, synthetic.EXPERTS if shape == "moe" else synthetic.Shape())
    folder = run.models / "1b-openvino-int4"
    if needed and "openvino" in run.engines and not folder.exists():
        script = HERE / "rivals" / "openvino_export.py"
        got = subprocess.run([args.openvino or sys.executable, str(script), str(folder)], timeout=1500)
        if got.returncode:
            run.problem("openvino: the export of its model failed")


def main() -> None:
    """Runs the sections."""
    args = options()
    if args.only and args.only[0] in ALONE and len(args.only) == 1:
        text = str(args.shared / "models" / "tales" / "valid.txt")
        raise SystemExit(importlib.import_module(args.only[0]).main(["--text", text]))
    problems: list[str] = []
    engines = usable(args, problems)
    run = Runner(
        models=args.models.resolve(),
        shared=args.shared.resolve(),
        rounds=1 if args.quick else args.rounds,
        threads=args.threads,
        quick=args.quick,
        end=0.0,
        engines=engines,
        kinds=tuple(args.files),
        pythons={"openvino": args.openvino} if args.openvino else {},
    )
    for text in problems:
        run.problem(text)
    wanted = args.only or NAMES
    make_models(run, args, set(wanted))
    machine = card.card((1, args.threads))
    print(json.dumps({k: machine[k] for k in ("cpu", "isa", "load", "busy_cores", "rates")}), file=sys.stderr)
    cpu = re.sub(r"\W+", "-", machine["cpu"].lower()).strip("-")[:32]
    commit = machine["commit"].rstrip("+")[:8] or "nogit"
    called = args.name or ("-".join(args.only) if args.only else "quick" if args.quick else "run")
    target = args.out / f"{called}-{machine['date'][:10]}-{cpu}-{commit}.json"
    began = time.monotonic()
    run.end = began + 60 * args.minutes

    def save() -> None:
        data: dict[str, Any] = {
            "schema": records.SCHEMA,
            "card": machine,
            "options": {
                "rounds": run.rounds, "threads": run.threads, "quick": run.quick, "sections": wanted,
                "kernels": args.kernels, "seconds": round(time.monotonic() - began),
            },
            "engines": run.versions,
            "beside": run.beside,
            "problems": run.problems,
            "records": run.found,
        }  # fmt: skip
        if "speed" in wanted:
            data["models"] = {
                n: limits.summary(limits.work(str(run.path(n)))) for n in sections.files(run) if run.path(n).is_file()
            }
        records.save(target, data)

    run.save = save
    for name in NAMES:
        if name not in wanted:
            continue
        start = time.monotonic()
        try:
            if name == "kernels":
                kernels(run, args.kernels == "full" and not args.quick)
            else:
                sections.SECTIONS[name](run)
        except OutOfTime as error:
            run.problem(str(error))
        except Exception as error:  # one section must not cost the others
            run.problem(f"{name}: {type(error).__name__}: {error}")
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        save()
    print(f"wrote {target}: {len(run.found)} records, {len(run.problems)} problems, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
