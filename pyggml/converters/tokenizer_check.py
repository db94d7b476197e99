"""Does a tokenizer survive its conversion? The ids of the new keys against those of the source's own tokenizer, on
texts that meet every rule by which tokenizers differ.

The source's own is tokenizer.json through `tokenizers`, else tokenizer.model through `sentencepiece`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from pyggml.converters.tokenizer_files import TokenizerFiles
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.leaving import whole
from pyggml.tokenizer import Tokenizer, from_metadata
from pyggml.tokenizer.library import ids_of, refusing, text_of
from pyggml.tokenizer.published import without_special
from pyggml.tokenizer.vocab import USER_DEFINED

# fmt: off
TEXTS = (
    "", " ", "  ", "a", " a", "  a", "a ", "a  ", "\n", "\n\n", " \n ", "\t", "\t\t x", "\r\n", "a\r\nb\rc\n\n\nd\x0c",
    "Hello, world!", "Hello  World   HELLO    wOrLd", "trailing blanks   ", "   leading blanks",
    "  The quick brown fox jumps over 13 lazy dogs.\n\n\tIt's 2026, isn't it? I'LL go; WE'RE here, they'd've",
    "def f(x):\n    return x ** 2  # caf\u00e9 \u4f60\u597d \u043f\u0440\u0438\u0432\u0435\u0442 \U0001f642",
    "for (int i = 0; i < n; ++i) {\r\n\t\ta[i] += b[i] * 0x1F;\r\n}\r\n",
    "<a href=\"x\">y</a> &amp; </s> <s> <unk> <0x0A>",
    "0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 \u0661\u0662\u0663 \u00b2\u00bd \u2167 \u2460",
    # accents composed and not, ligatures, full and half width, letters whose case is odd
    "e\u0301 A\u030a o\u0308\u0323 \u00e9 \u00c5 \u1ed9 n\u0303o ma\u00f1ana \u1112\u1161\u11ab",
    "\ufb01 \ufb03 \u0132 \uff21\uff22\uff11 \uff76\uff9e \u2122 \u3392 \u2026",
    "\u0130stanbul \u1e9e \u01c5 \u03a3\u03c2 STRASSE stra\u00dfe",
    # blanks and other characters that are not seen
    "\u00a0x\u2003y\u3000z\u200bw\u2028v\ufeffu\u0085t\u1680\x0b", "\u00ad soft\u00adhyphen",
    "\x00 \x01\x1f \x7f \x80 \ufffd \U000f0000 \U0010ffff", "\u2581 \u2581\u2581a \u0120 \u010a ## ##ing",
    "\u2011 \u2013 \u2014 \u2018q\u2019 \u201cq\u201d",
    # emoji, alone and joined
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea",
    "\u2764\ufe0f \u0031\ufe0f\u20e3",
    # scripts from right to left, with marks, without blanks
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u202babc\u202c \u0627\u0644\u0633\u064e\u0651\u0644",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \uc548\ub155",
    "\u3053\u3093\u306b\u3061\u306f\u30ab\u30bf \u7e41\u9ad4\u5b57\u3001\u7b80\u4f53\u5b57\uff0c\U00020000\U0002a6d6",
    # long runs
    "a" * 200, " " * 100, "\n" * 40, "-" * 80, "ab " * 60, "word" * 40, "\u4f60" * 50, "9" * 50, "!?" * 40,
    "\U0001f642" * 20,
    "http://example.com/a_b-c?d=1&e=%20f#g user@example.com C:\\dir\\file.txt /usr/lib/x.so.6",
    "camelCaseWord snake_case_word SCREAMING_CASE kebab-case-word x2y3z",
    "$100 \u20ac5 \u00a37 50% #tag @you a/b a\\b {[(<>)]} ''' \"\"\" ```",
)
# fmt: on
_PLAIN = "Hello, world!"
_TOKENS = 300  # added tokens tried, from both ends of the list
_SAMPLES = 6  # texts put together from the vocabulary


def difference(metadata: Mapping[str, Any], files: TokenizerFiles) -> str | None:
    """Where the tokenizer of the metadata and that of the files differ, in words; None where they agree.

    Raises GGUFError where the metadata make no tokenizer at all.
    """
    try:
        built = from_metadata(metadata)
    except UnsupportedError as e:
        raise GGUFError(f"the tokenizer that came out cannot be used: {e}") from e
    return _from_library(built, files, metadata) if files.table else _from_pieces(built, files)


def _from_library(built: Tokenizer, files: TokenizerFiles, metadata: Mapping[str, Any]) -> str | None:
    theirs, plain = files.library, without_special(files.library)
    for text in (*TEXTS, *_around(files), *_samples(built)):
        wanted = ids_of(theirs, text)
        wrong = _compare(text, built.encode(text, add_special=False), wanted)
        if wrong is None and text:
            got = built.encode(text, add_special=False, parse_special=False)
            wrong = _compare(f"{text} (special tokens as text)", got, ids_of(plain, text))
        if wrong is not None:
            return wrong
        if built.model != "bert" and text_of(theirs, wanted) == text != built.decode(wanted):
            return f"{_shown(text)} comes back as {built.decode(wanted)[:80]!r}"
    said = any(isinstance(files.settings.get(f"add_{end}_token"), bool) for end in ("bos", "eos"))
    given = any(f"tokenizer.ggml.add_{end}_token" in metadata for end in ("bos", "eos"))
    if files.first is not None and files.last is not None and given and not said:
        wanted = [*files.first, *ids_of(theirs, _PLAIN), *files.last]
        return _compare(f"{_PLAIN} (with its ends)", built.encode(_PLAIN), wanted)
    return None


def _from_pieces(built: Tokenizer, files: TokenizerFiles) -> str | None:
    import sentencepiece

    try:
        theirs = whole(partial(sentencepiece.SentencePieceProcessor, model_file=files.pieces_path))
    except (RuntimeError, OSError) as e:
        raise GGUFError(f"{files.pieces_path} cannot be used by the sentencepiece library: {str(e)[:200]}") from None
    added = [each.text for each in files.added.values()]
    kinds = () if files.pieces is None else zip(files.pieces.texts, files.pieces.types, strict=True)
    own = [text.replace("\u2581", " ") for text, kind in kinds if kind == USER_DEFINED][:_TOKENS]
    texts = (*TEXTS, *map(around, own), *_samples(built))
    for text in texts:
        if any(each in text for each in added):
            continue  # the library knows nothing of them
        with refusing("tokenizer.model cannot encode a text by the sentencepiece library"):
            wanted = whole(theirs.encode, text)
            again = whole(theirs.decode, wanted)
        wrong = _compare(text, built.encode(text, add_special=False, parse_special=False), wanted)
        if wrong is not None:
            return wrong
        if again == text != built.decode(wanted):
            return f"{_shown(text)} comes back as {built.decode(wanted)[:80]!r}"
    return None


def around(token: str) -> str:
    """A text in which a token has every neighbour that could matter."""
    return f"{token}x{token} y  {token}\n{token}{token}.{token}_ A {token} \t{token}"


def _around(files: TokenizerFiles) -> Iterator[str]:
    tokens = [each.text for each in files.added.values()]
    tried = tokens if len(tokens) <= _TOKENS else [*tokens[: _TOKENS // 2], *tokens[-_TOKENS // 2 :]]
    for token in tried:
        yield around(token)
        yield f"a{token.swapcase()}b {token[1:]}{token}{token[:-1]}"
    yield "".join(tried)


def _samples(built: Tokenizer) -> Iterator[str]:
    """Texts made of tokens from all over the vocabulary: they meet merges that plain texts do not."""
    for start in range(_SAMPLES):
        ids = [(start * 7919 + i * 104_729) % built.n_vocab for i in range(400)]
        yield built.decode([i for i in ids if not built.is_special(i)])


def _compare(text: str, got: list[int], wanted: list[int]) -> str | None:
    if got == wanted:
        return None
    at = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
    begin = max(at - 2, 0)
    return (
        f"{_shown(text)} gives {got[begin : at + 8]} from token {begin} on, the model's own tokenizer "
        f"{wanted[begin : at + 8]}"
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")
