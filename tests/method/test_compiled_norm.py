"""BatchNorm by compiled kernels: torch's numbers in every type and layout, exact where torch's sums are not."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method.compiled_norm import library_for, moments
from hssl_ray.method.native import SWITCH, native_library
from hssl_ray.method.normalisation import BatchNorm

pytestmark = [
    pytest.mark.skipif(native_library() is None, reason="no C++ compiler on this machine"),
    pytest.mark.usefixtures("processor"),
]

SHAPES = [(300, 1), (300, 37), (4, 8, 29, 29), (2, 96, 15, 15), (3, 5, 1, 1)]


def channels_last(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(shape, dtype=torch.float64) * 3 + 1
    return (x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x).to(dtype)


def moments_of(x: Tensor) -> tuple[Tensor, Tensor]:
    library = library_for(x)
    assert library is not None
    return moments(library, x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_moments_are_those_of_the_numbers(shape: tuple[int, ...], kind: torch.dtype) -> None:
    x = channels_last(*shape, dtype=kind)
    rows = x.double().movedim(1, -1).flatten(0, -2)
    mean, squares = moments_of(x)
    tolerance = 1e-13 if kind is torch.float64 else 1e-6
    torch.testing.assert_close(mean, rows.mean(0), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(squares, (rows - rows.mean(0)).square().sum(0), rtol=tolerance, atol=tolerance)


def test_nothing_cancels_far_from_zero() -> None:
    """A mean a thousand times the deviation, over many numbers; the sum of squares less the square of the sum fails."""
    x = (torch.randn(200_000, 16, dtype=torch.float64) + 1000).float()
    exact = x.double()
    _, squares = moments_of(x)
    expected = (exact - exact.mean(0)).square().sum(0)
    torch.testing.assert_close(squares, expected, rtol=1e-5, atol=0)
    naive = x.square().sum(0) - x.sum(0).square() / len(x)
    assert ((naive - expected).abs() / expected).max() > 1e-2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("relu", [False, True])
def test_values_and_gradients_are_torchs(shape: tuple[int, ...], relu: bool) -> None:
    x = channels_last(*shape).requires_grad_()
    channels = shape[1]
    ours, theirs = BatchNorm(channels, relu=relu).double(), nn.BatchNorm1d(channels).double()
    with torch.no_grad():
        for parameter in ("weight", "bias"):
            value = torch.randn(channels, dtype=torch.float64)
            getattr(ours, parameter).copy_(value)
            getattr(theirs, parameter).copy_(value)
    y, rows = ours(x), x.movedim(1, -1).flatten(0, -2)
    expected = theirs(rows)
    expected = expected.relu() if relu else expected
    torch.testing.assert_close(y.movedim(1, -1).flatten(0, -2), expected, rtol=0, atol=1e-11)
    assert y.stride() == x.stride()

    grad = torch.randn_like(y)
    found = torch.autograd.grad(y, (x, ours.weight, ours.bias), grad)
    wanted = torch.autograd.grad(expected, (x, theirs.weight, theirs.bias), grad.movedim(1, -1).flatten(0, -2))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_half_precision_is_rounded_once() -> None:
    x = channels_last(8, 16, 9, 9, dtype=torch.bfloat16).requires_grad_()
    exact = x.detach().double().requires_grad_()
    ours, theirs = BatchNorm(16, relu=True), BatchNorm(16, relu=True).double()
    y, expected = ours(x), theirs(exact)
    assert y.dtype is torch.bfloat16
    torch.testing.assert_close(y.double(), expected, rtol=2**-8, atol=1e-6)
    grad = torch.randn_like(y)
    y.backward(grad)
    expected.backward(grad.double())
    assert x.grad is not None and exact.grad is not None
    assert (x.grad.double() - exact.grad).norm() <= 2**-8 * exact.grad.norm()


def test_the_relu_is_torchs_where_numbers_end() -> None:
    x = torch.tensor([[-math.inf], [math.inf], [math.nan], [-1.0], [2.0]])
    library = library_for(x)
    assert library is not None
    y, one, zero = torch.empty_like(x), torch.ones(1), torch.zeros(1)
    library.run("normalise", x.dtype, x, y, 5, 1, one, zero, 1)
    torch.testing.assert_close(y, x.relu(), rtol=0, atol=0, equal_nan=True)


def test_gradients_in_another_layout_are_the_same() -> None:
    """As the mean over space sends back: broadcast, and so of no layout of its own."""
    x = channels_last(3, 4, 5, 5).requires_grad_()
    layer = BatchNorm(4, relu=True).double()
    (spread,) = torch.autograd.grad(layer(x), x, torch.ones(3, 4, 1, 1, dtype=torch.float64).expand(3, 4, 5, 5))
    (whole,) = torch.autograd.grad(layer(x), x, torch.ones(3, 4, 5, 5, dtype=torch.float64))
    torch.testing.assert_close(spread, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("make", [lambda: torch.randn(3, 4, 5, 5), lambda: torch.randn(4, 3, 5)])
def test_other_layouts_go_the_plain_way(make: Callable[[], Tensor]) -> None:
    x = make()
    assert library_for(x) is None
    assert library_for(torch.randn(3, 4)) is not None


def test_threads_and_the_switch_change_rounding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x = channels_last(8, 16, 29, 29, dtype=torch.float32)
    layer = BatchNorm(16, relu=True)

    def outcome() -> tuple[Tensor, ...]:
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        return y, *torch.autograd.grad(y, (leaf, layer.weight), torch.ones_like(y) + x)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = outcome()
        torch.set_num_threads(2)
        two = outcome()
    finally:
        torch.set_num_threads(before)
    monkeypatch.setenv(SWITCH, "0")
    assert library_for(x) is None
    plain = outcome()
    for a, b, c in zip(one, two, plain, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-6)
        assert (c - a).norm() <= 1e-5 * a.norm()  # torch's own sums
