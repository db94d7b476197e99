"""SentencePiece encoding, BPE or unigram (`tokenizer.ggml.model` = llama or t5): a ModelProto written by hand for
`sentencepiece`.

Field numbers are those of sentencepiece_model.proto; GGUF token types are its piece types. BOS and EOS are not added
here.
"""

from __future__ import annotations

import re
import struct

import numpy as np

from ..errors import GGUFError
from .decode import SPACE
from .library import refusing
from .special import Splitter, spoken
from .vocab import BYTE, CONTROL, NORMAL, UNDEFINED, UNKNOWN, UNUSED, USER_DEFINED, Vocab, shown

_UNIGRAM, _BPE = 1, 2  # model_type
_MAX_MAPPED = 256  # the longest known has 33 bytes
_BYTE_NAME = re.compile(rb"<0x[0-9A-Fa-f]{2}>\Z")


class SpmEncoder:
    """Text -> ids. Thread-safe: the processor is only read."""

    def __init__(self, vocab: Vocab, unk: int | None, add_space_prefix: bool) -> None:
        import sentencepiece

        if vocab.scores is None:
            raise GGUFError("tokenizer.ggml.scores is missing: a SentencePiece vocabulary needs them")
        if vocab.charsmap:
            check_charsmap(vocab.charsmap)
        try:
            proto = model_proto(vocab, vocab.scores, unk, add_space_prefix)
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        except (RuntimeError, OSError) as e:
            raise GGUFError(f"the vocabulary cannot be used: {str(e)[:300]}") from e
        self._encode = self._processor.encode
        self._user = _splitter(vocab, USER_DEFINED)
        self._all = _splitter(vocab, UNKNOWN, CONTROL, USER_DEFINED)

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """The ids of a text without surrogates."""
        ids: list[int] = []
        with refusing("the tokenizer cannot encode this text"):
            for part in (self._all if parse_special else self._user).parts(text):
                if isinstance(part, int):
                    ids.append(part)
                else:
                    ids.extend(self._encode(part))
        return ids


def _splitter(vocab: Vocab, *kinds: int) -> Splitter:
    return Splitter({text: i for text, i in spoken(vocab, kinds).items() if i not in vocab.inline})


def check_charsmap(charsmap: bytes, key: str = "tokenizer.ggml.precompiled_charsmap") -> None:
    """Raises GGUFError for a map that would lead the library outside of it, which follows it without looking.

    It is a double array of characters (Darts, little endian, its size in front) and the texts that replace them, each
    ending in NUL. Long ones would make memory end with a short text.
    """
    size = int.from_bytes(charsmap[:4], "little")
    if len(charsmap) < 4 or size % 4 or not 0 < size < len(charsmap) - 4:
        raise GGUFError(f"{key} is damaged: a trie of {size} bytes in {len(charsmap)}")
    units = np.frombuffer(charsmap, "<u4", size // 4, 4).astype(np.int64)
    texts = charsmap[4 + size :]
    leaf = units >> 31 != 0
    steps = np.arange(units.size) ^ (units >> 10 << ((units & 0x200) >> 6))
    inside = (steps | 255) < units.size
    if not (inside | leaf).all() or (units[leaf] & 0x7FFFFFFF >= len(texts)).any() or texts[-1:] != b"\0":
        raise GGUFError(f"{key} is damaged: it points outside of itself")
    if max(map(len, texts.split(b"\0"))) > _MAX_MAPPED:
        raise GGUFError(f"{key} makes more than {_MAX_MAPPED} bytes of a character")
    try:
        texts.decode()
    except UnicodeDecodeError as e:
        raise GGUFError(f"{key} is damaged: its texts are not UTF-8 ({e.reason})") from None


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative ids are written as 64-bit two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _block(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _piece_types(vocab: Vocab, unk: int | None) -> tuple[list[int], bool]:
    """The type of each piece as the library wants it, and whether bytes can be a fallback."""
    bytes_seen: set[bytes] = set()
    types = list(vocab.types)
    for i, kind in enumerate(types):
        if kind == BYTE:
            if not _BYTE_NAME.match(vocab.raw[i]):
                name = shown(vocab.raw[i])
                raise GGUFError(f"tokenizer.ggml.tokens[{i}] has the type byte and the name {name}, expected <0xXX>")
            if vocab.raw[i].upper() in bytes_seen and i not in vocab.mute:
                raise GGUFError(f"tokenizer.ggml.tokens[{i}] is the second byte token {shown(vocab.raw[i])}")
            bytes_seen.add(vocab.raw[i].upper())
        elif kind == UNDEFINED:
            types[i] = NORMAL
        elif kind == UNKNOWN:
            types[i] = CONTROL  # the library wants exactly one unknown piece; some files have dozens
        if i in vocab.mute:
            types[i] = UNUSED  # no text contains it
    fallback = len(bytes_seen) == 256
    if not fallback:
        types = [CONTROL if kind == BYTE else kind for kind in types]
    if unk is not None:
        types[unk] = UNKNOWN
    elif not fallback:
        raise GGUFError("no unknown token and not all 256 byte tokens: there is text that cannot be encoded")
    return types, fallback


def model_proto(vocab: Vocab, scores: list[float], unk: int | None, add_space_prefix: bool) -> bytes:
    """The serialized ModelProto of a SentencePiece model."""
    types, fallback = _piece_types(vocab, unk)
    pieces = [(t.encode(), s, k) for t, s, k in zip(vocab.texts, scores, types, strict=True)]
    for i in vocab.inline:  # spelled as a text has them; the library sees blanks made visible
        pieces[i] = (vocab.texts[i].replace(" ", SPACE).encode(), *pieces[i][1:])
    if unk is None:  # never produced, as bytes catch everything; the library asks for one
        unk = len(pieces)
        pieces.append(("\ufffenone\ufffe".encode(), 0.0, UNKNOWN))
    pack = struct.Struct("<BfBB").pack
    out = []
    for text, score, kind in pieces:
        body = b"\x0a" + _varint(len(text)) + text + pack(0x15, score, 0x18, kind)
        out.append(b"\x0a" + _varint(len(body)) + body)
    trainer = (
        _field(3, _UNIGRAM if vocab.model == "t5" else _BPE)
        + _field(4, len(pieces))
        + _field(35, int(fallback))
        + _field(40, unk)
        + _field(41, -1)
        + _field(42, -1)
        + _field(43, -1)
        + _block(45, pieces[unk][0])
    )
    # each flag is written even when off, as the library's own default is on; runs of blanks are kept unless said
    normalizer = _block(1, b"identity") + _block(2, vocab.charsmap or b"") + _field(3, int(add_space_prefix))
    normalizer += _field(4, int(vocab.remove_extra_whitespaces is True)) + _field(5, 1)
    return b"".join(out) + _block(2, trainer) + _block(3, normalizer)
