"""Tensor: shapes, views, products, numpy manners."""

import numpy as np
import pytest

import pyggml

RNG = np.random.default_rng(3)
X = RNG.normal(size=(6, 512)).astype(np.float32)
WRITABLE = [t.name for t in pyggml.QuantType if t.encodes]


@pytest.mark.parametrize("kind", WRITABLE)
def test_round_trip_and_product(kind):
    w = pyggml.quantize(X, kind)
    assert w.shape == X.shape
    assert w.nbytes == 6 * w.type.row_bytes(512)
    values = w.dequantize()
    assert np.abs(values - X).max() < 4
    v = RNG.normal(size=512).astype(np.float32)
    bound = 0.02 * np.abs(values).sum(1).max() * np.abs(v).max() / 10
    assert np.abs((w @ v) - values @ v).max() < bound
    many = RNG.normal(size=(512, 9)).astype(np.float32)
    assert (w @ many).shape == (6, 9)
    assert np.allclose((w @ many)[:, 4], w @ many[:, 4], atol=bound)


def test_rows_are_views():
    w = pyggml.quantize(X, "q4_k")
    part = w[2:4]
    assert part.shape == (2, 512)
    assert np.shares_memory(part.raw, w.raw)
    assert np.array_equal(part.dequantize(), w.dequantize()[2:4])
    assert np.array_equal(w[5].dequantize(), w.dequantize()[5])
    assert np.array_equal(w[-1].dequantize(), w.dequantize()[-1])
    assert np.array_equal(w[::2].dequantize(), w.dequantize()[::2])
    with pytest.raises(pyggml.ArgumentError, match="outside"):
        w[6]


def test_plain_types_are_numpy_views():
    t = pyggml.quantize(X, "f32")
    assert np.shares_memory(t.numpy(), t.raw)
    assert np.array_equal(np.asarray(t), X)
    assert pyggml.quantize(X, "F16").numpy().dtype == np.float16
    assert pyggml.quantize(X, "FP16").type is pyggml.QuantType.F16


def test_three_dimensions():
    t = pyggml.quantize(X.reshape(2, 3, 512), "q8_0")
    assert t.shape == (2, 3, 512)
    assert t[1].shape == (3, 512)
    assert np.array_equal(t[1][2].dequantize(), t.dequantize()[1, 2])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: pyggml.quantize(np.ones((2, 100), np.float32), "q4_k"), pyggml.ShapeError, "256"),
        (lambda: pyggml.quantize(np.float32(1), "q8_0"), pyggml.ShapeError, "row"),
        (lambda: pyggml.quantize(np.full((1, 32), np.nan, np.float32), "q8_0"), pyggml.NumericError, "finite|NaN|inf"),
        (lambda: pyggml.quantize(np.full((1, 32), np.inf, np.float32), "q4_0"), pyggml.NumericError, "finite|NaN|inf"),
        (lambda: pyggml.quantize(X, "q8_k"), pyggml.UnsupportedError, "q8_k"),
        (lambda: pyggml.quantize(X, "q9_z"), pyggml.ArgumentError, "q9_z"),
        (lambda: pyggml.quantize(X, "q8_0", importance=np.ones(5)), pyggml.ShapeError, "512"),
        (lambda: pyggml.quantize(X, "q4_k", importance=-np.ones(512)), pyggml.PyggmlError, "importance"),
        (lambda: pyggml.dequantize(b"123", "q8_0", (32,)), pyggml.ShapeError, "bytes"),
        (lambda: pyggml.quantize(X, "q8_0") @ np.ones(7), pyggml.ShapeError, "512"),
        (lambda: pyggml.Tensor(b"", "f32", ()), pyggml.ShapeError, "dimension"),
    ],
)
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_importance_helps_what_it_weighs():
    weights = np.ones(512, np.float32)
    weights[::7] = 300
    plain = pyggml.quantize(X, "q2_k").dequantize()
    led = pyggml.quantize(X, "q2_k", importance=weights).dequantize()
    assert ((led - X) ** 2 * weights).sum() < ((plain - X) ** 2 * weights).sum()


@pytest.mark.parametrize("kind", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_effort_lowers_the_error(kind):
    plain = pyggml.quantize(X, kind).dequantize()
    best = pyggml.quantize(X, kind, effort="best").dequantize()
    assert ((best - X) ** 2).sum() < ((plain - X) ** 2).sum()


def test_effort_is_a_known_word():
    with pytest.raises(pyggml.ArgumentError, match="effort"):
        pyggml.quantize(X, "q4_0", effort="most")


def test_casts_make_no_infinity():
    w = pyggml.quantize(np.full((2, 32), 70000, np.float32), "bf16")
    assert np.asarray(w, dtype=np.float64)[1, 1] == 70144
    assert np.asarray(pyggml.quantize(np.ones((2, 32)), "q8_0"), dtype=np.float16)[0, 0] == 1
    with pytest.raises(pyggml.NumericError, match=r"bf16: the value at \(0, 0\) is 70144, float16 ends at 65504"):
        np.asarray(w, dtype=np.float16)
    with pytest.raises(pyggml.NumericError, match=r"\(1,\) is 1e\+300, float32 ends at"):
        pyggml.quantize([1.0, 1e300], "f32")
    with pytest.raises(pyggml.NumericError, match="float32 ends at"):
        pyggml.quantize(np.ones((4, 32)), "f32") @ np.array([1e300] * 32)
    inf = pyggml.Tensor(np.full(4, np.inf, np.float32), "f32", (4,))
    assert np.isinf(np.asarray(inf, dtype=np.float16)).all()  # what is infinite stays so
    with pytest.raises(pyggml.ShapeError, match="single number"):
        pyggml.quantize(1.0, "f32")
