"""Makes the bundled model tales.gguf from its Hugging Face directory (config.json, model.safetensors, tokenizer.json).

The model (5.8 million parameters, Llama architecture) was trained for this project on public-domain fairy tales.
Matrices become Q8_0, norms stay F32. Rows of Q and K are reordered: GGUF's llama turns neighbouring pairs.

usage: python make_tales.py DIRECTORY [tales.gguf]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pyggml

F32 = NDArray[np.float32]

_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def read_safetensors(path: Path) -> dict[str, F32]:
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    table = json.loads(raw[8 : 8 + size])
    found = {}
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + at for at in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw[begin:end], "<u2").astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] == "F32":
            values = np.frombuffer(raw[begin:end], "<f4")
        else:
            raise ValueError(f"{name}: dtype {entry['dtype']} was not expected")
        found[name] = values.reshape(entry["shape"])
    return found


def pairs(w: F32, n_head: int) -> F32:
    """Rows of halves (i, i + d/2) -> rows of pairs (2i, 2i + 1), head by head."""
    return np.ascontiguousarray(w.reshape(n_head, 2, -1, w.shape[1]).swapaxes(1, 2).reshape(w.shape))


def gguf_name(name: str) -> str:
    plain = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in plain:
        return plain[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_NAMES[rest.removesuffix('.weight')]}.weight"


def metadata(directory: Path, c: dict[str, Any]) -> dict[str, tuple[Any, str | None]]:
    t = json.loads((directory / "tokenizer.json").read_text())
    vocab = sorted(t["model"]["vocab"].items(), key=lambda item: item[1])
    special = {entry["id"] for entry in t["added_tokens"] if entry["special"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]]
    return {
        "general.architecture": ("llama", None),
        "general.name": ("Tales", None),
        "general.description": ("A small story teller, trained from scratch on public-domain fairy tales.", None),
        "general.license": ("mit", None),
        "general.file_type": (7, "u32"),
        "general.quantization_version": (2, "u32"),
        "llama.context_length": (c["max_position_embeddings"], "u32"),
        "llama.embedding_length": (c["hidden_size"], "u32"),
        "llama.block_count": (c["num_hidden_layers"], "u32"),
        "llama.feed_forward_length": (c["intermediate_size"], "u32"),
        "llama.attention.head_count": (c["num_attention_heads"], "u32"),
        "llama.attention.head_count_kv": (c["num_key_value_heads"], "u32"),
        "llama.attention.key_length": (c["head_dim"], "u32"),
        "llama.attention.value_length": (c["head_dim"], "u32"),
        "llama.attention.layer_norm_rms_epsilon": (c["rms_norm_eps"], "f32"),
        "llama.rope.dimension_count": (c["head_dim"], "u32"),
        "llama.rope.freq_base": (c["rope_theta"], "f32"),
        "llama.vocab_size": (c["vocab_size"], "u32"),
        "tokenizer.ggml.model": ("gpt2", None),
        "tokenizer.ggml.pre": ("llama-bpe", None),
        "tokenizer.ggml.tokens": ([text for text, _ in vocab], None),
        "tokenizer.ggml.token_type": ([3 if i in special else 1 for _, i in vocab], "i32"),
        "tokenizer.ggml.merges": (merges, None),
        "tokenizer.ggml.bos_token_id": (c["bos_token_id"], "u32"),
        "tokenizer.ggml.eos_token_id": (c["eos_token_id"], "u32"),
        "tokenizer.ggml.add_bos_token": (True, None),
    }


def main(directory: Path, dst: Path, weights: str = "q8_0") -> None:
    c = json.loads((directory / "config.json").read_text())
    heads = {"attn_q": c["num_attention_heads"], "attn_k": c["num_key_value_heads"]}
    with pyggml.gguf.Writer(dst) as out:
        for key, (value, kind) in metadata(directory, c).items():
            out.add(key, value, kind)
        for name, values in read_safetensors(directory / "model.safetensors").items():
            to = gguf_name(name)
            part = to.split(".")[2] if to.startswith("blk.") else ""
            made = pairs(values, heads[part]) if part in heads else values
            tensor = pyggml.quantize(made, weights if made.ndim == 2 else "f32")
            out.add_tensor(to, tensor.shape, tensor.type, tensor.raw)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_name("tales.gguf"))
