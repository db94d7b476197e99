"""Training against GGUF's rounding. Needs torch, so it is slow."""

from __future__ import annotations

import numpy as np
import pytest

import pyggml

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch")

WRITABLE = [kind.name for kind in pyggml.QuantType if kind.is_block and kind.encodes and kind.is_weight]


@pytest.mark.parametrize("kind", WRITABLE)
def test_forward_is_the_file_and_backward_is_straight(kind):
    from pyggml.torch import fake_quantize

    x = torch.randn(4, 512, generator=torch.Generator().manual_seed(1), requires_grad=True)
    y = fake_quantize(x, kind)
    want = pyggml.quantize(x.detach().numpy(), kind).dequantize()
    assert np.array_equal(y.detach().numpy(), want)
    weight = torch.randn(4, 512, generator=torch.Generator().manual_seed(2))
    (y * weight).sum().backward()
    assert torch.equal(x.grad, weight)


def test_dtypes_and_errors():
    from pyggml.torch import fake_quantize

    half = torch.randn(2, 64).to(torch.bfloat16)
    assert fake_quantize(half, "q8_0").dtype == torch.bfloat16
    with pytest.raises(pyggml.ShapeError):
        fake_quantize(torch.randn(33), "q4_0")
    with pytest.raises(pyggml.ArgumentError):
        fake_quantize(torch.randn(32), "q4")
    bad = torch.tensor([float("nan")] * 32)
    assert torch.isnan(fake_quantize(bad, "q4_0")).all()


def test_prepare_and_finish():
    from pyggml.torch import FakeQuantize, finish, prepare

    net = torch.nn.Sequential(torch.nn.Embedding(10, 64), torch.nn.Linear(64, 32), torch.nn.Linear(32, 5))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert prepare(net, "q4_0", {"^2$": "f32"}) == ["0", "1"]
    assert isinstance(net[1].parametrizations["weight"][0], FakeQuantize)
    want = pyggml.quantize(before["1.weight"].numpy(), "q4_0").dequantize()
    assert np.array_equal(net[1].weight.detach().numpy(), want)
    with pytest.raises(pyggml.ArgumentError, match="prepared already"):
        prepare(net, "q4_0")
    finish(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(pyggml.ArgumentError, match="fit the type"):
        prepare(torch.nn.Linear(5, 5), "q4_0")


def test_training_against_the_rounding_helps():
    """A regression whose quantized loss training lowers below that of rounding afterwards."""
    from pyggml.torch import fake_quantize, finish, prepare

    torch.manual_seed(0)
    x = torch.randn(512, 8) @ torch.randn(8, 64) + 0.1 * torch.randn(512, 64)  # columns that can stand in for another
    y = x @ torch.randn(64, 16) * 0.1
    net = torch.nn.Linear(64, 16, bias=False)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)

    def fit(steps):
        for _ in range(steps):
            loss = ((net(x) - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def rounded():
        return float(((x @ fake_quantize(net.weight.detach(), "q4_0").T - y) ** 2).mean())

    fit(300)
    after_rounding = rounded()
    prepare(net, "q4_0")
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-4)
    fit(300)
    finish(net)
    assert rounded() < 0.8 * after_rounding
