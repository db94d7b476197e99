"""Special tokens: which ids end a generation, and cutting a text at special tokens.

The splitter serves SentencePiece, which never parses control pieces from text; `tokenizers` has its own.
Types are taken as the file gives them: unlike llama.cpp no token is re-typed because of its name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from .vocab import NORMAL, Vocab

# Ends of a generation by text, for the many files that declare only one of several (facts of llama.cpp's loader).
# fmt: off
_EOG_TEXTS = frozenset((
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<eos>", "[EOS]", "<EOT>", "_<EOT>", "[EOT]", "<|eom_id|>", "<|end_of_text|>",
    "<end_of_utterance>", "<turn|>", "<|tool_response>",
))
# fmt: on


def end_of_generation(vocab: Vocab) -> frozenset[int]:
    """eos, eot and eom, a list that the file holds, and the tokens that are known to end a turn by their text."""
    declared = {i for name in ("eos", "eot", "eom") if (i := vocab.ids[name]) is not None}
    return frozenset(declared | set(vocab.eog) | ends_by_text(vocab.model, vocab.names, vocab.types))


def ends_by_text(model: str, names: Sequence[str], types: Sequence[int]) -> set[int]:
    """The ids whose text is known to end a turn, as llama.cpp finds them."""
    found: dict[str, list[int]] = {}
    for i, text in enumerate(names):
        # in a byte-level vocabulary </s> is perhaps an ordinary piece: the HTML tag of struck text
        if text in _EOG_TEXTS and not (model == "gpt2" and text == "</s>" and types[i] == NORMAL):
            found.setdefault(text, []).append(i)
    # gpt-oss and solar-open: <|end|> only closes a channel
    if {"<|return|>", "<|call|>"} <= found.keys() or {"<|calls|>", "<|flush|>"} <= found.keys():
        found.pop("<|end|>", None)
    return {i for ids in found.values() for i in ids}


def spoken(vocab: Vocab, kinds: Collection[int]) -> dict[str, int]:
    """The tokens of these types that a text can spell: text -> id."""
    return {
        text: i
        for i, (text, kind) in enumerate(zip(vocab.texts, vocab.types, strict=True))
        if kind in kinds and i not in vocab.mute
    }


class Splitter:
    """Cuts a text at the given tokens: leftmost first, of those the longest."""

    def __init__(self, tokens: dict[str, int]) -> None:
        self._tokens = tokens
        lengths: dict[str, set[int]] = {}
        for text in tokens:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(ls, reverse=True) for first, ls in lengths.items()}
        # Only first characters: an alternation of all tokens would cost tokens x characters on a hostile vocabulary.
        self._first = re.compile("[" + "".join(map(re.escape, lengths)) + "]") if lengths else None

    def parts(self, text: str) -> Iterator[str | int]:
        """Text parts (never empty) and token ids, in order."""
        if self._first is None:
            if text:
                yield text
            return
        done = at = 0
        while (hit := self._first.search(text, at)) is not None:
            at = hit.start()
            for length in self._lengths[text[at]]:
                token = self._tokens.get(text[at : at + length])
                if token is not None:
                    break
            else:
                at += 1
                continue
            if at > done:
                yield text[done:at]
            yield token
            done = at = at + length
        if done < len(text):
            yield text[done:]
