"""Hostile numbers of a model in sound GGUF files: missing, of another type, zero, negative, not finite, contradicting.

Each must leave as a PyggmlError that names the key, what it holds and what was expected.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from attack import build as b

import pyggml.gguf as gguf
from pyggml import arch
from pyggml.config import Config
from pyggml.errors import GGUFError, UnsupportedError


def read_numbers(path: Path) -> Config:
    with gguf.open(path) as file:
        return arch.config(file.metadata)


def test_the_model_all_these_are_made_from_is_sound(tmp_path: Path) -> None:
    assert read_numbers(b.write(tmp_path, b.llama())).heads.n_kv == 2


REQUIRED = [
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.layer_norm_rms_epsilon",
]
INTEGERS = [
    *REQUIRED[:5],
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.rope.dimension_count",
    "llama.rope.scaling.original_context_length",
    "llama.vocab_size",
]
NUMBERS = [
    REQUIRED[5],
    "llama.rope.freq_base",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.attn_factor",
    "llama.rope.scaling.yarn_beta_fast",
    "llama.rope.scaling.yarn_beta_slow",
    "llama.attn_logit_softcapping",
    "llama.attention.scale",
]


def model_refused(folder: Path, key: str, value: b.Value | None, message: str) -> None:
    with pytest.raises(GGUFError, match=f"{re.escape(key)}.*{message}") as error:
        read_numbers(b.write(folder, b.llama({key: value})))
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize("key", [*REQUIRED, "general.architecture"])
def test_missing_metadata(tmp_path: Path, key: str) -> None:
    with pytest.raises(GGUFError, match=f"{re.escape(key)} is missing, expected"):
        read_numbers(b.write(tmp_path, b.llama({key: None})))


@pytest.mark.parametrize("key", INTEGERS)
@pytest.mark.parametrize(
    "value",
    [b.string("2"), b.f32(2.0), b.val(b.BOOL, 1), b.arr(b.STR, ["2"]), b.arr(b.F32, [2.0]), b.arr(b.U32, []),
     b.u32(0), b.val(b.I32, -1), b.val(b.I64, -(2**63)), b.val(b.U64, 2**64 - 1), b.u32(2**31), b.u32(0xFFFFFFFF)],
)  # fmt: skip
def test_integers_that_are_none_or_absurd(tmp_path: Path, key: str, value: b.Value) -> None:
    model_refused(tmp_path, key, value, "expected an integer from 1")


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize(
    "value",
    [b.string("1"), b.val(b.BOOL, 1), b.arr(b.F32, [1.0]), b.f32(-1.0), b.f32(math.nan), b.f32(math.inf),
     b.f32(-math.inf), b.val(b.F64, 1e300), b.val(b.F64, 5e-324), b.val(b.I32, -5)],
)  # fmt: skip
def test_numbers_that_are_none_or_not_finite(tmp_path: Path, key: str, value: b.Value) -> None:
    model_refused(tmp_path, key, value, "expected a finite number")


@pytest.mark.parametrize("key", ["llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"])
def test_zero_where_it_means_nothing(tmp_path: Path, key: str) -> None:
    model_refused(tmp_path, key, b.f32(0.0), "above 0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.attention.head_count": b.u32(6)}, "embedding_length is 32, no multiple of head_count"),
        ({"llama.attention.head_count_kv": b.u32(3)}, "no multiple of head_count_kv, which is 3"),
        ({"llama.attention.head_count_kv": b.u32(8)}, "no multiple of head_count_kv, which is 8"),
        (
            {"llama.block_count": b.u32(2), "llama.attention.head_count_kv": b.arr(b.U32, [2, 3])},
            "no multiple of head_count_kv, which is 3, in layer 1",
        ),
        (
            {"llama.block_count": b.u32(2), "llama.attention.head_count": b.arr(b.U32, [4, 8])},
            "head_count differs between layers, and attention.key_length is missing",
        ),
        ({"llama.rope.dimension_count": b.u32(7)}, "rope.dimension_count is 7, expected an even"),
        ({"llama.rope.dimension_count": b.u32(16)}, "rope.dimension_count is 16, expected an integer from 1 to 8"),
        ({"llama.attention.key_length": b.u32(2**19)}, "key_length: 4 heads"),
        ({"llama.expert_count": b.u32(4)}, "expert_used_count is missing"),
        ({"llama.expert_count": b.u32(4), "llama.expert_used_count": b.u32(5)}, "expert_used_count is 5"),
        ({"llama.expert_count": b.u32(4), "llama.expert_used_count": b.u32(0)}, "expert_used_count is 0"),
        ({"general.architecture": b.string("")}, "general.architecture is ''"),
        ({"general.architecture": b.u32(1)}, "general.architecture is 1"),
        ({"llama.rope.scaling.type": b.u32(1)}, "rope.scaling.type is 1"),
        ({"tokenizer.ggml.tokens": b.u32(5)}, "tokenizer.ggml.tokens is no array"),
        ({"tokenizer.ggml.tokens": b.arr(b.STR, [])}, "tokenizer.ggml.tokens is an array of 0"),
        ({"llama.attention.causal": b.u32(1)}, "causal is 1, expected a bool"),
        ({"llama.pooling_type": b.u32(9)}, "pooling_type is 9"),
    ],
)
def test_numbers_that_contradict_each_other(tmp_path: Path, changes: dict[str, b.Value], message: str) -> None:
    with pytest.raises(GGUFError, match=message) as error:
        read_numbers(b.write(tmp_path, b.llama(dict(changes))))
    assert len(str(error.value)) < 2000


PER_LAYER = ["llama.attention.head_count", "llama.attention.head_count_kv", "llama.feed_forward_length"]


@pytest.mark.parametrize("key", PER_LAYER)
@pytest.mark.parametrize("values", [[4], [4, 4, 4], [4] * 4096, [0, 0], [-1, -1]])
def test_arrays_of_another_number_than_layers(tmp_path: Path, key: str, values: list[int]) -> None:
    path = b.write(tmp_path, b.llama({"llama.block_count": b.u32(2), key: b.arr(b.I32, values)}))
    with pytest.raises(GGUFError, match=f"{re.escape(key)} is .*expected an integer from 1"):
        read_numbers(path)


@pytest.mark.parametrize("key", [key for key in INTEGERS if key not in PER_LAYER])
def test_arrays_where_one_number_is_meant(tmp_path: Path, key: str) -> None:
    model_refused(tmp_path, key, b.arr(b.U32, [1]), "is an array of 1 elements, expected an integer from 1")


def test_a_name_of_no_architecture_is_no_prefix_of_keys() -> None:
    with pytest.raises(GGUFError, match=r"general\.architecture is 'lll") as error:
        Config.from_metadata({"general.architecture": "l" * 5000})
    assert len(str(error.value)) < 2000


def test_what_is_of_another_kind_is_unsupported(tmp_path: Path) -> None:
    for changes, message in (({"llama.rope.scaling.type": b.string("longrope")}, "longrope"),):
        with pytest.raises(UnsupportedError, match=message):
            read_numbers(b.write(tmp_path, b.llama(dict(changes))))
