"""Writes GGUF files of a real shape with random weights and a real vocabulary, for timing only.

    python bench/synthetic.py OUT.gguf --type q4_k_m [--vocab ../shared/vocab/ggml-vocab-llama-bpe.gguf] [--layers 16]
    python bench/synthetic.py OUT.gguf --type q4_k --experts        (8 layers, 1024 wide, 4 of 32 experts of 512)
    python bench/synthetic.py OUT.gguf --type iq3_s --layers 4      (any tensor type: all matrices of it)

Without --experts the shape is Llama-3.2-1B's (16 layers, 2048 wide, 32 heads over 8, 8192 feed-forward, tied head,
128,256 tokens).
Weights are not encoded from floats: blocks are random bytes, and those are kept whose decoded values are finite, with a
deviation near 0.02 and no large mean. That serves every type, with an encoder or without. Speed does not depend on the
bits; the text is noise. Each tensor is cut from one pool of blocks, so the file streams through little memory.
`random_blocks` serves the kernel bench too.
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
POOL = 1 << 20  # bytes of random blocks
DISTINCT = 512  # different blocks among them; random bytes are rarely valid in some types
DEVIATION = (0.008, 0.04)  # of the values of a kept block

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama model."""

    n_layer: int = 16
    n_embd: int = 2048
    n_head: int = 32
    n_head_kv: int = 8
    n_ff: int = 8192
    n_ctx: int = 131072
    rope_freq_base: float = 500000.0
    n_expert: int = 0
    n_expert_used: int = 0


EXPERTS = Shape(n_layer=8, n_embd=1024, n_head=16, n_head_kv=4, n_ff=512, n_expert=32, n_expert_used=4)


@dataclass(frozen=True)
class Mix:
    """Types of a file's matrices: most of them, the (tied) head, and attn_v and ffn_down where more bits are given."""

    most: str
    head: str
    more: str = ""


# The head of 4- and 5-bit files is q6_k, as llama.cpp's quantize leaves it.
MIXES = {
    "q4_k_m": Mix("q4_k", "q6_k", "q6_k"),
    "q4_k": Mix("q4_k", "q6_k"),
    "q4_0": Mix("q4_0", "q6_k"),
    "q8_0": Mix("q8_0", "q8_0"),
    "q5_0": Mix("q5_0", "q6_k"),
    "q5_k": Mix("q5_k", "q6_k"),
    "q6_k": Mix("q6_k", "q6_k"),
    "iq4_xs": Mix("iq4_xs", "q6_k"),
    "f16": Mix("f16", "f16"),
    "bf16": Mix("bf16", "bf16"),
}


def mix_of(kind: str) -> Mix:
    """The mix of that name, or all matrices of a type.

    >>> mix_of("iq3_s").head
    'iq3_s'
    """
    return MIXES.get(kind) or Mix(kind, kind)


def more_bits(layer: int, n_layer: int) -> bool:
    """Layers in which llama.cpp's Q4_K_M gives attn_v and ffn_down six bits: an eighth at each end, then every third.

    >>> [i for i in range(16) if more_bits(i, 16)]
    [0, 1, 4, 7, 10, 13, 14, 15]
    """
    eighth = n_layer // 8
    return layer < eighth or layer >= 7 * n_layer // 8 or (layer - eighth) % 3 == 2


def sizes_of(kind: str) -> tuple[int, int, int]:
    """(id, values, bytes) of a block."""
    from pyggml import _native

    found = [(i, elems, nbytes) for i, name, elems, nbytes, *_ in _native.type_table() if name == kind]
    if not found:
        raise SystemExit(f"there is no tensor type {kind!r}, nor a mix of that name: {', '.join(MIXES)}")
    return found[0]


