"""Quantization-aware training in one page: some hundred steps against the exact rounding of a type, and what they are
worth on held-out text in the real quantized file. A control trains as many steps without the rounding.

usage: python docs/qat.py MODEL_DIR VALID.txt TRAIN.txt... [--type q2_k q4_0] [--steps 200] [--json FIGURES.json]

MODEL_DIR is a Hugging Face directory of a small causal model, TRAIN.txt plain text (the head and foot of Project
Gutenberg's books are cut off). A training paragraph that is also in VALID.txt is dropped. Needs the oracle extra
(torch, transformers). How it works and what came out: QAT.md.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import pyggml
from pyggml.torch import finish, prepare

BATCH, LENGTH, WARM_UP = 8, 128, 20
SLOW_TYPES = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k")
"""Their encoders search; one rounding serves SHARED steps."""
SHARED = 8
_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "\r": None, "_": None})


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a book, each on one line, without Project Gutenberg's head and foot and with plain quotes."""
    start = re.search(r"\*\*\* ?START OF.*?\*\*\*", text)
    end = re.search(r"\*\*\* ?END OF", text)
    text = text[start.end() if start else 0 : end.start() if end else len(text)].translate(_QUOTES)
    text = re.sub(r"\[(Illustration|Footnote)[^\]]*\]", "", text).replace("--", " - ")
    found = (" ".join(piece.split()) for piece in text.split("\n\n"))
    return [piece for piece in found if len(piece) > 1]


def training_text(books: list[Path], valid: str) -> str:
    """All books without a paragraph of the held-out text."""
    held_out = set(paragraphs(valid))
    kept = []
    for book in books:
        kept += [p for p in paragraphs(book.read_text(encoding="utf-8", errors="replace")) if p not in held_out]
    return "\n\n".join(kept)


def tokens(folder: Path, text: str) -> torch.Tensor:
    """The text's ids as the file's own tokenizer makes them."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "x.gguf"
        pyggml.convert(folder, path, dtype="f32")
        with pyggml.load(path) as model:
            return torch.tensor(model.tokenize(text))


def perplexity(folder: Path, kind: str, text: str) -> float:
    """Of a real file: every matrix in one type, run by pyggml."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "x.gguf"
        pyggml.convert(folder, path, dtype="f32", quantize=f"pure:{kind}" if kind != "f32" else None)
        with pyggml.load(path, kv_type="f32") as model:
            return model.perplexity(text, n_ctx=min(512, model.config.n_ctx_train))


def train(folder: Path, ids: torch.Tensor, kind: str, loss: str, steps: int, rate: float, out: Path) -> None:
    """Writes the model after some steps against a type ("f32": without rounding); the same batches for all.

    loss "text": of the next token. "teacher": the divergence from what the published model says on the same text.
    """
    torch.manual_seed(1)
    net: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    net.train()  # rounding is shared between steps in this mode only
    teacher: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) if loss == "teacher" else None
    if kind != "f32":
        print(f"{len(prepare(net, kind, every=SHARED if kind in SLOW_TYPES else 1))} matrices rounded to {kind}")
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.0)
    length = min(LENGTH, net.config.max_position_embeddings)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARM_UP) * (1 - step / steps)
        starts = torch.randint(0, len(ids) - length, (BATCH,))
        batch = torch.stack([ids[s : s + length] for s in starts])
        value = net(batch, labels=batch).loss if teacher is None else divergence(teacher, net, batch)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"against {kind}, {loss}, step {step}: loss {value.item():.4f}", flush=True)
    finish(net)
    net.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).exists():
            shutil.copy(folder / name, out / name)


def divergence(teacher: Any, net: Any, batch: torch.Tensor) -> torch.Tensor:
    """KL of the next-token distributions, in nats a token."""
    with torch.no_grad():
        want = torch.log_softmax(teacher(batch).logits, -1).flatten(0, 1)
    got = torch.log_softmax(net(batch).logits, -1).flatten(0, 1)
    return torch.nn.functional.kl_div(got, want, reduction="batchmean", log_target=True)


