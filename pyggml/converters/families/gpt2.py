"""GPT-2: learned positions, layer norms, matrices stored (in, out)."""

from __future__ import annotations

from pyggml.converters.family import TURNED, Config, Family, Meta
from pyggml.converters.meaning import GELU_TANH, activation

_NAMES: dict[str, str | tuple[str, ...]] = {
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
    "lm_head": "output",
    "h.#.ln_1": "blk.#.attn_norm",
    "h.#.attn.c_attn": "blk.#.attn_qkv",
    "h.#.attn.c_proj": "blk.#.attn_output",
    "h.#.ln_2": "blk.#.ffn_norm",
    "h.#.mlp.c_fc": "blk.#.ffn_up",
    "h.#.mlp.c_proj": "blk.#.ffn_down",
}


def _metadata(c: Config) -> Meta:
    return {
        "gpt2.block_count": (c.n_layer, "u32"),
        "gpt2.context_length": (c.n_ctx, "u32"),
        "gpt2.embedding_length": (c.n_embd, "u32"),
        "gpt2.feed_forward_length": (c.count("intermediate_size", default=4 * c.n_embd), "u32"),
        "gpt2.attention.head_count": (c.n_head, "u32"),
        "gpt2.attention.layer_norm_epsilon": (c.number("layer_norm_eps", default=1e-5), "f32"),
    }


FAMILIES = {
    "gpt2": Family(
        "gpt2",
        _NAMES,
        _metadata,
        {f"{stem}.weight": TURNED for stem in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")},
        skip=r"\.attn\.(masked_)?bias$",
        computes={**activation(*GELU_TANH), "scale_attn_weights": (True,)},
        defaults={"tie_word_embeddings": True},
        prefix="transformer.",
        spelled={
            "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
            "intermediate_size": "n_inner", "layer_norm_eps": "layer_norm_epsilon",
            "max_position_embeddings": "n_positions",
        },
    )
}  # fmt: skip
