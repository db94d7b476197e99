"""tokenizer.model files: the pieces of a SentencePiece model, read from its protocol buffer.

Field numbers: sentencepiece_model.proto. GGUF token types equal the piece types of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyggml.converters import protobuf as pb
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.files.foreign import name_of, read_bytes, reading


@dataclass(frozen=True)
class Pieces:
    """texts, scores, types (1 normal .. 6 byte) by id; the ids the trainer declared, -1 for none."""

    texts: list[str]
    scores: list[float]
    types: list[int]
    unk: int
    bos: int
    eos: int
    pad: int
    add_space_prefix: bool
    remove_extra_whitespaces: bool
    charsmap: bytes


MAX_PIECES = 1 << 19  # the largest published BPE models have half of that
MAX_BYTES = 128 << 20
_MAX_TEXT = 4096


def read(path: str) -> Pieces:
    """The model of a file. Raises GGUFError where it is damaged, UnsupportedError for other kinds than BPE."""
    with reading(path, "SentencePiece model"):
        return _read(path)


def _read(path: str) -> Pieces:
    what = name_of(path)
    texts: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    ids = {40: 0, 41: 1, 42: 2, 43: -1}
    flags = {3: 1, 4: 1, 5: 1}  # add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces
    kind, suffix, charsmap = 1, False, b""
    raw = read_bytes(path, MAX_BYTES, "a SentencePiece model")
    _refuse_others(raw[:128], what)
    for number, value in pb.fields(pb.whole(memoryview(raw), what, 5 * MAX_PIECES)):
        if number == 1:
            text, score, piece_type = "", 0.0, 1
            for inner, each in pb.fields(pb.message(value, what)):
                if inner == 1:
                    text = pb.text(each, what, _MAX_TEXT)
                elif inner == 2:
                    score = pb.f32_of(each)
                elif inner == 3 and isinstance(each, int):
                    piece_type = each
            if not 1 <= piece_type <= 6:
                raise GGUFError(f"{what}: piece {len(texts)} has the type {piece_type}, known are 1 to 6")
            if not text:
                raise GGUFError(f"{what}: piece {len(texts)} has no text")
            if len(texts) == MAX_PIECES:
                raise GGUFError(f"{what} has more than {MAX_PIECES:,} pieces")
            texts.append(text)
            scores.append(score)
            types.append(piece_type)
        elif number == 2:
            for inner, each in pb.fields(pb.message(value, what)):
                if inner == 3 and isinstance(each, int):
                    kind = each
                elif inner == 24:
                    suffix = bool(each)
                elif inner in ids and isinstance(each, int):
                    ids[inner] = each - (1 << 64) if each >> 63 else each
        elif number == 3:
            for inner, each in pb.fields(pb.message(value, what)):
                if inner == 2:
                    charsmap = bytes(pb.message(each, what).raw)
                elif inner in flags and isinstance(each, int):
                    flags[inner] = each
    if not texts:
        raise GGUFError(f"{what} holds no pieces: it is no SentencePiece model")
    if kind != 2:
        names = {1: "unigram", 3: "word", 4: "char"}
        raise UnsupportedError(f"{what} is a SentencePiece model of kind {names.get(kind, kind)}; BPE can be converted")
    if suffix or not flags[5]:
        words = "treat_whitespace_as_suffix" if suffix else "escape_whitespaces off"
        raise UnsupportedError(f"{what} was trained with {words}, which GGUF has no key for")
    return Pieces(texts, scores, types, ids[40], ids[41], ids[42], ids[43], bool(flags[3]), bool(flags[4]), charsmap)


def _refuse_others(head: bytes, what: str) -> None:
    """Files of the same name that are something else."""
    if re.match(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n", head):
        raise UnsupportedError(
            f"{what} is a tiktoken file, which does not say how a text is cut; put the tokenizer.json of the same "
            "model beside it"
        )
    if head.startswith(b"version https://git-lfs"):
        raise GGUFError(f"{what} is a pointer of Git LFS, not the file itself: fetch it with git lfs pull")
