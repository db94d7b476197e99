"""What a tokenizer.json says and the keys of GGUF cannot: then it is carried whole (tokenizer.huggingface.json).

`beyond` lists it; the ids are compared besides, in tokenizer_check.py. NFC and flags of added tokens are left out by
every other engine as well, so files that differ in these alone keep the `pre` that those engines know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyggml.converters.older_files import Added
from pyggml.converters.tokenizer_files import TokenizerFiles

PREPEND = {"type": "Prepend", "prepend": "\u2581"}
BLANKS = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
# After BLANKS there is no blank left that this could cut at.
_IDLE = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def beyond(files: TokenizerFiles) -> list[str]:
    """What the keys cannot say of a table, in words; [] where they say all, or where there is no table."""
    if not files.table:
        return []
    reasons = [*_flags(files.added.values())]
    if files.kind == "bpe":
        reasons += _byte_level(files.table)
    elif files.kind == "wordpiece":
        reasons += _wordpiece(files.table)
    elif files.kind == "unigram":
        reasons += _unigram(files.table)
    elif files.kind == "merged pieces":
        reasons += _merged_pieces(files.table)
    else:
        reasons += _sentencepiece(files)
    if files.kind != "wordpiece" and _overlap(files.added.values()):
        reasons.append("added tokens that overlap, some matched before and some after normalizing")
    return reasons


def changes_text(table: Mapping[str, Any]) -> bool:
    """Whether the normalizer does more to a byte-level text than to compose its accents."""
    return any(step.get("type") != "NFC" for step in steps(table.get("normalizer"), "normalizers"))


def steps(node: Any, key: str) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, sequences laid flat; one that is no object is an empty step."""
    if node is None:
        return []
    if isinstance(node, dict) and node.get("type") == "Sequence":
        inner = node.get(key)
        return [step for each in (inner if isinstance(inner, list) else [{}]) for step in steps(each, key)]
    return [node if isinstance(node, dict) else {}]


def _named(found: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(str(step.get("type")) for step in found)


def _flags(added: Iterable[Added]) -> Iterator[str]:
    for each in added:
        for flag in ("lstrip", "rstrip", "single_word"):
            if getattr(each, flag):
                yield f"{flag} of {each.text!r}"


def _byte_level(table: Mapping[str, Any]) -> Iterator[str]:
    normalizer = steps(table.get("normalizer"), "normalizers")
    if normalizer:
        yield f"the normalizer {_named(normalizer)}"
    model = table["model"]
    for key in ("unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            yield f"{key} {model[key]!r}"


def _wordpiece(table: Mapping[str, Any]) -> Iterator[str]:
    normalizer = steps(table.get("normalizer"), "normalizers")
    if [step.get("type") for step in normalizer] != ["BertNormalizer"]:
        yield f"the normalizer {_named(normalizer) or 'none'}"
    elif not all(normalizer[0].get(key, True) for key in ("clean_text", "handle_chinese_chars")):
        yield "a normalizer that leaves control or Chinese characters"
    cut = steps(table.get("pre_tokenizer"), "pretokenizers")
    if [step.get("type") for step in cut] != ["BertPreTokenizer"]:
        yield f"the pre-tokenizer {_named(cut) or 'none'}"
    model = table["model"]
    if model.get("continuing_subword_prefix", "##") != "##" or model.get("max_input_chars_per_word", 100) != 100:
        yield "another prefix or length of words"


def _unigram(table: Mapping[str, Any]) -> Iterator[str]:
    normalizer = steps(table.get("normalizer"), "normalizers")
    cut = steps(table.get("pre_tokenizer"), "pretokenizers")
    if any(step.get("type") not in ("Precompiled", "Strip", "Replace") for step in normalizer):
        yield f"the normalizer {_named(normalizer)}"
    if [step.get("type") for step in cut if step.get("type") != "WhitespaceSplit"] != ["Metaspace"]:
        yield f"the pre-tokenizer {_named(cut) or 'none'}"
    if table["model"].get("byte_fallback"):
        yield "bytes in place of unknown characters"


def _sentencepiece(files: TokenizerFiles) -> Iterator[str]:
    if files.pieces is None:
        yield "merges by rank, where GGUF has scores"
        return
    normalizer = steps(files.table.get("normalizer"), "normalizers")
    cut = steps(files.table.get("pre_tokenizer"), "pretokenizers")
    wanted = [PREPEND, BLANKS] if files.pieces.add_space_prefix else [BLANKS]
    never = [{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": False}]
    plain = normalizer == wanted and cut in ([], [_IDLE])
    if not plain and not (not normalizer and cut == never and not files.pieces.add_space_prefix):
        yield f"the way blanks are treated ({_named([*normalizer, *cut])})"
    if files.pieces.remove_extra_whitespaces or files.pieces.charsmap:
        yield "a normalizer that tokenizer.model has and tokenizer.json has not"
    model = files.table["model"]
    if model.get("ignore_merges") or not model.get("byte_fallback"):
        yield "merges or unknown characters treated otherwise"
    prepends = PREPEND in normalizer
    for each in files.added.values():
        if each.normalized and (prepends or (" " in each.text and set(each.text) != {" "})):
            yield f"{each.text!r} is matched after normalizing"


def _merged_pieces(table: Mapping[str, Any]) -> Iterator[str]:
    normalizer = steps(table.get("normalizer"), "normalizers")
    cut = steps(table.get("pre_tokenizer"), "pretokenizers")
    if normalizer != [BLANKS] or cut not in ([], [_IDLE]):
        yield f"the way blanks are treated ({_named([*normalizer, *cut])})"
    model = table["model"]
    if model.get("ignore_merges") or not model.get("byte_fallback") or not model.get("fuse_unk"):
        yield "merges or unknown characters treated otherwise"
    for each in table.get("added_tokens") or ():
        if each.get("normalized") and set(each.get("content", "")) != {" "} and " " in each.get("content", ""):
            yield f"{each['content']!r} is matched after normalizing"


def _overlap(added: Iterable[Added]) -> bool:
    """Whether a token matched before normalizing and one matched after it may claim the same characters."""
    after = [each.text for each in added if each.normalized]
    before = [each.text for each in added if not each.normalized]
    return bool(after and before) and (_meet(after, before) or _meet(before, after))


def _meet(left: list[str], right: list[str]) -> bool:
    """Whether an end of a left text is a beginning of a right one, or a right one lies within a left one."""
    beginnings = {text[:n] for text in right for n in range(1, len(text) + 1)}
    whole = set(right)
    for text in left:
        if any(text[at:] in beginnings for at in range(len(text))):
            return True
        if any(text[at:end] in whole for at in range(len(text)) for end in range(at + 1, len(text) + 1)):
            return True
    return False
