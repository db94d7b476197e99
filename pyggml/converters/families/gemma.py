"""Gemma 1, 2 and 3 (text). Norm weights are stored minus one and become whole here."""

from __future__ import annotations

from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ONE_MORE, Change, Config, Family, Meta, decoder, rope

_POST_NORMS: dict[str, str | tuple[str, ...]] = {
    **NAMES,
    "layers.#.post_attention_layernorm": "blk.#.post_attention_norm",
    "layers.#.pre_feedforward_layernorm": "blk.#.ffn_norm",
    "layers.#.post_feedforward_layernorm": "blk.#.post_ffw_norm",
    "layers.#.self_attn.q_norm": "blk.#.attn_q_norm",
    "layers.#.self_attn.k_norm": "blk.#.attn_k_norm",
}
_NORMS: dict[str, Change] = dict.fromkeys(
    ("output_norm", "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm", "attn_q_norm", "attn_k_norm"),
    ONE_MORE,
)


def _base(c: Config, arch: str) -> Meta:
    head = c.count("head_dim", default=256)
    return decoder(c, arch, head_dim=False) | {
        f"{arch}.attention.key_length": (head, "u32"),
        f"{arch}.attention.value_length": (head, "u32"),
    }


def _gemma(c: Config) -> Meta:
    return _base(c, "gemma")


def _gemma2(c: Config) -> Meta:
    return _base(c, "gemma2") | {
        "gemma2.attn_logit_softcapping": (c.number("attn_logit_softcapping"), "f32"),
        "gemma2.final_logit_softcapping": (c.number("final_logit_softcapping"), "f32"),
        "gemma2.attention.sliding_window": (c.count("sliding_window"), "u32"),
    }


def _gemma3(c: Config) -> Meta:
    meta = _base(c, "gemma3") | rope(c, "gemma3", "full_attention")
    local = c.rope("sliding_attention").number("rope_theta", default=c.number("rope_local_base_freq", default=10000.0))
    if isinstance(c.get("rope_local_base_freq"), (int, float)):
        local = c.number("rope_local_base_freq")
    meta["gemma3.rope.freq_base_swa"] = (local, "f32")
    if c.get("sliding_window") is not None:
        meta["gemma3.attention.sliding_window"] = (c.count("sliding_window"), "u32")
    if c.get("final_logit_softcapping") is not None:
        meta["gemma3.final_logit_softcapping"] = (c.number("final_logit_softcapping"), "f32")
    return meta


_SKIP = r"rotary_emb|^vision_tower\.|^multi_modal_projector\.|vision_tower\.|multi_modal_projector\."
FAMILIES = {
    "gemma": Family("gemma", NAMES, _gemma, _NORMS),
    "gemma2": Family("gemma2", _POST_NORMS, _gemma2, _NORMS),
    "gemma3_text": Family("gemma3", _POST_NORMS, _gemma3, _NORMS, skip=_SKIP, model_type="gemma3_text"),
    "gemma3": Family("gemma3", _POST_NORMS, _gemma3, _NORMS, skip=_SKIP, model_type="gemma3_text"),
}
