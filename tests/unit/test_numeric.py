"""Number formats beyond GGUF: values of the tables, rounding, granularity, packing, and the oracles of others."""

from __future__ import annotations

import re

import numpy as np
import pytest

import pyggml
from pyggml import numeric
from pyggml.errors import NumericError
from pyggml.numeric import codebook, minifloat
from pyggml.numeric.coded import pack, unpack
from pyggml.quant import names

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
"""QLoRA's published table."""


@pytest.fixture
def x():
    return np.random.default_rng(5).normal(size=(6, 200)).astype(np.float32)


@pytest.mark.parametrize("bits", range(1, 9))
def test_packing(bits):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, 1003).astype(np.uint8)
    packed = pack(codes, bits)
    assert packed.size == -(-1003 * bits // 8)
    assert np.array_equal(unpack(packed, bits, 1003), codes)


def test_nf4_is_the_published_table():
    assert np.abs(codebook.normal_table(4) - np.array(NF4)).max() < 1e-6
    for bits in range(2, 9):
        table = codebook.normal_table(bits)
        assert (len(table), table[0], table[-1], 0.0 in table) == (1 << bits, -1, 1, True)


def test_codebooks_choose_the_nearest_entry(x):
    for name in ("nf3", "nf4", "quantile4"):
        made = numeric.encode(x, name, double=False)
        table = made.parts.get("table", codebook.normal_table(made.bits))
        scale = np.repeat(made.parts["scale"], 64)[: x.size]
        best = np.abs(x.ravel() / scale - table[:, None]).min(0) * scale
        assert np.allclose(np.abs(made.decode() - x).ravel(), best, atol=1e-6)


def test_double_scales_cost_little(x):
    big = np.tile(x, (40, 1))
    one, two = numeric.encode(big, "nf4", double=False), numeric.encode(big, "nf4")
    assert two.bits_per_weight < 4.2 < 4.4 < one.bits_per_weight
    rmse = [np.sqrt(np.mean((c.decode() - big) ** 2)) for c in (one, two)]
    assert rmse[1] < 1.02 * rmse[0]


@pytest.mark.parametrize(
    ("name", "top", "least"), [("fp4_e2m1", 6, 0.5), ("fp8_e4m3", 448, 2**-9), ("fp8_e5m2", 57344, 2**-16)]
)
def test_small_floats_round_trip_every_code(name, top, least):
    spec = minifloat.SPECS[name]
    table = minifloat.table_of(spec)
    finite = np.isfinite(table)
    assert table[finite].max() == top
    assert table[table > 0].min() == least
    codes = numeric.encode(table[finite], name).unpacked()
    assert np.array_equal(codes, np.flatnonzero(finite))
    assert np.array_equal(numeric.encode(np.float32([1e9, -1e9]), name).decode(), [top, -top])


def test_small_floats_round_ties_to_even():
    values = np.float32([2.5, 3.5, 0.25, 0.75, 5.0])
    assert numeric.encode(values, "fp4_e2m1").decode().tolist() == [2, 4, 0, 1, 4]
    assert numeric.encode(np.float32([17, 19, 18]), "fp8_e4m3").decode().tolist() == [16, 20, 18]


def test_beyond_the_top_without_saturation():
    assert np.isnan(numeric.encode(np.float32([500]), "fp8_e4m3", saturate=False).decode()).all()
    assert np.isinf(numeric.encode(np.float32([1e6]), "fp8_e5m2", saturate=False).decode()).all()
    with pytest.raises(pyggml.NumericError, match="ends at 6"):
        numeric.encode(np.float32([8]), "fp4_e2m1", saturate=False)
    with pytest.raises(pyggml.NumericError, match="NaN"):
        numeric.encode(np.float32([np.nan]), "fp4_e2m1")
    assert np.isnan(numeric.encode(np.float32([np.nan]), "fp8_e5m2").decode()).all()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "how", [{"granularity": "tensor"}, {"granularity": "channel"}, {"group": 32}, {"group": 7}, {"group": 1000}]
)
def test_integers_err_by_half_a_step(bits, symmetric, how, x):
    x = x + np.float32(0.3)
    made = numeric.encode(x, f"int{bits}", symmetric=symmetric, **how)
    error = np.abs(made.decode() - x)
    if how.get("granularity") == "tensor":
        steps = np.broadcast_to(made.parts["scale"], x.shape)
    elif "group" in how:
        steps = np.repeat(made.parts["scale"].reshape(6, -1), how["group"], 1)[:, :200]
    else:
        steps = np.broadcast_to(made.parts["scale"][:, None], x.shape)
    slack = 1.01 if not symmetric else 0.501  # a zero point is rounded too
    assert (error <= steps * slack).all()
    assert (numeric.encode(np.zeros((2, 50)), f"int{bits}", symmetric=symmetric, **how).decode() == 0).all()


