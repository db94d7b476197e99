"""GGUF metadata -> a checked Vocab: token bytes, types, scores, ids and flags, with llama.cpp's defaults.

Every contradiction leaves as GGUFError here, before any tokenizer library sees the data.
No encoding and no decoding. Keys: the GGUF specification, section "Tokenizer".
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import GGUFError, PyggmlError

UNDEFINED, NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(7)

MAX_TOKENS = 1 << 21  # the largest published vocabularies have about 1M pieces
MAX_MERGES = 1 << 23
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


@dataclass(frozen=True)
class Vocab:
    """What the metadata says, checked. Lists have n_vocab entries; an id is None when there is none."""

    model: str
    pre: str | None
    raw: list[bytes]  # as in the file, perhaps not UTF-8
    texts: list[str]  # unique; a piece that is not UTF-8 has a placeholder with U+FFFE, no character
    types: list[int]
    scores: list[float] | None
    merges: list[bytes] | None
    ids: dict[str, int | None]  # the keys of _ID_KEYS
    declared: frozenset[str]  # the ids that the file itself names
    add_bos: bool | None
    add_eos: bool | None
    add_space_prefix: bool | None


def read_vocab(metadata: Mapping[str, Any]) -> Vocab:
    """Read and check the tokenizer keys. Raises GGUFError naming the key and the problem."""
    model = _text(metadata, "tokenizer.ggml.model")
    if model is None:
        raise GGUFError("tokenizer.ggml.model is missing: the file holds no tokenizer")
    raw = _strings(metadata, "tokenizer.ggml.tokens", MAX_TOKENS)
    if not raw:
        raise GGUFError("tokenizer.ggml.tokens is missing or empty: the file holds no vocabulary")
    texts = _texts(raw)
    _check_pieces(raw)
    n = len(raw)
    ids, declared = _ids(metadata, n)
    return Vocab(
        model=model,
        pre=_text(metadata, "tokenizer.ggml.pre"),
        raw=raw,
        texts=texts,
        types=_types(metadata, n),
        scores=_scores(metadata, n),
        merges=_strings(metadata, "tokenizer.ggml.merges", MAX_MERGES),
        ids=ids,
        declared=declared,
        add_bos=_flag(metadata, "tokenizer.ggml.add_bos_token"),
        add_eos=_flag(metadata, "tokenizer.ggml.add_eos_token"),
        add_space_prefix=_flag(metadata, "tokenizer.ggml.add_space_prefix"),
    )


def _texts(raw: list[bytes]) -> list[str]:
    try:
        return [piece.decode() for piece in raw]
    except UnicodeDecodeError:
        pass
    loose = [piece.decode("utf-8", "replace") for piece in raw]
    return [
        text if text.encode() == piece else f"\ufffebad-utf8-{i}\ufffe"
        for i, (text, piece) in enumerate(zip(loose, raw, strict=True))
    ]


def _check_pieces(raw: list[bytes]) -> None:
    unique = set(raw)
    if b"" in unique:
        raise GGUFError(f"tokenizer.ggml.tokens[{raw.index(b'')}] is empty")
    if len(unique) != len(raw):
        first: dict[bytes, int] = {}
        for i, piece in enumerate(raw):
            if first.setdefault(piece, i) != i:
                raise GGUFError(f"tokenizer.ggml.tokens[{i}] repeats token {first[piece]}: {shown(piece)}")
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


def _text(metadata: Mapping[str, Any], key: str) -> str | None:
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
