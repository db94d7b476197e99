"""BPE encoding with the `tokenizers` library, built from arrays: of bytes as characters (`tokenizer.ggml.model` is
gpt2), or of SentencePiece's pieces with bytes where there is none (gemma4).

Merges are checked first: the library answers an unknown token in a merge with a Rust panic. BOS and EOS are not
added here.
"""

from __future__ import annotations

import operator
from typing import Any

from ..errors import GGUFError
from .decode import SPACE
from .dropped import DroppedBytes
from .library import ids_of, refusing
from .pretokenizers import Pre
from .special import spoken
from .vocab import CONTROL, UNKNOWN, USER_DEFINED, Vocab, shown


class BpeEncoder:
    """Text -> ids. Thread-safe: one facade for each value of parse_special over one BPE model."""

    def __init__(self, vocab: Vocab, pre: Pre) -> None:
        from tokenizers import models

        ids = {text: i for i, text in enumerate(vocab.texts) if i not in vocab.mute}
        merges = read_merges(vocab.merges, ids)
        with refusing("the vocabulary cannot be used"):
            bpe = models.BPE(ids, merges, ignore_merges=pre.ignore_merges)
            self._parse = _byte_level(bpe, vocab, pre, parse_special=True)
            self._plain = _byte_level(bpe, vocab, pre, parse_special=False)
        self._dropped = DroppedBytes(vocab)

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """The ids of a text without surrogates."""
        ids = ids_of(self._parse if parse_special else self._plain, text)
        self._dropped.look(text, ids)
        return ids


class PieceBpeEncoder:
    """Text -> ids by merges of pieces, as Gemma 4 has them: blanks made visible, bytes where there is no piece."""

    def __init__(self, vocab: Vocab, unk: int | None) -> None:
        from tokenizers import models

        ids = {text: i for i, text in enumerate(vocab.texts) if i not in vocab.mute}
        merges = read_merges(vocab.merges, ids, vocab.model)
        known = None if unk is None or unk in vocab.mute else vocab.texts[unk]
        if known is None and not all(f"<0x{byte:02X}>" in ids for byte in range(256)):
            raise GGUFError("no unknown token and not all 256 byte tokens: there is text that cannot be encoded")
        with refusing("the vocabulary cannot be used"):
            bpe = models.BPE(ids, merges, unk_token=known, fuse_unk=True, byte_fallback=True)
            self._parse = _visible(bpe, vocab, parse_special=True)
            self._plain = _visible(bpe, vocab, parse_special=False)

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """The ids of a text without surrogates."""
        return ids_of(self._parse if parse_special else self._plain, text)


def read_merges(raw: list[bytes] | None, ids: dict[str, int], model: str = "gpt2") -> list[tuple[str, str]]:
    """Merge pairs in rank order, the first of equal ones kept. Raises GGUFError for a pair the vocabulary lacks."""
    if raw is None:
        raise GGUFError(f"tokenizer.ggml.merges is missing: a {model} vocabulary needs them")
    try:
        text = b" ".join(raw).decode()
    except UnicodeDecodeError as e:
        raise GGUFError(f"tokenizer.ggml.merges is not UTF-8: {e.reason}") from e
    if not raw:
        return []
    # whole columns at a time: a quarter of a million merges are much of the time that a tokenizer takes to build
    if set(map(operator.methodcaller("count", b" "), raw)) != {1}:
        raise _merge_error(raw, ids)
    flat = text.split(" ")
    left, right = flat[::2], flat[1::2]
    if not (
        ids.keys() >= set(left)
        and ids.keys() >= set(right)
        and all(map(ids.__contains__, map(operator.add, left, right)))
    ):
        raise _merge_error(raw, ids)
    pairs = zip(left, right, strict=True)
    return list(pairs) if len(set(raw)) == len(raw) else list(dict.fromkeys(pairs))


def _merge_error(raw: list[bytes], ids: dict[str, int]) -> GGUFError:
    """What is wrong with merges of which at least one is."""
    for i, merge in enumerate(raw):
        if merge.count(b" ") != 1 or merge[0] == 32 or merge[-1] == 32:
            return GGUFError(f"tokenizer.ggml.merges[{i}] is {shown(merge)}, expected two tokens and one blank")
    for merge in raw:
        left, right = merge.decode().split(" ")
        name = next((t for t in (left, right, left + right) if t not in ids), None)
        if name is not None:
            return GGUFError(f"tokenizer.ggml.merges has {shown(merge)}, but {shown(name)} is not in the vocabulary")
    raise AssertionError("no merge is wrong")


def _byte_level(bpe: Any, vocab: Vocab, pre: Pre, parse_special: bool) -> Any:
    from tokenizers import Regex, pre_tokenizers

    tok = _facade(bpe, vocab, parse_special)
    splits = [pre_tokenizers.Split(Regex(r), "isolated") for r in pre.regexes]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    return tok


def _visible(bpe: Any, vocab: Vocab, parse_special: bool) -> Any:
    from tokenizers import Regex, normalizers, pre_tokenizers

    tok = _facade(bpe, vocab, parse_special)
    tok.normalizer = normalizers.Replace(" ", SPACE)
    tok.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\n]+|\n+"), "isolated")  # no piece crosses the end of a line
    return tok


def _facade(bpe: Any, vocab: Vocab, parse_special: bool) -> Any:
    from tokenizers import AddedToken, Tokenizer

    tok = Tokenizer(bpe)
    # USER_DEFINED is always matched, CONTROL and UNKNOWN only with parse_special
    tok.add_tokens(
        [
            AddedToken(text, special=vocab.types[i] != USER_DEFINED, normalized=False)
            for text, i in spoken(vocab, (UNKNOWN, CONTROL, USER_DEFINED)).items()
        ]
    )
    tok.encode_special_tokens = not parse_special
    return tok
