"""Encoders after BERT: ModernBERT, EuroBERT and nomic-embed.

nomic-embed is read by the names of its own files too. Sources: transformers/models/modernbert, eurobert, nomic_bert.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyggml.converters import windows
from pyggml.converters.families.bert import ENCODER, pooling
from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, MLP, Config, Family, Meta, decoder
from pyggml.converters.meaning import GELU, SILU, activation
from pyggml.converters.ropes import base, llama3_factors, rope, rope_type, whole_head

_MODERN: dict[str, str | tuple[str, ...]] = {
    "embeddings.tok_embeddings": "token_embd", "embeddings.norm": "token_embd_norm", "final_norm": "output_norm",
    "layers.#.attn_norm": "blk.#.attn_norm", "layers.#.attn.Wqkv": "blk.#.attn_qkv",
    "layers.#.attn.Wo": "blk.#.attn_output", "layers.#.mlp_norm": "blk.#.ffn_norm", "layers.#.mlp.Wi": "blk.#.ffn_up",
    "layers.#.mlp.Wo": "blk.#.ffn_down",
}  # fmt: skip
_PUBLISHED = {
    "attn.Wqkv": "attn_qkv", "attn.out_proj": "attn_output", "mlp.fc11": "ffn_up", "mlp.fc12": "ffn_gate",
    "mlp.fc2": "ffn_down", "norm1": "attn_output_norm", "norm2": "layer_output_norm",
}  # fmt: skip
_NOMIC: dict[str, str | tuple[str, ...]] = {
    "embeddings.word_embeddings": "token_embd", "embeddings.token_type_embeddings": "token_types",
    "emb_ln": "token_embd_norm", **{f"encoder.layers.#.{name}": f"blk.#.{to}" for name, to in _PUBLISHED.items()},
    "embeddings.LayerNorm": "token_embd_norm",
    **{name: to for name, to in NAMES.items() if name.startswith("layers") and "norm" not in name},
    "layers.#.post_attention_layernorm": "blk.#.attn_output_norm",
    "layers.#.post_mlp_layernorm": "blk.#.layer_output_norm",
}  # fmt: skip
_PERIOD = 3
_FULL_BASE, _LOCAL_BASE = "global_rope_theta", "local_rope_theta"


def _theta(c: Config, kind: str, older: str) -> float:
    """The base of the rope of a kind of layers: beside its type, or by the name that it had before transformers 5."""
    r, told = c.rope(kind), c.get(older)
    rope_type(r, "modern-bert", ("default",))
    whole_head(r)
    said = c.get("rope_parameters")
    inside = isinstance(said, dict) and isinstance(said.get(kind), dict) and said[kind].get("rope_theta") is not None
    return base(r) if inside or told is None else c.positive(older)


def _modern(c: Config) -> Meta:
    arch, period = "modern-bert", c.count("global_attn_every_n_layers", default=_PERIOD)
    if period != _PERIOD:
        raise c.refused("global_attn_every_n_layers", period, f"runtimes of {arch} take {_PERIOD}")
    windows.as_built(c, [windows.SLIDING if i % _PERIOD else windows.FULL for i in range(c.n_layer)])
    return decoder(c, arch, layer_norm=True) | pooling(c, arch) | {
        f"{arch}.rope.freq_base": (_theta(c, windows.FULL, _FULL_BASE), "f32"),
        f"{arch}.rope.freq_base_swa": (_theta(c, windows.SLIDING, _LOCAL_BASE), "f32"),
        f"{arch}.attention.sliding_window": (c.count("local_attention"), "u32"),
    }  # fmt: skip


def _modern_back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("rope_theta", "num_key_value_heads")}


def _euro(c: Config) -> Meta:
    return decoder(c, "eurobert") | rope(c, "eurobert") | pooling(c, "eurobert")


def _nomic(c: Config) -> Meta:
    types: Meta = {"tokenizer.ggml.token_type_count": (c.count("type_vocab_size", default=2), "u32")}
    return decoder(c, "nomic-bert", layer_norm=True) | rope(c, "nomic-bert") | pooling(c, "nomic-bert") | types


def _nomic_back(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The base of the rope stands where transformers reads it, and where the model's own code does."""
    kept = {key: value for key, value in config.items() if key != "rope_scaling"}
    r = {"rope_type": "default", **config.get("rope_scaling", {}), "rope_theta": config["rope_theta"]}
    return kept | {"rope_parameters": r}


_HEADS = r"|^(lm_head|decoder|head|classifier|cls|score)\.|pooler\."
_TIED = {"tie_word_embeddings": True}
_NORMS = ("token_embd_norm", "attn_norm", "ffn_norm", "output_norm", "attn_output_norm", "layer_output_norm")
FAMILIES = {
    "modernbert": Family(
        "modern-bert", _MODERN, _modern, skip=Family.skip + _HEADS, computes=ENCODER | activation(*GELU),
        defaults={**_TIED, "layer_norm_eps": 1e-5, "local_attention": 128, _FULL_BASE: 160000.0, _LOCAL_BASE: 10000.0},
        spelled={"layer_norm_eps": "norm_eps"}, prefix="", named="ModernBertModel", back=_modern_back,
        words={"attention.sliding_window": "local_attention", "rope.freq_base": _FULL_BASE,
               "rope.freq_base_swa": _LOCAL_BASE},
        biases={"attention_bias": ("attn_qkv", "attn_output"), "mlp_bias": ("ffn_up", "ffn_down"),
                "norm_bias": _NORMS[:4]},
    ),
    "eurobert": Family(
        "eurobert", {name: to for name, to in NAMES.items() if name != "lm_head"}, _euro, extra=llama3_factors,
        skip=Family.skip + _HEADS, computes=ENCODER | activation(*SILU), defaults={**_TIED, "rms_norm_eps": 1e-5},
        prefix="", named="EuroBertModel", biases={"attention_bias": ATTENTION, "mlp_bias": MLP},
    ),
    "nomic_bert": Family(
        "nomic-bert", _NOMIC, _nomic, skip=Family.skip + _HEADS,
        computes={**ENCODER, **activation(*SILU, "swiglu"), "rotary_emb_fraction": (1.0,), "prenorm": (False,),
                  "rotary_emb_interleaved": (False,), "use_rms_norm": (False,), "scale_attn_weights": (True,)},
        defaults={**_TIED, "layer_norm_eps": 1e-12, "rope_theta": 1000.0, "partial_rotary_factor": 1.0},
        spelled={"rope_theta": "rotary_emb_base"}, prefix="", named="NomicBertModel",
        biases={"": (*_NORMS, *ATTENTION, *MLP, "attn_qkv")}, back=_nomic_back,
    ),
}  # fmt: skip
