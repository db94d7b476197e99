"""Good files for each reader, small and made by hand: what the fuzzer changes."""

from __future__ import annotations

import base64
import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from attack import build as b
from converters import checkpoint
from converters.vocabularies import unigram

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def gguf() -> list[bytes]:
    """Files that together use every value type, nesting, alignment and several tensor types."""
    scalars = [b.pair(f"s{kind}", b.val(kind, 1)) for kind in b.FORMS]
    arrays = [b.pair(f"a{kind}", b.arr(kind, [0, 1])) for kind in b.FORMS]
    strings = [b.pair("t", b.string("text")), b.pair("u", b.arr(b.STR, ["a", b"\xff", ""]))]
    nested = struct.pack("<IQ", b.ARR, 2) + b.arr(b.U8, [1, 2])[1] + b.arr(b.STR, ["x"])[1]
    aligned = [b.pair("general.alignment", b.u32(64))]
    types = [(0, 4), (1, 8), (2, 64), (8, 32), (12, 256), (14, 256), (15, 256), (26, 3), (39, 32), (42, 64)]
    records = [b.tensor(f"t{kind}", [k, 2], kind, 1024 * i) for i, (kind, k) in enumerate(types)]
    tiny = [b.pair(key, value) for key, value in b.LLAMA.items()]
    scaling = {"llama.rope.scaling.type": b.string("yarn"), "llama.rope.scaling.factor": b.f32(4.0)}
    return [
        b.gguf(),
        b.gguf(version=2),
        b.gguf(scalars),
        b.gguf(arrays),
        b.gguf(strings),
        b.gguf([b.pair("n", (b.ARR, nested))]),
        b.gguf(aligned, [b.tensor("t", [4])], bytes(16), alignment=64),
        b.gguf([], records, bytes(1024 * len(types))),
        b.gguf([b.pair("split.count", b.val(b.U16, 2)), b.pair("split.no", b.val(b.U16, 0))]),
        b.llama()[:1400],
        b.gguf(tiny, [b.tensor("token_embd.weight", [32, 1])], bytes(128)),
        b.gguf(tiny + [b.pair(key, value) for key, value in scaling.items()]),
    ]


def _made(write: Callable[..., None], *more: object) -> bytes:
    """The bytes of what a writer of the tests leaves, for two small tensors."""
    weights = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(3, np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        write(path, weights, *more)
        return path.read_bytes()


def safetensors() -> list[bytes]:
    """With and without metadata, and with nothing in it."""
    whole = _made(checkpoint.safetensors)
    table = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    head = json.dumps({"__metadata__": {"format": "pt"}, **table}).encode()
    return [whole, len(head).to_bytes(8, "little") + head + bytes(60), (2).to_bytes(8, "little") + b"{}"]


def pickled() -> list[bytes]:
    """Zip archives, plain and deflated."""
    more = checkpoint._text("epoch") + b"K\x03" + checkpoint._text("list") + b"](K\x01K\x02e"
    weights = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4)}
    return [
        _made(checkpoint.torch_zip),
        _made(checkpoint.torch_zip, checkpoint.pickle_of(weights, more)),
        _made(
            checkpoint.torch_zip, b"\x80\x02}" + checkpoint._text("model") + checkpoint.pickle_of(weights)[2:-1] + b"s."
        ),
    ]


def legacy() -> list[bytes]:
    """The older run of pickles."""
    return [_made(checkpoint.torch_legacy)]


def onnx() -> list[bytes]:
    """Inline, listed, external and anonymous initialisers."""
    weights = checkpoint.tensors()
    names = ("model.norm.weight", "model.layers.0.self_attn.k_proj.weight", "lm_head.weight")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        checkpoint.onnx(
            path, {name: weights[name][:4] if weights[name].ndim == 1 else weights[name][:2, :4] for name in names}
        )
        return [path.read_bytes()]


def npz() -> list[bytes]:
    """Stored and deflated arrays."""
    found = []
    for save in (np.savez, np.savez_compressed):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.npz"
            values = {"a": np.arange(12.0).reshape(3, 4), "f": np.asfortranarray(np.ones((2, 3), np.float16))}
            save(path, **values, **{"c:bf16": np.ones(3, np.uint16)})
            found.append(path.read_bytes())
    return found


def sentencepiece() -> list[bytes]:
    """A BPE model of a few pieces."""
    field = checkpoint.field
    pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3), ("<0x41>", 6), ("\u2581a", 1), ("b", 4)]
    rows = b"".join(
        field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", -i) + field(3, kind))
        for i, (text, kind) in enumerate(pieces)
    )
    trainer = field(2, field(3, 2) + field(40, 0) + field(41, 1) + field(42, 2) + field(43, (1 << 64) - 1))
    return [rows + trainer + field(3, field(3, 1))]


def imatrix() -> list[bytes]:
    """Both forms."""
    dat = struct.pack("<i", 2)
    for name in (b"blk.0.a.weight", b"b"):
        dat += struct.pack("<i", len(name)) + name + struct.pack("<ii4f", 3, 4, 1, 2, 3, 4)
    dat += struct.pack("<ii", 5, 4) + b"text"
    records = [b.tensor("w.in_sum2", [4, 2], 0, 0), b.tensor("w.counts", [1, 2], 0, 32)]
    pairs = [
        b.pair("general.type", b.string("imatrix")),
        b.pair("imatrix.datasets", b.arr(b.STR, ["x"])),
        b.pair("imatrix.chunk_count", b.u32(3)),
        b.pair("imatrix.chunk_size", b.u32(512)),
    ]
    return [dat, b.gguf(pairs, records, struct.pack("<8f", *range(8)) + struct.pack("<2f", 1, 2))]


