"""Sizes and bits per weight: one meaning everywhere, and an error that lists the forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import pyggml
from pyggml.model import BUNDLED
from pyggml.sizes import bits_per_weight, byte_size


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ("5M", 5_000_000), ("4GiB", 4 << 30), ("1.5G", 1_500_000_000), ("500MB", 500_000_000), ("2 TiB", 2 << 40),
        ("123", 123), (123, 123), ("1e9", 10**9), ("1.5e3", 1500), ("2e3k", 2_000_000), (" 7 kib ", 7 << 10),
        ("1Gi", 1 << 30), ("3b", 3), ("3 bytes", 3), (".5k", 500), ("1_000", 1000), ("0", 0), ("1p", 10**15),
        (1e9, 10**9), (np.int64(12), 12), (np.float32(8.0), 8), (np.array(9), 9), ("9007199254740993", 2**53 + 1),
        ("9223372036854775807", 2**63 - 1),
    ],
)  # fmt: skip
def test_bytes(given: Any, want: int) -> None:
    assert byte_size(given) == want
    assert type(byte_size(given)) is int


BAD = (
    "",
    "much",
    "4 G i B",
    "-5M",
    "1,5G",
    "5X",
    "1.5",
    "0x10",
    "1e",
    "inf",
    "nan",
    "\u0665M",
    "5M5",
    "1__0",
    "iB",
    "9e18k",
)


@pytest.mark.parametrize(
    "given",
    [*BAD, None, True, np.True_, -1, 1.5, math.nan, math.inf, b"5M", [5], {}, np.array([1, 2]), 1j, object(), 1 << 63],
)
def test_no_bytes(given: Any) -> None:
    with pytest.raises(pyggml.ArgumentError, match=r"^memory: expected .*got "):
        byte_size(given, "memory")


def test_a_long_number_is_not_repeated() -> None:
    with pytest.raises(pyggml.ArgumentError) as caught:
        byte_size("9" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("given", "want"), [("4.5", 4.5), ("4.5bpw", 4.5), ("4 bits", 4.0), (3, 3.0), (np.float32(2.5), 2.5)]
)
def test_bits(given: Any, want: float) -> None:
    assert bits_per_weight(given, "near") == want


@pytest.mark.parametrize("given", ["", "four", "0", "-1", 0, -2, math.nan, math.inf, None, True, [4], "4GiB", "1e400"])
def test_no_bits(given: Any) -> None:
    with pytest.raises(pyggml.ArgumentError, match=r"^near: expected bits per weight above 0, like 4\.5; got "):
        bits_per_weight(given, "near")


def test_every_call_reads_them_alike(tmp_path: Any) -> None:
    parts = [
        len(pyggml.split_file(BUNDLED, tmp_path / str(i), max_size=size))
        for i, size in enumerate(("2M", 2_000_000, "2e6"))
    ]
    assert len(set(parts)) == 1
    assert {pyggml.strategy("mobile", memory=m).max_size for m in ("4GiB", 4 << 30, "4294967296")} == {3 << 30}
    (tmp_path / "r.toml").write_text('max_size = "1.5 kib"\n')
    assert pyggml.load_recipe(tmp_path / "r.toml").max_size == 1536
    calls = {
        "max_size": lambda: pyggml.split_file(BUNDLED, tmp_path / "n", max_size="much"),
        "memory": lambda: pyggml.strategy("mobile", memory="much"),
        "target_size": lambda: pyggml.quantize_file(BUNDLED, tmp_path / "n", target_size="much"),
        "target_bpw": lambda: pyggml.quantize_file(BUNDLED, tmp_path / "n", target_bpw="much"),
        "near": lambda: pyggml.sensitivity(BUNDLED, near="much"),
    }
    for name, call in calls.items():
        with pytest.raises(pyggml.ArgumentError, match=f"^{name}: expected .*'much'"):
            call()
