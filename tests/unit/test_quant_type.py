"""QuantType: read from the native table, parsed from what users write."""

from __future__ import annotations

import copy
import pickle

import gguf as oracle
import pytest

from pyggml import _native
from pyggml.errors import ArgumentError, PyggmlError, ShapeError, UnsupportedError
from pyggml.quant.types import REMOVED, QuantType


def test_ids_names_and_sizes_are_those_of_the_gguf_package() -> None:
    for kind, (elems, nbytes) in oracle.GGML_QUANT_SIZES.items():
        mine = QuantType.parse(int(kind))
        if mine.kind == "act":  # never in a file; the package counts q8_1 with two floats, ggml.h with two halves
            continue
        assert (mine.name, mine.elems, mine.bytes) == (kind.name.lower(), elems, nbytes)


def test_is_a_collection_of_the_native_table() -> None:
    assert [kind.id for kind in QuantType] == [row[0] for row in _native.type_table()]
    assert len(QuantType) == len(list(QuantType))
    assert QuantType.Q4_K in QuantType
    assert "IQ4_XS" in dir(QuantType)
    with pytest.raises(AttributeError, match="Q9_Z"):
        QuantType.Q9_Z  # noqa: B018


@pytest.mark.parametrize("text", ["q4_k", "Q4_K", " Q4_k ", 12])
def test_parse_takes_any_case_and_ids(text: str | int) -> None:
    assert QuantType.parse(text) is QuantType.Q4_K


@pytest.mark.parametrize(("text", "name"), [("FP32", "f32"), ("fp16", "f16"), ("Float32", "f32"), ("bfloat16", "bf16")])
def test_parse_takes_other_spellings(text: str, name: str) -> None:
    assert QuantType.parse(text).name == name


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"q4_kk.*did you mean.*q4_k"):
        QuantType.parse("q4_kk")
    with pytest.raises(ArgumentError) as error:
        QuantType.parse("z" * 100_000)
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize("type_id", sorted(REMOVED))
def test_removed_ids_and_names_say_so(type_id: int) -> None:
    with pytest.raises(UnsupportedError, match=f"id {type_id} .*removed"):
        QuantType.parse(type_id)
    with pytest.raises(UnsupportedError, match=f"id {type_id}.*removed"):
        QuantType.parse(REMOVED[type_id][0].upper())
    assert all(kind.id != type_id for kind in QuantType)


@pytest.mark.parametrize("bad", [-1, max(kind.id for kind in QuantType) + 1, 10**30])
def test_unknown_ids_are_refused(bad: int) -> None:
    with pytest.raises(UnsupportedError, match="unknown tensor type id"):
        QuantType.parse(bad)


@pytest.mark.parametrize("bad", [None, 1.0, True, b"q4_k"])
def test_other_things_are_a_type_error(bad: object) -> None:
    with pytest.raises((TypeError, PyggmlError)):
        QuantType.parse(bad)  # type: ignore[arg-type]


def test_members_are_singletons() -> None:
    kind = QuantType.Q6_K
    assert pickle.loads(pickle.dumps(kind)) is kind
    assert copy.deepcopy(kind) is kind
    assert (int(kind.__index__()), str(kind), repr(kind)) == (14, "q6_k", "QuantType.Q6_K")


def test_row_bytes_and_kinds() -> None:
    assert QuantType.Q4_0.row_bytes(64) == 36
    assert QuantType.Q4_K.bits_per_weight == 4.5
    with pytest.raises(ShapeError, match=r"q4_0.*33"):
        QuantType.Q4_0.row_bytes(33)
    assert QuantType.F32.is_weight
    assert not QuantType.F32.is_block
    assert QuantType.MXFP4.is_block
    assert not QuantType.Q8_K.is_weight
    assert not QuantType.I32.is_weight