def experiment(folder: Path, books: list[Path], valid: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Perplexities by what was trained and by the file's type, and the part of each type's loss that came back.

    Every row is written to options.json when it is ready; a stopped run with the same settings goes on from there.
    """
    held_out, types = valid.read_text(encoding="utf-8"), options.type
    ids = tokens(folder, training_text(books, held_out))
    print(f"{len(ids)} training tokens, {options.steps} steps of {BATCH} x {LENGTH}", flush=True)
    figures: dict[str, Any] = {
        "model": folder.name, "valid": valid.name, "books": len(books), "training_tokens": len(ids), "types": types,
        "steps": options.steps, "rate": options.rate, "batch": BATCH, "length": LENGTH,
        "steps_per_rounding": {kind: SHARED if kind in SLOW_TYPES else 1 for kind in types},
    }  # fmt: skip
    rows = earlier(options.json, figures)
    goals = [(None, None), ("f32", "text")] + [(kind, loss) for loss in ("text", "teacher") for kind in types]
    for goal, loss in goals:
        if any((row["against"], row["loss"]) == (goal, loss) for row in rows):
            continue
        row: dict[str, Any] = {"against": goal, "loss": loss}
        wanted = (goal,) if goal in types else ("f32", *types)
        if goal is None:
            row["perplexity"] = {kind: perplexity(folder, kind, held_out) for kind in wanted}
        else:
            with tempfile.TemporaryDirectory() as scratch:
                start = time.perf_counter()
                train(folder, ids, goal, loss, options.steps, options.rate, Path(scratch))
                row["seconds"] = round(time.perf_counter() - start, 1)
                row["perplexity"] = {kind: perplexity(Path(scratch), kind, held_out) for kind in wanted}
            base, got = rows[0]["perplexity"], row["perplexity"]
            row["taken_back"] = {kind: part(base["f32"], base[kind], got[kind]) for kind in wanted if kind != "f32"}
        rows.append(row)
        print(row, flush=True)
        if options.json:
            record(options.json, figures | {"rows": rows})
    return figures | {"rows": rows}


def earlier(file: Path | None, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a stopped run with these settings."""
    if file is None or not file.exists():
        return []
    found = json.loads(file.read_text("ascii"))["results"]
    return found["rows"] if {key: found.get(key) for key in settings} == settings else []


def record(file: Path, figures: dict[str, Any]) -> None:
    """Writes figures with the card of this machine (bench/card.py)."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
    from card import card

    machine = card(measure=False) | {"torch": torch.__version__}
    file.write_text(json.dumps({"card": machine, "results": figures}, indent=1) + "\n", "ascii")


def part(exact: float, rounded: float, trained: float) -> float:
    """How much of the loss of rounding, in nats a token, training took back."""
    return math.log(rounded / trained) / math.log(rounded / exact)


def table(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table: perplexity, and in brackets the part of the loss that came back."""
    types, steps = ("f32", *figures["types"]), figures["steps"]
    lines = [" | ".join(("| perplexity", *types)) + " |", "|---|" + "---|" * len(types)]
    for row in figures["rows"]:
        goal, got = row["against"], row["perplexity"]
        what = "as published" if goal is None else f"{steps} steps " + ("unrounded" if goal == "f32" else f"on {goal}")
        cells = [f"{got[kind]:.2f}" if kind in got else "" for kind in types]
        back = row.get("taken_back", {})
        cells = [
            f"{cell} ({back[kind]:.0%})" if kind in back else cell for cell, kind in zip(cells, types, strict=True)
        ]
        lines.append(" | ".join((f"| {what}" + (f", {row['loss']}" if goal else ""), *cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs the experiment and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="MODEL_DIR")
    parser.add_argument("valid", type=Path, metavar="VALID.txt")
    parser.add_argument("train", type=Path, nargs="+", metavar="TRAIN.txt")
    parser.add_argument("--type", nargs="+", default=["q2_k", "q4_0"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--json", type=Path, help="where figures are kept; a stopped run goes on from it")
    options = parser.parse_args()
    print(table(experiment(options.folder, options.train, options.valid, options)))


if __name__ == "__main__":
    main()
