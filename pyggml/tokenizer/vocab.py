"""GGUF metadata -> a checked Vocab: token bytes, types, scores, ids and flags, with llama.cpp's defaults.

Every contradiction leaves as GGUFError here, before any tokenizer library sees the data.
No encoding and no decoding. Keys: the GGUF specification, section "Tokenizer".
"""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import GGUFError, PyggmlError

log = logging.getLogger("pyggml")

UNDEFINED, NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(7)

MAX_TOKENS = 1 << 21  # the largest published vocabularies have about 1M pieces
MAX_MERGES = 1 << 23
MAX_CHARSMAP = 1 << 24  # the published ones have about 240,000 bytes
MAX_PIECE_BYTES = 16_384  # the longest known piece has 1,024 bytes

_NO_ID = (-1, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)  # a declared "none", in every width a writer may choose
_ID_KEYS = {
    "bos": "bos",
    "eos": "eos",
    "eot": "eot",
    "eom": "eom",
    "unk": "unknown",
    "sep": "seperator",  # spelled so in the format
    "pad": "padding",
    "cls": "cls",
    "mask": "mask",
    "fim_pre": "fim_pre",
    "fim_suf": "fim_suf",
    "fim_mid": "fim_mid",
    "fim_pad": "fim_pad",
    "fim_rep": "fim_rep",
    "fim_sep": "fim_sep",
}

# Keys of our own, for what the format has no words for; other engines pass them over.
EOG_IDS = "pyggml.eog_token_ids"  # every id that ends a generation, where eos, eot and eom do not hold them all
FIRST_IDS = "pyggml.first_token_ids"  # what a text begins with, where that is not just BOS
LAST_IDS = "pyggml.last_token_ids"  # what it ends with, where that is not just EOS
INLINE_IDS = "pyggml.inline_token_ids"  # user-defined pieces that SentencePiece finds itself, as parts of a word


@dataclass(frozen=True)
class Vocab:
    """What the metadata says, checked. Lists have n_vocab entries; an id is None when there is none."""

    model: str
    pre: str | None
    raw: list[bytes]  # as in the file, perhaps not UTF-8
    texts: list[str]  # unique; what no text can mean has a placeholder with U+FFFE, no character
    names: list[str]  # as a reader would call them: repeated where the file repeats them
    mute: frozenset[int]  # ids with a placeholder: repeated, empty, or not UTF-8; decoded, never encoded to
    types: list[int]
    scores: list[float] | None
    merges: list[bytes] | None
    ids: dict[str, int | None]  # the keys of _ID_KEYS
    declared: frozenset[str]  # the ids that the file itself names
    add_bos: bool | None
    add_eos: bool | None
    add_space_prefix: bool | None
    remove_extra_whitespaces: bool | None
    charsmap: bytes | None  # SentencePiece's own normalizer, not checked
    eog: tuple[int, ...]
    first: tuple[int, ...] | None  # None: BOS as add_bos says
    last: tuple[int, ...] | None
    inline: frozenset[int]


def read_vocab(metadata: Mapping[str, Any]) -> Vocab:
    """Read and check the tokenizer keys. Raises GGUFError naming the key and the problem."""
    model = text_of(metadata, "tokenizer.ggml.model")
    if model is None:
        raise GGUFError("tokenizer.ggml.model is missing: the file holds no tokenizer")
    raw = _strings(metadata, "tokenizer.ggml.tokens", MAX_TOKENS)
    if not raw:
        raise GGUFError("tokenizer.ggml.tokens is missing or empty: the file holds no vocabulary")
    _check_lengths(raw)
    texts, names, mute = _texts(raw)
    n = len(raw)
    ids, declared = _ids(metadata, n)
    first, last = (_id_list(metadata, key, n) for key in (FIRST_IDS, LAST_IDS))
    return Vocab(
        model=model,
        pre=text_of(metadata, "tokenizer.ggml.pre"),
        raw=raw,
        texts=texts,
        names=names,
        mute=mute,
        types=_types(metadata, n),
        scores=_scores(metadata, n),
        merges=_strings(metadata, "tokenizer.ggml.merges", MAX_MERGES),
        ids=ids,
        declared=declared,
        add_bos=_flag(metadata, "tokenizer.ggml.add_bos_token"),
        add_eos=_flag(metadata, "tokenizer.ggml.add_eos_token"),
        add_space_prefix=_flag(metadata, "tokenizer.ggml.add_space_prefix"),
        remove_extra_whitespaces=_flag(metadata, "tokenizer.ggml.remove_extra_whitespaces"),
        charsmap=_bytes(metadata, "tokenizer.ggml.precompiled_charsmap"),
        eog=_id_list(metadata, EOG_IDS, n) or (),
        first=first,
        last=last,
        inline=frozenset(_id_list(metadata, INLINE_IDS, n) or ()),
    )