def random_blocks(kind: str, nbytes: int, seed: int = 0) -> Bytes:
    """About nbytes of valid random blocks of a type: finite, of a deviation within DEVIATION."""
    from pyggml import _native

    rng = np.random.default_rng(seed)
    type_id, elems, size = sizes_of(kind)
    n = max(nbytes // size, 1)
    wanted = min(n, DISTINCT)
    if elems == 1:  # a float: its bytes are its exponent
        x = rng.normal(0.0, 0.02, (1, n)).astype(np.float32)
        return _native.quantize(type_id, x).reshape(-1)
    kept: list[Bytes] = []
    found = 0
    while found < wanted:
        raw = rng.integers(0, 256, (4096, size), np.uint8)
        with np.errstate(all="ignore"):
            x = _native.dequantize(type_id, raw, len(raw), elems)
            spread, middle = x.std(axis=1), np.abs(x.mean(axis=1))
        good = raw[(spread > DEVIATION[0]) & (spread < DEVIATION[1]) & (middle < 2 * DEVIATION[1])]  # False for NaN
        kept.append(good)
        found += len(good)
    distinct = np.concatenate(kept)[:wanted]
    return (distinct if wanted == n else distinct[rng.integers(0, wanted, n)]).reshape(-1)


def write(path: str, kind: str, vocab: Path, shape: Shape, seed: int = 0) -> None:
    """Writes the file; an existing one is replaced."""
    import pyggml

    mix = mix_of(kind)
    rng = np.random.default_rng(seed)
    pools = {name: random_blocks(name, POOL, seed) for name in {mix.most, mix.head, mix.more} - {""}}
    sizes = {name: sizes_of(name)[2] for name in pools}

    def stream(name: str, nbytes: int) -> Callable[[], Iterator[Bytes]]:
        """Bytes of a tensor: pieces of the pool that begin at random blocks."""
        pool, size = pools[name], sizes[name]
        chunk = pool.size // 2 // size * size

        def pieces() -> Iterator[Bytes]:
            left = nbytes
            while left:
                at = int(rng.integers(0, (pool.size - chunk) // size)) * size
                take = min(left, chunk)
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
            out.add_tensor(name, (rows, cols), of, stream(of, rows * cols // sizes_of(of)[1] * sizes[of]))

        def stack(name: str, rows: int, cols: int, of: str) -> None:
            nbytes = shape.n_expert * rows * cols // sizes_of(of)[1] * sizes[of]
            out.add_tensor(name, (shape.n_expert, rows, cols), of, stream(of, nbytes))

        def norm(name: str) -> None:
            out.add_tensor(name, (shape.n_embd,), "f32", np.ones(shape.n_embd, np.float32))

        matrix("token_embd.weight", n_vocab, shape.n_embd, mix.head)
        norm("output_norm.weight")
        kv = shape.n_head_kv * head_dim
        for i in range(shape.n_layer):
            more = mix.more if mix.more and more_bits(i, shape.n_layer) else mix.most
            norm(f"blk.{i}.attn_norm.weight")
            norm(f"blk.{i}.ffn_norm.weight")
            matrix(f"blk.{i}.attn_q.weight", shape.n_embd, shape.n_embd, mix.most)
            matrix(f"blk.{i}.attn_k.weight", kv, shape.n_embd, mix.most)
            matrix(f"blk.{i}.attn_v.weight", kv, shape.n_embd, more)
            matrix(f"blk.{i}.attn_output.weight", shape.n_embd, shape.n_embd, mix.most)
            if shape.n_expert:
                router = rng.normal(0.0, 0.02, (shape.n_expert, shape.n_embd)).astype(np.float32)
                out.add_tensor(f"blk.{i}.ffn_gate_inp.weight", router.shape, "f32", router)
                stack(f"blk.{i}.ffn_gate_exps.weight", shape.n_ff, shape.n_embd, mix.most)
                stack(f"blk.{i}.ffn_up_exps.weight", shape.n_ff, shape.n_embd, mix.most)
                stack(f"blk.{i}.ffn_down_exps.weight", shape.n_embd, shape.n_ff, more)
                continue
            matrix(f"blk.{i}.ffn_gate.weight", shape.n_ff, shape.n_embd, mix.most)
            matrix(f"blk.{i}.ffn_up.weight", shape.n_ff, shape.n_embd, mix.most)
            matrix(f"blk.{i}.ffn_down.weight", shape.n_embd, shape.n_ff, more)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--type", default="q4_k_m", help=f"a tensor type, or one of {', '.join(MIXES)}")
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
