"""StarCoder2: layer norms and biases around Llama's attention. Sources: transformers/models/starcoder2."""

from __future__ import annotations

from pyggml.converters import windows
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, Config, Family, Meta, decoder
from pyggml.converters.meaning import GELU_TANH, activation
from pyggml.converters.ropes import llama3_factors, rope

_NAMES: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if ".mlp." not in name},
    "layers.#.mlp.c_fc": "blk.#.ffn_up",
    "layers.#.mlp.c_proj": "blk.#.ffn_down",
}


def _metadata(c: Config) -> Meta:
    return (
        decoder(c, "starcoder2", layer_norm=True)
        | rope(c, "starcoder2")
        | windows.every_layer(c, "starcoder2")
        | {"starcoder2.vocab_size": (c.count("vocab_size"), "u32")}
    )


FAMILIES = {
    "starcoder2": Family(
        "starcoder2", _NAMES, _metadata, extra=llama3_factors, computes=activation(*GELU_TANH),
        defaults={"layer_norm_eps": 1e-5, "num_key_value_heads": 2, "tie_word_embeddings": True},
        spelled={"layer_norm_eps": "norm_epsilon"}, named="Starcoder2ForCausalLM",
        biases={"use_bias": (*ATTENTION, "ffn_up", "ffn_down"), "": ("attn_norm", "ffn_norm", "output_norm")},
        back=lambda said, config: {"sliding_window": None, **config},
    ),
}  # fmt: skip
