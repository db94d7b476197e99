"""gpt-oss: experts with biases and a capped SwiGLU, sinks, windows in every other layer, YaRN with an exact ramp.

Sources: transformers/models/gpt_oss; the names of llama.cpp. Checkpoints hold their experts in MXFP4: mxfp4.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters import windows
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import Change, Config, Family, Meta, decoder
from pyggml.converters.meaning import SILU, activation
from pyggml.converters.ropes import rope

_NAMES: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if ".mlp." not in name},
    "layers.#.post_attention_layernorm": "blk.#.post_attention_norm",
    "layers.#.self_attn.sinks": "blk.#.attn_sinks",
    "layers.#.mlp.router": "blk.#.ffn_gate_inp",
    "layers.#.mlp.experts.gate_up_proj": ("blk.#.ffn_gate_exps", "blk.#.ffn_up_exps"),
    "layers.#.mlp.experts.gate_up_proj_bias": ("blk.#.ffn_gate_exps.bias", "blk.#.ffn_up_exps.bias"),
    "layers.#.mlp.experts.down_proj": "blk.#.ffn_down_exps",
    "layers.#.mlp.experts.down_proj_bias": "blk.#.ffn_down_exps.bias",
}


def turned(w: NDArray[Any]) -> NDArray[Any]:
    """Experts' matrices lie as (in, out); their biases are vectors."""
    return np.ascontiguousarray(w.swapaxes(1, 2) if w.ndim == 3 else w)


def _metadata(c: Config) -> Meta:
    windows.as_built(c, [windows.FULL if i % 2 else windows.SLIDING for i in range(c.n_layer)])
    return decoder(c, "gpt-oss") | rope(c, "gpt-oss", carried=("default", "linear", "yarn"), exact=True) | {
        "gpt-oss.expert_count": (c.count("num_local_experts"), "u32"),
        "gpt-oss.expert_used_count": (c.count("num_experts_per_tok"), "u32"),
        "gpt-oss.expert_feed_forward_length": (c.count("intermediate_size"), "u32"),
        "gpt-oss.attention.sliding_window": (c.count("sliding_window"), "u32"),
    }  # fmt: skip


FAMILIES = {
    "gpt_oss": Family(
        "gpt-oss",
        _NAMES,
        _metadata,
        {
            "ffn_gate_exps": Change(lambda w, c: turned(w[..., 0::2])),
            "ffn_up_exps": Change(lambda w, c: turned(w[..., 1::2])),
            "ffn_down_exps": Change(lambda w, c: turned(w)),
        },
        computes={**activation(*SILU), "swiglu_limit": (7.0,), "swiglu_alpha": (1.702,),
                  "attention_bias": (True, False)},
        defaults={"rms_norm_eps": 1e-5, "sliding_window": 128, "head_dim": 64, "num_key_value_heads": 8,
                  "num_local_experts": 128, "num_experts_per_tok": 4},
    ),
}  # fmt: skip
