"""Quantization-aware training in one page: a few hundred steps against the exact rounding of a type, then the loss on
held-out text of the file before and after.

usage: python docs/qat.py MODEL_DIR TRAIN.txt VALID.txt [--type q4_0] [--steps 300]

MODEL_DIR is a Hugging Face directory of a small causal model. Needs the oracle extra (torch, transformers).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

import pyggml
from pyggml.torch import finish, prepare


def perplexity(folder: Path, kind: str, text: str) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "x.gguf"
        pyggml.convert(folder, path, dtype="f32", quantize=f"pure:{kind}" if kind != "f32" else None)
        with pyggml.load(path, kv_type="f32") as model:
            return model.perplexity(text, n_ctx=min(512, model.config.n_ctx_train))


def train(folder: Path, text: str, kind: str, steps: int, out: Path) -> None:
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as scratch:
        pyggml.convert(folder, Path(scratch) / "x.gguf", dtype="f32")
        with pyggml.load(Path(scratch) / "x.gguf") as model:
            ids = torch.tensor(model.tokenize(text))
    net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    names = prepare(net, kind)
    print(f"{len(names)} matrices rounded to {kind}, {len(ids)} tokens")
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-4, weight_decay=0.0)
    length = 256
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-4 * min(1, (step + 1) / 20) * (1 - step / steps)
        starts = torch.randint(0, len(ids) - length, (8,))
        batch = torch.stack([ids[s : s + length] for s in starts])
        loss = net(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    finish(net)
    net.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, out / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("valid", type=Path)
    parser.add_argument("--type", default="q4_0")
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    valid = options.valid.read_text(encoding="utf-8")
    before = {kind: perplexity(options.folder, kind, valid) for kind in ("f32", options.type)}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "trained"
        train(options.folder, options.train.read_text(encoding="utf-8"), options.type, options.steps, out)
        after = {kind: perplexity(out, kind, valid) for kind in ("f32", options.type)}
    print(f"{'perplexity':<28}{'f32':>10}{options.type:>10}")
    print(f"{'as published':<28}{before['f32']:>10.3f}{before[options.type]:>10.3f}")
    print(f"{f'after {options.steps} steps':<28}{after['f32']:>10.3f}{after[options.type]:>10.3f}")


if __name__ == "__main__":
    main()
