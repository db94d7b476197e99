"""A tiny random Llama as its publishers would ship it, in every layout the converter reads. Writes bytes itself: the
pickle and the protocol buffer are put together here, opcode by opcode, so that no other package is needed."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
from model.tiny import byte_tokens

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96, "vocab_size": 262, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "max_position_embeddings": 128, "tie_word_embeddings": False,
}  # fmt: skip
REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tensors(seed: int = 3) -> dict[str, np.ndarray]:
    """Random weights by Hugging Face name, float32."""
    rng = np.random.default_rng(seed)

    def matrix(m: int, k: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(k), (m, k)).astype(np.float32)

    found = {"model.embed_tokens.weight": matrix(262, 64), "lm_head.weight": matrix(262, 64)}
    for i in range(2):
        at = f"model.layers.{i}."
        shapes = {
            "self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64),
            "self_attn.o_proj": (64, 64), "mlp.gate_proj": (96, 64), "mlp.up_proj": (96, 64), "mlp.down_proj": (64, 96),
        }  # fmt: skip
        found |= {f"{at}{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{at}{norm}.weight"] = (1 + rng.normal(0, 0.1, 64)).astype(np.float32)
    found["model.norm.weight"] = np.ones(64, np.float32)
    return found


def tokenizer_json(regex: str = REGEX) -> dict[str, object]:
    """Byte-level BPE: 256 bytes, three merges, two special tokens and one added word."""
    vocab = {text: i for i, text in enumerate(byte_tokens())}
    merges = [["t", "h"], ["th", "e"], ["a", "n"]]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    added = [("<|bos|>", True), ("<|eos|>", True), ("[word]", False)]
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": 259 + i, "content": text, "special": special, "normalized": False, "single_word": False,
             "lstrip": False, "rstrip": False}
            for i, (text, special) in enumerate(added)
        ],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [259], "tokens": ["<|bos|>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": True, "byte_fallback": False},
    }  # fmt: skip


def folder(path: Path, config: dict[str, object] | None = None, regex: str = REGEX) -> Path:
    """The small files: config.json and tokenizer files."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    (path / "tokenizer.json").write_text(json.dumps(tokenizer_json(regex)))
    settings = {"bos_token": "<|bos|>", "eos_token": {"content": "<|eos|>"}, "chat_template": "{{ messages }}"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


# ---- layouts ---------------------------------------------------------------------------------------------------


def safetensors(path: Path, weights: dict[str, np.ndarray]) -> None:
    table, at = {}, 0
    for name, w in weights.items():
        table[name] = {"dtype": "F32", "shape": list(w.shape), "data_offsets": [at, at + w.nbytes]}
        at += w.nbytes
    head = json.dumps(table).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(w.tobytes() for w in weights.values()))


def _text(text: str) -> bytes:
    return b"X" + len(text.encode()).to_bytes(4, "little") + text.encode()


