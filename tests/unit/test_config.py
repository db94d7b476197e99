"""Config: the numbers of real files, defaults, and judgements. Hostile values are in tests/attack."""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyggml.gguf as gguf
from pyggml.config import Config, Experts, Heads, RopeNumbers, RopeScaling
from pyggml.config.keys import unknown
from pyggml.errors import GGUFError, UnsupportedError

LEAST: dict[str, Any] = {
    "general.architecture": "x",
    "x.block_count": 2,
    "x.context_length": 128,
    "x.embedding_length": 64,
    "x.feed_forward_length": 96,
    "x.attention.head_count": 4,
    "x.attention.layer_norm_rms_epsilon": 1e-6,
}


def config(**changes: Any) -> Config:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return Config.from_metadata({**LEAST, **{f"x.{key}": value for key, value in keys.items()}})


def test_defaults_of_the_least_metadata() -> None:
    c = config()
    assert (c.arch, c.n_layer, c.n_embd, c.n_ff, c.n_vocab, c.n_ctx_train) == ("x", 2, 64, 96, 0, 128)
    assert (c.heads, c.experts) == (Heads(4, 4, 16, 16), None)
    assert (c.causal, c.pooling_type) == (True, 0)
    assert c.rope == RopeNumbers(10000.0, 16, RopeScaling("none", 1.0, 1.0, 128, 32.0, 1.0))


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().n_layer = 3  # type: ignore[misc]
    assert not hasattr(config(), "__dict__")


REAL = {
    "models/stories260K.gguf": {"n_layer": 5, "n_embd": 64, "heads.n": 8, "heads.n_kv": 4, "n_ff": 172, "n_vocab": 512},
    "conformance/llama/model-f32.gguf": {"heads.n_kv": 2, "heads.k": 32, "rope.freq_base": 500000.0, "n_vocab": 640},
    "conformance/qwen2/model-f32.gguf": {"arch": "qwen2", "heads.k": 64, "rope.freq_base": 1e6},
    "conformance/qwen3/model-f32.gguf": {"arch": "qwen3", "heads.k": 32, "rope.n_rot": 32},
    "conformance/mixtral/model-f32.gguf": {"experts": Experts(3, 2, 256)},
    "conformance/qwen2_moe/model-f32.gguf": {"experts.n": 4, "experts.n_ff": 128},
    "conformance/gemma2/model-f32.gguf": {"arch": "gemma2", "heads.v": 32, "n_vocab": 640},
    "conformance/bert/model-f32.gguf": {"causal": False, "pooling_type": 1},
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(shared: Path, name: str) -> None:
    with gguf.open(shared / name) as file:
        c = Config.from_metadata(file.metadata)
    assert {key: attrgetter(key)(c) for key in REAL[name]} == REAL[name]


def test_yarn_of_a_real_file(shared: Path) -> None:
    with gguf.open(shared / "conformance/qwen2__yarn/model-f32.gguf") as file:
        scaling = Config.from_metadata(file.metadata).rope.scaling
    assert scaling == RopeScaling("yarn", 4.0, 1.0, 32, 32.0, 1.0)


def test_vocabulary_size_wins_over_the_number_of_tokens() -> None:
    tokens = {"tokenizer.ggml.tokens": ["a", "b"]}
    assert Config.from_metadata({**LEAST, **tokens}).n_vocab == 2
    assert Config.from_metadata({**LEAST, **tokens, "x.vocab_size": 8}).n_vocab == 8


@pytest.mark.parametrize("array", [[2, 2], np.array([2, 2], np.uint32)])
def test_equal_values_per_layer_are_one_value(array: Any) -> None:
    assert config(attention__head_count_kv=array).heads.n_kv == 2
    assert config(feed_forward_length=array).n_ff == 2


@pytest.mark.parametrize("array", [[2, 4], np.array([2, 4], np.uint32)])
def test_different_values_per_layer_are_unsupported(array: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"x\.attention\.head_count_kv differs between layers \(from 2 to 4\)"):
        config(attention__head_count_kv=array)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, ("linear", 4.0)),
        ({"rope__scaling__factor": 4.0}, ("linear", 4.0)),
        ({"rope__scale_linear": 2.0}, ("linear", 2.0)),
        ({"rope__scale_linear": 2.0, "rope__scaling__factor": 4.0}, ("linear", 4.0)),
        ({"rope__scaling__factor": 0.0}, ("none", 1.0)),
        ({"rope__scaling__type": "none", "rope__scaling__factor": 4.0}, ("none", 4.0)),
        ({"rope__scaling__type": "yarn", "rope__scaling__factor": 8}, ("yarn", 8.0)),
    ],
)
def test_rope_scaling(keys: dict[str, Any], expected: tuple[str, float]) -> None:
    scaling = config(**keys).rope.scaling
    assert (scaling.kind, scaling.factor) == expected


def test_unknown_rope_scaling_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="longrope"):
        config(rope__scaling__type="longrope")


def test_layer_norm_epsilon_serves_where_there_is_no_rms() -> None:
    values = {key: value for key, value in LEAST.items() if "epsilon" not in key}
    assert Config.from_metadata({**values, "x.attention.layer_norm_epsilon": 1e-12}).norm_eps == 1e-12


def test_experts_without_a_dense_width() -> None:
    values = {key: value for key, value in LEAST.items() if "feed_forward" not in key}
    values |= {"x.expert_count": 8, "x.expert_used_count": 2, "x.expert_feed_forward_length": 48}
    c = Config.from_metadata(values)
    assert (c.n_ff, c.experts) == (48, Experts(8, 2, 48))


@pytest.mark.parametrize(
    "value",
    ["\u202e" * 10_000, [0] * 10_000, 10**5000, -(10**30), object()],
    ids=["text", "array", "huge", "negative", "object"],
)
def test_messages_stay_short_and_printable(value: Any) -> None:
    with pytest.raises(GGUFError, match=r"x\.block_count") as error:
        config(block_count=value)
    assert len(str(error.value)) < 400
    assert str(error.value).isascii()


def test_every_key_that_others_know_is_known() -> None:
    """What the package `gguf` can write for an architecture is read by the Reader, judged, or a note."""
    constants = pytest.importorskip("gguf.constants")
    groups = [group for group in vars(constants.Keys).values() if isinstance(group, type)]
    named = {key for group in groups for key in vars(group).values() if isinstance(key, str) and "{arch}." in key}
    assert len(named) > 80
    metadata = {key.format(arch="x", dense="dense_2"): 1 for key in named}
    read_by_all = {
        *("block_count", "context_length", "embedding_length", "attention.head_count", "attention.head_count_kv"),
        *("attention.key_length", "attention.value_length", "rope.dimension_count", "rope.freq_base"),
        *(f"rope.scaling.{key}" for key in ("type", "factor", "original_context_length", "attn_factor")),
        *(f"rope.scaling.yarn_{key}" for key in ("attn_factor", "beta_fast", "beta_slow")),
    }
    assert unknown(metadata, "x", read_by_all) == ()
