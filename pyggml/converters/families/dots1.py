"""dots.llm1 and MiniMax-M2: experts chosen by a sigmoid and a bias. Sources: transformers/models/dots1, minimax_m2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters import windows
from pyggml.converters.families.glm import EXPERTS, SIGMOID, SIGMOID_WORDS, sigmoid
from pyggml.converters.families.llama import MIXTRAL, NAMES
from pyggml.converters.family import ATTENTION, SPLIT_EXPERTS, Config, Family, Meta, decoder
from pyggml.converters.meaning import Values
from pyggml.converters.ropes import PART_WORDS, llama3_factors, part_back, part_rope, rope
from pyggml.errors import UnsupportedError

_QK_NORMS = {f"layers.#.self_attn.{part}_norm": f"blk.#.attn_{part}_norm" for part in ("q", "k")}
_BIAS = "e_score_correction_bias"
_DOTS: dict[str, str | tuple[str, ...]] = {
    **NAMES, **_QK_NORMS, **EXPERTS, f"layers.#.mlp.gate.{_BIAS}": "blk.#.exp_probs_b.bias",
}  # fmt: skip
_MINIMAX: dict[str, str | tuple[str, ...]] = {
    **MIXTRAL, **_QK_NORMS, f"layers.#.block_sparse_moe.{_BIAS}": "blk.#.exp_probs_b.bias",
    f"layers.#.mlp.{_BIAS}": "blk.#.exp_probs_b.bias",
}  # fmt: skip


def _dots(c: Config) -> Meta:
    first, told, window = c.index("max_window_layers"), c.get("layer_types"), c.get("sliding_window")
    kinds = told if told is not None else [windows.SLIDING if window and i >= first else windows.FULL
                                           for i in range(c.n_layer)]  # fmt: skip
    if windows.SLIDING in kinds and not (window and c.count("sliding_window") >= c.n_ctx):
        key = "layer_types" if told is not None else "max_window_layers"
        raise c.refused(key, c.get(key), "layers with a window, which a GGUF of dots1 cannot say")
    return decoder(c, "dots1") | rope(c, "dots1") | sigmoid(c, "dots1")


def _minimax(c: Config) -> Meta:
    arch, kinds = "minimax-m2", c.get("attn_type_list")
    if kinds is not None and kinds != [1] * c.n_layer:
        raise c.refused("attn_type_list", kinds, "layers that do not attend by scores")
    meta = decoder(c, arch) | part_rope(c, arch) | {
        f"{arch}.vocab_size": (c.count("vocab_size"), "u32"),
        f"{arch}.expert_count": (c.count("num_experts"), "u32"),
        f"{arch}.expert_used_count": (c.count("num_experts_per_tok"), "u32"),
        f"{arch}.expert_feed_forward_length": (c.count("intermediate_size"), "u32"),
        f"{arch}.expert_gating_func": (2, "u32"),
    }  # fmt: skip
    if c.get("rotary_dim") is not None and c.rope().get("partial_rotary_factor") is None:
        n_rot = c.count("rotary_dim")
        if n_rot > c.head_dim:
            raise c.refused("rotary_dim", n_rot, f"heads have {c.head_dim} values")
        meta[f"{arch}.rope.dimension_count"] = (n_rot, "u32")
    return meta


def _gated(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The way back of a router that is a sigmoid."""
    if said.get("expert_gating_func", 2) != 2:
        raise UnsupportedError(
            f"expert_gating_func is {said['expert_gating_func']}: the routers of a {config['model_type']} model are "
            "sigmoids, so the export would be another model"
        )
    return config | {"scoring_func": "sigmoid"}


def _dots_back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    one: dict[str, Any] = dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1)
    normed = said.get("expert_weights_norm", False)
    return _gated(said, {"routed_scaling_factor": 1.0, "first_k_dense_replace": 0, **one, **config}) | {
        "norm_topk_prob": normed, "sliding_window": None, "max_window_layers": config["num_hidden_layers"],
    }  # fmt: skip


def _minimax_back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    return part_back(said, _gated(said, config))


_ONE: dict[str, Values] = {
    **SIGMOID, "use_routing_bias": (True,), "use_qk_norm": (True,), "qk_norm_type": ("per_layer",),
    "shared_intermediate_size": (0,),
}  # fmt: skip
FAMILIES = {
    "dots1": Family(
        "dots1", _DOTS, _dots, SPLIT_EXPERTS, extra=llama3_factors, computes=SIGMOID, named="Dots1ForCausalLM",
        biases={"attention_bias": ATTENTION, "": ("exp_probs_b",)}, back=_dots_back,
        words=SIGMOID_WORDS,
        defaults={"rms_norm_eps": 1e-6, "num_key_value_heads": 32, "n_group": 1, "topk_group": 1,
                  "first_k_dense_replace": 0, "norm_topk_prob": False, "sliding_window": 4096, "max_window_layers": 62},
    ),
    "minimax_m2": Family(
        "minimax-m2", _MINIMAX, _minimax, SPLIT_EXPERTS, computes=_ONE, named="MiniMaxM2ForCausalLM",
        biases={"": ("exp_probs_b",)}, back=_minimax_back,
        words={**PART_WORDS, "expert_gating_func": "scoring_func", "expert_count": "num_local_experts",
               "expert_feed_forward_length": "intermediate_size"},
        defaults={"rms_norm_eps": 1e-6, "num_key_value_heads": 8, "head_dim": 128, "rope_theta": 5e6,
                  "num_experts": 256, "num_experts_per_tok": 8, "intermediate_size": 1536},
    ),
}  # fmt: skip
