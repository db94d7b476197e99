"""BERT encoders, sentence-transformers among them: pooling comes from 1_Pooling/config.json.

RoBERTa and XLM-RoBERTa are the same with positions that count from behind the padding's id, and heads for ranking.
Jina's second embedders say that they are BERT: without positions, and with gates. Sources: transformers/models/bert and
roberta, the code that Jina publishes with its weights; the names of llama.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pyggml.converters.family import Change, Config, Family, Meta, split
from pyggml.converters.meaning import GELU, Values, activation
from pyggml.errors import UnsupportedError

_NAMES: dict[str, str | tuple[str, ...]] = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "encoder.layer.#.attention.self.query": "blk.#.attn_q",
    "encoder.layer.#.attention.self.key": "blk.#.attn_k",
    "encoder.layer.#.attention.self.value": "blk.#.attn_v",
    "encoder.layer.#.attention.output.dense": "blk.#.attn_output",
    "encoder.layer.#.attention.output.LayerNorm": "blk.#.attn_output_norm",
    "encoder.layer.#.intermediate.dense": "blk.#.ffn_up",
    "encoder.layer.#.output.dense": "blk.#.ffn_down",
    "encoder.layer.#.output.LayerNorm": "blk.#.layer_output_norm",
}
POOLING = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}
"""Keys of 1_Pooling/config.json and the values of pooling_type."""


_MODES = {"mean": 1, "cls": 2, "lasttoken": 3}


def _named(c: Config) -> set[int]:
    """The pooling as sentence-transformers 6 spells it: one name, or a list of them."""
    mode = c.get("pooling_mode")
    if mode is None:
        return set()
    modes = mode if isinstance(mode, list) else [mode]
    if not modes or not all(isinstance(each, str) and each in _MODES for each in modes):
        raise c.refused("pooling_mode", mode, f"a GGUF has one of {', '.join(_MODES)}")
    return {_MODES[each] for each in modes}


def pooling(c: Config, arch: str) -> Meta:
    """What every encoder says beside its sizes: that all tokens see each other, and how their rows become one."""
    meta: Meta = {f"{arch}.attention.causal": (False, None)}
    pooled = {value for key, value in POOLING.items() if c.get(key) is True} | _named(c)
    if len(pooled) > 1:
        joined = c.get("pooling_mode") or [key for key in POOLING if c.get(key) is True]
        raise UnsupportedError(f"{c.where}: several poolings are joined ({', '.join(joined)}), a GGUF has one")
    if not pooled and any(c.get(key) is False for key in POOLING):
        raise UnsupportedError(f"{c.where}: no pooling is on that a GGUF can say ({', '.join(POOLING)})")
    for value in pooled:
        meta[f"{arch}.pooling_type"] = (value, "u32")
    return meta


def _metadata(c: Config) -> Meta:
    return pooling(c, "bert") | {
        "bert.block_count": (c.n_layer, "u32"),
        "bert.context_length": (c.count("max_position_embeddings"), "u32"),
        "bert.embedding_length": (c.n_embd, "u32"),
        "bert.feed_forward_length": (c.count("intermediate_size"), "u32"),
        "bert.attention.head_count": (c.n_head, "u32"),
        "bert.attention.layer_norm_epsilon": (c.number("layer_norm_eps", default=1e-12), "f32"),
        "tokenizer.ggml.token_type_count": (c.count("type_vocab_size", default=2), "u32"),
    }  # fmt: skip


ENCODER: dict[str, Values] = {
    "is_decoder": (False,), "position_embedding_type": ("absolute",), "is_causal": (False,), "causal": (False,),
    **dict.fromkeys(("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
                     "pooling_mode_weightedmean_tokens"), (False,)),
}  # fmt: skip
"""What every encoder computes in any case."""
_COMPUTES = ENCODER | activation(*GELU)
_HEAD: dict[str, str | tuple[str, ...]] = {"classifier.dense": "cls", "classifier.out_proj": "cls.output"}
_RANK = 4


def _padding(c: Config) -> int:
    """The rows of the table of positions that no token reads."""
    return 1 if c.get("pad_token_id") == 0 else c.count("pad_token_id", default=1) + 1


def _ranks(c: Config) -> bool:
    named = c.get("architectures")
    return isinstance(named, list) and any(str(each).endswith("ForSequenceClassification") for each in named)


def _ranking(c: Config) -> Meta:
    labels = c.get("id2label")
    told = [str(each) for each in labels.values()] if isinstance(labels, dict) else []
    more: Meta = {"bert.classifier.output_labels": (told, None)} if told else {}
    return {"bert.pooling_type": (_RANK, "u32")} | _metadata(c) | more


def _labels(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    labels = said.get("classifier.output_labels", ["LABEL_0"])
    return config | {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def _gated(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    own = {"position_embedding_type": "alibi", "feed_forward_type": "geglu"}
    return {key: value for key, value in config.items() if key != "rope_theta"} | own


def _roberta(c: Config) -> Meta:
    meta = _ranking(c) if _ranks(c) else _metadata(c)
    meta["bert.context_length"] = (c.count("max_position_embeddings") - _padding(c), "u32")
    return meta


def _jina(c: Config) -> Meta:
    """As _metadata, of another architecture; a bias of another size has no key that others read."""
    if c.get("feed_forward_type") != "geglu":
        raise c.refused("feed_forward_type", c.get("feed_forward_type"), "a GGUF of jina-bert-v2 has gates by GELU")
    c.get("position_embedding_type")
    return {key.replace("bert.", "jina-bert-v2.", 1): value for key, value in _metadata(c).items()}


def _instead(c: Config) -> str:
    if c.get("position_embedding_type") == "alibi":
        return "bert jina"
    return "bert ranking" if _ranks(c) else ""


_AT = "encoder.layer.#"
_UNLIKE = re.compile(r"position|#\.(output|intermediate)\.")
_JINA: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in _NAMES.items() if not _UNLIKE.search(name)},
    f"{_AT}.mlp.gated_layers": ("blk.#.ffn_gate", "blk.#.ffn_up"),
    f"{_AT}.mlp.wo": "blk.#.ffn_down",
    f"{_AT}.mlp.layernorm": "blk.#.layer_output_norm",
}
_POSITIONS = {"position_embd": Change(lambda w, c: w[_padding(c) :])}
_OF_BERT = {"pooler.dense": "cls", "classifier": "cls.output"}
_DEFAULTS = {"tie_word_embeddings": True}
FAMILIES = {
    "bert": Family("bert", _NAMES, _metadata, skip=r"pooler\.|position_ids$|^cls\.", computes=_COMPUTES,
                   defaults=_DEFAULTS, prefix="", instead=_instead),
    "bert ranking": Family("bert", _NAMES | _OF_BERT, _ranking, skip=r"position_ids$|^cls\.", computes=_COMPUTES,
                           defaults=_DEFAULTS, model_type="bert", prefix="bert.",
                           named="BertForSequenceClassification", back=_labels),
    "bert jina": Family("jina-bert-v2", _JINA, _jina, split(), skip=r"pooler\.|position_ids$|^cls\.",
                        computes={**_COMPUTES, "position_embedding_type": ("alibi",), "attn_implementation": ()},
                        defaults=_DEFAULTS, prefix="", back=_gated),
    **{
        name: Family("bert", _NAMES | _HEAD, _roberta, _POSITIONS, skip=r"pooler\.|position_ids$|^lm_head\.",
                     computes=_COMPUTES, defaults=_DEFAULTS, model_type="bert", prefix="")
        for name in ("roberta", "xlm-roberta")
    },
}  # fmt: skip
