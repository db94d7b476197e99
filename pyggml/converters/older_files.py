"""Tokenizer files from before tokenizer.json -> the tokenizer.json that they mean, as transformers would make it.

vocab.json + merges.txt (byte-level BPE: the pre-tokenizer follows from the class), vocab.txt (WordPiece of BERT), and
added_tokens.json / added_tokens_decoder, which may add to a tokenizer.json too. SentencePiece: sentencepiece.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyggml.errors import GGUFError, UnsupportedError
from pyggml.shown import clip
from pyggml.tokenizer import pretokenizers

MAX_TOKENS = 1 << 21
Table = dict[str, Any]

_GPT2: tuple[str, ...] = ("GPT2Tokenizer", "CodeGenTokenizer")
_QWEN2: tuple[str, ...] = ("Qwen2Tokenizer",)
_BY_MODEL_TYPE = {
    "gpt2": _GPT2, "gpt_neo": _GPT2, "gptj": _GPT2, "codegen": _GPT2, "phi": _GPT2, "qwen2": _QWEN2,
    "qwen2_moe": _QWEN2, "qwen3": _QWEN2, "qwen3_moe": _QWEN2,
}  # fmt: skip
_DEFAULT_SPECIAL = ("<|endoftext|>",)
_BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# Added tokens without flags that are control tokens by the look of them.
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<\uff5c.*\uff5c>|<(pad|mask|unused\d+)>|\[(PAD|UNK|CLS|SEP|MASK)\]", re.S)


@dataclass(frozen=True)
class Added:
    """A token added to a vocabulary, in the words of tokenizer.json."""

    text: str
    special: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False

    def entry(self, token: int) -> Table:
        """As tokenizer.json lists it."""
        return {
            "id": token, "content": self.text, "single_word": self.single_word, "lstrip": self.lstrip,
            "rstrip": self.rstrip, "normalized": self.normalized, "special": self.special,
        }  # fmt: skip


def text_of(value: Any) -> str | None:
    """A token's text, which may lie in an object with its flags."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def special_texts(*settings: Mapping[str, Any]) -> set[str]:
    """The tokens that tokenizer_config.json and special_tokens_map.json call special."""
    found = set()
    for each in settings:
        listed: list[Any] = [each.get(f"{name}_token") for name in _NAMED]
        for key in ("additional_special_tokens", "extra_special_tokens"):
            more = each.get(key)
            listed += more if isinstance(more, list) else more.values() if isinstance(more, dict) else ()
        found |= {text for value in listed if (text := text_of(value))}
    return found


def added_tokens(settings: Mapping[str, Any], listed: Mapping[str, Any], special: set[str]) -> dict[int, Added]:
    """added_tokens_decoder of tokenizer_config.json, and what added_tokens.json names besides, by id."""
    found: dict[int, Added] = {}
    decoder = settings.get("added_tokens_decoder")
    for token, entry in decoder.items() if isinstance(decoder, dict) else ():
        text = text_of(entry) if isinstance(entry, dict) else None
        if text and re.fullmatch(r"[0-9]{1,9}", str(token)):
            flags = {name: entry.get(name) is True for name in ("special", "single_word", "lstrip", "rstrip")}
            found[int(token)] = Added(text, normalized=entry.get("normalized") is True, **flags)
    seen = {each.text for each in found.values()}
    for text, token in listed.items():
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise GGUFError(f"added_tokens.json: {clip(text)} has the id {clip(token)}")
        if text and text not in seen and token not in found:
            found[token] = Added(text, special=text in special or bool(_LOOKS_SPECIAL.fullmatch(text)))
    if any(token >= MAX_TOKENS for token in found):
        raise GGUFError("an added token has an id that no vocabulary reaches")
    return dict(sorted(found.items()))


def completed(table: Table, older: Mapping[int, Added]) -> Table:
    """A tokenizer.json with the added tokens that only the older files name; without what belongs to training.

    Raises GGUFError where its own list of them is none.
    """
    listed = table.get("added_tokens") or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise GGUFError(f"tokenizer.json: added_tokens is {clip(listed)}, expected a list of objects")
    seen = {text_of(each) for each in listed}
    more = [each.entry(token) for token, each in older.items() if each.text not in seen]
    model = {**table["model"], "dropout": None} if "dropout" in table["model"] else table["model"]
    return {**table, "added_tokens": [*listed, *more], "model": model, "truncation": None, "padding": None}


