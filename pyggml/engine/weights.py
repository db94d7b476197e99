"""The tensors of a file: as weights of a graph (in the map, or copied on huge pages), and as Tensors for users.

Knows names and layers, not what they are for. Remembers what an architecture took, so that a file with tensors nobody
reads is refused instead of running as something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyggml import _native
from pyggml.errors import GGUFError, ShapeError, UnsupportedError
from pyggml.gguf import TensorInfo
from pyggml.graph import Weight
from pyggml.quant.tensor import Tensor
from pyggml.quant.types import QuantType

_LAYER = re.compile(r"blk\.(\d+)\.")
_IGNORED = re.compile(r"(rope\.freqs|blk\.\d+\.attn_rot_embd)(\.weight)?")  # tables of old converters, never read
_ALIGN = 64

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


class Source(Protocol):
    """What Weights asks of a tensor: a TensorInfo of the file, or what stands in its place."""

    @property
    def type(self) -> QuantType:
        """Of its values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, outermost first."""

    @property
    def data(self) -> NDArray[np.uint8]:
        """Its bytes, for a tensor of one row."""

    def _mapped(self) -> NDArray[np.uint8]:
        """Its bytes, not read yet."""


@dataclass(frozen=True, slots=True)
class Block:
    """The weights of one layer, by their names behind `blk.N.`."""

    weights: Weights
    index: int

    def __getitem__(self, name: str) -> Weight:
        return self.weights[f"blk.{self.index}.{name}"]

    def has(self, name: str) -> bool:
        """Whether the file has a weight of this layer, which other layers may lack; it is not taken."""
        return f"blk.{self.index}.{name}" in self.weights._tensors

    def pass_over(self, *names: str) -> None:
        """Weights of this layer that nothing here needs, where the file has them."""
        self.weights._taken.update(f"blk.{self.index}.{name}" for name in names)

    def get(self, name: str) -> Weight | None:
        """A weight of this layer, or None; all layers that ask for it must have it or none."""
        return self._noted(name, self.weights.get(f"blk.{self.index}.{name}"))

    def stack(self, name: str, n: int, rows: int, cols: int) -> Weight:
        """n matrices (rows, cols) kept in one tensor of this layer."""
        return self.weights.stack(f"blk.{self.index}.{name}", n, rows, cols)

    def joined(self, name: str, n: int, cols: int) -> Weight | None:
        """n vectors (cols) in one tensor of this layer, as one of n * cols, or None: all that ask have it or none."""
        return self._noted(name, self.weights.joined(f"blk.{self.index}.{name}", n, cols))

    def flat(self, name: str, n: int, cols: int) -> Weight:
        """As joined, of a tensor that must be there."""
        return self.weights.needed(f"blk.{self.index}.{name}", self.joined(name, n, cols))

    def _noted(self, name: str, found: Weight | None) -> Weight | None:
        self.weights._asked.setdefault(name, {})[self.index] = found is not None
        return found


class Weights:
    """Name -> Weight over the tensors of a file.

    Raises GGUFError for a missing tensor or one of a layer that the model does not have, UnsupportedError for a type
    that cannot be a weight.
    """

    def __init__(
        self, tensors: Mapping[str, Source], n_layer: int, *, copy: bool = False, progress: Progress | None = None
    ) -> None:
        self._tensors = tensors
        self._n_layer = n_layer
        self._taken: set[str] = set()
        self._asked: dict[str, dict[int, bool]] = {}  # for tensors that a layer may lack: whether it has them
        self._data: Mapping[str, Any] = {}
        for name in tensors:
            layer = _LAYER.match(name)
            if layer and int(layer[1]) >= n_layer:
                raise GGUFError(f"tensor {name} belongs to layer {layer[1]}, but the model has {n_layer} layers")
        if copy:
            self._data = _copy(tensors, progress)

    def get(self, name: str) -> Weight | None:
        """A weight by its full name, or None."""
        info = self._tensors.get(name)
        if info is None:
            return None
        if len(info.shape) > 2:
            raise UnsupportedError(f"tensor {name} has shape {info.shape}; a matrix or a vector was expected")
        rows, cols = (1, info.shape[0]) if len(info.shape) == 1 else info.shape
        return self._take(name, info, 1, rows, cols)

    def stack(self, name: str, n: int, rows: int, cols: int) -> Weight:
        """A tensor of shape (n, rows, cols): the matrices of n experts.

        Raises GGUFError if it is missing, ShapeError where its shape is another.
        """
        info = self._tensors.get(name)
        if info is None:
            raise GGUFError(f"tensor {name} is missing from the file; it should hold the matrices of {n} experts")
        if tuple(info.shape) != (n, rows, cols):
            raise ShapeError(f"{name} is {tuple(info.shape)}, expected ({n}, {rows}, {cols})")
        return self._take(name, info, n, rows, cols)

    def joined(self, name: str, n: int, cols: int) -> Weight | None:
        """A tensor of shape (n, cols), vectors of n experts or heads, as one vector of n * cols; None if it is missing.

        Raises ShapeError where its shape is another.
        """
        info = self._tensors.get(name)
        if info is None:
            return None
        if tuple(info.shape) != (n, cols):
            raise ShapeError(f"{name} is {tuple(info.shape)}, expected ({n}, {cols})")
        return self._take(name, info, 1, 1, n * cols)

    def _take(self, name: str, info: Source, n: int, rows: int, cols: int) -> Weight:
        if not info.type.is_weight:
            raise UnsupportedError(f"tensor {name} has type {info.type.name}, which is no weight type")
        self._taken.add(name)
        if self._data:
            data = self._data[name]
        else:  # one row may be decoded before any step: norms, biases
            data = info.data if n * rows == 1 else info._mapped()
        return Weight(name, info.type.id, rows, cols, data, n)

    def __getitem__(self, name: str) -> Weight:
        return self.needed(name, self.get(name))

    @staticmethod
    def needed(name: str, found: Weight | None) -> Weight:
        """What was found, or GGUFError."""
        if found is None:
            raise GGUFError(f"tensor {name} is missing from the file")
        return found

    def blocks(self) -> Iterator[Block]:
        """The layers in order."""
        return (Block(self, i) for i in range(self._n_layer))

    def leave(self, index: int) -> None:
        """A layer that is there and is not run: nobody asks for its tensors."""
        self._taken.update(name for name in self._tensors if name.startswith(f"blk.{index}."))

    def check_all_taken(self, arch: str) -> None:
        """Raises UnsupportedError where the file has tensors that nobody asked for, GGUFError where layers differ."""
        for name, layers in self._asked.items():
            has, lacks = ([i for i, there in layers.items() if there is which] for which in (True, False))
            if has and lacks:
                raise GGUFError(f"tensor blk.{lacks[0]}.{name} is missing from the file, but blk.{has[0]} has it")
        left = [n for n in self._tensors if n not in self._taken and not _IGNORED.fullmatch(n)]
        if left:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            raise UnsupportedError(
                f"architecture {arch} has no use for tensor {', '.join(left[:3])}{more}; "
                "the file is a variant that cannot be run yet"
            )


class Tensors(Mapping[str, Tensor]):
    """Name -> Tensor over the tensors of a file; each access makes one, which reads its bytes when it is used."""

    def __init__(self, infos: Mapping[str, TensorInfo]) -> None:
        self._infos = infos

    def __getitem__(self, name: str) -> Tensor:
        info = self._infos[name]
        return Tensor.stored(info.read, info.type, info.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def __contains__(self, name: object) -> bool:
        return name in self._infos

    def __repr__(self) -> str:
        return f"<{len(self)} tensors>"


def _copy(tensors: Mapping[str, Any], progress: Progress | None) -> dict[str, Any]:
    """All tensors, one behind the other, in one block of huge pages."""
    starts, total = {}, 0
    for name, info in tensors.items():
        starts[name] = total
        total += -(-info.nbytes // _ALIGN) * _ALIGN
    memory = _native.Memory(total).array()
    data, done = {}, 0
    for name, info in tensors.items():
        part = memory[starts[name] : starts[name] + info.nbytes]
        info.read_into(part)
        data[name] = part
        done += info.nbytes
        if progress is not None:
            progress(done, sum(t.nbytes for t in tensors.values()))
    return data
