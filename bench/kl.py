"""What quantizing costs, per CPU level: KL divergence of the next-token distributions from the F32 file's.

    python bench/kl.py ../shared/conformance/{llama,mistral,qwen2,qwen3}/model-f32.gguf [--out bench/results]

Every file is written as F16, Q8_0, Q6_K, Q4_K and Q4_0 ("pure") and run on 512 fixed random tokens with an f32 cache.
The reference is the F32 file on the scalar level. Reports mean and largest KL in nats, and how often the likeliest
token is the same. Random models make it a check of the arithmetic, not of quality.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import card
import numpy as np
from numpy.typing import NDArray

import pyggml
from pyggml import _native

TYPES = ("f32", "f16", "q8_0", "q6_k", "q4_k", "q4_0")


def log_probs(path: Path, ids: list[int]) -> NDArray[np.float64]:
    """Natural logs of the next-token distribution at every position."""
    with pyggml.load(path, kv_type="f32") as model:
        x = model.logits(ids[: model.n_ctx]).astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def compare(want: NDArray[np.float64], got: NDArray[np.float64]) -> dict[str, float]:
    """KL(want || got) over positions."""
    kl = (np.exp(want) * (want - got)).sum(axis=1)
    same = (want.argmax(axis=1) == got.argmax(axis=1)).mean()
    return {"kl_mean": float(kl.mean()), "kl_max": float(kl.max()), "same_top": float(same)}


def measure(path: Path, folder: Path) -> dict[str, Any]:
    """One F32 file, all types, all levels."""
    with pyggml.load(path) as model:
        ids = np.random.default_rng(1).integers(0, model.n_vocab, 512).tolist()
    _native.isa_force("scalar")
    want = log_probs(path, ids)
    rows: dict[str, Any] = {}
    for kind in TYPES:
        file = path
        if kind != "f32":
            file = folder / f"{kind}.gguf"
            pyggml.quantize_file(path, file, f"pure:{kind}")
        rows[kind] = {}
        for level in _native.isa_levels():
            _native.isa_force(level)
            rows[kind][level] = compare(want, log_probs(file, ids))
    _native.isa_force(None)
    return {"model": "/".join(path.parts[-2:]), "tokens": len(ids), "types": rows}


def main() -> None:
    """Measures all files and writes one JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results")
    args = parser.parse_args()
    results = []
    for path in args.models:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(path, Path(folder)))
        for kind, levels in results[-1]["types"].items():
            print(results[-1]["model"], kind, {k: f"{v['kl_mean']:.3e}" for k, v in levels.items()}, flush=True)
    machine = card.card(measure=False)
    target = args.out / f"kl-{machine['date'][:10]}.json"
    target.write_text(json.dumps({"card": machine, "results": results}, indent=1) + "\n", encoding="ascii")
    print(f"wrote {target.name}")


if __name__ == "__main__":
    main()