def _int(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def tensor_opcodes(key: str, shape: tuple[int, ...], stride: tuple[int, ...], count: int, offset: int = 0) -> bytes:
    """What torch.save writes for one float tensor."""
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(key) + _text("cpu") + _int(count) + b"tQ"
    dims = b"(" + b"".join(map(_int, shape)) + b"t"
    steps = b"(" + b"".join(map(_int, stride)) + b"t"
    rest = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _int(offset) + dims + steps + rest + b"tR"


def pickle_of(weights: dict[str, np.ndarray], more: bytes = b"") -> bytes:
    """A state dict; more: opcodes of further key and value pairs."""
    out = b"\x80\x02}("
    for i, (name, w) in enumerate(weights.items()):
        stride = tuple(s // 4 for s in w.strides)
        out += _text(name) + tensor_opcodes(str(i), w.shape, stride, w.size)
    return out + more + b"u."


def torch_zip(path: Path, weights: dict[str, np.ndarray], pickle: bytes | None = None) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle_of(weights) if pickle is None else pickle)
        archive.writestr("archive/byteorder", "little")
        for i, w in enumerate(weights.values()):
            archive.writestr(f"archive/data/{i}", np.ascontiguousarray(w if w.flags.c_contiguous else w.T).tobytes())


def torch_legacy(path: Path, weights: dict[str, np.ndarray]) -> None:
    magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    protocol = b"\x80\x02M\xe9\x03."
    system = b"\x80\x02}(" + _text("little_endian") + b"\x88u."
    keys = b"\x80\x02](" + b"".join(_text(str(i)) for i in range(len(weights))) + b"e."
    state = pickle_of(weights).replace(b"tQ", b"NtQ")  # five entries and the view that no tensor has
    data = b"".join(w.size.to_bytes(8, "little") + w.tobytes() for w in weights.values())
    path.write_bytes(magic + protocol + system + state + keys + data)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    """One protocol buffer field."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def onnx_tensor(name: str, w: np.ndarray, inside: bool = True, extra: bytes = b"") -> bytes:
    body = b"".join(field(1, dim) for dim in w.shape) + field(2, 1) + field(8, name.encode())
    return body + (field(9, w.tobytes()) if inside else b"") + extra


def onnx_constants() -> bytes:
    """What exporters keep among the weights and is none: a shape, a mask, a factor, texts."""
    each = (
        field(1, 3) + field(2, 7) + field(8, b"onnx::Reshape_77") + field(9, np.arange(3).tobytes()),
        field(1, 4) + field(2, 9) + field(8, b"mask") + field(9, bytes(4)),
        field(2, 1) + field(8, b"/model/Constant_3_output_0") + field(9, np.float32(8).tobytes()),
        field(1, 1) + field(2, 8) + field(8, b"names") + field(6, b"abc"),
    )
    return b"".join(field(5, one) for one in each)


def onnx(path: Path, weights: dict[str, np.ndarray], graph: bytes = b"") -> None:
    """As an exporter leaves it: matrices of products turned and without their names, one in a file beside."""
    outside = b""
    for i, (name, w) in enumerate(weights.items()):
        if "_proj" in name:
            anonymous = f"onnx::MatMul_{100 + i}"
            node = "/" + name.removesuffix(".weight").replace(".", "/") + "/MatMul"
            graph += field(5, onnx_tensor(anonymous, np.ascontiguousarray(w.T)))
            graph += field(
                1, field(1, b"x") + field(1, anonymous.encode()) + field(3, node.encode()) + field(4, b"MatMul")
            )
        elif name == "lm_head.weight":
            entries = {"location": "weights.bin", "offset": str(len(outside)), "length": str(w.nbytes)}
            where = b"".join(field(13, field(1, k.encode()) + field(2, v.encode())) for k, v in entries.items())
            outside += w.tobytes()
            graph += field(5, onnx_tensor(name, w, inside=False, extra=where + field(14, 1)))
        elif w.ndim == 1:
            floats = field(4, struct.pack(f"<{w.size}f", *w.tolist()))
            graph += field(5, onnx_tensor(name, w, inside=False, extra=floats))
        else:
            graph += field(5, onnx_tensor(name, w))
    path.write_bytes(field(1, 8) + field(7, graph))
    path.with_name("weights.bin").write_bytes(outside)


def original(path: Path, weights: dict[str, np.ndarray], parts: int) -> None:
    """Meta's layout: own names, rope on pairs, split over parts."""
    names = {
        "self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
        "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3", "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
        "embed_tokens": "tok_embeddings", "lm_head": "output",
    }  # fmt: skip
    turned = {}
    for name, w in weights.items():
        plain = name.removeprefix("model.")
        for theirs, ours in names.items():
            plain = plain.replace(theirs, ours)
        for word, heads in (("wq", 4), ("wk", 2)):
            if word in plain:
                w = w.reshape(heads, 2, -1, 64).swapaxes(1, 2).reshape(w.shape)
        turned[plain] = w
    path.mkdir(parents=True, exist_ok=True)
    for i in range(parts):
        part = {}
        for name, w in turned.items():
            axis = 1 if any(word in name for word in ("wo", "w2", "tok_emb")) else 0
            part[name] = w if w.ndim == 1 else np.ascontiguousarray(np.split(w, parts, axis)[i])
        torch_zip(path / f"consolidated.{i:02d}.pth", part)
    params = {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5, "vocab_size": -1}
    (path / "params.json").write_text(json.dumps(params))