def test_finer_groups_and_more_bits_are_better(x):
    def rmse(name, **how):
        return float(np.sqrt(np.mean((numeric.encode(x, name, **how).decode() - x) ** 2)))

    assert rmse("int4", group=16) < rmse("int4", group=64) < rmse("int4", granularity="tensor")
    assert rmse("int8") < rmse("int6") < rmse("int4") < rmse("int2")
    assert rmse("fp8_e4m3", granularity="tensor") < rmse("fp4_e2m1", granularity="tensor")


@pytest.mark.parametrize("name", ["int4", "nf4", "quantile3", "e4m3", "fp4"])
@pytest.mark.parametrize("shape", [(0,), (4, 0), (0, 4), (3, 5), (1,)])
def test_every_shape_and_size_of_group(name, shape):
    for value, group in ((0.0, 10**9), (-1.0, 7), (3e38, 2)):
        group = {"block": group, "double": True} if name[:2] in ("nf", "qu") else {"group": group}
        made = numeric.encode(np.full(shape, value, np.float32), name, **group).decode()
        assert made.shape == shape
        np.testing.assert_allclose(made, value, rtol=0.01)


def test_errors():
    for wrong in ("int9", "nf1", "fp8", "q4_0", ""):
        with pytest.raises(pyggml.ArgumentError, match="unknown number format"):
            numeric.encode([1.0], wrong)
    with pytest.raises(pyggml.ArgumentError, match="group"):
        numeric.encode([1.0], "int4", group=0)
    with pytest.raises(pyggml.ArgumentError, match="granularity"):
        numeric.encode([1.0], "int4", granularity="row")
    with pytest.raises(pyggml.ArgumentError, match="bogus"):
        numeric.encode([1.0], "int4", bogus=1)
    with pytest.raises(pyggml.NumericError):
        numeric.encode([np.inf], "nf4")
    with pytest.raises(pyggml.ShapeError):
        numeric.encode(1.0, "nf4")
    with pytest.raises(pyggml.ArgumentError, match="nf4"):
        pyggml.QuantType.parse("nf4")


def test_formats_list_everything():
    table = {f.name: f for f in pyggml.formats()}
    assert set(pyggml.QuantType) <= {pyggml.QuantType.parse(f.name) for f in table.values() if f.name in _gguf_names()}
    assert (table["q4_k"].bits_per_weight, table["q4_k"].block) == (4.5, 32)
    assert (table["fp8_e4m3"].exponent, table["fp8_e4m3"].mantissa, table["fp8_e4m3"].high) == (4, 3, 448)
    assert not table["nf4"].gguf
    assert "bits/weight" in str(pyggml.formats())
    assert len(str(pyggml.formats()).splitlines()) == len(table) + 1


