"""Values of every kind that callers pass, right and wrong: made anew for each use, as some are used up."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np


class Index:
    """Works as an integer."""

    def __index__(self) -> int:
        return 1


class Float:
    """Works as a number."""

    def __float__(self) -> float:
        return 0.5


class Array:
    """Works as an array."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.ones(32, dtype or np.float32)


class FsPath:
    """Works as a path."""

    def __fspath__(self) -> str:
        return "not-there"


class Hostile:
    """Raises whatever it is asked."""

    def __raise(self, *args: Any) -> Any:
        raise RuntimeError("hostile")

    __index__ = __float__ = __array__ = __fspath__ = __repr__ = __iter__ = __len__ = __str__ = __raise
    __eq__ = __hash__ = __bool__ = __raise


class Tensorish:
    """A torch Parameter of bf16, as far as one can see from outside: numpy() works on float32 off its graph alone."""

    def __init__(self, values: Any, dtype: str = "torch.bfloat16", grad: bool = True) -> None:
        self._values, self.dtype, self._grad = np.asarray(values), dtype, grad
        self.shape, self.ndim = self._values.shape, self._values.ndim

    def detach(self) -> Tensorish:
        return Tensorish(self._values, self.dtype, False)

    def cpu(self) -> Tensorish:
        return self

    def float(self) -> Tensorish:
        return Tensorish(self._values.astype(np.float32), "torch.float32", self._grad)

    def numpy(self) -> Any:
        if self._grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self._values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, i: int) -> Any:
        return self._values[i]

    def __iter__(self) -> Any:
        return iter(self._values)


def opened() -> Any:
    """A file that whoever takes the value closes."""
    return open(os.devnull, "rb")  # noqa: SIM115


VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "0": lambda: 0,
    "1": lambda: 1,
    "-1": lambda: -1,
    "-7": lambda: -7,
    "10**30": lambda: 10**30,
    "-10**30": lambda: -(10**30),
    "10**5000": lambda: 10**5000,
    "2**31": lambda: 2**31,
    "2**63": lambda: 2**63,
    "1.0": lambda: 1.0,
    "0.5": lambda: 0.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "1e300": lambda: 1e300,
    "complex": lambda: 1j,
    "Decimal": lambda: Decimal("0.5"),
    "Fraction": lambda: Fraction(1, 2),
    "np.int64": lambda: np.int64(1),
    "np.uint8": lambda: np.uint8(1),
    "np.float32": lambda: np.float32(0.5),
    "np.bool": lambda: np.bool_(True),
    "np.str": lambda: np.str_("a"),
    "np.nan": lambda: np.float64("nan"),
    "np 0-d": lambda: np.array(1),
    "np empty": lambda: np.zeros(0),
    "np ids": lambda: np.array([1, 2]),
    "np floats": lambda: np.linspace(0, 1, 32, dtype=np.float32),
    "np 2-d": lambda: np.ones((2, 32)),
    "np objects": lambda: np.array([None, "a"], object),
    "np texts": lambda: np.array(["a", "b"]),
    "str": lambda: "a",
    "empty str": lambda: "",
    "NUL": lambda: "a\0b",
    "surrogate": lambda: "\udcff",
    "long str": lambda: "a" * 5000,
    "bytes": lambda: b"abc",
    "empty bytes": lambda: b"",
    "bytearray": lambda: bytearray(b"a"),
    "memoryview": lambda: memoryview(b"ab"),
    "Path": lambda: Path("not-there"),
    "folder": lambda: Path("."),
    "list": lambda: [],
    "list of int": lambda: [1, 2],
    "list of None": lambda: [None],
    "list of str": lambda: ["a"],
    "list of bool": lambda: [True],
    "list of float": lambda: [1.5],
    "nested": lambda: [[1], [2, 3]],
    "deep": lambda: [[[1]]],
    "mixed": lambda: ["a", 1],
    "huge id": lambda: [10**30],
    "tuple": lambda: (),
    "tuple of int": lambda: (1, 2),
    "set": lambda: {1},
    "frozenset": frozenset,
    "dict": dict,
    "dict of int": lambda: {1: 2},
    "dict of str": lambda: {"a": "b"},
    "generator": lambda: (i for i in [1, 2]),
    "empty generator": lambda: iter(()),
    "range": lambda: range(3),
    "deque": lambda: deque([1, 2]),
    "object": object,
    "class": lambda: int,
    "module": lambda: sys,
    "lambda": lambda: len,
    "ellipsis": lambda: ...,
    "slice": lambda: slice(1),
    "Index": Index,
    "Float": Float,
    "Array": Array,
    "FsPath": FsPath,
    "Hostile": Hostile,
    "open file": opened,
    "parameter": lambda: Tensorish(np.linspace(-1, 1, 32, dtype=np.float32)),
    "tensor of ids": lambda: Tensorish(np.array([1, 2]), "torch.int64", False),
}
