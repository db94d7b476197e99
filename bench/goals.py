"""The goals, each as a check on records: which figure, over which, and what it must reach. Arithmetic only.

A goal compares two figures of one item (round by round for the spread), a figure with its limit, or a figure with a
number. Where a record is missing the outcome says so; nothing is filled in.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from records import Record, find, ratio

Wanted = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a goal. value, low, high: the measured figure and its spread; None where nothing was measured."""

    row: str
    goal: str
    value: float | None
    low: float
    high: float
    unit: str
    met: bool | None
    detail: str = ""


@dataclass(frozen=True)
class Goal:
    """One cell of the goals' table. key: the name in predictions.json."""

    key: str
    row: str
    text: str
    judge: Callable[[Sequence[Record]], tuple[float, float, float, str] | None]  # value, low, high, detail
    target: float
    unit: str = "x"
    at_most: bool = False

    def outcome(self, records: Sequence[Record]) -> Outcome:
        """Judged on the median."""
        got = self.judge(records)
        if got is None:
            return Outcome(self.row, self.text, None, 0.0, 0.0, self.unit, None, "not measured")
        value, low, high, detail = got
        met = value <= self.target if self.at_most else value >= self.target
        return Outcome(self.row, self.text, value, low, high, self.unit, met, detail)


def over(ours: Wanted, theirs: Wanted) -> Callable[[Sequence[Record]], tuple[float, float, float, str] | None]:
    """ours / theirs."""

    def judge(records: Sequence[Record]) -> tuple[float, float, float, str] | None:
        a, b = find(records, **ours), find(records, **theirs)
        if not a or not b:
            return None
        return *ratio(a[0], b[0]), f"{number(a[0]['median'])} vs {number(b[0]['median'])} {a[0]['unit']}"

    return judge


def share(what: Wanted) -> Callable[[Sequence[Record]], tuple[float, float, float, str] | None]:
    """Per cent of the limit."""

    def judge(records: Sequence[Record]) -> tuple[float, float, float, str] | None:
        found = [r for r in find(records, **what) if r["share"] is not None]
        if not found:
            return None
        r, limit = found[0], found[0]["limit"]
        text = f"{number(limit['reached'])} of {number(limit['value'])} {limit['unit']} ({limit['name']})"
        return 100 * r["share"], 100 * min(r["shares"]), 100 * max(r["shares"]), text

    return judge


def value(what: Wanted) -> Callable[[Sequence[Record]], tuple[float, float, float, str] | None]:
    """The figure itself."""

    def judge(records: Sequence[Record]) -> tuple[float, float, float, str] | None:
        found = find(records, **what)
        if not found:
            return None
        return found[0]["median"], found[0]["min"], found[0]["max"], found[0]["variant"]

    return judge


def growth(what: Wanted, base: Wanted) -> Callable[[Sequence[Record]], tuple[float, float, float, str] | None]:
    """Per cent of what above base."""

    def judge(records: Sequence[Record]) -> tuple[float, float, float, str] | None:
        a, b = find(records, **what), find(records, **base)
        if not a or not b:
            return None
        x, y = statistics.median(a[0]["values"]), b[0]["median"]
        above = 100 * (x / y - 1)
        return above, above, above, f"{number(x)} over {number(y)} MB"

    return judge


def number(x: float) -> str:
    """A figure as a table shows it.

    >>> number(1234.5), number(45.67), number(0.0291)
    ('1234', '45.7', '0.029')
    """
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2g}" if abs(x) < 1 else f"{x:.2f}"


def figure(section: str, what: str, kind: str, threads: int, engine: str = "pyggml", **more: Any) -> Wanted:
    """The record of an engine in its plain way (pyggml: mapped)."""
    made = {"section": section, "what": what, "model": f"1b-{kind}", "threads": threads, "engine": engine, **more}
    if engine == "pyggml":
        made.setdefault("variant", "mapped")
    return made