TOML = b"""base = "Q4_K_M"
embedding_type = 'q8_0'
max_size = "4GiB" # at most
smaller = ["Q4_K_S", "Q3_K_M"]
note = \"\"\"two
lines\"\"\"
[types]
attention_value = "q6_k"
"ffn_(up|gate)" = "q4_0"
[[rules]]
match = "blk\\\\.[0-9]+\\\\.(?!x).*down"
layers = "first 4, last 4, 7-9, -1"
type = "q6_k"
[keep]
norm = "f32"
"""
YAML = b"""base: Q4_K_M
max_size: 4GiB
types:
  attention_value: q6_k
  router:
rules:
  - {match: "(ffn|attn)_+", type: q4_0, layers: [1, 2]}
  - match: down
    type: q5_k
    layers: 3
keep: [norm, bias]
"""


def toml() -> list[bytes]:
    """A recipe."""
    return [TOML]


def yaml() -> list[bytes]:
    """The same as YAML."""
    return [YAML]


def costs() -> list[bytes]:
    """What Sensitivity.save writes."""
    row = {"name": "w", "shape": [4, 8], "old": "f32", "error": {"q4_0": 0.1, "q8_0": 0.01}, "kl": {"q4_0": 0.2}}
    return [json.dumps([row]).encode()]


def template() -> list[bytes]:
    """Chat templates with most constructs."""
    texts = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}{% if not loop.last %}\n{% endif %}"
        "{% endfor %}",
        "{%- macro f(x, y=2) -%}{{ x ~ y }}{%- endmacro -%}{% set ns = namespace(a=[]) %}{{ f(1) }}{{ f('a' * 3) }}",
        "{{ '%5s|%(a)d' % {'a': 3} }}{{ '{:>4}{0!r}'.format(1) }}{{ [1, 2][::-1] | join }}",
        "{% if tools %}{{ raise_exception('no') }}{% elif messages[0].content is string %}{{ messages | length }}"
        "{% endif %}{{ messages | tojson(indent=2) }}",
        "{{ 'abc'.split('b')[0].replace('a', 'bb').upper() }}{{ 2 ** 5 // 3 }}{{ range(3) | map('string') | list }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list }}{{ strftime_now('%Y') }}{% break %}",
    )
    return [text.encode() for text in texts]


def vocab() -> list[bytes]:
    """Tokenizer metadata as JSON."""
    table = json.loads((GOLDEN / "tokenizers.json").read_text(encoding="utf-8"))
    found = []
    for each in table.values():
        text = json.dumps(each["metadata"]).encode()
        if len(text) < 60_000:
            found.append(text)
    return [*found, json.dumps(_ugm()).encode()]


def _unigram() -> dict[str, Any]:
    """A Unigram tokenizer.json whose normalizer knows two rules."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write("41\t61\nFB01\t66 69\n")
        rules.flush()
        return unigram(True, vocab_size=60, normalization_rule_tsv=rules.name)


def _ugm() -> dict[str, Any]:
    """The same as tokenizer metadata."""
    table = _unigram()
    texts, scores = zip(*table["model"]["vocab"], strict=True)
    charsmap = base64.b64decode(table["normalizer"]["normalizers"][0]["precompiled_charsmap"])
    return {
        "tokenizer.ggml.model": "t5", "tokenizer.ggml.tokens": texts, "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [3, 3, 3, 2] + [1] * (len(texts) - 4), "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.precompiled_charsmap": list(charsmap), "tokenizer.ggml.remove_extra_whitespaces": True,
        "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.add_bos_token": True,
    }  # fmt: skip


def folder() -> list[bytes]:
    """The small files of a model's directory: name, a zero byte, content."""
    with tempfile.TemporaryDirectory() as place:
        path = checkpoint.folder(Path(place) / "m")
        (path / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        (path / "generation_config.json").write_text('{"eos_token_id": [259, 260], "bos_token_id": 259}')
        (path / "special_tokens_map.json").write_text('{"bos_token": {"content": "<|bos|>"}, "pad_token": "<|eos|>"}')
        table = json.dumps({"weight_map": dict.fromkeys(checkpoint.tensors(), "model.safetensors")})
        (path / "model.safetensors.index.json").write_text(table)
        found = [each.name.encode() + b"\0" + each.read_bytes() for each in sorted(path.iterdir())]
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    more = {**checkpoint.CONFIG, "rope_scaling": yarn, "eos_token_id": [1, 2], "text_config": {"rope_theta": 1e6}}
    words = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(97, 123)), "##a"])
    found += [b"tokenizer.json\0" + json.dumps(_unigram()).encode()]
    found += [b"config.json\0" + json.dumps(more).encode(), b"vocab.txt\0" + words.encode()]
    return found + [b"tokenizer.model\0" + each for each in sentencepiece()]


ALL: dict[str, Callable[[], list[bytes]]] = {
    each.__name__: each
    for each in (
        gguf, safetensors, pickled, legacy, onnx, npz, sentencepiece, imatrix, toml, yaml, costs, template, vocab,
        folder,
    )
}  # fmt: skip
