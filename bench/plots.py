"""Plots of a result as small SVG files. matplotlib (the bench extra); knows records, measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from records import Record, find

COLOURS = {"pyggml": "#1f6feb", "llama.cpp": "#8c959f", "openvino": "#bf8700"}
LIMIT_BYTES = 200_000


def draw(records: Sequence[Record], folder: Path, threads: int = 2) -> list[str]:
    """Every plot that the records allow -> the names written. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "pyggml", "font.size": 9})
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, plot in (
        ("prefill", lambda ax: bars(ax, records, "prefill", threads)),
        ("decode", lambda ax: bars(ax, records, "decode", threads)),
        ("batch", lambda ax: batches(ax, records, threads)),
        ("depth", lambda ax: depths(ax, records, threads)),
        ("kernels", lambda ax: kernels(ax, records)),
    ):
        figure, ax = pyplot.subplots(figsize=(7, 3.4), layout="constrained")
        if plot(ax):
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(axis="y", alpha=0.3)
            target = folder / f"{name}.svg"
            figure.savefig(target, metadata={"Date": None})
            if target.stat().st_size > LIMIT_BYTES:
                raise ValueError(f"{target.name} is larger than {LIMIT_BYTES} bytes")
            written.append(target.name)
        pyplot.close(figure)
    return written


def bars(ax: Any, records: Sequence[Record], what: str, threads: int) -> bool:
    """Tokens/s per file and engine, with the spread; a dash where the limit is."""
    wanted = {"section": "speed", "what": what, "threads": threads, **({"n": 512} if what == "prefill" else {})}
    found = [r for r in find(records, **wanted) if r["variant"] in ("mapped", "")]
    models = list(dict.fromkeys(r["model"] for r in found))
    engines = [e for e in COLOURS if any(r["engine"] == e for r in found)]
    for i, engine in enumerate(engines):
        for r in find(found, engine=engine):
            x = models.index(r["model"]) + (i - (len(engines) - 1) / 2) * 0.27
            first = r["model"] == next(f["model"] for f in found if f["engine"] == engine)
            errors = [[r["median"] - r["min"]], [r["max"] - r["median"]]]
            ax.bar(x, r["median"], 0.25, yerr=errors, color=COLOURS[engine], capsize=2, label=engine if first else None)
            if engine == "pyggml" and r["share"]:
                ax.plot([x - 0.16, x + 0.16], [r["median"] / r["share"]] * 2, color="black", linewidth=1.5)
    if not found:
        return False
    ax.set_xticks(range(len(models)), [m.removeprefix("1b-") for m in models])
    name = "prefill of 512" if what == "prefill" else "decode of 64"
    ax.set_title(f"{name}, tokens/s, {threads} threads (line: the limit beside it)", fontsize=10)
    ax.set_ylim(0, 1.25 * ax.get_ylim()[1])
    ax.legend(frameon=False, loc="upper center", ncols=3)
    return True


def batches(ax: Any, records: Sequence[Record], threads: int) -> bool:
    """Total tokens/s over the number of sequences."""
    found = find(records, section="batch", threads=threads)
    for engine, colour in COLOURS.items():
        line = sorted(find(found, engine=engine), key=lambda r: r["batch"])
        if line:
            ax.plot([r["batch"] for r in line], [r["median"] for r in line], "o-", color=colour, label=engine)
            low, high = [r["min"] for r in line], [r["max"] for r in line]
            ax.fill_between([r["batch"] for r in line], low, high, color=colour, alpha=0.15)
    sizes = sorted({r["batch"] for r in found})
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(s) for s in sizes])
    ax.set_title("decode of several sequences in one step, total tokens/s", fontsize=10)
    ax.set_xlabel("sequences")
    if found:
        ax.legend(frameon=False)
    return bool(found)


def depths(ax: Any, records: Sequence[Record], threads: int) -> bool:
    """Decode over the depth, for both caches."""
    found = find(records, section="depth", what="decode", threads=threads)
    for engine, colour in COLOURS.items():
        for kv, style in (("f16", "o-"), ("q8_0", "s--")):
            line = sorted(find(found, engine=engine, kv=kv), key=lambda r: r["depth"])
            if line:
                ax.plot(
                    [r["depth"] for r in line],
                    [r["median"] for r in line],
                    style,
                    color=colour,
                    label=f"{engine}, {kv}",
                )
    ax.set_ylim(bottom=0)
    ax.set_title("decode behind so many positions, tokens/s", fontsize=10)
    ax.set_xlabel("positions in the cache")
    if found:
        ax.legend(frameon=False)
    return bool(found)


def kernels(ax: Any, records: Sequence[Record]) -> bool:
    """Share of the roofline over n, per common type, at the largest shape they share."""
    found = find(records, section="kernels", model="4096x4096")
    kinds = [k for k in ("q4_k", "q6_k", "q4_0", "q8_0", "f16", "bf16") if find(found, variant=k)]
    for kind in kinds:
        line = sorted((r for r in find(found, variant=kind) if r["share"]), key=lambda r: r["n"])
        ax.plot([r["n"] for r in line], [100 * r["share"] for r in line], "o-", label=kind, markersize=3)
    ax.set_xscale("log", base=2)
    ax.set_ylim(0, 110)
    ax.set_title("product 4096x4096, 1 thread: per cent of the roofline", fontsize=10)
    ax.set_xlabel("tokens")
    if kinds:
        ax.legend(frameon=False, ncols=3)
    return bool(kinds)
