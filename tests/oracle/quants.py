"""Numpy truth for quant formats: inputs that are the same on every machine, and decoders written from the layouts.

Imports no pyggml. `decode` prefers the `gguf` package's decoders and falls back to the ones here, which cover what the
package lacks: activation blocks, plain numbers, Q1_0, Q2_0 and (in older versions) NVFP4.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import gguf
import gguf.quants
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

#: What tests/golden/make_quant.py wrote: decode {type: digest}, bytes and error {type: {case: ...}} of llama.cpp.
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "quant.json").read_text())

# ---- inputs: raw PCG64 output and exact arithmetic only ---------------------------------------------------------


def noise(seed: int, n: int) -> U8:
    """n bytes."""
    return np.random.PCG64(seed).random_raw(n // 8 + 1).view(np.uint8)[:n]


def uniform(seed: int, *shape: int) -> NDArray[np.float64]:
    """Multiples of 2^-32 in (0, 1)."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape))) >> np.uint64(32)
    return (raw.astype(np.float64) + 0.5).reshape(shape) / 2.0**32


def normal(seed: int, *shape: int) -> NDArray[np.float64]:
    """Nearly normal: twelve uniforms summed."""
    return uniform(seed, 12, *shape).sum(axis=0) - 6.0


def sample_rows(rows: int = 4, k: int = 512) -> dict[str, F32]:
    """Rows of several characters, each (rows, k)."""
    plain, other = normal(1, rows, k), uniform(2, rows, k)
    cases = {
        "normal": plain * 0.05,
        "heavy": plain / (0.05 + other),  # a few values dwarf the rest
        "uniform": other,
        "shifted": plain + 3.0,
        "outlier": np.where(other < 0.005, 30.0 * plain, plain),
        "sparse": np.where(other < 0.9, 0.0, plain),
        "bands": plain * np.repeat(2.0 ** np.floor(uniform(3, rows, k // 16) * 8.0 - 4.0), 16, axis=1),
        "constant": np.repeat(plain[:, :1], k, axis=1),
        "zero": np.zeros((rows, k)),
        "tiny": plain * 2.0**-20,
        "large": plain * 8192.0,
    }
    return {name: np.ascontiguousarray(x, dtype=np.float32) for name, x in cases.items()}


def sample_importance(k: int = 512) -> F32:
    """(k) positive weights over three orders of magnitude."""
    return (0.001 + uniform(4, k) ** 4).astype(np.float32)


def squared_error(x: F32, y: F32, importance: F32 | None = None) -> NDArray[np.float64]:
    """Sum over each row of weight * (x - y)^2, in double."""
    weight = 1.0 if importance is None else importance.astype(np.float64)
    return (weight * (x.astype(np.float64) - y.astype(np.float64)) ** 2).sum(axis=-1)


# ---- decoders ----------------------------------------------------------------------------------------------------


def _half(raw: U8) -> F32:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def _bits(raw: U8, width: int) -> NDArray[np.int32]:
    """(blocks, bytes) -> (blocks, bytes * 8 / width): fields of each byte, lowest first."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    return ((raw[:, :, None] >> shifts) & ((1 << width) - 1)).reshape(len(raw), -1).astype(np.int32)


def _q1_0(b: U8) -> F32:
    return _half(b[:, :2]) * (2 * _bits(b[:, 2:], 1) - 1).astype(np.float32)


def _q2_0(b: U8) -> F32:
    return _half(b[:, :2]) * (_bits(b[:, 2:], 2) - 1).astype(np.float32)


def _q8_1(b: U8) -> F32:
    return _half(b[:, :2]) * b[:, 4:].view(np.int8).astype(np.float32)


def _q8_k(b: U8) -> F32:
    d = np.ascontiguousarray(b[:, :4]).view(np.float32)
    return d * b[:, 4:260].view(np.int8).astype(np.float32)


def _nvfp4(b: U8) -> F32:
    code = b[:, :4].astype(np.int32)
    exponent, mantissa = code >> 3 & 15, code & 7
    scale = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0)) / 2
    scale = np.where(code == 0x7F, 0.0, scale).astype(np.float32)
    pairs = b[:, 4:].reshape(-1, 4, 8)
    q = np.concatenate([pairs & 15, pairs >> 4], axis=-1)
    doubled = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], dtype=np.float32)
    return (scale[:, :, None] * doubled[q]).reshape(len(b), -1)


def _plain(dtype: Any) -> Any:
    def decode_plain(b: U8) -> F32:
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(b).view(dtype).astype(np.float32)

    return decode_plain


#: Decoders of our own: (blocks, bytes) -> (blocks, elems).
OWN: dict[str, Any] = {
    "q1_0": _q1_0,
    "q2_0": _q2_0,
    "q8_1": _q8_1,
    "q8_k": _q8_k,
    "nvfp4": _nvfp4,
    "i8": _plain(np.int8),
    "i16": _plain(np.int16),
    "i32": _plain(np.int32),
    "i64": _plain(np.int64),
    "f64": _plain(np.float64),
}


def package_decoder(name: str) -> Any | None:
    """The `gguf` package's decoder (blocks, bytes) -> (blocks, elems), or None where it has none."""
    kind = getattr(gguf.GGMLQuantizationType, name.upper(), None)
    if kind is None or (name not in ("f32", "f16") and kind not in gguf.quants._type_traits):
        return None
    return lambda raw: gguf.quants.dequantize(raw, kind)


def decode(name: str, raw: U8) -> F32:
    """(blocks, bytes) -> (blocks, elems). KeyError when neither the package nor this file knows the type."""
    decoder = package_decoder(name) or OWN[name]
    with np.errstate(all="ignore"):
        return np.asarray(decoder(np.ascontiguousarray(raw)), dtype=np.float32).reshape(len(raw), -1)


def same_bits(a: F32, b: F32) -> NDArray[np.bool_]:
    """Elementwise: the same float down to the sign of zero, or both NaN."""
    return (a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))


# ---- llama.cpp ---------------------------------------------------------------------------------------------------


#: llama.cpp asserts that these have importance.
NEEDS_IMPORTANCE = {"iq1_s", "iq2_xxs", "iq2_xs"}


def ggml() -> ctypes.CDLL | None:
    """The ggml library inside llama-cpp-python, or None where that is not installed."""
    try:
        import llama_cpp
    except ImportError:
        return None
    found = sorted((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.*"))
    return ctypes.CDLL(str(found[0])) if found else None


def ggml_quantize(lib: ctypes.CDLL, type_id: int, block: tuple[int, int], x: F32, importance: F32 | None = None) -> U8:
    """x (rows, k) -> (rows, row bytes) as llama.cpp writes it; block is (elems, bytes)."""
    rows, k = x.shape
    out = np.zeros((rows, k // block[0] * block[1]), dtype=np.uint8)
    weights = None if importance is None else ctypes.c_void_p(importance.ctypes.data)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    written = lib.ggml_quantize_chunk(
        ctypes.c_int(type_id),
        ctypes.c_void_p(x.ctypes.data),
        ctypes.c_void_p(out.ctypes.data),
        ctypes.c_int64(0),
        ctypes.c_int64(rows),
        ctypes.c_int64(k),
        weights,
    )
    assert written == out.nbytes
    return out
