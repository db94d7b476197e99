"""GGUF files by hand: bytes put together without pyggml's writer, so that they can be wrong in one chosen place.

Values are (type, bytes) pairs; dims are innermost-first as in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
FORMS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}

Value = tuple[int, bytes]


def text(raw: str | bytes) -> bytes:
    """A string: u64 length, bytes."""
    data = raw.encode() if isinstance(raw, str) else raw
    return struct.pack("<Q", len(data)) + data


def val(kind: int, value: object) -> Value:
    """A scalar or string value."""
    if kind == STR:
        assert isinstance(value, (str, bytes))
        return kind, text(value)
    return kind, struct.pack("<" + FORMS[kind], value)


def u32(value: int) -> Value:
    return val(U32, value)


def f32(value: float) -> Value:
    return val(F32, value)


def string(value: str | bytes) -> Value:
    return val(STR, value)


def arr(item: int, values: Sequence[object], count: int | None = None) -> Value:
    """An array of scalars or strings; count lies about its length."""
    body = b"".join(val(item, value)[1] for value in values)
    return ARR, struct.pack("<IQ", item, len(values) if count is None else count) + body


def pair(key: str | bytes, value: Value) -> bytes:
    return text(key) + struct.pack("<I", value[0]) + value[1]


def tensor(name: str | bytes, dims: Sequence[int], kind: int = 0, offset: int = 0, n_dims: int | None = None) -> bytes:
    """One record of the tensor table."""
    n = len(dims) if n_dims is None else n_dims
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", n, *dims, kind, offset)


def gguf(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    n_pairs: int | None = None,
    n_tensors: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file; counts may lie."""
    n_p = len(pairs) if n_pairs is None else n_pairs
    n_t = len(tensors) if n_tensors is None else n_tensors
    head = magic + struct.pack("<IQQ", version, n_t, n_p) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


LLAMA: dict[str, Value] = {
    "general.architecture": string("llama"),
    "llama.block_count": u32(1),
    "llama.context_length": u32(64),
    "llama.embedding_length": u32(32),
    "llama.feed_forward_length": u32(32),
    "llama.attention.head_count": u32(4),
    "llama.attention.head_count_kv": u32(2),
    "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
    "llama.rope.dimension_count": u32(8),
    "llama.rope.freq_base": f32(10000.0),
    "tokenizer.ggml.model": string("llama"),
    "tokenizer.ggml.tokens": arr(STR, ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "c", "d"]),
    "tokenizer.ggml.scores": arr(F32, [0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -5.0]),
    "tokenizer.ggml.token_type": arr(I32, [2, 3, 3, 1, 1, 1, 1, 1]),
    "tokenizer.ggml.bos_token_id": u32(1),
    "tokenizer.ggml.eos_token_id": u32(2),
}

LAYOUT: list[tuple[str, tuple[int, ...]]] = [
    ("token_embd.weight", (32, 8)),
    ("output_norm.weight", (32,)),
    ("output.weight", (32, 8)),
    ("blk.0.attn_norm.weight", (32,)),
    ("blk.0.attn_q.weight", (32, 32)),
    ("blk.0.attn_k.weight", (32, 16)),
    ("blk.0.attn_v.weight", (32, 16)),
    ("blk.0.attn_output.weight", (32, 32)),
    ("blk.0.ffn_norm.weight", (32,)),
    ("blk.0.ffn_gate.weight", (32, 32)),
    ("blk.0.ffn_up.weight", (32, 32)),
    ("blk.0.ffn_down.weight", (32, 32)),
]


def llama(changes: dict[str, Value | None] | None = None, extra: Sequence[bytes] = (), fill: float = 0.01) -> bytes:
    """A complete one-layer F32 llama of 8 tokens; changes replaces, adds or (None) removes metadata."""
    values: dict[str, Value | None] = {**LLAMA, **(changes or {})}
    pairs = [pair(key, value) for key, value in values.items() if value is not None]
    records, data = [], b""
    for name, dims in LAYOUT:
        n = dims[0] * (dims[1] if len(dims) > 1 else 1)
        records.append(tensor(name, dims, 0, len(data)))
        data += struct.pack("<f", 1.0 if "norm" in name else fill) * n
    return gguf(pairs + list(extra), records, data)


def write(folder: Path, raw: bytes, name: str = "x.gguf") -> Path:
    path = folder / name
    path.write_bytes(raw)
    return path
