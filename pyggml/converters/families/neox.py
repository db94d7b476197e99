"""GPT-NeoX and Falcon: queries, keys and values in one matrix, group by group of heads.

Sources: transformers/models/gpt_neox, falcon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.family import Change, Config, Family, Meta, decoder
from pyggml.converters.meaning import GELU, activation
from pyggml.converters.ropes import PART_WORDS, llama3_factors, part_back, part_rope, rope


def _block(at: str, attention: str, **more: str) -> dict[str, str | tuple[str, ...]]:
    """The names of a layer, at its place."""
    names = {
        f"{attention}.query_key_value": "attn_qkv", f"{attention}.dense": "attn_output", "mlp.dense_h_to_4h": "ffn_up",
        "mlp.dense_4h_to_h": "ffn_down", "input_layernorm": "attn_norm", **more,
    }  # fmt: skip
    return {f"{at}.#.{name}": f"blk.#.{to}" for name, to in names.items()}


_NEOX: dict[str, str | tuple[str, ...]] = {
    "embed_in": "token_embd", "embed_out": "output", "lm_head": "output", "final_layer_norm": "output_norm",
    **_block("layers", "attention", post_attention_layernorm="ffn_norm"),
}  # fmt: skip
_FALCON: dict[str, str | tuple[str, ...]] = {
    "word_embeddings": "token_embd", "lm_head": "output", "ln_f": "output_norm",
    **_block("h", "self_attention", ln_mlp="attn_norm", ln_attn="attn_norm_2"),
}  # fmt: skip


def _grouped(n_kv: Callable[[Config], int]) -> Change:
    """Rows of the queries of a head of keys, its key, its value, head by head -> queries, keys, values."""

    def there(w: NDArray[Any], c: Config) -> NDArray[Any]:
        n, each = n_kv(c), c.n_head // n_kv(c)
        by = w.reshape(n, each + 2, -1, *w.shape[1:])
        return np.concatenate([part.reshape(-1, *w.shape[1:]) for part in (by[:, :-2], by[:, -2], by[:, -1])])

    def back(w: NDArray[Any], c: Config) -> NDArray[Any]:
        n, each = n_kv(c), c.n_head // n_kv(c)
        by = w.reshape(n * (each + 2), -1, *w.shape[1:])
        q, k, v = np.split(by, [n * each, n * (each + 1)])
        parts = [part.reshape(n, -1, *by.shape[1:]) for part in (q, k, v)]
        return np.concatenate(parts, axis=1).reshape(w.shape)

    return Change(there, back)


def _neox(c: Config) -> Meta:
    return decoder(c, "gptneox", layer_norm=True) | part_rope(c, "gptneox") | {
        "gptneox.attention.head_count_kv": (c.n_head, "u32"),
        "gptneox.vocab_size": (c.count("vocab_size"), "u32"),
        "gptneox.use_parallel_residual": (c.flag("use_parallel_residual", True), None),
    }  # fmt: skip


def _neox_back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key != "num_key_value_heads"}
    return part_back(said, kept) | {"use_parallel_residual": said.get("use_parallel_residual", True)}


def _falcon_heads(c: Config) -> int:
    shared = c.flag("multi_query", True)
    return 1 if shared and not c.flag("new_decoder_architecture") else c.n_head_kv


def _falcon(c: Config) -> Meta:
    n_ff = c.count("intermediate_size", default=4 * c.n_embd)
    c.get("num_ln_in_parallel_attn")  # one norm of a layer or two: its tensors say it
    return decoder(c, "falcon", n_ff=n_ff, layer_norm=True) | rope(c, "falcon") | {
        "falcon.vocab_size": (c.count("vocab_size"), "u32"),
        "falcon.attention.head_count_kv": (_falcon_heads(c), "u32"),
    }  # fmt: skip


def _falcon_back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    one = config["num_key_value_heads"] == 1
    return config | {
        "new_decoder_architecture": not one, "multi_query": one, "parallel_attn": True, "num_ln_in_parallel_attn": 1
    }  # fmt: skip


_MATRICES = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
_NORMS = ("attn_norm", "ffn_norm", "output_norm")
FAMILIES = {
    "gpt_neox": Family(
        "gptneox", _NEOX, _neox, {"attn_qkv": _grouped(lambda c: c.n_head)}, computes=activation(*GELU),
        defaults={"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25}, prefix="gpt_neox.",
        spelled={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}, named="GPTNeoXForCausalLM",
        biases={"attention_bias": _MATRICES[:2], "": (*_MATRICES[2:], *_NORMS)},
        words={**PART_WORDS, "use_parallel_residual": "use_parallel_residual"}, back=_neox_back,
    ),
    "falcon": Family(
        "falcon", _FALCON, _falcon,
        {"attn_qkv": _grouped(_falcon_heads), "attn_norm_2": Change(lambda w, c: w)}, extra=llama3_factors,
        computes={**activation(*GELU), "activation": GELU, "parallel_attn": (True,)},
        defaults={"layer_norm_eps": 1e-5, "tie_word_embeddings": True}, prefix="transformer.",
        skip=r"rotary_emb\.inv_freq$",  # ln_attn.bias is none of the masks that are left out elsewhere
        spelled={"intermediate_size": "ffn_hidden_size", "num_key_value_heads": "num_kv_heads"},
        named="FalconForCausalLM", biases={"bias": _MATRICES, "": (*_NORMS, "attn_norm_2")}, back=_falcon_back,
    ),
}  # fmt: skip
