"""Calls into the `tokenizers` library: its errors and Rust panics leave as GGUFError, long texts take the fast call.

Every call that may give the interpreter away goes through leaving.whole: a thread that is cut inside would abort.

What is built from it is in bpe.py, wpm.py and published.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..errors import GGUFError, PyggmlError
from ..files.foreign import is_panic
from ..leaving import whole

# The batch call skips offsets (3x faster) but starts the library's thread pool, which a fork then complains about.
_BATCH_FROM = 8192


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Within the block whatever the library raises becomes GGUFError("{what}: ...")."""
    try:
        yield
    except PyggmlError:
        raise
    except BaseException as e:  # a Rust panic is no Exception
        if isinstance(e, Exception) or is_panic(e):
            raise GGUFError(f"{what}: {str(e)[:300]}") from None
        raise


def ids_of(facade: Any, text: str) -> list[int]:
    """The ids of a text by a `tokenizers.Tokenizer`, nothing added. Raises GGUFError where the library gives up."""
    with refusing("the tokenizer cannot encode this text"):
        if len(text) < _BATCH_FROM:
            ids: list[int] = whole(facade.encode, text, None, False, False).ids
        else:
            ids = whole(facade.encode_batch_fast, [text], False, False)[0].ids
    return ids


def ids_with_ends(facade: Any, text: str) -> list[int]:
    """The ids of a text with what the description puts around it. Raises GGUFError where the library gives up."""
    with refusing("the tokenizer cannot put anything around this text"):
        ids: list[int] = whole(facade.encode, text).ids
    return ids


def built(description: str) -> Any:
    """The `tokenizers.Tokenizer` of a tokenizer.json. Raises what the library raises."""
    from tokenizers import Tokenizer

    return whole(Tokenizer.from_str, description)


def normalized(facade: Any, text: str) -> str:
    """A text as the normalizer of a `tokenizers.Tokenizer` makes it. Raises GGUFError where the library gives up."""
    if facade.normalizer is None:
        return text
    with refusing("the tokenizer cannot normalize this text"):
        made: str = whole(facade.normalizer.normalize_str, text)
    return made


def text_of(facade: Any, ids: list[int]) -> str:
    """The text of ids by a `tokenizers.Tokenizer`, special tokens too."""
    with refusing("the tokenizer cannot decode its own ids"):
        text: str = whole(facade.decode, ids, False)
    return text
