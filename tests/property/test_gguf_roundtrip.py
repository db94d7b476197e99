"""What the writer writes the reader reads, for whatever Hypothesis draws; mutated files never raise anything else."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from attack import build as b
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyggml.gguf as gguf
from pyggml.errors import PyggmlError
from pyggml.gguf import ValueType
from pyggml.quant.types import QuantType

RANGES = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "i8": 8, "i16": 16, "i32": 32, "i64": 64}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)


def scalars(kind: str) -> st.SearchStrategy[Any]:
    if kind in RANGES:
        bits = RANGES[kind]
        low, high = (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return st.integers(low, high)
    return {"f32": st.floats(width=32), "f64": st.floats(), "bool": st.booleans(), "str": TEXT}[kind]


KINDS = [kind.name.lower() for kind in ValueType if kind is not ValueType.ARR]


@st.composite
def values(draw: st.DrawFn) -> tuple[str, Any]:
    kind = draw(st.sampled_from(KINDS))
    one = scalars(kind)
    flat = st.lists(one, max_size=12)
    nested = st.lists(st.lists(flat, max_size=3), min_size=1, max_size=3).filter(lambda rows: any(rows))
    return kind, draw(st.one_of(one, flat, st.lists(flat, min_size=1, max_size=3), nested))


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, tuple[int, ...], bytes]:
    kind = draw(st.sampled_from(list(QuantType)))
    outer = draw(st.lists(st.integers(1, 3), max_size=3))
    shape = (*outer, kind.elems * draw(st.integers(1, 3)))
    return (
        kind.name,
        shape,
        draw(st.randoms(use_true_random=False)).randbytes(math.prod(outer) * kind.row_bytes(shape[-1])),
    )


def same(got: Any, value: Any) -> bool:
    if isinstance(value, list):
        return len(got) == len(value) and all(same(a, b) for a, b in zip(got, value, strict=True))
    if isinstance(value, float):
        return np.float64(got).tobytes() == np.float64(value).tobytes() or (math.isnan(got) and math.isnan(value))
    return bool(got == value)


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(NAME.filter(lambda key: key != "general.alignment"), values(), max_size=6),
    st.dictionaries(NAME, tensors(), max_size=5),
    st.sampled_from([8, 16, 32, 64, 4096]),
)
def test_what_is_written_is_read(
    metadata: dict[str, tuple[str, Any]], weights: dict[str, tuple[str, tuple[int, ...], bytes]], alignment: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.gguf"
        with gguf.Writer(path, alignment) as out:
            for key, (kind, value) in metadata.items():
                out.add(key, value, kind)
            for name, (kind, shape, raw) in weights.items():
                out.add_tensor(name, shape, kind, raw)
        with gguf.open(path) as file:
            expected = list(metadata) if alignment == 32 else ["general.alignment", *metadata]
            assert list(file.metadata) == expected
            for key, (kind, value) in metadata.items():
                assert same(file.metadata[key], value), key
                leaf = file.metadata.type_of(key)
                assert leaf == (kind if not isinstance(value, list) else leaf)
                assert leaf in (kind, f"arr[{kind}]", "arr[arr]")
            assert list(file.tensors) == list(weights)
            for name, (kind, shape, raw) in weights.items():
                info = file.tensors[name]
                assert (info.type.name, info.shape, info.data.tobytes()) == (kind, shape, raw)
                assert info.offset % alignment == 0
            again = Path(folder) / "y.gguf"
            with gguf.Writer(again, alignment) as out:
                out.add_metadata(file.metadata)
                for info in file.tensors.values():
                    out.add_tensor(info.name, info.shape, info.type, info.data)
            assert again.read_bytes() == path.read_bytes()


SOUND = b.llama()


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 1800), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
       st.integers(0, 200))  # fmt: skip
def test_mutated_files_are_read_or_refused(changes: list[tuple[int, bytes]], cut: int) -> None:
    raw = bytearray(SOUND)
    for at, new in changes:
        raw[at : at + len(new)] = new
    with tempfile.TemporaryDirectory() as folder:
        path = b.write(Path(folder), bytes(raw[: len(raw) - cut]))
        try:
            with gguf.open(path) as file:
                for key in file.metadata:
                    _ = file.metadata[key]
                for info in file.tensors.values():
                    assert info.data.nbytes == info.nbytes
                repr(file)
        except PyggmlError as error:
            refusal = str(error)
        else:
            refusal = ""
    assert len(refusal) < 2000
