"""From what callers pass to requests: prompts become ids, settings one request for each sample."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pyggml.engine.generation import Request
from pyggml.engine.loaded import Loaded
from pyggml.engine.prompts import check_length, read_prompt
from pyggml.errors import ArgumentError, ContextFull

log = logging.getLogger("pyggml")


def prompt_ids(loaded: Loaded, name: str, prompt: object, *, fits: bool = True) -> list[int]:
    """The ids of a text or of ids; of an empty one what a text begins with. name: the parameter's, for messages.

    fits: the whole must fit the context; what is far from it is refused before it is tokenized. Raises ArgumentError,
    ContextFull.
    """
    loaded.check_open()
    found = read_prompt(name, prompt)
    ids = text_ids(loaded, found, True, fits) if isinstance(found, str) else found
    if not ids:
        tokenizer = loaded.tokenizer
        start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
        if start is None:
            raise ArgumentError("an empty prompt needs a model with a BOS or EOS token; this one has neither")
        ids = [start]
    return ids


def ids_of_each(loaded: Loaded, name: str, prompts: Sequence[object], one: bool, fits: bool) -> list[list[int]]:
    """As prompt_ids(), of several; one: it is no list of them. An error says which of them cannot be fed."""
    found = []
    for i, each in enumerate(prompts):
        try:
            ids = prompt_ids(loaded, name, each, fits=fits)
            loaded.check_ids(ids, 0, loaded.n_ctx if fits else len(ids))
        except (ArgumentError, ContextFull) as error:
            if one:
                raise
            raise type(error)(f"{name}[{i}]: {error}") from None
        found.append(ids)
    return found


def text_ids(loaded: Loaded, text: str, add_special: bool, fits: bool = True) -> list[int]:
    """The ids of a text in which `<|...|>` are tokens; fits as in prompt_ids()."""
    encode = loaded.tokenizer.encode
    if fits:
        check_length(text, encode, loaded.n_ctx)
    return encode(text, add_special=add_special, parse_special=True)


def answer_ids(loaded: Loaded, rendered: str, *, fits: bool) -> list[int]:
    """The ids of a rendered conversation, which begins as the model wants it; fits as in prompt_ids()."""
    ids = text_ids(loaded, rendered, add_special=False, fits=fits)
    tokenizer = loaded.tokenizer
    if tokenizer.add_bos and tokenizer.bos_id is not None and ids[:1] != [tokenizer.bos_id]:
        return [tokenizer.bos_id, *ids]
    return ids


def fitted(loaded: Loaded, ids: list[int], how: Mapping[str, Any]) -> list[int]:
    """ids that fit the context, or all of them where overflow is "error", which then is one.

    What a text begins with stays (BOS), and so does as much of its end as leaves room for max_tokens, or for a quarter
    of the context.
    """
    if how["overflow"] == "error" or len(ids) < loaded.n_ctx:
        return ids
    wanted = how["max_tokens"]
    room = max(1, min(loaded.n_ctx // 4 if wanted is None else wanted, loaded.n_ctx // 2))
    first = ids[:1] if ids[0] == loaded.tokenizer.bos_id else []
    kept = max(loaded.n_ctx - room - len(first), 0)
    log.warning("%d of %d tokens of a prompt were cut: the context has %d", len(ids) - kept, len(ids), loaded.n_ctx)
    return [*first, *ids[len(ids) - kept :]]


def samples(loaded: Loaded, ids: list[int], how: Mapping[str, Any], n: int, continues: bool) -> list[Request]:
    """n requests of one prompt, each with a seed of its own. how: as read_settings() gives it, and what chat adds."""
    kept = fitted(loaded, ids, how)
    shared = {**how, "continues": continues, "shared": n > 1, "n_cut": len(ids) - len(kept)}
    return [Request(kept, **{**shared, "sampling": how["sampling"].nth(i)}) for i in range(n)]
