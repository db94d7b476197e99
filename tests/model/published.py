"""Random models of transformers as GGUF files by llama.cpp's tensor names: for decoders that no converter writes yet.

A Family says how its names and values differ from Llama's; nothing here knows pyggml.arch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyggml
from pyggml import _native

SIZES = dict(vocab_size=260, hidden_size=64, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=2,
             intermediate_size=96, max_position_embeddings=128, pad_token_id=0, tie_word_embeddings=False)  # fmt: skip
NAMES = {
    "embed_tokens": "token_embd", "norm": "output_norm", "final_layernorm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
POST = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """arch: GGUF's name; config: the class of transformers' config, and what it is told beyond SIZES.

    names: stems of tensors where they differ; meta: other keys (None: none); turned: q, k are stored for neighbouring
    pairs; one_more: norms are stored with their 1 added; encoder: its tokens see each other, and there are no logits;
    change: (GGUF name, values) -> names and values. read: keys that are made from the model's tensors.
    """

    arch: str
    config: str
    told: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    turned: bool = False
    one_more: bool = False
    encoder: bool = False
    change: Callable[[str, np.ndarray], dict[str, np.ndarray]] | None = None
    read: Callable[[dict[str, np.ndarray]], dict[str, Any]] | None = None


def agrees(family: Family, path: Path, ids: list[int], ask: Callable[[pyggml.Model], Iterable[np.ndarray]]) -> None:
    """Whether what is asked of a random model is what transformers says of ids, on every CPU level."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    want = make(family, path, ids)
    for isa in _native.isa_levels():
        _native.isa_force(isa)
        try:
            with pyggml.load(path, kv_type="f32") as m:
                got = list(ask(m))
        finally:
            _native.isa_force(None)
        for each in got:
            assert np.abs(each - want).max() / np.abs(want).max() < 2e-5, isa


def neighbours(w: np.ndarray, n_head: int) -> np.ndarray:
    """Rows of heads, from halves to neighbouring pairs."""
    return w.reshape(n_head, 2, -1, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def make(family: Family, path: Path, ids: list[int], seed: int = 0) -> np.ndarray:
    """Writes the GGUF of a random model -> what transformers says of ids: (len(ids), n_vocab or n_embd)."""
    import torch
    import transformers

    torch.manual_seed(seed)
    kind = getattr(transformers, family.config)
    config = kind(**{**SIZES, **family.told}, attn_implementation="eager")
    loader = transformers.AutoModel if family.encoder else transformers.AutoModelForCausalLM
    model = loader.from_config(config).eval().float()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 1:
                around = 0.0 if name.endswith("bias") or family.one_more else 1.0
                value.copy_(torch.from_numpy(rng.normal(around, 0.2, value.shape)))
            else:
                value.copy_(torch.from_numpy(rng.normal(0, 1.2 / np.sqrt(value.shape[-1]), value.shape)))
        for name, value in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                value.copy_(torch.from_numpy(rng.normal(0, 0.1, value.shape)))
        said = model(torch.tensor([ids]))
    rows: np.ndarray = (said.last_hidden_state if family.encoder else said.logits)[0].numpy()
    write(family, path, {name: value.numpy() for name, value in model.state_dict().items()}, config)
    return rows


def write(family: Family, path: Path, state: dict[str, np.ndarray], config: Any) -> None:
    n_kv = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    heads = {"attn_q": config.num_attention_heads, "attn_k": n_kv}
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    tied = config.tie_word_embeddings
    meta = {
        "context_length": config.max_position_embeddings, "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": n_kv,
        "attention.key_length": head_dim, "attention.value_length": head_dim, "rope.dimension_count": head_dim,
        "rope.freq_base": 10000.0, "attention.layer_norm_rms_epsilon": 1e-6,
    } | family.meta | (family.read(state) if family.read else {})  # fmt: skip
    if family.encoder:
        meta["attention.causal"] = False
    with pyggml.gguf.Writer(path) as out:
        out.add("general.architecture", family.arch)
        for key, value in meta.items():
            if value is not None:
                out.add(f"{family.arch}.{key}", value)
        for name, value in state.items():
            if (tied and name == "lm_head.weight") or name.startswith("pooler."):
                continue
            for target, values in (family.change or (lambda n, v: {n: v}))(named(family, name), value).items():
                stem = target.split(".")[-2]
                if family.turned and stem in heads:
                    values = neighbours(values, heads[stem])
                if family.one_more and target.endswith("norm.weight"):
                    values = values + 1
                values = np.ascontiguousarray(values, np.float32)
                out.add_tensor(target, values.shape, "f32", values)


def named(family: Family, name: str) -> str:
    """model.layers.3.self_attn.q_proj.weight -> blk.3.attn_q.weight."""
    parts = name.split(".")
    end = parts.pop() if parts[-1] in ("weight", "bias") else "weight"
    parts = parts[1:] if parts[0] in ("model", "gpt_neox", "transformer") else parts
    parts = ["layers", *parts[2:]] if parts[:2] == ["encoder", "layer"] else parts
    parts = ["layers", *parts[1:]] if parts[0] == "h" else parts
    names = {**NAMES, **family.names}
    if parts[0] == "layers":
        return f"blk.{parts[1]}.{names['.'.join(parts[2:])]}.{end}"
    return f"{names['.'.join(parts)]}.{end}"
