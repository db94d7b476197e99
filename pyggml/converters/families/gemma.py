"""Gemma 1, 2 and 3 (text). Norm weights are stored minus one and become whole here."""

from __future__ import annotations

from pyggml.converters import windows
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ONE_MORE, Change, Config, Family, Meta, decoder
from pyggml.converters.meaning import GELU_TANH, Values
from pyggml.converters.ropes import base, rope, rope_type, whole_head

POST_NORMS: dict[str, str | tuple[str, ...]] = {
    **NAMES,
    "layers.#.post_attention_layernorm": "blk.#.post_attention_norm",
    "layers.#.pre_feedforward_layernorm": "blk.#.ffn_norm",
    "layers.#.post_feedforward_layernorm": "blk.#.post_ffw_norm",
    "layers.#.self_attn.q_norm": "blk.#.attn_q_norm",
    "layers.#.self_attn.k_norm": "blk.#.attn_k_norm",
}
NORMS: dict[str, Change] = dict.fromkeys(
    ("output_norm", "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm", "attn_q_norm", "attn_k_norm"),
    ONE_MORE,
)


_ROPES = ("default", "linear", "yarn")
_WIDE = {"gemma2": 46, "gemma3": 62}  # layers of the 27B models


def scalar(c: Config, arch: str) -> int:
    """What the architecture divides its scores by the root of: a head's width, but the share of a head in the 27B ones.

    No key of a GGUF says it, runtimes go by the number of layers.
    """
    return c.n_embd // c.n_head if c.n_layer == _WIDE.get(arch) else c.head_dim


def _base(c: Config, arch: str) -> Meta:
    return decoder(c, arch, head_dim=False) | {
        f"{arch}.attention.key_length": (c.head_dim, "u32"),
        f"{arch}.attention.value_length": (c.head_dim, "u32"),
    }


def _check_scalar(c: Config, arch: str) -> None:
    said, right = c.number("query_pre_attn_scalar"), scalar(c, arch)
    if said != right:
        raise c.refused("query_pre_attn_scalar", said, f"a {arch} GGUF has no key for it, its runtimes take {right}")


def _gemma(c: Config) -> Meta:
    return _base(c, "gemma") | rope(c, "gemma", carried=_ROPES)


def _gemma2(c: Config) -> Meta:
    _check_scalar(c, "gemma2")
    windows.as_built(c, [windows.FULL if i % 2 else windows.SLIDING for i in range(c.n_layer)])
    return _base(c, "gemma2") | rope(c, "gemma2", carried=_ROPES) | {
        "gemma2.attn_logit_softcapping": (c.positive("attn_logit_softcapping"), "f32"),
        "gemma2.final_logit_softcapping": (c.positive("final_logit_softcapping"), "f32"),
        "gemma2.attention.sliding_window": (c.count("sliding_window"), "u32"),
    }  # fmt: skip


def gemma3(c: Config, arch: str = "gemma3") -> Meta:
    """Keys of Gemma 3, by the name of an architecture."""
    _check_scalar(c, arch)
    if c.count("sliding_window_pattern") != 6:
        raise c.refused("sliding_window_pattern", c.get("sliding_window_pattern"), f"{arch} runtimes take 6")
    windows.as_built(c, [windows.SLIDING if (i + 1) % 6 else windows.FULL for i in range(c.n_layer)])
    meta = _base(c, arch) | rope(c, arch, windows.FULL, _ROPES)
    local = c.rope(windows.SLIDING)
    rope_type(local, arch, ("default",))
    whole_head(local)
    meta[f"{arch}.rope.freq_base_swa"] = (base(local), "f32")
    if c.get("sliding_window") is not None:
        meta[f"{arch}.attention.sliding_window"] = (c.count("sliding_window"), "u32")
    if c.get("final_logit_softcapping") is not None:
        meta[f"{arch}.final_logit_softcapping"] = (c.positive("final_logit_softcapping"), "f32")
    return meta


EMBEDDING = "gemma-embedding"
"""The family of those whose tokens see each other."""
ACT: dict[str, Values] = {"hidden_activation": GELU_TANH, "hidden_act": (*GELU_TANH, "gelu")}
"""Official files of Gemma 1 say gelu and mean the tangent form; the later ones read hidden_activation only."""
_DEFAULTS = {"head_dim": 256, "rms_norm_eps": 1e-6, "tie_word_embeddings": True}
_DEFAULTS2 = {
    **_DEFAULTS, "query_pre_attn_scalar": 256, "sliding_window": 4096, "num_key_value_heads": 4,
    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
}  # fmt: skip
DEFAULTS3 = {
    **_DEFAULTS, "query_pre_attn_scalar": 256, "sliding_window": 4096, "num_key_value_heads": 4,
    "sliding_window_pattern": 6, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
}  # fmt: skip
SKIP = r"rotary_emb|^vision_tower\.|^multi_modal_projector\.|vision_tower\.|multi_modal_projector\."
_GEMMA3 = Family(
    "gemma3",
    POST_NORMS,
    gemma3,
    NORMS,
    skip=SKIP,
    model_type="gemma3_text",
    computes=ACT,
    defaults=DEFAULTS3,
    instead=lambda c: EMBEDDING if c.get("use_bidirectional_attention") is True else "",
)
FAMILIES = {
    "gemma": Family("gemma", NAMES, _gemma, NORMS, computes=ACT, defaults={**_DEFAULTS, "num_key_value_heads": 16}),
    "gemma2": Family("gemma2", POST_NORMS, _gemma2, NORMS, computes=ACT, defaults=_DEFAULTS2),
    "gemma3_text": _GEMMA3,
    "gemma3": _GEMMA3,
}