def _texts(raw: list[bytes]) -> tuple[list[str], list[str], frozenset[int]]:
    """(texts, names, mute ids) of a Vocab. Repeated and empty texts are said once."""
    try:
        names = [piece.decode() for piece in raw]
        broken: list[int] = []
    except UnicodeDecodeError:
        names = [piece.decode("utf-8", "replace") for piece in raw]
        broken = [i for i, (name, piece) in enumerate(zip(names, raw, strict=True)) if name.encode() != piece]
    unique = set(raw)
    if not broken and len(unique) == len(raw) and b"" not in unique:
        return names, names, frozenset()
    first: dict[bytes, int] = {}
    repeated = [i for i, piece in enumerate(raw) if first.setdefault(piece, i) != i and piece]
    empty = [i for i, piece in enumerate(raw) if not piece]
    if repeated:
        i = repeated[0]
        log.warning(
            "tokenizer.ggml.tokens repeats %d texts (token %d is %s, as token %d): each is encoded to its lowest id",
            len(repeated), i, shown(raw[i]), first[raw[i]],
        )  # fmt: skip
    if empty:
        log.warning("tokenizer.ggml.tokens holds %d empty texts (token %d): they print nothing", len(empty), empty[0])
    texts = list(names)
    for i in empty:
        names[i] = f"[EMPTY_{i}]"
    mute = frozenset((*broken, *repeated, *empty))
    for i in mute:
        texts[i] = f"\ufffemute-{i}\ufffe"
    return texts, names, mute


def _check_lengths(raw: list[bytes]) -> None:
    longest = max(map(len, raw))
    if longest > MAX_PIECE_BYTES:
        at = next(i for i, piece in enumerate(raw) if len(piece) == longest)
        raise GGUFError(f"tokenizer.ggml.tokens[{at}] has {longest:,} bytes, at most {MAX_PIECE_BYTES:,} are allowed")


def shown(piece: bytes | str) -> str:
    """A short printable form of a piece, for messages."""
    if isinstance(piece, bytes):
        piece = piece[:200].decode("utf-8", "backslashreplace")
    return repr(piece if len(piece) <= 60 else piece[:60] + "...")


def _value(metadata: Mapping[str, Any], key: str) -> Any:
    """The value or None. A lazy mapping may find the file at fault only now."""
    try:
        return metadata.get(key)
    except PyggmlError:
        raise
    except (KeyError, ValueError, TypeError, OverflowError) as e:
        raise GGUFError(f"{key} cannot be read: {e}") from e


def text_of(metadata: Mapping[str, Any], key: str) -> str | None:
    value = _value(metadata, key)
    if value is None:
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise GGUFError(f"{key} is {_kind(value)}, expected a string")
    return value


def _flag(metadata: Mapping[str, Any], key: str) -> bool | None:
    value = _value(metadata, key)
    if value is None:
        return None
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):  # numpy's, without the import
        raise GGUFError(f"{key} is {_kind(value)}, expected a bool")
    return bool(value)


def _ids(metadata: Mapping[str, Any], n: int) -> tuple[dict[str, int | None], frozenset[str]]:
    ids: dict[str, int | None] = {}
    declared = set()
    for name, word in _ID_KEYS.items():
        key = f"tokenizer.ggml.{word}_token_id"
        value = _value(metadata, key)
        ids[name] = None
        if value is None:
            continue
        declared.add(name)
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise GGUFError(f"{key} is {_kind(value)}, expected an integer")
        token = int(value)
        if token in _NO_ID:
            continue
        if not 0 <= token < n:
            raise GGUFError(f"{key} is {token}, the vocabulary has {n} tokens")
        ids[name] = token
    return ids, frozenset(declared)