def _gguf_names():
    return {kind.name for kind in pyggml.QuantType}


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # bits, values under a scale, exponent, mantissa, low, high
        ("f64", (64, 1, 11, 52, -np.finfo(np.float64).max, np.finfo(np.float64).max)),
        ("f32", (32, 1, 8, 23, float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))),
        ("f16", (16, 1, 5, 10, -65504, 65504)),
        ("bf16", (16, 1, 8, 7, -(2.0**128 - 2.0**120), 2.0**128 - 2.0**120)),
        ("i8", (8, 1, None, None, -128, 127)),
        ("i64", (64, 1, None, None, -(2.0**63), 2.0**63)),
        ("q4_0", (4, 32, None, None, -8, 7)),
        ("q4_1", (4, 32, None, None, 0, 15)),
        ("q5_k", (5, 32, None, None, 0, 31)),
        ("q6_k", (6, 16, None, None, -32, 31)),
        ("q8_0", (8, 32, None, None, -128, 127)),
        ("q1_0", (1, 128, None, None, -1, 1)),
        ("tq1_0", (1.585, 256, None, None, -1, 1)),
        ("tq2_0", (2, 256, None, None, -1, 2)),
        ("iq4_nl", (4, 32, None, None, -127, 113)),
        ("iq3_xxs", (3, 32, None, None, -62, 62)),
        ("iq2_s", (2, 16, None, None, -43, 43)),
        ("iq1_m", (1, 16, None, None, -9, 9)),
        ("mxfp4", (4, 32, 2, 1, -6, 6)),
        ("nvfp4", (4, 16, 2, 1, -6, 6)),
    ],
)
def test_formats_say_what_the_decoders_do(name, expected):
    f = {f.name: f for f in pyggml.formats()}[name]
    assert (f.bits, f.block, f.exponent, f.mantissa, f.low, f.high) == expected
    assert f.sign == (expected[4] < 0)


def test_small_floats_have_one_list():
    assert tuple(minifloat.SPECS) == names.SMALL_FLOATS
    assert all(names.is_format(name) and name in numeric._NAMES for name in minifloat.SPECS)


def test_code_ranges_are_those_of_the_decoders():
    """A block under one scale never shows more distinct values than its range of codes has."""
    for f in pyggml.formats():
        if not f.gguf or f.name not in _gguf_names() or f.exponent is not None or not f.writable:
            continue
        kind = pyggml.QuantType.parse(f.name)
        x = np.random.default_rng(1).normal(size=(4, kind.elems)).astype(np.float32)
        decoded = pyggml.quantize(x, kind).dequantize()
        distinct = len(np.unique(decoded[0, : f.block]))
        assert distinct <= 2**8
        assert distinct <= f.high - f.low + 1 or f.name.startswith("iq"), f.name


def test_notation():
    assert str(numeric.notation("w4a16g128")) == "W4A16G128"
    assert numeric.notation("W8A8").recipe == "Q8_0"
    assert numeric.notation("W4A16").recipe == numeric.notation("w4a8").recipe == "Q4_K_M"
    assert pyggml.QuantType.parse("w8a8") is pyggml.QuantType.Q8_0
    assert pyggml.quantize(np.ones((1, 256), np.float32), "W4A16").type.name == "q4_k"
    with pytest.raises(pyggml.UnsupportedError, match="W4A8"):
        _ = numeric.notation("W4A4").recipe
    with pytest.raises(pyggml.UnsupportedError, match="W8A8"):
        pyggml.QuantType.parse("W7A8")
    with pytest.raises(pyggml.ArgumentError):
        numeric.notation("4 bits")
    assert [str(numeric.notation_of(pyggml.QuantType.parse(t))) for t in ("q8_0", "iq2_xs", "bf16", "f32")] == [
        "W8A8", "W2A8", "W16A16", "W32A32",
    ]  # fmt: skip


