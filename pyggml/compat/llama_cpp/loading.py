# ruff: noqa: E501 - rows of a table
"""What Llama(...) was given: parameters judged by the table of verdicts, and the file opened."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pyggml import gguf, keywords
from pyggml.compat.llama_cpp.llama_speculative import LlamaPromptLookupDecoding
from pyggml.compat.llama_cpp.verdicts import CONSTANTS, PARAMETERS, POOLINGS
from pyggml.errors import ArgumentError, UnsupportedError
from pyggml.model import Model, load
from pyggml.quant.types import QuantType
from pyggml.shown import shown
from pyggml.tokenizer import Tokenizer, from_metadata

log = logging.getLogger("pyggml")

# What is refused unless it is this, which changes nothing.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "kv_overrides": (None, {}), "rope_scaling_type": (None, -1), "attention_type": (None, -1), "rope_freq_base": (None, 0),
    "rope_freq_scale": (None, 0), "yarn_ext_factor": (None, -1), "yarn_attn_factor": (None, 1), "yarn_beta_fast": (None, 32),
    "yarn_beta_slow": (None, 1), "yarn_orig_ctx": (None, 0), "lora_base": (None,), "lora_scale": (None, 1),
    "lora_path": (None,), "tokenizer": (None,),
}  # fmt: skip
_ON_GPU = ("n_gpu_layers", "main_gpu", "tensor_split")
_SEED = CONSTANTS["LLAMA_DEFAULT_SEED"]


class How(NamedTuple):
    """The parameters that mean something."""

    n_ctx: int | None
    n_threads: int | None
    mmap: bool
    kv_type: str | None
    seed: int
    logits_all: bool
    last_n: int
    pooling: str | None
    chat_format: str | None
    chat_handler: Callable[..., Any] | None
    vocab_only: bool
    verbose: bool
    draft: Any


def read_parameters(given: Mapping[str, Any]) -> How:
    """Raises ArgumentTypeError for a parameter that llama_cpp has not, UnsupportedError for what is not taken."""
    strange = [name for name in given if name not in PARAMETERS or name == "model_path"]
    if strange:
        raise keywords.unknown("Llama", strange, [name for name in PARAMETERS if name != "model_path"])
    for name, harmless in _REFUSED.items():
        if name in given and given[name] not in harmless:
            raise UnsupportedError(f"Llama({name}={shown(given[name])}) is not taken: {PARAMETERS[name].said}")
    for name in _ON_GPU:
        if given.get(name):
            log.warning("Llama(%s=%s): everything is computed on the CPU", name, shown(given[name]))
    seed = given.get("seed", _SEED)
    n_ctx = given.get("n_ctx", 512)
    pooling = given.get("pooling_type", -1)
    if pooling not in POOLINGS:
        raise UnsupportedError(
            f"Llama(pooling_type={shown(pooling)}): one of {list(POOLINGS)}; m.rerank() of pyggml ranks"
        )
    handler = given.get("chat_handler")
    if handler is not None and not callable(handler):
        raise ArgumentError(f"chat_handler must be a function, got {shown(handler)}")
    return How(
        n_ctx or None, given.get("n_threads"), bool(given.get("use_mmap", True)), _cache_type(given),
        int.from_bytes(os.urandom(4), "little") if seed is None or seed in (_SEED, -1) else int(seed),
        bool(given.get("logits_all", False)), int(given.get("last_n_tokens_size", 64)), POOLINGS[pooling],
        given.get("chat_format"), handler, bool(given.get("vocab_only", False)), bool(given.get("verbose", True)),
        _draft(given.get("draft_model")),
    )  # fmt: skip


def _draft(given: Any) -> Any:
    """What guesses, as a generation takes it: by n-grams, or the Model of another Llama."""
    if given is None or isinstance(given, LlamaPromptLookupDecoding):
        return "ngram" if given is not None else None
    model = getattr(given, "pyggml_model", None)
    if not isinstance(model, Model):
        raise UnsupportedError(
            f"Llama(draft_model={shown(given)}) is not taken: LlamaPromptLookupDecoding() is, and another Llama"
        )
    return model


def _cache_type(given: Mapping[str, Any]) -> str | None:
    k, v = given.get("type_k"), given.get("type_v")
    if k is None and v is None:
        return None
    if k != v:
        raise UnsupportedError(
            f"type_k={shown(k)} and type_v={shown(v)}: keys and values have one type here, give both"
        )
    known = {kind.id: kind.name for kind in QuantType}
    if k not in known:
        raise ArgumentError(f"type_k={shown(k)} is no number of a type; GGML_TYPE_F16 is 1, GGML_TYPE_Q8_0 8")
    return known[k].lower()


def open_model(path: str, how: How) -> tuple[Model | None, Tokenizer, dict[str, str]]:
    """The model (None: its vocabulary alone), its tokenizer, its metadata as text."""
    if how.vocab_only:
        with gguf.open(path) as file:
            return None, from_metadata(file.metadata), _as_text(file.metadata)
    m = load(path, n_ctx=how.n_ctx, n_threads=how.n_threads, mmap=how.mmap, kv_type=how.kv_type)
    return m, m.tokenizer, _as_text(m.metadata)


def _as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Metadata but arrays, as llama.cpp shows it."""
    found = {}
    for key, value in metadata.items():
        if isinstance(value, bool):
            found[key] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            found[key] = f"{value:f}" if isinstance(value, float) else str(value)
    return found
