"""Writes a GGUF of a real shape with random weights and a real vocabulary, for timing only.

    python bench/synthetic.py OUT.gguf --type q4_k [--vocab ../shared/vocab/ggml-vocab-llama-bpe.gguf] [--layers 16]
    python bench/synthetic.py OUT.gguf --type q4_k --experts        (8 layers, 1024 wide, 4 of 32 experts of 512)

Without --experts the shape is Llama-3.2-1B's (16 layers, 2048 wide, 32 heads over 8, 8192 feed-forward, tied head,
128,256 tokens). Weights are not encoded from floats: quantized blocks get random bits under scales chosen so that a
weight has a standard deviation near 0.02 and every value is finite. Speed does not depend on the bits; the text is
noise. Each tensor is cut from one pool of random blocks, so the file streams through little memory. q4_0 and q4_k have
a q6_k head, as usual.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VOCAB = Path(__file__).resolve().parents[2] / "shared" / "vocab" / "ggml-vocab-llama-bpe.gguf"
POOL = 8 << 20  # bytes of random blocks
CHUNK = 4 << 20


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama model."""

    n_layer: int = 16
    n_embd: int = 2048
    n_head: int = 32
    n_head_kv: int = 8
    n_ff: int = 8192
    n_ctx: int = 8192
    rope_freq_base: float = 500000.0
    n_expert: int = 0
    n_expert_used: int = 0


EXPERTS = Shape(n_layer=8, n_embd=1024, n_head=16, n_head_kv=4, n_ff=512, n_expert=32, n_expert_used=4)


def _halves(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """float16 bytes (n, 2)."""
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)


def q4_0(rng: np.random.Generator, n: int) -> NDArray[np.uint8]:
    """n blocks of 32: d, 16 bytes of nibbles; a nibble less 8 has deviation 4.6."""
    return np.hstack([_halves(0.0043 * rng.uniform(0.5, 1.5, n)), rng.integers(0, 256, (n, 16), np.uint8)])


def q8_0(rng: np.random.Generator, n: int) -> NDArray[np.uint8]:
    """n blocks of 32: d, 32 int8 of deviation 73."""
    return np.hstack([_halves(0.00027 * rng.uniform(0.5, 1.5, n)), rng.integers(1, 256, (n, 32), np.uint8) ^ 0x80])


def q4_k(rng: np.random.Generator, n: int) -> NDArray[np.uint8]:
    """n super-blocks of 256: d, dmin, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles."""
    d = 8e-5 * rng.uniform(0.8, 1.2, n)
    return np.hstack([_halves(d), _halves(7.5 * d), rng.integers(0, 256, (n, 140), np.uint8)])


def q6_k(rng: np.random.Generator, n: int) -> NDArray[np.uint8]:
    """n super-blocks of 256: 128 + 64 bytes of codes, 16 int8 scales within 32, d."""
    codes = rng.integers(0, 256, (n, 192), np.uint8)
    scales = rng.integers(-32, 33, (n, 16), np.int8).view(np.uint8)
    return np.hstack([codes, scales, _halves(6e-5 * rng.uniform(0.8, 1.2, n))])


def f16(rng: np.random.Generator, n: int) -> NDArray[np.uint8]:
    """n halves."""
    return _halves(rng.normal(0.0, 0.02, n))


BLOCKS: dict[str, Callable[[np.random.Generator, int], NDArray[np.uint8]]] = {
    "f16": f16,
    "q8_0": q8_0,
    "q4_0": q4_0,
    "q4_k": q4_k,
    "q6_k": q6_k,
}
HEAD = {"f16": "f16", "q8_0": "q8_0", "q4_0": "q6_k", "q4_k": "q6_k"}


