"""A caller's function over the logits of the next token: called in the thread that makes texts, its answer judged."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.arguments import wrong_type
from pyggml.errors import ArgumentError, PyggmlError

LogitsHook = Callable[[list[int], NDArray[np.float32]], Any]


def hooked(hook: LogitsHook, ids: list[int], row: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits (n_vocab,) as the hook leaves them; row itself stays. ids: all before the token that is chosen.

    Raises what it raises, ArgumentError for an answer that is no logits.

    >>> hooked(lambda ids, logits: logits * len(ids), [7, 8], np.ones(2, np.float32))
    array([2., 2.], dtype=float32)
    """
    own = row.copy()
    given = _answer(hook, ids, own)
    return own if given is None else _judged(given, row.shape)


def _answer(hook: LogitsHook, ids: list[int], logits: NDArray[np.float32]) -> object:
    """What would end the thread (sys.exit in a hook) ends the text that the hook belongs to, and no other one."""
    try:
        return hook(ids, logits)
    except Exception:
        raise
    except BaseException as error:
        if threading.get_ident() == threading.main_thread().ident:  # its caller works himself, and Ctrl-C is his
            raise
        raise PyggmlError(f"logits_hook ended by {error!r:.200}, which ends this text") from error


def _judged(given: object, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        found = np.asarray(given)
    except Exception:  # a stranger's object may raise anything
        found = np.asarray(None)
    if found.dtype.kind not in "fiu":
        raise wrong_type("what logits_hook gives", f"{shape} logits, as it got, or None", given)
    if found.shape != shape:
        raise ArgumentError(f"logits_hook must give {shape} logits, as it got, or None; got {found.shape}")
    with np.errstate(over="ignore"):  # the sampler names what is not finite
        return np.ascontiguousarray(found, np.float32)
