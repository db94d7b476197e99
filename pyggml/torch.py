"""Training against the exact rounding of a GGUF type, for people with torch (the `torch` extra).

fake_quantize(x, "q4_0") is what a file would give back, with the gradient passed straight through; prepare(model) puts
it in front of every matrix of a module. Nothing here is imported by the rest of the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyggml.arguments import instance, mapping, whole
from pyggml.errors import ArgumentError, ShapeError, UnsupportedError
from pyggml.quant.tensor import dequantize, quantize
from pyggml.quant.types import QuantType
from pyggml.recipes.patterns import compiled

try:
    import torch
    from torch import nn
    from torch.nn.utils import parametrize
except ImportError as e:  # the message of the cure
    raise ImportError("pyggml.torch needs torch: pip install 'pyggml[torch]'") from e


class _StraightThrough(torch.autograd.Function):
    """Forward: encoded and decoded. Backward: as if nothing had happened."""

    @staticmethod
    def forward(ctx: Any, x: Any, kind: QuantType, importance: Any) -> Any:  # noqa: ARG004 - torch's signature
        flat = np.ascontiguousarray(x.detach().to("cpu", torch.float32).numpy())
        if not np.isfinite(flat).all():  # a diverged run: let the loss show it
            return x.clone()
        made = quantize(flat, kind, importance)
        values = dequantize(made.raw, kind, flat.shape)
        return torch.from_numpy(values).to(device=x.device, dtype=x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[Any, None, None]:  # noqa: ARG004
        return gradient, None, None


def fake_quantize(x: Any, type: QuantType | str, importance: Any = None) -> Any:  # noqa: A002
    """x (..., k) as a file of a type would give it back; the gradient goes through unchanged.

    Bit for bit what pyggml.quantize and dequantize make of the float32 values. importance: k weights of the columns.
    Raises ShapeError where k is no multiple of the type's block, UnsupportedError for a type that cannot be written.

    >>> import torch
    >>> w = torch.linspace(-1, 1, 32, requires_grad=True)
    >>> fake_quantize(w, "q4_0").sum().backward()
    >>> bool((w.grad == 1).all())
    True
    """
    kind = QuantType.parse(type)
    instance("x", x, torch.Tensor, "a torch tensor")
    if not kind.encodes:
        raise UnsupportedError(f"type {kind.name} cannot be written, so nothing can be trained against it")
    if x.ndim == 0 or x.shape[-1] % kind.elems:
        raise ShapeError(f"{kind.name}: rows of {x.shape[-1] if x.ndim else 0} values are no blocks of {kind.elems}")
    return _StraightThrough.apply(x, kind, importance)


class FakeQuantize(nn.Module):
    """A parametrization: the weight a module sees is the weight it has, rounded to a type.

    every: in training mode the rounding is made anew in every n-th forward; in between the last error of rounding is
    added to the weight. Encoders that search (the K types) take longer than a step of a small model; n = 1 is exact.
    In eval mode the rounding is always exact.
    """

    def __init__(self, type: QuantType | str, every: int = 1) -> None:  # noqa: A002
        super().__init__()
        self.kind = QuantType.parse(type)
        self.every = whole("every", every, 1)
        self._left = 0  # forwards that may still use _error
        self._error: Any = None

    def forward(self, weight: Any) -> Any:
        """The rounded weight."""
        if self.every == 1 or not self.training:
            return fake_quantize(weight, self.kind)
        if self._left:
            self._left -= 1
            return weight + self._error
        made = fake_quantize(weight, self.kind)
        self._error = made.detach() - weight.detach()
        self._left = self.every - 1
        return made

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return str(self.kind) + (f", every {self.every}" if self.every > 1 else "")


def prepare(
    model: nn.Module,
    type: QuantType | str,  # noqa: A002
    rules: Mapping[str, QuantType | str] | None = None,
    every: int = 1,
) -> list[str]:
    """Rounds the weights of every Linear and Embedding of a module from now on; returns their names.

    rules: {regex: type} over module names, the first match wins; a type of "f32" leaves a module alone. Rows that no
    block divides are left alone too. every: forwards in training mode that share one rounding, see FakeQuantize.
    Undo with finish(). Raises ArgumentError where nothing was found or it was done before.
    """
    instance("model", model, nn.Module, "a torch module")
    usual = QuantType.parse(type)
    given = {} if rules is None else mapping("rules", rules)
    patterns = [(compiled(text), QuantType.parse(kind, "each type in rules")) for text, kind in given.items()]
    done = []
    for name, module in list(model.named_modules()):
        if not isinstance(module, (nn.Linear, nn.Embedding)):
            continue
        if parametrize.is_parametrized(module, "weight"):
            raise ArgumentError(f"{name} is prepared already; finish(model) first")
        kind = next((kind for pattern, kind in patterns if pattern.search(name)), usual)
        if kind.name == "f32" or module.weight.shape[-1] % kind.elems:
            continue
        parametrize.register_parametrization(module, "weight", FakeQuantize(kind, every))
        done.append(name)
    if not done:
        raise ArgumentError("the model has no Linear or Embedding whose rows fit the type")
    return done


def finish(model: nn.Module) -> None:
    """Takes the rounding away and leaves the trained floats: quantize_file makes of them what training saw."""
    for module in model.modules():
        ours = isinstance(module, (nn.Linear, nn.Embedding)) and parametrize.is_parametrized(module, "weight")
        if ours and any(isinstance(each, FakeQuantize) for each in module.parametrizations["weight"]):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
