"""A text that follows a grammar as it is made: which tokens may be chosen, which come by themselves, when it is whole.

What a grammar is: constrain/. It binds the answer; what a model thinks before is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyggml import _native
from pyggml.answer import Part
from pyggml.chat.speech import Reader, Speech
from pyggml.errors import GrammarError

if TYPE_CHECKING:
    from pyggml.constrain import Wanted
    from pyggml.tokenizer import Tokenizer


class Following:
    """From where the answer begins. wanted: what it must be. Raises as constrain.grammar() does, before any token."""

    def __init__(self, wanted: Wanted, speech: Speech, reader: Reader, tokenizer: Tokenizer, n_vocab: int) -> None:
        from pyggml.constrain import grammar

        self._grammar = grammar(tokenizer, n_vocab, wanted)
        self._constraint = self._grammar.begin()
        self._free = not reader.answering
        self._opens = -1 if self._free or speech.closed else _opening(speech, tokenizer)  # till the first token comes
        self.whole = False

    def bind(self, sampler: _native.Sampler) -> None:
        """Has the sampler choose what may come next. Raises GrammarError where the grammar's parser gives up."""
        if self._free:
            sampler.allow(None)
            return
        mask = self._constraint.mask()
        if self._opens >= 0:  # the model may think first
            mask = mask.copy()
            mask[self._opens >> 5] |= 1 << (self._opens & 31)
        sampler.allow(mask)

    def take(self, token: int, answering: bool, parts: Sequence[Part]) -> None:
        """A token of the text. answering: whether, with it read as parts, the answer comes next."""
        if self._free:
            self._free = not answering
            said = "".join(part.text for part in parts if part.kind == "text")
            if said.strip():
                raise GrammarError(f"the answer began as {said[:40]!r} in the token that ended the reasoning, unbound")
            return
        opened, self._opens = token == self._opens, -1
        if opened:
            self._free = True
            return
        self._constraint.take(token)
        self.whole = self._constraint.done

    def forced(self) -> list[int]:
        """Tokens that come next in any case."""
        return [] if self._free or self._opens >= 0 else self._constraint.forced()

    def end(self) -> None:
        """An end token was chosen."""
        self.whole = not self._free and self._constraint.may_end

    def parsed(self, text: str) -> Any:
        """What the text stands for; the error in its place, where the caller's type refuses it."""
        try:
            return self._grammar.parse(text)
        except GrammarError as e:
            return e


def _opening(speech: Speech, tokenizer: Tokenizer) -> int:
    """The token that begins a model's thoughts, -1: there is none."""
    if speech.reasoning is None:
        return -1
    ids = tokenizer.encode(speech.reasoning.start, add_special=False)
    return ids[0] if len(ids) == 1 else -1
