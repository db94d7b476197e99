"""Models as calls take them: a loaded one, or the path of a file that is loaded for the call and closed behind it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from pyggml.arguments import path as read_path
from pyggml.arguments import wrong_type
from pyggml.model import Model, load

ModelOrPath = Model | str | os.PathLike[str]


@contextlib.contextmanager
def opened(what: str, model: ModelOrPath, n_threads: int | None = None) -> Iterator[Model]:
    """The model itself, which stays open, or the one of a file. what: the parameter in messages.

    Raises what load raises, and ArgumentError for what is neither.
    """
    if isinstance(model, Model):
        yield model
    elif isinstance(model, (str, os.PathLike)):
        with load(read_path(what, model), n_threads=n_threads or None) as loaded:
            yield loaded
    else:
        raise wrong_type(what, "a Model or the path of a GGUF file", model)
