"""Encoders: bytes equal to llama.cpp's where rounding is plain, errors no larger than its where it searches."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from oracle import quants

from pyggml import _native
from pyggml.errors import NumericError, ShapeError

TYPES = {row[1]: row for row in _native.type_table()}
ENCODED = [name for name, row in TYPES.items() if row[6]]
BYTES_EQUAL = list(quants.GOLDEN["bytes"])
WEIGHTED = list(quants.GOLDEN["error"])
SEARCHED = [name for name in WEIGHTED if name not in BYTES_EQUAL]
CASES = quants.sample_rows()

#: Root mean square error over the largest magnitude of a block of 256 that no input may pass.
KNOWN_BOUNDS = {
    "f32": 0.0,
    "f16": 2.0**-11,
    "bf16": 2.0**-8,
    "q4_0": 1 / 8,
    "q4_1": 1 / 14,
    "q5_0": 1 / 16,
    "q5_1": 1 / 30,
    "q8_0": 1 / 240,
    "q2_k": 1 / 4,
    "q3_k": 1 / 7,
    "q4_k": 1 / 14,
    "q5_k": 1 / 28,
    "q6_k": 1 / 50,
    "iq4_nl": 1 / 10,
    "iq4_xs": 1 / 10,
    "mxfp4": 1 / 5,
    "nvfp4": 1 / 5,
    "tq1_0": 1 / 2,
    "tq2_0": 1 / 2,
    "q1_0": 1 / 2,
    "q2_0": 1 / 3,
    "iq2_xxs": 1 / 2,
    "iq2_xs": 1 / 2,
    "iq2_s": 1 / 2,
    "iq3_xxs": 1 / 3,
    "iq3_s": 1 / 3,
    "iq1_s": 1 / 2,
    "iq1_m": 1 / 2,
}


def bound_of(name: str) -> float:
    """That of KNOWN_BOUNDS; of any other block type two steps of its codes."""
    type_id, _, elems, nbytes, _, kind, _ = TYPES[name]
    if name in KNOWN_BOUNDS:
        return KNOWN_BOUNDS[name]
    assert kind == "block", f"give the new {name} a bound"
    return 4 / 2 ** min(len(_native.type_codes(type_id)).bit_length() - 1, 8 * nbytes // elems)


def encode(name: str, x: quants.F32, importance: quants.F32 | None = None) -> quants.U8:
    """x (rows, k) -> (rows, row bytes)."""
    return _native.quantize(TYPES[name][0], np.ascontiguousarray(x, dtype=np.float32), importance)


def round_trip(name: str, x: quants.F32, importance: quants.F32 | None = None) -> quants.F32:
    raw = encode(name, x, importance)
    return _native.dequantize(TYPES[name][0], raw.reshape(-1), *x.shape)


def held(names: list[str]) -> list[tuple[str, str]]:
    """Types with the cases they hold: nvfp4 ends at 2688, where llama.cpp cuts off."""
    return [(name, case) for name in names for case in CASES if (name, case) != ("nvfp4", "large")]


def test_encoders_are_the_promised_ones() -> None:
    assert set(ENCODED) >= {*KNOWN_BOUNDS, *BYTES_EQUAL, *WEIGHTED}
    assert len(WEIGHTED) >= 25


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", BYTES_EQUAL)
def test_bytes_equal_llama_cpp(name: str, case: str) -> None:
    assert hashlib.sha256(encode(name, CASES[case]).tobytes()).hexdigest() == quants.GOLDEN["bytes"][name][case]


@pytest.mark.parametrize(("name", "case"), held(SEARCHED))
def test_error_is_no_larger_than_llama_cpps(name: str, case: str) -> None:
    mine = quants.squared_error(CASES[case], round_trip(name, CASES[case]))
    assert (mine <= np.array(quants.GOLDEN["error"][name][case]["plain"])).all()


@pytest.mark.parametrize(("name", "case"), held(WEIGHTED))
def test_weighted_error_is_no_larger_than_llama_cpps(name: str, case: str) -> None:
    importance = quants.sample_importance()
    mine = quants.squared_error(CASES[case], round_trip(name, CASES[case], importance), importance)
    assert (mine <= np.array(quants.GOLDEN["error"][name][case]["weighted"])).all()


@pytest.mark.parametrize("name", WEIGHTED)
def test_importance_pays(name: str) -> None:
    x, importance = CASES["normal"], quants.sample_importance()
    with_it = quants.squared_error(x, round_trip(name, x, importance), importance)
    without = quants.squared_error(x, round_trip(name, x), importance)
    assert (with_it < without).all()


@pytest.mark.parametrize("name", ENCODED)
def test_zeros_stay_zeros(name: str) -> None:
    assert not round_trip(name, np.zeros((2, 512), np.float32)).any()


#: Largest magnitude of each type that has less than float's: the scale that it asks for is a half at most.
TOPS = {
    "f16": 65504, "bf16": 3.3895314e38, "q4_0": 7 * 65504, "q4_1": 65504, "q5_0": 15 * 65504, "q5_1": 65504,
    "q8_0": 127 * 65504, "q2_k": 15 * 65504, "q3_k": 31 * 65504, "q4_k": 60 * 65504, "q5_k": 60 * 65504,
    "q6_k": 3937 * 65504, "iq4_nl": 49 * 65504, "iq4_xs": 1519 * 65504, "mxfp4": 1.5 * 2.0**127, "nvfp4": 2688,
    "tq1_0": 65504, "tq2_0": 65504, "q1_0": 65504, "q2_0": 65504, "iq2_xxs": 31 * 65504, "iq2_xs": 31 * 65504,
    "iq2_s": 31 * 65504, "iq3_xxs": 31 * 65504, "iq3_s": 31 * 65504, "iq1_s": 13.125 * 65504, "iq1_m": 13.125 * 65504,
}  # fmt: skip


@pytest.mark.parametrize("name", TOPS)
def test_values_beyond_a_type_are_refused(name: str) -> None:
    x = np.ones((3, 512), np.float32)
    x[1, 300] = -np.nextafter(np.float32(TOPS[name]), np.float32(np.inf))
    for importance in (None, np.ones(512, np.float32)):
        with pytest.raises(NumericError, match=rf"row 1, column 300 is -.*that {name} surely holds; use") as caught:
            encode(name, x, importance)
    assert ("bf16 or f32" in str(caught.value)) == (name != "bf16")
    raw = x.view(np.uint8).reshape(-1)
    with pytest.raises(NumericError, match=rf"row 1, column 300 is -.*that {name} surely holds"):
        _native.requantize(TYPES["f32"][0], raw, *x.shape, TYPES[name][0])
    for bad in (np.nan, np.inf, -np.inf):
        x[1, 300] = bad
        with pytest.raises(NumericError, match=r"row 1, column 300 is .*expected a finite number"):
            encode(name, x)


@pytest.mark.parametrize("name", TOPS)
def test_up_to_the_top_nothing_saturates(name: str) -> None:
    """The error of any shape of values is as large a share of them as it is at 1."""
    draw = quants.uniform(7, 3, 512).astype(np.float32).reshape(3, 512)  # from 0 to 1
    sign = np.where(draw < 0.5, -1, 1).astype(np.float32)
    shapes = [
        sign,
        draw,
        -draw,
        np.ones_like(draw),
        sign * draw,
        np.where(np.arange(512) % 100 == 7, sign, 1e-3 * draw),
    ]
    top = np.float32(TOPS[name])
    for shape in shapes:
        for importance in (None, 0.1 + draw[0]):
            small, large = shape / np.abs(shape).max(), np.clip(shape / np.abs(shape).max() * top, -top, top)
            found = round_trip(name, large, importance)
            assert np.isfinite(found).all()
            error = np.sqrt(quants.squared_error(small, round_trip(name, small, importance)).sum())
            scaled = np.sqrt(quants.squared_error(large / top, found / top).sum())
            assert scaled <= 1.25 * error + 5e-3 * np.sqrt(np.square(small).sum())


def test_floats_hold_what_they_hold() -> None:
    top = np.float32([[65504, -65504, 3.3895314e38, -3.3895314e38, 3.4028235e38]])
    assert np.array_equal(round_trip("f16", top[:, :2]), top[:, :2])
    assert np.array_equal(round_trip("bf16", top[:, 2:4]), top[:, 2:4])
    assert np.array_equal(round_trip("f32", top), top)


@pytest.mark.parametrize("name", ENCODED)
@settings(max_examples=40, deadline=None)
@given(
    x=arrays.arrays(np.float32, (1, 256), elements=st.floats(-16384, 16384, width=32)),
    exponent=st.integers(-6, 0),
    weighted=st.booleans(),
)
def test_error_has_a_bound(name: str, x: quants.F32, exponent: int, weighted: bool) -> None:
    x = x * np.float32(2.0 ** (exponent - 3 * (name == "nvfp4")))  # its largest value is 2688
    y = round_trip(name, x, np.ones(256, np.float32) if weighted else None)
    rms = float(np.sqrt(quants.squared_error(x, y)[0] / 256))
    least = 2.0**-11 if name == "nvfp4" else 2.0**-20  # half of what its smallest scale can say
    assert rms <= bound_of(name) * float(np.abs(x).max()) + least


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BYTES_EQUAL, *SEARCHED])
def test_fresh_rows_against_llama_cpp(name: str) -> None:
    lib = quants.ggml()
    if lib is None:
        pytest.skip("NO ORACLE: pip install llama-cpp-python")
    type_id, _, elems, nbytes, *_ = TYPES[name]
    for case, x in quants.sample_rows(64, 1024).items():
        x = x * np.float32(min(1.0, 0.999 * TOPS.get(name, np.inf) / np.abs(x).max(initial=1e-30)))  # more is refused
        equal = np.ones(x.shape[1], np.float32) if name in quants.NEEDS_IMPORTANCE else None
        theirs = quants.ggml_quantize(lib, type_id, (elems, nbytes), x, equal)
        if name in BYTES_EQUAL:
            assert (encode(name, x) == theirs).all(), case
            continue
        y = quants.decode(name, theirs.reshape(-1, nbytes)).reshape(x.shape)
        mine, other = quants.squared_error(x, round_trip(name, x)), quants.squared_error(x, y)
        assert mine.sum() <= 1.002 * other.sum(), case  # the square of what bench/quant_error.py allows
        assert (mine <= 1.1 * other).all(), case  # a search may lose a row, not by much


@pytest.mark.parametrize("k", [256, 4096 + 512])
@pytest.mark.parametrize("weighted", [False, True])
def test_from_type_to_type_gives_what_both_steps_give(k: int, weighted: bool) -> None:
    x = quants.normal(5, 9, k).astype(np.float32)
    importance = (0.01 + quants.uniform(6, k)).astype(np.float32) if weighted else None
    for old in ("f32", "f16", "bf16", "q8_0", "q4_k"):
        raw = encode(old, x).reshape(-1)
        values = _native.dequantize(TYPES[old][0], raw, *x.shape)
        for new in ("f16", "q4_0", "q8_0", "q4_k", "q6_k", "mxfp4"):
            ids = TYPES[old][0], TYPES[new][0]
            made = [_native.requantize(ids[0], raw, *x.shape, ids[1], importance, n) for n in (1, 2)]
            assert np.array_equal(made[0], _native.quantize(ids[1], values, importance)), (old, new)
            assert np.array_equal(made[0], made[1])


def test_from_type_to_type_names_the_value_that_is_none() -> None:
    f16, q4_0 = TYPES["f16"][0], TYPES["q4_0"][0]
    x = np.ones((3, 8192), np.float16)
    x[1, 5000], x[2, 3] = np.inf, np.nan
    halves = x.view(np.uint8).reshape(-1)
    with pytest.raises(NumericError, match="row 1, column 5000 is inf"):
        _native.requantize(f16, halves, 3, 8192, q4_0)
    with pytest.raises(NumericError, match="importance of column 2 is -1"):
        _native.requantize(f16, halves, 3, 8192, q4_0, np.where(np.arange(8192) == 2, -1, 1).astype(np.float32))
    with pytest.raises(ShapeError):
        _native.requantize(f16, halves, 3, 8192, q4_0, np.ones(3, np.float32))
    with pytest.raises(ShapeError):
        _native.requantize(f16, np.zeros(66, np.uint8), 1, 33, q4_0)
    assert _native.requantize(f16, b"", 0, 32, q4_0).shape[0] == 0
