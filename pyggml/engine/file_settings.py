"""The settings that a file suggests for its model: general.sampling.*, in place of this package's defaults."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pyggml.engine.sampling import SAMPLING
from pyggml.errors import PyggmlError

log = logging.getLogger("pyggml")

_KEYS = {
    "temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "sequence": "order",
    "xtc_probability": "xtc_probability", "xtc_threshold": "xtc_threshold", "penalty_last_n": "repeat_last_n",
    "penalty_repeat": "repeat_penalty", "mirostat": "mirostat", "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}  # fmt: skip


def file_settings(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a file suggests, by the names of settings. A value that no setting can have is passed over with a warning.

    >>> file_settings({"general.sampling.temp": 0.6, "general.sampling.top_k": 20})
    {'temperature': 0.6, 'top_k': 20}
    """
    found: dict[str, Any] = {}
    for word, name in _KEYS.items():
        key = f"general.sampling.{word}"
        try:
            value = metadata.get(key)
            if value is None:
                continue
            value = round(value, 6) if isinstance(value, float) else value  # as it was before it was a 32-bit float
            SAMPLING[name].judge(name, value)
            found[name] = value
        except PyggmlError as e:
            log.warning("%s is passed over: %s", key, e)
    if found.get("mirostat"):
        found.pop("order", None)
    return found
