"""Decoders: every type bit-equal to the `gguf` package, or to the layouts written out in oracle/quants.py."""

from __future__ import annotations

import ctypes
import hashlib

import numpy as np
import pytest
from oracle import quants

from pyggml import _native

TYPES = {row[1]: row for row in _native.type_table()}
BLOCKS = 64


def decode(name: str, raw: quants.U8) -> quants.F32:
    """raw (blocks, bytes) -> (blocks, elems)."""
    type_id, _, elems, _, _, _, _ = TYPES[name]
    return _native.dequantize(type_id, np.ascontiguousarray(raw).reshape(-1), 1, len(raw) * elems).reshape(-1, elems)


def hostile(name: str, seed: int) -> quants.U8:
    """Random blocks, then all-zero and all-one bits, then every byte value in every place."""
    nbytes = TYPES[name][3]
    ramp = (np.arange(256)[:, None] + np.arange(nbytes)).astype(np.uint8)
    random = quants.noise(seed, 1000 * nbytes).reshape(-1, nbytes)
    return np.concatenate([random, np.zeros((1, nbytes), np.uint8), np.full((1, nbytes), 255, np.uint8), ramp])


def assert_same(mine: quants.F32, truth: quants.F32) -> None:
    same = quants.same_bits(mine, truth)
    if not same.all():
        block, element = np.argwhere(~same)[0]
        pytest.fail(
            f"{(~same).sum()} of {same.size} values differ, first in block {block} at {element}: "
            f"{mine[block, element]!r} is not {truth[block, element]!r}"
        )


@pytest.mark.parametrize("name", [name for name in TYPES if quants.package_decoder(name)])
def test_decodes_as_the_gguf_package(name: str) -> None:
    raw = hostile(name, 11)
    assert_same(decode(name, raw), quants.decode(name, raw))


@pytest.mark.parametrize("name", sorted(quants.OWN))
def test_decodes_as_the_written_layout(name: str) -> None:
    raw = hostile(name, 12)
    with np.errstate(all="ignore"):
        assert_same(decode(name, raw), quants.OWN[name](raw))


def test_every_type_has_a_truth() -> None:
    unknown = [name for name in TYPES if name not in quants.OWN and quants.package_decoder(name) is None]
    assert not unknown


@pytest.mark.parametrize(("name", "expected"), sorted(quants.GOLDEN["decode"].items()))
def test_decodes_as_the_golden_file(name: str, expected: str) -> None:
    nbytes = TYPES[name][3]
    y = decode(name, quants.noise(7, BLOCKS * nbytes).reshape(BLOCKS, nbytes))
    bits = y.view(np.uint32).copy()
    bits[np.isnan(y)] = 0x7FC00000
    assert hashlib.sha256(bits.tobytes()).hexdigest() == expected


@pytest.mark.parametrize("name", sorted(name for name, row in TYPES.items() if row[5] == "block"))
def test_a_bit_flip_is_seen(name: str) -> None:
    """No byte of a block is ignored: each one changes some value of some block."""
    nbytes = TYPES[name][3]
    raw = quants.noise(13, 8 * nbytes).reshape(8, nbytes) & 0x3B  # halves stay finite and not zero
    raw = raw | 0x01
    before = decode(name, raw)
    for at in range(nbytes):
        flipped = raw.copy()
        flipped[:, at] ^= 0x12
        assert not quants.same_bits(decode(name, flipped), before).all(), f"byte {at}"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TYPES))
def test_decodes_as_llama_cpp(name: str) -> None:
    lib = quants.ggml()
    if lib is None:
        pytest.skip("NO ORACLE: pip install llama-cpp-python")
    function = getattr(lib, "dequantize_row_" + name.replace("_k", "_K"), None)
    if function is None:
        pytest.skip(f"llama.cpp exports no decoder of {name}")
    raw = hostile(name, 14)
    if name == "nvfp4":
        raw[:, :4] &= 0x7F  # an unsigned format: with the top bit set the published decoders need not agree
    y = np.empty((len(raw), TYPES[name][2]), dtype=np.float32)
    function(ctypes.c_void_p(raw.ctypes.data), ctypes.c_void_p(y.ctypes.data), ctypes.c_int64(y.size))
    assert_same(decode(name, raw), y)
