"""Lifting convolutions of all elements at once: they equal the dense way."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hssl_ray.method.groups import Group
from hssl_ray.method.lifting import LiftedConvolution
from hssl_ray.method.native import SWITCH, native_library
from hssl_ray.method.steerable import LiftingConv2d

pytestmark = [
    pytest.mark.skipif(native_library() is None, reason="no C++ compiler on this machine"),
    pytest.mark.usefixtures("processor"),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("elements", "outputs"), [(1, 1), (4, 8), (3, 37)])
@pytest.mark.parametrize(("size", "stride", "padding"), [(11, 1, 5), (7, 2, 3), (5, 2, 0), (3, 1, 4), (1, 1, 0)])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6), (torch.bfloat16, 3e-3)])
def test_they_are_the_convolutions_they_stand_for(
    channels: int,
    elements: int,
    outputs: int,
    size: int,
    stride: int,
    padding: int,
    kind: torch.dtype,
    tolerance: float,
) -> None:
    """Maps and the kernels' gradient; in narrower types of the rounded images and kernels, each sum rounded once."""
    convolution = LiftedConvolution(size, stride, padding)
    images = torch.randn(3, channels, 21, 9).to(kind)
    kernels = torch.randn(elements, outputs, channels, size, size).to(kind).requires_grad_()
    exact = kernels.detach().double().requires_grad_()
    found = convolution(images, kernels)
    expected = F.conv2d(images.double(), exact.flatten(0, 1), stride=stride, padding=padding)
    expected = expected.view(3, elements, outputs, *expected.shape[2:]).permute(1, 0, 3, 4, 2)
    grad = torch.randn(found.shape).to(kind)
    (of_found,) = torch.autograd.grad(found, kernels, grad)
    (of_exact,) = torch.autograd.grad(expected, exact, grad.double())
    assert found.dtype is kind
    assert (found - expected).norm() <= tolerance * expected.norm()
    assert (of_found - of_exact).norm() <= tolerance * of_exact.norm()


def test_pixels_touch_nothing_but_the_places_that_see_them() -> None:
    convolution = LiftedConvolution(3, 1, 1)
    images, kernels = torch.randn(2, 1, 9, 9, dtype=torch.float64), torch.randn(2, 5, 1, 3, 3, dtype=torch.float64)
    before = convolution(images, kernels)
    images[0, 0, 4, 8] += 1  # at a row's end, beside the next one's beginning
    changed = (convolution(images, kernels) != before).any(-1).any(0)
    assert changed[0, 3:6, 7:].all() and changed.sum() == 6


def test_threads_change_rounding_alone() -> None:
    convolution = LiftedConvolution(7, 1, 3)
    images, kernels = torch.randn(5, 1, 12, 12), torch.randn(3, 8, 1, 7, 7, requires_grad=True)

    def outcome(threads: int) -> tuple[Tensor, ...]:
        torch.set_num_threads(threads)
        y = convolution(images, kernels)
        return y, *torch.autograd.grad(y, kernels, torch.ones_like(y))

    one, two = outcome(1), outcome(2)
    assert torch.equal(one[0], two[0])
    torch.testing.assert_close(one[1], two[1], rtol=1e-6, atol=1e-5)


def value_and_gradient(layer: LiftingConv2d, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    y = layer(x)
    return y, *torch.autograd.grad(y, layer.weight, grad)


@pytest.mark.parametrize("channels", [1, 3])
def test_layers_equal_the_dense_way(group: Group, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where images need a gradient and go the dense way."""
    effective = 7 if group.geometry.name == "rotation8" else 9
    layer = LiftingConv2d(channels, 4, 9, effective, group, stride=2, padding=4).double()
    x = torch.randn(5, channels, 13, 13, dtype=torch.float64)
    grad = torch.randn_like(layer(x))
    assert layer.lifted.computes(x) and not layer.lifted.computes(x.clone().requires_grad_())
    ours = value_and_gradient(layer, x, grad)
    with_gradient = layer(x.clone().requires_grad_())
    monkeypatch.setenv(SWITCH, "0")
    assert not layer.lifted.computes(x)
    dense = value_and_gradient(layer, x, grad)
    torch.testing.assert_close(with_gradient, dense[0], rtol=0, atol=1e-11)
    for found, expected in zip(ours, dense, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_autocast_computes_in_its_type() -> None:
    layer = LiftedConvolution(3, 1, 1)
    x, kernels = torch.randn(4, 1, 9, 9), torch.randn(2, 5, 1, 3, 3, requires_grad=True)
    exact = layer(x, kernels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x, kernels)
    assert exact.dtype is torch.float32 and y.dtype is torch.bfloat16
    assert (y - exact).norm() <= 1e-2 * exact.norm()
    (grad,) = torch.autograd.grad(y, kernels, torch.ones_like(y))
    assert grad.dtype is torch.float32
