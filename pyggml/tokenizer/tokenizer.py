"""The Tokenizer: text <-> ids with the file's own rules for BOS, EOS, special tokens and the first blank.

The models are in spm.py, bpe.py, wpm.py and published.py, the bytes of each token in decode.py.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from ..arguments import ids as read_ids
from ..arguments import text as read_text
from ..arguments import whole as whole_number
from ..errors import ArgumentError, GGUFError, UnsupportedError
from ..leaving import whole
from . import pretokenizers, published
from .decode import SPECIAL, StreamDecoder, bpe_pieces, decode_byte_runs, spm_pieces, without_special
from .special import Splitter, end_of_generation
from .vocab import CONTROL, UNKNOWN, USER_DEFINED, Vocab, read_vocab

MODELS = ("llama", "gpt2", "bert", "t5", "gemma4")


class Encoder(Protocol):
    """What a model of this package does: ids of a text, nothing added."""

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """The ids of a text without surrogates."""
        ...


class Tokenizer:
    """Text to token ids and back. Immutable; any number of threads may use one.

    Build it with `from_metadata`. `bos_id`, `eos_id`, `unk_id`, `pad_id` are None where the file has none;
    `eog_ids` holds every id that ends a generation.
    """

    def __init__(self, vocab: Vocab, encoder: Encoder, pieces: list[bytes], pre: str | None, **rules: Any) -> None:
        self._texts = vocab.names
        self._types = vocab.types
        self._encoder = encoder
        self._pieces = pieces
        self._plain_pieces = without_special(pieces, vocab.types)
        self.model: str = vocab.model
        self.pre: str | None = pre
        self.n_vocab: int = len(vocab.texts)
        self.bos_id: int | None = rules["bos"]
        self.eos_id: int | None = rules["eos"]
        self.unk_id: int | None = rules["unk"]
        self.pad_id: int | None = vocab.ids["pad"]
        self.add_bos: bool = rules["add_bos"]
        self.add_eos: bool = rules["add_eos"]
        self._first = vocab.first if vocab.first is not None else _one(self.add_bos, self.bos_id)
        self._last = vocab.last if vocab.last is not None else _one(self.add_eos, self.eos_id)
        self.add_space_prefix: bool = rules["add_space_prefix"]
        self.eog_ids: frozenset[int] = end_of_generation(vocab) | ({self.eos_id} if self.eos_id is not None else set())

    @property
    def starts(self) -> tuple[int, ...]:
        """The ids that encode() puts before a text."""
        return self._first

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that encode() puts behind a text."""
        return self._last

    def __repr__(self) -> str:
        pre = f", pre={self.pre!r}" if self.pre else ""
        return f"Tokenizer(model={self.model!r}{pre}, n_vocab={self.n_vocab}, bos={self.bos_id}, eos={self.eos_id})"

    def encode(self, text: str, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """The token ids of a text.

        add_special: BOS and EOS as the file wants them. parse_special: control tokens spelled in the text become
        those tokens; else they are plain text. Half surrogates in the text are read as U+FFFD. Raises GGUFError where
        the library gives up. A text is cut as a whole, as its pieces would not have the same ids: Ctrl-C is seen when
        that is done, which takes seconds for megabytes.
        """
        said = _well_formed(read_text("text", text))
        ids = whole(self._encoder.encode, said, parse_special) if said else []
        return [*self._first, *ids, *self._last] if add_special else ids

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of token ids: the inverse of `encode(text, add_special=False)`.

        skip_special leaves out control and unknown tokens. Bytes that are no UTF-8 come as U+FFFD: in a SentencePiece
        vocabulary, as in Hugging Face's decoder, one for each byte token of a broken run of them.
        Raises ArgumentError for an id outside of the vocabulary.
        """
        wanted: list[int] = read_ids("ids", ids).tolist()
        if wanted and not (min(wanted) >= 0 and max(wanted) < self.n_vocab):
            bad = next(i for i in wanted if not 0 <= i < self.n_vocab)
            raise ArgumentError(f"token id {bad} is not in the vocabulary (n_vocab {self.n_vocab})")
        pieces = self._plain_pieces if skip_special else self._pieces
        data = b"".join([pieces[i] for i in wanted])
        try:
            text = data.decode()
        except UnicodeDecodeError:
            if self.model in ("llama", "gemma4"):
                shown = [i for i in wanted if not (skip_special and self._types[i] in SPECIAL)]
                text = decode_byte_runs(shown, pieces, self._types)
            else:
                text = data.decode("utf-8", "replace")
        return text[1:] if self.add_space_prefix and text[:1] == " " else text

    def stream_decoder(
        self, skip_special: bool = True, continues: bool = False, shown: Mapping[int, bytes] | None = None
    ) -> StreamDecoder:
        """A decoder fed one id at a time; its texts joined are what `decode` gives for ids that make UTF-8.

        A broken run of byte tokens differs: characters that were whole have been given out and stay.

        continues: the text goes on after a prompt, so the blank of its first word is a real one and is kept. shown:
        what tokens print all the same, as spelling() finds them.
        """
        pieces = self._plain_pieces if skip_special else self._pieces
        return StreamDecoder(pieces, self.add_space_prefix and not continues, shown or {})

    def spelling(self, texts: Iterable[str]) -> dict[int, bytes]:
        """The control tokens that these texts are written with, and what each prints: id -> bytes."""
        found = {part for text in texts for part in self._control.parts(text) if isinstance(part, int)}
        wanted = {self._texts[token] for token in found}  # a text may have several tokens
        return {i: self._pieces[i] for i in self._control_ids if self._texts[i] in wanted} if wanted else {}

    def control_parts(self, text: str) -> list[str | int]:
        """A text as parts without control tokens, and the ids of those that are spelled in it."""
        return list(self._control.parts(text))

    def has_special(self, text: str) -> bool:
        """Whether a token that is no ordinary text is spelled so.

        As a control token, or one that was added to the vocabulary.
        """
        return text in self._named

    @functools.cached_property
    def _control_ids(self) -> list[int]:
        return [i for i, kind in enumerate(self._types) if kind == CONTROL and self._texts[i]]

    @functools.cached_property
    def _control(self) -> Splitter:
        return Splitter({self._texts[i]: i for i in self._control_ids})

    @functools.cached_property
    def _named(self) -> frozenset[str]:
        return frozenset(self._texts[i] for i, kind in enumerate(self._types) if kind in (CONTROL, USER_DEFINED))

    def piece_bytes(self, token: int) -> bytes:
        """The bytes that a token prints, perhaps part of a character; b"" for unused ones."""
        return self._pieces[self._checked(token)]

    def token_text(self, token: int) -> str:
        """The token as the vocabulary spells it."""
        return self._texts[self._checked(token)]

    def is_special(self, token: int) -> bool:
        """Whether the token is a control or unknown token, which prints nothing with skip_special."""
        return self._types[self._checked(token)] in SPECIAL

    def _checked(self, token: int) -> int:
        if not 0 <= whole_number("token", token, -(2**63)) < self.n_vocab:
            raise ArgumentError(f"token id {token} is not in the vocabulary (n_vocab {self.n_vocab})")
        return token


def from_metadata(metadata: Mapping[str, Any]) -> Tokenizer:
    """Build the tokenizer that a GGUF file describes.

    metadata maps GGUF keys to values; where it has `raw_strings(key) -> list[bytes]`, tokens and merges are read
    through that, as they may not be UTF-8. Safe to run in a thread beside other work.
    Raises GGUFError for a vocabulary that contradicts itself, UnsupportedError for a model or `pre` not known.
    """
    return whole(_build, metadata)


def _build(metadata: Mapping[str, Any]) -> Tokenizer:
    with gc_paused():
        vocab = read_vocab(metadata)
        if vocab.model in ("llama", "t5"):
            return _spm(vocab, metadata)
        if vocab.model == "gpt2":
            return _bpe(vocab, metadata)
        if vocab.model == "bert":
            return _wpm(vocab, metadata)
        if vocab.model == "gemma4":
            return _piece_bpe(vocab, metadata)
    raise UnsupportedError(f"tokenizer.ggml.model {vocab.model[:80]!r} is not supported; supported: {' '.join(MODELS)}")


def _one(added: bool, token: int | None) -> tuple[int, ...]:
    return (token,) if added and token is not None else ()


def _default(vocab: Vocab, name: str, token: int) -> int | None:
    """An id that a file need not name."""
    return vocab.ids[name] if name in vocab.declared else (token if token < len(vocab.raw) else None)


def _spm(vocab: Vocab, metadata: Mapping[str, Any]) -> Tokenizer:
    from .spm import SpmEncoder

    unigram = vocab.model == "t5"
    unk = _default(vocab, "unk", 2 if unigram else 0)
    if unk is None:
        unk = next((i for i, kind in enumerate(vocab.types) if kind == UNKNOWN), None)
    prefix = vocab.add_space_prefix is not False
    return Tokenizer(
        vocab,
        published.find(metadata, vocab) or SpmEncoder(vocab, unk, prefix),
        spm_pieces(vocab),
        vocab.pre,
        bos=vocab.ids["bos"] if unigram else _default(vocab, "bos", 1),
        eos=_default(vocab, "eos", 1 if unigram else 2),
        unk=unk,
        add_bos=vocab.add_bos is True if unigram else vocab.add_bos is not False,
        add_eos=vocab.add_eos is not False if unigram else vocab.add_eos is True,
        add_space_prefix=prefix,
    )


def _bpe(vocab: Vocab, metadata: Mapping[str, Any]) -> Tokenizer:
    from .bpe import BpeEncoder

    whole = published.find(metadata, vocab)
    if whole is None:
        pre = pretokenizers.find(vocab.pre)
    else:
        pre = pretokenizers.TABLE.get(vocab.pre or "", pretokenizers.Pre(()))
    return Tokenizer(
        vocab,
        whole or BpeEncoder(vocab, pre),
        bpe_pieces(vocab),
        vocab.pre or "default",
        bos=vocab.ids["bos"],
        eos=vocab.ids["eos"],
        unk=vocab.ids["unk"],
        add_bos=pre.add_bos if vocab.add_bos is None else vocab.add_bos,
        add_eos=vocab.add_eos is True,
        add_space_prefix=False,  # byte-level text has no dummy blank to add or to strip
    )


def _piece_bpe(vocab: Vocab, metadata: Mapping[str, Any]) -> Tokenizer:
    from .bpe import PieceBpeEncoder

    unk = _default(vocab, "unk", 3)
    return Tokenizer(
        vocab,
        published.find(metadata, vocab) or PieceBpeEncoder(vocab, unk),
        spm_pieces(vocab),
        vocab.pre,
        bos=_default(vocab, "bos", 2),
        eos=_default(vocab, "eos", 1),
        unk=unk,
        add_bos=vocab.add_bos is not False,
        add_eos=vocab.add_eos is True,
        add_space_prefix=False,
    )


def _wpm(vocab: Vocab, metadata: Mapping[str, Any]) -> Tokenizer:
    from .wpm import WpmEncoder, normalizer_flags

    unk = _default(vocab, "unk", 100)
    if unk is None:
        raise GGUFError("tokenizer.ggml.unknown_token_id is missing: a WordPiece vocabulary needs it")
    return Tokenizer(
        vocab,
        published.find(metadata, vocab) or WpmEncoder(vocab, unk, *normalizer_flags(metadata)),
        spm_pieces(vocab),
        vocab.pre,
        bos=vocab.ids["bos"] if "bos" in vocab.declared else _default(vocab, "cls", 101),
        eos=vocab.ids["eos"] if "eos" in vocab.declared else _default(vocab, "sep", 102),
        unk=unk,
        add_bos=vocab.add_bos is not False,
        add_eos=vocab.add_eos is not False,
        add_space_prefix=True,  # U+2581 begins every word, the first too
    )


def _well_formed(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced; the libraries take only valid UTF-8."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


_gc_lock = threading.Lock()
_gc_depth = 0
_gc_was_on = False


def _in_child() -> None:
    """A forked child has one thread, and that builds nothing: whoever had paused the collection is not there."""
    global _gc_lock, _gc_depth
    _gc_lock = threading.Lock()
    if _gc_depth and _gc_was_on:
        gc.enable()
    _gc_depth = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


@contextlib.contextmanager
def gc_paused() -> Iterator[None]:
    """Cyclic collection off while many small objects are built; on again when the last of several builders leaves."""
    global _gc_depth, _gc_was_on
    with _gc_lock:
        if _gc_depth == 0:
            _gc_was_on = gc.isenabled()
            gc.disable()
        _gc_depth += 1
    try:
        yield
    finally:
        with _gc_lock:
            _gc_depth -= 1
            if _gc_depth == 0 and _gc_was_on:
                gc.enable()
