"""Writes lfm2.json: what transformers' Lfm2ForCausalLM says of a tiny random model. Run by hand, with torch.

The weights come from numpy by name and shape, so that the test makes the same model without transformers. The file
holds logits of some positions and columns, and the ids that greedy decoding goes on with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PATH = Path(__file__).with_name("lfm2.json")
N_VOCAB, N_EMBD, N_FF, N_HEAD, N_HEAD_KV, L_CACHE = 96, 64, 80, 4, 2, 3
LAYERS = ("conv", "conv", "full_attention", "conv", "full_attention", "conv")
IDS = [1, *np.random.default_rng(5).integers(2, N_VOCAB, 39).tolist()]
ROWS, COLS, GREEDY = (0, 1, 2, 3, 17, 39), slice(0, None, 3), 12
NAMES = {
    "token_embd": "model.embed_tokens", "token_embd_norm": "model.embedding_norm", "attn_norm": "operator_norm",
    "ffn_norm": "ffn_norm", "ffn_gate": "feed_forward.w1", "ffn_up": "feed_forward.w3", "ffn_down": "feed_forward.w2",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.out_proj", "attn_q_norm": "self_attn.q_layernorm",
    "attn_k_norm": "self_attn.k_layernorm", "shortconv.conv": "conv.conv", "shortconv.in_proj": "conv.in_proj",
    "shortconv.out_proj": "conv.out_proj",
}  # fmt: skip


def weights() -> dict[str, NDArray[np.float32]]:
    """GGUF's names -> values."""
    head = N_EMBD // N_HEAD
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (N_VOCAB, N_EMBD), "token_embd_norm": (N_EMBD,)}
    common = {"attn_norm": (N_EMBD,), "ffn_norm": (N_EMBD,), "ffn_gate": (N_FF, N_EMBD), "ffn_up": (N_FF, N_EMBD),
              "ffn_down": (N_EMBD, N_FF)}  # fmt: skip
    attends = {"attn_q": (N_EMBD, N_EMBD), "attn_k": (N_HEAD_KV * head, N_EMBD), "attn_v": (N_HEAD_KV * head, N_EMBD),
               "attn_output": (N_EMBD, N_EMBD), "attn_q_norm": (head,), "attn_k_norm": (head,)}  # fmt: skip
    convolves = {"shortconv.conv": (N_EMBD, L_CACHE), "shortconv.in_proj": (3 * N_EMBD, N_EMBD),
                 "shortconv.out_proj": (N_EMBD, N_EMBD)}  # fmt: skip
    for i, kind in enumerate(LAYERS):
        own: dict[str, tuple[int, ...]] = {**common, **(convolves if kind == "conv" else attends)}
        shapes |= {f"blk.{i}.{name}": shape for name, shape in own.items()}
    made = {}
    for i, (name, shape) in enumerate(shapes.items()):
        rng = np.random.default_rng(1000 + i)
        values = rng.normal(1, 0.2, shape) if len(shape) == 1 else rng.normal(0, 1.2 / np.sqrt(shape[-1]), shape)
        made[f"{name}.weight"] = values.astype(np.float32)
    return made


def metadata() -> dict[str, Any]:
    """Keys as llama.cpp's converter writes them."""
    return {
        "general.architecture": "lfm2", "lfm2.block_count": len(LAYERS), "lfm2.context_length": 128,
        "lfm2.embedding_length": N_EMBD, "lfm2.feed_forward_length": N_FF, "lfm2.attention.head_count": N_HEAD,
        "lfm2.attention.head_count_kv": [N_HEAD_KV if kind != "conv" else 0 for kind in LAYERS],
        "lfm2.attention.layer_norm_rms_epsilon": 1e-5, "lfm2.rope.freq_base": 1e6, "lfm2.vocab_size": N_VOCAB,
        "lfm2.shortconv.l_cache": L_CACHE,
    }  # fmt: skip


def _published(name: str) -> str:
    parts = name.removesuffix(".weight").split(".")
    if parts[0] != "blk":
        return f"{NAMES[parts[0]]}.weight"
    return f"model.layers.{parts[1]}.{NAMES['.'.join(parts[2:])]}.weight"


def main() -> None:
    import torch
    from transformers import Lfm2Config, Lfm2ForCausalLM

    config = Lfm2Config(
        vocab_size=N_VOCAB, hidden_size=N_EMBD, intermediate_size=N_FF, num_hidden_layers=len(LAYERS),
        num_attention_heads=N_HEAD, num_key_value_heads=N_HEAD_KV, max_position_embeddings=128, norm_eps=1e-5,
        rope_theta=1e6, conv_L_cache=L_CACHE, conv_bias=False, block_auto_adjust_ff_dim=False,
        layer_types=list(LAYERS), tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    model = Lfm2ForCausalLM(config).eval().float()
    state = {_published(name): torch.from_numpy(values) for name, values in weights().items()}
    state = {name: values[:, None] if ".conv.conv." in name else values for name, values in state.items()}
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    ids = list(IDS)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
        for _ in range(GREEDY):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    rows = [[float(f"{x:.7g}") for x in logits[row, COLS]] for row in ROWS]
    PATH.write_text(json.dumps({"logits": rows, "greedy": ids[len(IDS) :]}) + "\n")


if __name__ == "__main__":
    main()
