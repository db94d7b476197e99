"""`tokenizer.ggml.pre` -> the regular expressions that cut a text before byte-level BPE merges it.

Each expression cuts inside the pieces of the one before; what lies between matches is kept. The expressions are those
of the published tokenizer.json files (Oniguruma syntax, with `(?i:...)`), so ids equal Hugging Face's and llama.cpp's.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ..errors import UnsupportedError

log = logging.getLogger("pyggml")

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ENDS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_ENDS}"
_QWEN2 = rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_ENDS}"
_QWEN35 = rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_ENDS}"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_HEAD = r"[^\r\n\p{L}\p{N}]?"
_O200K = (
    rf"{_HEAD}{_UPPER}*{_LOWER}+{_SHORT}?|{_HEAD}{_UPPER}+{_LOWER}*{_SHORT}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_ENDS}"
)
_TEKKEN = rf"{_HEAD}{_UPPER}*{_LOWER}+|{_HEAD}{_UPPER}+{_LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_ENDS}"
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    rf"|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_ENDS}"
)


@dataclass(frozen=True)
class Pre:
    """One family. ignore_merges: a piece that is a token is taken whole. add_bos: the default without the key."""

    regexes: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


DEFAULT = Pre((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"))

_FAMILIES: tuple[tuple[Pre, str], ...] = (
    (DEFAULT, "default"),
    (Pre((_GPT2,)), "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum"),
    (Pre((_GPT2,)), "mpt olmo jais trillion granite-docling"),
    (Pre((r"\p{N}", _GPT2)), "starcoder refact command-r smollm codeshell exaone minerva-7b"),
    (
        Pre((_LLAMA3,), ignore_merges=True, add_bos=True),
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    ),
    (Pre((_LLAMA3,)), "dbrx smaug-bpe"),
    (Pre((_LLAMA3,), ignore_merges=True), "glm4 chatglm-bpe"),
    (Pre((_QWEN2,)), "qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 hunyuan megrez"),
    (Pre((_QWEN35,)), "qwen35"),
    (Pre((_O200K,)), "gpt-4o llama4 kanana2"),
    (Pre((_TEKKEN,), ignore_merges=True, add_bos=True), "tekken"),
    (Pre((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")), "falcon"),
    (Pre((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")), "deepseek-coder"),
    (Pre((r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", _DEEPSEEK3)), "deepseek-v3"),
)

TABLE: dict[str, Pre] = {name: pre for pre, names in _FAMILIES for name in names.split()}


def find(pre: str | None) -> Pre:
    """The family of a `pre` value. A file without one gets llama.cpp's default family and a logged warning.

    >>> find("llama3").ignore_merges
    True
    """
    if pre is None:
        log.warning("tokenizer.ggml.pre is missing: the default pre-tokenizer is used, tokens may differ from training")
        return DEFAULT
    if pre not in TABLE:
        raise UnsupportedError(f"tokenizer.ggml.pre {pre[:80]!r} is not known; known: {' '.join(sorted(TABLE))}")
    return TABLE[pre]