# ---- byte-level BPE ----------------------------------------------------------------------------------------------


def byte_level(
    vocab: Mapping[str, Any], merges: str, settings: Mapping[str, Any], model_type: Any, special: set[str]
) -> Table:
    """The tokenizer.json of vocab.json and merges.txt. Raises UnsupportedError for a class that is not known."""
    name = str(settings.get("tokenizer_class") or "").removesuffix("Fast")
    family = next((each for each in (_GPT2, _QWEN2) if name in each), None)
    if family is None and name in ("", "PreTrainedTokenizer", "AutoTokenizer"):
        family = _BY_MODEL_TYPE.get(str(model_type))
    if family is None:
        raise UnsupportedError(
            f"vocab.json and merges.txt of a {clip(name or model_type)} do not say how a text is cut; known classes "
            f"are {', '.join((*_GPT2, *_QWEN2))}. Save the tokenizer with transformers once: it writes tokenizer.json"
        )
    byte_step: Table = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    if family is _QWEN2:
        regex = pretokenizers.TABLE["qwen2"].regexes[0]
        split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        step: Table = {"type": "Sequence", "pretokenizers": [split, {**byte_step, "use_regex": False}]}
    else:
        step = {**byte_step, "add_prefix_space": settings.get("add_prefix_space") is True}
    names = special | set(_DEFAULT_SPECIAL)
    return {
        "version": "1.0",
        "added_tokens": _entries(vocab, names),
        "normalizer": {"type": "NFC"} if family is _QWEN2 else None,
        "pre_tokenizer": step,
        "post_processor": None,
        "decoder": {**byte_step, "add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": dict(vocab), "merges": _merges(merges),
        },
    }  # fmt: skip


def _entries(vocab: Mapping[str, Any], names: Iterable[str]) -> list[Table]:
    """Special tokens that a vocabulary already holds, by id."""
    held = [(token, text) for text in names if isinstance(token := vocab.get(text), int)]
    return [Added(text, special=True).entry(token) for token, text in sorted(held)]


def _merges(text: str) -> list[list[str]]:
    """Pairs by line; the first line may name a version, blank lines say nothing."""
    pairs = []
    for number, line in enumerate(lines_of(text), 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise GGUFError(f"merges.txt, line {number}: {clip(line)} is no merge of two tokens")
        pairs.append(pair)
    return pairs


def lines_of(text: str) -> list[str]:
    """Lines that end in \\n, \\r\\n or \\r and in nothing else, without a byte order mark."""
    found = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return found[:-1] if found and not found[-1] else found


# ---- WordPiece ---------------------------------------------------------------------------------------------------


def wordpiece(text: str, settings: Mapping[str, Any], special: set[str]) -> Table:
    """The tokenizer.json of BERT's vocab.txt: a token a line, the last of equal ones counts, blank lines are unused."""
    vocab = {line: i for i, line in enumerate(lines_of(text)) if line}
    unknown = text_of(settings.get("unk_token")) or "[UNK]"
    if unknown not in vocab:
        raise GGUFError(f"vocab.txt has no token {clip(unknown)}: it is no vocabulary of WordPiece")
    accents = settings.get("strip_accents")
    table: Table = {
        "version": "1.0",
        "added_tokens": _entries(vocab, special | set(_BERT_SPECIAL)),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "lowercase": settings.get("do_lower_case") is not False,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars") is not False,
            "strip_accents": accents if isinstance(accents, bool) else None,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    }  # fmt: skip
    ends = [text_of(settings.get(f"{name}_token")) or default for name, default in (("sep", "[SEP]"), ("cls", "[CLS]"))]
    if all(each in vocab for each in ends):
        sep, cls = ([each, vocab[each]] for each in ends)
        table["post_processor"] = {"type": "BertProcessing", "sep": sep, "cls": cls}
    return table
