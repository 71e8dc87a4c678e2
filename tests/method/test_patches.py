"""Lifting convolutions as matrix products over patches: they equal the dense way."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hssl_ray.method import matrix
from hssl_ray.method.groups import Group
from hssl_ray.method.native import SWITCH, native_library
from hssl_ray.method.patches import PatchConvolution
from hssl_ray.method.steerable import LiftingConv2d

pytestmark = [
    pytest.mark.skipif(native_library() is None, reason="no C++ compiler on this machine"),
    pytest.mark.usefixtures("processor"),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "stride", "padding"), [(11, 1, 5), (7, 2, 3), (5, 2, 0), (3, 1, 4), (1, 1, 0)])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_rows_are_what_places_see(channels: int, size: int, stride: int, padding: int, kind: torch.dtype) -> None:
    """Exactly, in every type; rows end in zeros."""
    convolution = PatchConvolution(size, stride, padding)
    images = torch.randn(3, 12, 9, channels).to(kind)
    width = size * size * channels
    found = convolution.matrix(images, width + 5)
    planes = F.unfold(images.double().permute(0, 3, 1, 2), size, stride=stride, padding=padding)
    expected = planes.view(3, channels, size * size, -1).permute(0, 3, 2, 1).flatten(0, 1).flatten(1).to(kind)
    assert torch.equal(found[:, :width], expected)
    assert not found[:, width:].any()


def value_and_gradient(layer: LiftingConv2d, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    y = layer(x)
    return y, *torch.autograd.grad(y, layer.weight, grad)


@pytest.mark.parametrize("channels", [1, 3])
def test_layers_equal_the_dense_way(group: Group, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in several blocks, and where images need a gradient and go the dense way."""
    effective = 7 if group.geometry.name == "rotation8" else 9
    layer = LiftingConv2d(channels, 4, 9, effective, group, stride=2, padding=4).double()
    x = torch.randn(5, channels, 13, 13, dtype=torch.float64)
    grad = torch.randn_like(layer(x))
    assert layer.by_patches.computes(x) and not layer.by_patches.computes(x.clone().requires_grad_())
    ours = value_and_gradient(layer, x, grad)
    with_gradient = layer(x.clone().requires_grad_())
    monkeypatch.setattr(matrix, "BLOCK_BYTES", 1)
    monkeypatch.setattr(matrix, "BLOCK_ROWS", 1)
    blocks = value_and_gradient(layer, x, grad)
    monkeypatch.setenv(SWITCH, "0")
    assert not layer.by_patches.computes(x)
    dense = value_and_gradient(layer, x, grad)
    torch.testing.assert_close(with_gradient, dense[0], rtol=0, atol=1e-11)
    for found, several, expected in zip(ours, blocks, dense, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
        torch.testing.assert_close(several, expected, rtol=0, atol=1e-11)


def test_autocast_computes_in_its_type() -> None:
    layer = PatchConvolution(3, 1, 1)
    x, kernels = torch.randn(4, 1, 9, 9), torch.randn(2, 5, 1, 3, 3, requires_grad=True)
    exact = layer(x, kernels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x, kernels)
    assert exact.dtype is torch.float32 and y.dtype is torch.bfloat16
    assert (y - exact).norm() <= 1e-2 * exact.norm()
    (grad,) = torch.autograd.grad(y, kernels, torch.ones_like(y))
    assert grad.dtype is torch.float32
