"""Apertus: a feed-forward without a gate, whose activation (xIELU) has a trained curve in every layer.

A checkpoint keeps the numbers of the curve as tensors, a GGUF as metadata. Sources: transformers/models/apertus and
activations.py; the names of llama.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyggml.converters.families.llama import NAMES
from pyggml.converters.family import ATTENTION, Config, Family, Meta, decoder
from pyggml.converters.meaning import activation
from pyggml.converters.ropes import llama3_factors, rope
from pyggml.converters.stored import FLOATS, Stored, f32
from pyggml.errors import GGUFError, UnsupportedError
from pyggml.shown import clip

_NAMES: dict[str, str | tuple[str, ...]] = {
    **{name: to for name, to in NAMES.items() if "layernorm" not in name and "gate_proj" not in name},
    "layers.#.attention_layernorm": "blk.#.attn_norm",
    "layers.#.feedforward_layernorm": "blk.#.ffn_norm",
    "layers.#.self_attn.q_norm": "blk.#.attn_q_norm",
    "layers.#.self_attn.k_norm": "blk.#.attn_k_norm",
}
_CURVE: dict[str, float | None] = {"alpha_p": None, "alpha_n": None, "beta": 0.5, "eps": -1e-6}
"""The numbers of a curve, and those that a checkpoint may leave out."""
_NUMBER = re.compile(r"layers\.(\d+)\.mlp\.act_fn\.(\w+)$")
_SMALLEST = -1e-5  # from there on eps is below rounding, and no runtime reads it


def _metadata(c: Config) -> Meta:
    return decoder(c, "apertus") | rope(c, "apertus")


def _curves(tensors: Mapping[str, Stored], c: Config) -> Meta:
    told: dict[str, dict[int, float]] = {name: {} for name in _CURVE}
    for stored in tensors.values():
        match = _NUMBER.search(stored.name)
        if match is None or match[2] not in told or int(match[1]) >= c.n_layer:
            continue
        if stored.dtype not in FLOATS or stored.shape not in ((), (1,)):
            raise GGUFError(f"tensor {clip(stored.name)} is {stored.dtype} {list(stored.shape)}, expected one float")
        told[match[2]][int(match[1])] = float(f32(stored.read(), stored.dtype).reshape(()))
    meta: Meta = {}
    for name, default in _CURVE.items():
        values = [told[name].get(i, default) for i in range(c.n_layer)]
        if None in values:
            raise GGUFError(f"layers.{values.index(None)}.mlp.act_fn.{name} is missing among the weights")
        meta[f"apertus.xielu.{name}"] = (np.array(values, np.float32), None)
    for eps in told["eps"].values():
        if not _SMALLEST <= eps <= 0:
            raise UnsupportedError(f"mlp.act_fn.eps is {eps:g}: a GGUF of apertus computes with {_SMALLEST:g} to 0")
    return meta


def _tensors(said: Mapping[str, Any], c: Config) -> dict[str, NDArray[np.float32]]:
    made = {}
    for name, default in _CURVE.items():
        told = said.get(f"xielu.{name}", default)
        values = told if isinstance(told, list) else [told] * c.n_layer
        if len(values) != c.n_layer or not all(isinstance(each, (int, float)) for each in values):
            raise GGUFError(f"apertus.xielu.{name} is {clip(told)}, expected a number for each of {c.n_layer} layers")
        for i, value in enumerate(values):
            shape = (1,) if name.startswith("alpha") else ()
            made[f"model.layers.{i}.mlp.act_fn.{name}"] = np.full(shape, value, np.float32)
    return made


def _rope_said(said: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """A config.json that says no scaling has that of Llama 3.1."""
    plain = {"rope_parameters": {"rope_type": "default", "rope_theta": config["rope_theta"]}}
    return config if "rope_scaling" in config else config | plain


_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192}  # fmt: skip
FAMILIES = {
    "apertus": Family(
        "apertus", _NAMES, _metadata, skip=Family.skip + r"|\.mlp\.act_fn\.\w+$", extra=llama3_factors, read=_curves,
        computes=activation("xielu"), biases={"attention_bias": ATTENTION}, kept=_tensors, back=_rope_said,
        defaults={"rms_norm_eps": 1e-5, "rope_theta": 12e6, "rope_parameters": _LLAMA3,
                  "max_position_embeddings": 65536},
    ),
}  # fmt: skip
