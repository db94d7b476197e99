"""Makes mixes.json: which type llama.cpp's quantizer gives each tensor, for skeleton models of many shapes.

    python tests/golden/make_mixes.py          (from the checkout; needs the oracle extra)

A skeleton has the metadata and tensor names of a model and two rows a matrix: the quantizer chooses by names and
numbers, never by what a matrix holds. Its tensors are described by SKELETONS, so the test builds the same ones.
mixes.json: {skeleton: {"ftype" or "ftype+imatrix": {stem: types of layer 0, 1, ... as "type*run ..."}}}; null where
llama.cpp refuses.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

DENSE = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
FUSED = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
MOE = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
SHARED = (*MOE, "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp")
MLA = ("attn_q", "attn_kv_a_mqa", "attn_kv_b", "attn_output", "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps",
       "ffn_down_exps", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp")  # fmt: skip


@dataclass(frozen=True)
class Skeleton:
    """Numbers and tensor stems of a model; k is the row length of all, ks names other ones, first those of layer 0."""

    arch: str = "llama"
    n_layer: int = 8
    n_head: int = 8
    n_head_kv: int = 8
    n_expert: int = 0
    tied: bool = False
    stems: tuple[str, ...] = DENSE
    first: tuple[str, ...] = ()
    k: int = 256
    ks: dict[str, int] = field(default_factory=dict)

    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        """(name, shape) of every tensor."""
        made = [("token_embd.weight", (2, self.k)), ("output_norm.weight", (self.k,))]
        if not self.tied:
            made.append(("output.weight", (2, self.k)))
        for i in range(self.n_layer):
            made.append((f"blk.{i}.attn_norm.weight", (self.k,)))
            for stem in self.first if i == 0 and self.first else self.stems:
                k = self.ks.get(stem, self.k)
                shape = (self.n_expert, 2, k) if stem.endswith("_exps") else (2, k)
                made.append((f"blk.{i}.{stem}.weight", shape))
                if stem == "attn_q" and self.arch == "qwen2":
                    made.append((f"blk.{i}.{stem}.bias", (2,)))
        return made

    def metadata(self) -> dict[str, object]:
        """What the quantizer must be told."""
        a = self.arch
        meta: dict[str, object] = {
            "general.architecture": a, f"{a}.context_length": 64, f"{a}.embedding_length": self.k,
            f"{a}.block_count": self.n_layer, f"{a}.feed_forward_length": self.k,
            f"{a}.attention.head_count": self.n_head, f"{a}.attention.head_count_kv": self.n_head_kv,
            f"{a}.attention.layer_norm_rms_epsilon": 1e-5,
            f"{a}.attention.layer_norm_epsilon": 1e-5, f"{a}.rope.dimension_count": 32, f"{a}.vocab_size": 2,
        }  # fmt: skip
        if self.n_expert:
            meta |= {f"{a}.expert_count": self.n_expert, f"{a}.expert_used_count": 2}
            meta |= {f"{a}.expert_feed_forward_length": self.k, f"{a}.expert_shared_feed_forward_length": self.k}
        if a == "deepseek2":
            meta |= {
                f"{a}.leading_dense_block_count": 1, f"{a}.attention.kv_lora_rank": 64, f"{a}.attention.q_lora_rank": 0,
                f"{a}.attention.key_length": 96, f"{a}.attention.value_length": 64,
                f"{a}.expert_shared_count": 1, f"{a}.expert_weights_scale": 1.0,
            }  # fmt: skip
        return meta


SKELETONS = {
    "dense-8": Skeleton(n_layer=8),
    "dense-32": Skeleton(n_layer=32),
    "dense-27": Skeleton(n_layer=27, n_head=9, n_head_kv=3, tied=True, arch="qwen2"),
    "gqa4-28": Skeleton(n_layer=28, n_head_kv=2, tied=True),
    "gqa-80": Skeleton(n_layer=80, n_head_kv=1),
    "mha-80": Skeleton(n_layer=80),
    "experts8-16": Skeleton(n_layer=16, n_head_kv=2, n_expert=8, stems=MOE),
    "experts4-12": Skeleton(n_layer=12, n_expert=4, stems=SHARED, arch="qwen2moe"),
    "experts3-12": Skeleton(n_layer=12, n_expert=3, stems=MOE, tied=True),
    "mla-17": Skeleton(n_layer=17, n_expert=16, stems=MLA, first=("attn_q", "attn_kv_a_mqa", "attn_kv_b", "attn_output",
                       "ffn_gate", "ffn_up", "ffn_down"), arch="deepseek2"),
    "falcon-32": Skeleton(n_layer=32, arch="falcon", stems=FUSED, n_head_kv=1),
    "fused-12": Skeleton(n_layer=12, arch="gpt2", stems=FUSED, tied=True),
    "odd-6": Skeleton(n_layer=6, n_head=10, n_head_kv=5, k=320, ks={"ffn_down": 100, "attn_output": 64}),
    "odd-tied-6": Skeleton(n_layer=6, n_head=9, n_head_kv=9, k=288, ks={"ffn_down": 256}, tied=True),
}  # fmt: skip


def write(path: Path, skeleton: Skeleton) -> None:
    """The skeleton as an F32 file."""
    import pyggml

    rng = np.random.default_rng(0)
    with pyggml.gguf.Writer(path) as out:
        for key, value in skeleton.metadata().items():
            out.add(key, value)
        for name, shape in skeleton.tensors():
            out.add_tensor(name, shape, "f32", rng.normal(size=shape).astype(np.float32))


def imatrix_of(skeleton: Skeleton) -> dict[str, np.ndarray]:
    """Ones for every matrix."""
    return {
        name: np.ones((shape[0] if len(shape) == 3 else 1) * shape[-1], np.float32)
        for name, shape in skeleton.tensors()
        if len(shape) > 1
    }


def fold(types: dict[str, str]) -> dict[str, str]:
    """{stem: "type*run type*run"} over the layers, as many tensors share a stem."""
    by_stem: dict[str, list[str]] = {}
    ordered = sorted(types.items(), key=lambda item: int((re.match(r"blk\.(\d+)\.", item[0]) or [0, 0])[1]))
    for name, kind in ordered:
        by_stem.setdefault(re.sub(r"^blk\.\d+\.", "", name), []).append(kind)
    return {
        stem: " ".join(f"{kind}*{len(list(run))}" for kind, run in itertools.groupby(kinds))
        for stem, kinds in sorted(by_stem.items())
        if not stem.endswith((".bias", "_norm.weight"))
    }


def main() -> None:
    """Runs llama.cpp's quantizer on every skeleton with every type."""
    from oracle import llama_quantize

    table: dict[str, dict[str, dict[str, str] | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        src, dst = Path(folder) / "src.gguf", Path(folder) / "dst.gguf"
        for name, skeleton in SKELETONS.items():
            write(src, skeleton)
            rows = table[name] = {}
            for ftype in llama_quantize.FTYPES:
                for mark, imatrix in (("", None), ("+imatrix", imatrix_of(skeleton))):
                    types = llama_quantize.quantize(src, dst, ftype, imatrix=imatrix)
                    rows[ftype + mark] = None if types is None else fold(types)
                if rows[ftype + "+imatrix"] == rows[ftype]:
                    del rows[ftype + "+imatrix"]
            print(name, flush=True)
    target = Path(__file__).with_name("mixes.json")
    target.write_text(json.dumps(table, indent=0) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