def test_notation_of_every_type_counts_as_its_name_does():
    for kind in pyggml.QuantType:
        digit = re.search(r"\d", kind.name)
        if kind.is_block and digit:
            assert numeric.notation_of(kind).weight == int(digit.group()), kind


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"), [("fp4_e2m1", "float4_e2m1fn"), ("fp8_e4m3", "float8_e4m3fn"), ("fp8_e5m2", "float8_e5m2")]
)
def test_small_floats_equal_ml_dtypes(name, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(getattr(ml_dtypes, dtype))
    rng = np.random.default_rng(2)
    top = minifloat.top(minifloat.SPECS[name])
    x = np.concatenate([rng.normal(0, scale, 20_000) for scale in (0.001, 0.1, 1, 30, 20_000)]).astype(np.float32)
    x = np.clip(np.concatenate([x, minifloat.magnitudes(minifloat.SPECS[name]), [0.0, -0.0]]), -top, top).astype(
        np.float32
    )
    ours = numeric.encode(x, name)
    theirs = x.astype(kind)
    assert np.array_equal(ours.decode(), theirs.astype(np.float32))
    if name != "fp4_e2m1":
        wide = np.float32([1e9, -1e9, 470, 61000])
        mine = numeric.encode(wide, name, saturate=False).decode()
        assert np.array_equal(mine, wide.astype(kind).astype(np.float32), equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("double", [False, True])
def test_nf4_equals_bitsandbytes(double):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("bitsandbytes.functional")
    x = np.random.default_rng(4).normal(size=(64, 512)).astype(np.float32)
    codes, state = functional.quantize_4bit(
        torch.from_numpy(x), blocksize=64, compress_statistics=double, quant_type="nf4"
    )
    theirs = functional.dequantize_4bit(codes, state).numpy()
    ours = numeric.encode(x, "nf4", double=double).decode()
    differs = np.abs(ours - theirs) > 1e-5
    assert differs.mean() < 1e-4  # values in the middle of two entries
    assert np.abs(codebook.dynamic_table() - functional.create_dynamic_map().numpy()).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("int8", {}), ("int8", {"symmetric": False}), ("int2", {"granularity": "tensor", "symmetric": False}),
        ("int4", {"group": 2}), ("nf4", {}), ("nf4", {"double": False}), ("quantile4", {"double": True}),
        ("fp8_e4m3", {"group": 2}), ("fp8_e5m2", {"granularity": "channel"}), ("fp4_e2m1", {"granularity": "tensor"}),
    ],
)  # fmt: skip
def test_the_ends_of_floats(name, options):
    """Scales of the largest and smallest numbers are finite; what is no number is refused."""
    top = np.finfo(np.float32).max
    with np.errstate(all="raise", under="ignore"):
        for row in ([top, -top, 1], [top, top / 2, 0], [-top, 0, 0], [1e-45, -1e-45, 0], [1e-39, -1e-40, 0]):
            x = np.float32([row])
            found = numeric.encode(x, name, **options).decode()
            assert np.abs(found.astype(np.float64) - x).max() <= np.abs(x.astype(np.float64)).max() * 0.51 + 1e-38
        for bad in (np.nan, np.inf, -np.inf):
            with pytest.raises(NumericError, match=name):
                numeric.encode(np.float32([[bad, 1, 2]]), name, **options)
    with pytest.raises(NumericError, match="float32 ends at"):
        numeric.encode([[1e300, 1.0]], name, **options)


def test_plain_casts_of_what_is_no_number():
    x = np.float32([np.inf, -np.inf, np.nan])
    for name in ("fp8_e4m3", "fp8_e5m2"):
        end = {f.name: f.high for f in pyggml.formats()}[name]
        assert np.array_equal(numeric.encode(x, name).decode(), [end, -end, np.nan], equal_nan=True)
    assert np.isnan(numeric.encode(x, "fp8_e4m3", saturate=False).decode()).all()
    assert np.array_equal(numeric.encode(x, "fp8_e5m2", saturate=False).decode(), x, equal_nan=True)
    assert np.array_equal(numeric.encode(x[:2], "fp4_e2m1").decode(), [6, -6])
    with pytest.raises(NumericError, match="cannot hold NaN"):
        numeric.encode(x, "fp4_e2m1")
