"""llama_cpp's words for how a token is chosen, as this package's settings."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from pyggml import _native, keywords
from pyggml.compat.llama_cpp.known import Known
from pyggml.engine.sampling import Sampling
from pyggml.errors import UnsupportedError

# Their name: (ours, their default).
_NAMES: dict[str, tuple[str, Any]] = {
    "temperature": ("temperature", 0.8), "temp": ("temperature", 0.8), "top_k": ("top_k", 40), "top_p": ("top_p", 0.95),
    "min_p": ("min_p", 0.05), "typical_p": ("typical_p", 1.0), "repeat_penalty": ("repeat_penalty", 1.0),
    "frequency_penalty": ("frequency_penalty", 0.0), "presence_penalty": ("presence_penalty", 0.0),
    "mirostat_mode": ("mirostat", 0), "mirostat_tau": ("mirostat_tau", 5.0), "mirostat_eta": ("mirostat_eta", 0.1),
}  # fmt: skip
_WITHOUT_EFFECT = ("penalize_nl",)  # gone from llama.cpp itself


def settings_of(call: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of Sampling, of llama_cpp's keywords; all of given must be some. Raises ArgumentTypeError.

    >>> settings_of("sample", {"temp": -1.0, "top_k": -1})
    {'temperature': 0.0, 'top_k': 0}
    """
    unknown = [name for name in given if name not in _NAMES and name not in (*_WITHOUT_EFFECT, "tfs_z")]
    if unknown:
        raise keywords.unknown(call, unknown, sorted({*_NAMES, "tfs_z"}))
    if given.get("tfs_z", 1.0) not in (None, 1.0):
        raise UnsupportedError("tfs_z is not built in, nor in llama.cpp any more; min_p and typical_p are")
    found = {_NAMES[name][0]: value for name, value in given.items() if name in _NAMES and value is not None}
    for name, off in (("temperature", 0.0), ("top_k", 0)):
        if isinstance(value := found.get(name), Real) and value < off:  # as llama.cpp writes it
            found[name] = off
    return found


def sampler_of(llama: Known, settings: Mapping[str, Any]) -> _native.Sampler:
    """A sampler at the beginning of its random numbers."""
    how = {"repeat_last_n": llama._how.last_n, **settings}
    return Sampling(**how, seed=llama.next_seed(None)).sampler(llama.n_vocab())