def write(path: str, kind: str, vocab: Path, shape: Shape, seed: int = 0) -> None:
    """Writes the file; an existing one is replaced."""
    import pyggml

    rng = np.random.default_rng(seed)
    pools = {name: BLOCKS[name](rng, POOL // BLOCKS[name](rng, 1).size).reshape(-1) for name in {kind, HEAD[kind]}}
    sizes = {name: BLOCKS[name](rng, 1).size for name in pools}

    def stream(name: str, nbytes: int) -> Callable[[], Iterator[NDArray[np.uint8]]]:
        """Bytes of a tensor: pieces of the pool that begin at random blocks."""
        pool, size = pools[name], sizes[name]

        def pieces() -> Iterator[NDArray[np.uint8]]:
            left = nbytes
            while left:
                at = int(rng.integers(0, (pool.size - CHUNK) // size)) * size
                take = min(left, CHUNK // size * size)
                yield pool[at : at + take]
                left -= take

        return pieces

    with pyggml.gguf.open(vocab) as source, pyggml.gguf.Writer(path) as out:
        n_vocab = len(source.metadata["tokenizer.ggml.tokens"])
        head_dim = shape.n_embd // shape.n_head
        out.add("general.architecture", "llama")
        out.add("general.name", f"synthetic {kind}, random weights")
        for key, value in {
            "block_count": shape.n_layer,
            "context_length": shape.n_ctx,
            "embedding_length": shape.n_embd,
            "feed_forward_length": shape.n_ff,
            "attention.head_count": shape.n_head,
            "attention.head_count_kv": shape.n_head_kv,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.dimension_count": head_dim,
            "rope.freq_base": shape.rope_freq_base,
            "vocab_size": n_vocab,
        }.items():
            out.add(f"llama.{key}", value)
        if shape.n_expert:
            out.add("llama.expert_count", shape.n_expert)
            out.add("llama.expert_used_count", shape.n_expert_used)
        for key in source.metadata:
            if key.startswith("tokenizer."):
                out.copy(source.metadata, key)

        def matrix(name: str, rows: int, cols: int, of: str) -> None:
            elems = {"f16": 1, "q8_0": 32, "q4_0": 32}.get(of, 256)
            out.add_tensor(name, (rows, cols), of, stream(of, rows * cols // elems * sizes[of]))

        def stack(name: str, rows: int, cols: int) -> None:
            elems = {"f16": 1, "q8_0": 32, "q4_0": 32}.get(kind, 256)
            nbytes = shape.n_expert * rows * cols // elems * sizes[kind]
            out.add_tensor(name, (shape.n_expert, rows, cols), kind, stream(kind, nbytes))

        def norm(name: str) -> None:
            out.add_tensor(name, (shape.n_embd,), "f32", np.ones(shape.n_embd, np.float32))

        matrix("token_embd.weight", n_vocab, shape.n_embd, HEAD[kind])
        norm("output_norm.weight")
        kv = shape.n_head_kv * head_dim
        for i in range(shape.n_layer):
            norm(f"blk.{i}.attn_norm.weight")
            norm(f"blk.{i}.ffn_norm.weight")
            matrix(f"blk.{i}.attn_q.weight", shape.n_embd, shape.n_embd, kind)
            matrix(f"blk.{i}.attn_k.weight", kv, shape.n_embd, kind)
            matrix(f"blk.{i}.attn_v.weight", kv, shape.n_embd, kind)
            matrix(f"blk.{i}.attn_output.weight", shape.n_embd, shape.n_embd, kind)
            if shape.n_expert:
                router = rng.normal(0.0, 0.02, (shape.n_expert, shape.n_embd)).astype(np.float32)
                out.add_tensor(f"blk.{i}.ffn_gate_inp.weight", router.shape, "f32", router)
                stack(f"blk.{i}.ffn_gate_exps.weight", shape.n_ff, shape.n_embd)
                stack(f"blk.{i}.ffn_up_exps.weight", shape.n_ff, shape.n_embd)
                stack(f"blk.{i}.ffn_down_exps.weight", shape.n_embd, shape.n_ff)
                continue
            matrix(f"blk.{i}.ffn_gate.weight", shape.n_ff, shape.n_embd, kind)
            matrix(f"blk.{i}.ffn_up.weight", shape.n_ff, shape.n_embd, kind)
            matrix(f"blk.{i}.ffn_down.weight", shape.n_embd, shape.n_ff, kind)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--type", choices=sorted(HEAD), default="q4_k")
    parser.add_argument("--vocab", type=Path, default=VOCAB, help="a GGUF with the vocabulary to copy")
    parser.add_argument("--layers", type=int, help="default: 16, 8 with --experts")
    parser.add_argument("--experts", action="store_true", help="a mixture of experts")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.vocab.is_file():
        raise SystemExit(f"there is no vocabulary {args.vocab}: name one with --vocab")
    start = time.perf_counter()
    shape = EXPERTS if args.experts else Shape()
    write(args.out, args.type, args.vocab, replace(shape, n_layer=args.layers or shape.n_layer), args.seed)
    print(f"{args.out}: {os.path.getsize(args.out) / 1e6:.1f} MB in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
