"""bench: the short form of bench/model.py for users. Prompt and generation speed, median and spread, time per op."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pyggml import ArgumentError, Model, _native
from pyggml.arguments import whole
from pyggml.cli.show import dumps, progress
from pyggml.engine.sampling import Sampling
from pyggml.quant.types import QuantType

_BEHIND, _MOST_TOGETHER = 16, 64  # tokens before each sequence of a batch; sequences of a batch


def measure(
    model: Model,
    n_prompt: int,
    n_gen: int,
    repeat: int,
    depth: int = 0,
    batch: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Tokens per second of every repetition, after one that warms up.

    The prompt stands behind depth positions, and the generation behind both. batch > 1: so many sequences in one step,
    each behind 16 tokens; the rate is of all together. progress(turns_done, turns) is called between timings. Raises
    ArgumentError for numbers out of range, and for tokens that do not fit the context.
    """
    for name, value, least in (("prompt", n_prompt, 1), ("generate", n_gen, 1), ("repeat", repeat, 1),
                               ("depth", depth, 0)):  # fmt: skip
        whole(name, value, least)
    whole("batch", batch, 1, _MOST_TOGETHER)
    model._loaded.output("logits")
    for said, n in (
        (f"depth of {depth}, prompt of {n_prompt} and generate of {n_gen}", depth + n_prompt + n_gen),
        (f"batch of {batch}: {_BEHIND} tokens and generate of {n_gen} in each", _BEHIND + n_gen if batch > 1 else 0),
    ):
        if n > model.n_ctx:
            raise ArgumentError(f"{said}: {n} tokens do not fit the context of {model.n_ctx}")
    ids = [int(i) for i in np.random.default_rng(0).integers(0, model.n_vocab, depth + n_prompt)]
    root = model.session()
    if depth:
        root.step(ids[:depth])
    prompts, decodes, batches = [], [], []
    for turn in range(repeat + 1):
        session = root.fork()  # a window that has passed depth could not go back to it
        sampler = Sampling(temperature=0).sampler(model.n_vocab)
        t0 = time.perf_counter()
        token = session.next(sampler, ids[depth:])
        t1 = time.perf_counter()
        for _ in range(n_gen):
            token = session.next(sampler, [token], draft=True)
        t2 = time.perf_counter()
        together = _together(model, batch, n_gen) if batch > 1 else 0.0
        if turn:
            prompts.append(n_prompt / (t1 - t0))
            decodes.append(n_gen / (t2 - t1))
            batches.append(together)
        session.close()
        progress(turn + 1, repeat + 1)
    root.close()
    result: dict[str, Any] = {
        "isa": _native.isa(), "threads": model.n_threads, "prompt_tokens": n_prompt, "generated_tokens": n_gen,
        "depth": depth, "prompt_per_second": prompts, "decode_per_second": decodes,
    }  # fmt: skip
    if batch > 1:
        result |= {"batch": batch, "batch_per_second": batches}
    return result


def _together(model: Model, batch: int, n_gen: int) -> float:
    """Tokens per second of all sequences of a batch."""
    kind = QuantType.parse(model.kv_type).id
    sessions = [_native.Session(model._engine.plan, model.n_ctx, kind) for _ in range(batch)]
    samplers = [Sampling(temperature=0).sampler(model.n_vocab) for _ in range(batch)]
    prompts = [np.random.default_rng(i).integers(0, model.n_vocab, _BEHIND).astype(np.int32) for i in range(batch)]
    chosen = model._engine.plan.next(sessions, samplers, prompts, model.n_threads)
    for session in sessions:
        session.feeds(True)
    start = time.perf_counter()
    for _ in range(n_gen):
        chosen = model._engine.plan.next(sessions, samplers, [np.array([t], np.int32) for t in chosen], model.n_threads)
    return batch * n_gen / (time.perf_counter() - start)


def show(
    model: Model,
    n_prompt: int | None,
    n_gen: int,
    repeat: int,
    profile: bool,
    as_json: bool,
    depth: int = 0,
    batch: int = 1,
) -> None:
    """Measures and prints. n_prompt None: 512 tokens, or as many as the context has room for."""
    if n_prompt is None:
        n_prompt = min(512, max(model.n_ctx - depth - n_gen, 1))
    with progress("measuring", still=True) as bar:
        result = measure(model, n_prompt, n_gen, repeat, depth, batch, bar)
    if profile:
        model._engine.plan.profile(True)
        measure(model, result["prompt_tokens"], n_gen, 1, depth, batch)
        result["ops"] = [
            dict(zip(("name", "kind", "calls", "ns"), row, strict=True)) for row in model._engine.plan.times()
        ]
        model._engine.plan.profile(False)
    if as_json:
        print(dumps(result))
        return
    print(f"{result['isa']}, {result['threads']} threads")
    rows = [("prompt", result["prompt_tokens"]), ("decode", n_gen), *([("batch", batch)] if batch > 1 else [])]
    for name, n in rows:
        rates = result[f"{name}_per_second"]
        print(f"{name:>7} {n:>5}: {statistics.median(rates):10.1f} tokens/s  ({min(rates):.1f} - {max(rates):.1f})")
    for row in _by_kind(result.get("ops", [])):
        print("{:>12} {:>8} calls {:>12.3f} ms {:>6.1%}".format(*row))


def _by_kind(ops: list[dict[str, Any]]) -> list[tuple[str, int, float, float]]:
    total = sum(op["ns"] for op in ops) or 1
    kinds: dict[str, list[int]] = {}
    for op in ops:
        sums = kinds.setdefault(op["kind"], [0, 0])
        sums[0] += op["calls"]
        sums[1] += op["ns"]
    rows = [(kind, calls, ns / 1e6, ns / total) for kind, (calls, ns) in kinds.items()]
    return sorted(rows, key=lambda row: -row[2])