def goals(threads: int = 2) -> list[Goal]:
    """The table of the goals at so many threads."""
    made: list[Goal] = []

    def speed(what: str, kind: str, engine: str = "pyggml", **more: Any) -> Wanted:
        return figure("speed", what, kind, threads, engine, **({"n": 512} if what == "prefill" else {}), **more)

    def prefill(kind: str, times: float, per_cent: float, of: str) -> None:
        row = f"prefill 512, {kind.upper()}"
        rival = over(speed("prefill", kind), speed("prefill", kind, "llama.cpp"))
        made.append(Goal(f"prefill_{kind}_llama", row, f">= {times:g}x llama.cpp", rival, times))
        if kind in ("q4_k_m", "q4_0"):
            rival = over(speed("prefill", kind), speed("prefill", kind, "openvino"))
            made.append(Goal(f"prefill_{kind}_openvino", row, ">= OpenVINO INT4", rival, 1.0))
            made.append(Goal(
                f"prefill_{kind}_ik", row, ">= 1.4x ik_llama.cpp's 296 / 256 on another day",
                value(speed("prefill", kind)), 1.4 * (296 if kind == "q4_k_m" else 256), "tokens/s",
            ))  # fmt: skip
        limit = share(speed("prefill", kind))
        made.append(Goal(f"prefill_{kind}_share", row, f">= {per_cent:g} % of {of} peak", limit, per_cent, "%"))

    for kind in ("q4_k_m", "q4_0"):
        prefill(kind, 2.5, 55, "int8")
    for kind in ("q8_0", "q5_0", "q5_k", "q6_k", "iq4_xs"):
        prefill(kind, 2.5, 50, "int8")
    prefill("f16", 1.3, 80, "f32")
    prefill("bf16", 2.0, 65, "bf16")

    deep = {"depth": 8192}
    a, b = (figure("depth", "prefill", "q4_k_m", threads, e, kv="f16", **deep) for e in ("pyggml", "llama.cpp"))
    made.append(Goal("prefill_8k", "prefill 512 at depth 8k", ">= 2.5x llama.cpp", over(a, b), 2.5))

    for kind in ("q4_k_m", "q8_0"):
        row = f"decode, 1 thread, {kind.upper()}"
        a, b = figure("thread", "decode", kind, 1), figure("thread", "decode", kind, 1, "llama.cpp")
        made.append(Goal(f"decode1_{kind}_llama", row, ">= 1.4x llama.cpp", over(a, b), 1.4))
        for way, size in (("mapped", "4 KiB"), ("copied", "2 MiB")):
            text = f">= 90 % of read bandwidth, {way} ({size})"
            limit = share({**a, "variant": way})
            made.append(Goal(f"decode1_{kind}_{way}", row, text, limit, 90, "%"))

    for kind in ("q4_k_m", "q4_0", "q8_0", "f16"):
        row = f"decode, {threads} threads, {kind.upper()}"
        a = speed("decode", kind)
        made.append(
            Goal(f"decode_{kind}_llama", row, ">= 1.1x llama.cpp", over(a, {**speed("decode", kind, "llama.cpp")}), 1.1)
        )
        if kind in ("q4_k_m", "q4_0"):
            made.append(
                Goal(
                    f"decode_{kind}_openvino", row, ">= OpenVINO INT4", over(a, speed("decode", kind, "openvino")), 1.0
                )
            )
        for way, size in (("mapped", "4 KiB"), ("copied", "2 MiB")):
            text = f">= 90 % of read bandwidth, {way} ({size})"
            made.append(Goal(f"decode_{kind}_{way}", row, text, share({**a, "variant": way}), 90, "%"))

    a, b = (figure("depth", "decode", "q4_k_m", threads, e, kv="q8_0", **deep) for e in ("pyggml", "llama.cpp"))
    made.append(Goal("decode_8k_q8_0", "decode at depth 8k, q8_0 cache", ">= 1.5x llama.cpp", over(a, b), 1.5))

    row = "batch 8 decode, total, Q4_K_M"
    eight, one = (figure("batch", "batch", "q4_k_m", threads, batch=n) for n in (8, 1))
    rival = figure("batch", "batch", "q4_k_m", threads, "openvino", batch=8)
    made.append(Goal("batch8_openvino", row, ">= 1.125x OpenVINO (180 where it does 160)", over(eight, rival), 1.125))
    made.append(Goal("batch8_one", row, ">= 5x our batch 1", over(eight, one), 5.0))

    for name in ("stories260K", "tales"):
        row = f"tokens/s on {name}, public API"
        best = {"section": "small", "what": "generate", "model": name, "threads": 1}
        ours, theirs = {**best, "engine": "pyggml"}, {**best, "engine": "llama.cpp"}
        made.append(Goal(f"small_{name}", row, ">= 3x llama-cpp-python, 1 thread", over(ours, theirs), 3.0))
        layer = value({"section": "small", "what": "python layer", "model": name, "threads": 1})
        made.append(Goal(f"layer_{name}", row, "Python layer <= 20 us a token", layer, 20.0, "us", True))

    row = "load of 1B, warm"
    base = {"section": "load", "model": "1b-q4_k_m"}
    ours = {**base, "what": "load", "engine": "pyggml", "variant": "mapped"}
    made.append(Goal("load", row, "mapped <= 0.3 s", value(ours), 0.3, "s", True))
    first = {**base, "what": "first token"}
    pair = over({**first, "engine": "pyggml", "variant": "mapped"}, {**first, "engine": "llama.cpp"})
    text = "load + tokenize + first token <= llama-cpp-python's"
    made.append(Goal("first_token", row, text, pair, 1.0, "x", True))

    file = {"section": "memory", "what": "file"}
    for way in ("mapped", "copied"):
        held = {"section": "memory", "what": "total", "engine": "pyggml", "variant": way}
        text = f"weights + KV + arena <= file + 15 %, {way}"
        made.append(Goal(f"memory_{way}", "memory, n_ctx 1024", text, growth(held, file), 15.0, "% over", True))
    return made


def table(records: Sequence[Record], predictions: dict[str, Any], threads: int = 2) -> str:
    """Markdown: a row per goal."""
    lines = ["| | goal | predicted | measured (lowest - highest round) | of what | met |", "|---|---|---|---|---|---|"]
    last = ""
    for goal in goals(threads):
        got = goal.outcome(records)
        said = predictions.get(goal.key, {}).get("value")
        said = f"{number(said)} {goal.unit}" if said is not None else ""
        if got.value is None:
            measured = "not measured"
        else:
            measured = f"**{number(got.value)}** {goal.unit}"
            if got.low != got.high:
                measured += f" ({number(got.low)} - {number(got.high)})"
        met = "" if got.met is None else "yes" if got.met else "no"
        row = goal.row if goal.row != last else ""
        last = goal.row
        detail = "" if got.value is None else got.detail
        lines.append(f"| {row} | {goal.text} | {said} | {measured} | {detail} | {met} |")
    return "\n".join(lines)