def _id_list(metadata: Mapping[str, Any], key: str, n: int) -> tuple[int, ...] | None:
    """An array of token ids, or None where it is not there."""
    value = _value(metadata, key)
    if value is None:
        return None
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection) or len(value) > n:
        raise GGUFError(f"{key} is {_kind(value)}, expected an array of at most {n} token ids")
    ids = value.tolist() if hasattr(value, "tolist") else list(value)
    for token in ids:
        if type(token) is not int or not 0 <= token < n:
            raise GGUFError(f"{key} holds {shown(str(token))}, expected ids of the {n} tokens")
    return tuple(ids)


def _bytes(metadata: Mapping[str, Any], key: str) -> bytes | None:
    """An array of 8-bit integers, signed or not."""
    value = _value(metadata, key)
    if value is None:
        return None
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection) or len(value) > MAX_CHARSMAP:
        raise GGUFError(f"{key} is {_kind(value)}, expected an array of at most {MAX_CHARSMAP:,} bytes")
    items = value.tolist() if hasattr(value, "tolist") else list(value)
    if set(map(type, items)) - {int} or not all(-128 <= b < 256 for b in items):
        raise GGUFError(f"{key} holds more than 8-bit integers")
    return bytes(b & 255 for b in items)


def _items(metadata: Mapping[str, Any], key: str, n: int) -> list[Any] | None:
    value = _value(metadata, key)
    if value is None:
        return None
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection):
        raise GGUFError(f"{key} is {_kind(value)}, expected an array")
    if len(value) != n:
        raise GGUFError(f"{key} has {len(value)} entries, tokenizer.ggml.tokens has {n}")
    return list(value.tolist() if hasattr(value, "tolist") else value)


def _types(metadata: Mapping[str, Any], n: int) -> list[int]:
    key = "tokenizer.ggml.token_type"
    types = _items(metadata, key, n)
    if types is None:
        return [NORMAL] * n
    known = set(range(7))
    kinds = set(map(type, types))
    if kinds != {int} or not known.issuperset(types):
        for i, t in enumerate(types):
            if type(t) is not int or t not in known:
                raise GGUFError(f"{key}[{i}] is {shown(str(t))}, expected an integer from 0 to 6")
    return types


def _scores(metadata: Mapping[str, Any], n: int) -> list[float] | None:
    key = "tokenizer.ggml.scores"
    scores = _items(metadata, key, n)
    if scores is None:
        return None
    for i, s in enumerate(scores):
        if type(s) is not float or not math.isfinite(s) or abs(s) > 3.4e38:
            raise GGUFError(f"{key}[{i}] is {shown(str(s))}, expected a finite float")
    return scores


def _strings(metadata: Mapping[str, Any], key: str, limit: int) -> list[bytes] | None:
    """The raw bytes of a string array; through raw_strings where the mapping has it, as text may be broken."""
    raw_strings = getattr(metadata, "raw_strings", None)
    if raw_strings is None:
        value = _value(metadata, key)
        if value is None:
            return None
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection):
            raise GGUFError(f"{key} is {_kind(value)}, expected an array of strings")
        count = len(value)
    elif key not in metadata:
        return None
    else:  # without metadata[key], which would decode the array a second time
        array_length = getattr(metadata, "array_length", None)
        count = array_length(key) or 0 if array_length else 0
    if count > limit:
        raise GGUFError(f"{key} has {count:,} entries, at most {limit:,} are allowed")
    items = list(value) if raw_strings is None else raw_strings(key)
    kinds = set(map(type, items))
    if kinds <= {bytes}:
        return items
    if kinds <= {str, bytes}:
        return [s.encode("utf-8", "surrogateescape") if isinstance(s, str) else s for s in items]
    raise GGUFError(f"{key} is not an array of strings")


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {shown(str(value)[:80])}" if not hasattr(value, "__len__") else type(value).__name__
