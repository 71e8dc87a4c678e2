"""Group convolutions, forward and backward: ours beside SESN's way, the networks' layers, float32 and bfloat16.

    python benchmarks/group_convolution.py [--rounds 7] [--threads 1] [--types fp32 bf16] [--json]

Ratios are SESN's way in float32 over ours, pair by pair, so above 1 is how many times as fast; rounds alternate. Both
compute the same function: equal to 1e-5 in float32, checked before timing. The last lines are the machine's roof: what
a large dense channels-last convolution and a large matrix product reach here. `share` is how much of that rate our
multiplications alone would need, and so what is left to gain.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from against_sesn import alternate, run
from figures import Figure
from number_types import TYPES
from sesn import SesnGroupConv2d
from torch import Tensor, nn

from hssl_ray.method import geometry
from hssl_ray.method.groups import Group, Rotation, Scale
from hssl_ray.method.matrix import product
from hssl_ray.method.steerable import GroupConv2d


@dataclass(frozen=True)
class Layer:
    """One group convolution of a network, k7 e3 padding 3, on `images` maps of `size` cells a side."""

    network: str
    group: str
    in_channels: int
    out_channels: int
    size: int
    stride: int
    images: int
    bars: tuple[float, float]
    """Least ratio to SESN's way in float32: of ours in float32, and in bfloat16."""

    @property
    def name(self) -> str:
        sizes = f"{self.in_channels}->{self.out_channels} {self.size}x{self.size}"
        return f"{self.network} {self.group} {sizes} stride {self.stride}"


MNIST, CIFAR = (3.0, 6.0), (4.0, 10.0)
LAYERS = (
    Layer("mnist_cnn", "scale", 32, 64, 29, 2, 32, MNIST),
    Layer("mnist_cnn", "scale", 64, 128, 15, 2, 32, MNIST),
    Layer("resnet20", "scale", 128, 256, 17, 2, 16, CIFAR),
    Layer("resnet20", "scale", 512, 512, 9, 1, 16, CIFAR),
    Layer("resnet20", "rotation", 128, 256, 17, 2, 16, CIFAR),
    Layer("resnet20", "rotation", 512, 512, 9, 1, 16, CIFAR),
)


def group_of(layer: Layer) -> Group:
    return Scale(geometry.scale()) if layer.group == "scale" else Rotation(geometry.rotation())


def pair(layer: Layer) -> tuple[GroupConv2d, SesnGroupConv2d]:
    """The two layers with the same weights."""
    channels = layer.in_channels, layer.out_channels
    ours = GroupConv2d(*channels, 7, 3, group_of(layer), stride=layer.stride, padding=3)
    theirs = SesnGroupConv2d(*channels, ours.basis.float(), stride=layer.stride, padding=3)
    theirs.weight = nn.Parameter(ours.weight.detach().clone())
    return ours, theirs


def inputs(layer: Layer, like: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Features and a gradient of the output, each as the layer would get them from its neighbours in a network."""
    generator = torch.Generator().manual_seed(0)
    size = (layer.size - 1) // layer.stride + 1
    order = group_of(layer).lifted_order
    z = torch.randn(layer.images, layer.in_channels, order, layer.size, layer.size, generator=generator)
    grad = torch.randn(layer.images, layer.out_channels, order, size, size, generator=generator)
    return like(z), like(grad)


def lifted_first(z: Tensor) -> Tensor:
    """As our features lie in memory: G-major and channels-last."""
    return z.permute(2, 0, 3, 4, 1).contiguous().permute(1, 4, 0, 2, 3)


def seconds(module: nn.Module, z: Tensor, grad: Tensor, dtype: torch.dtype) -> float:
    module.zero_grad()
    z = z.detach().to(dtype).requires_grad_()
    grad = grad.to(dtype)
    start = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        y = module(z)
    y.backward(grad)
    return time.perf_counter() - start


def check_equal(layer: Layer) -> None:
    ours, theirs = pair(layer)
    z, _ = inputs(layer, lambda x: x)
    with torch.no_grad():
        expected, found = theirs(z), ours(z)
    assert (found - expected).norm() <= 1e-5 * expected.norm(), layer


def multiplications(layer: Layer) -> int:
    """Of our way, forward and backward: nine for each pair of channels and place, three times."""
    size = (layer.size - 1) // layer.stride + 1
    places = layer.images * group_of(layer).lifted_order * size**2
    return 3 * 9 * places * layer.in_channels * layer.out_channels


def measure(layer: Layer, rounds: int, roof: dict[str, float]) -> Iterator[Figure]:
    """Figures of the number types that there is a roof of."""
    check_equal(layer)
    ours, theirs = pair(layer)
    plain, lifted = inputs(layer, torch.Tensor.contiguous), inputs(layer, lifted_first)
    both = alternate(partial(seconds, theirs, *plain, torch.float32), partial(seconds, ours, *lifted), rounds, roof)
    bars = dict(zip(TYPES, layer.bars, strict=True))
    for name, times in both.items():
        share = 2 * multiplications(layer) / statistics.median(times.ours) / roof[name]
        detail = times.detail | {"share": share, "images": layer.images}
        yield Figure(f"{layer.name}, {name}", times.ratio, "x SESN", bars[name], detail=detail)


def fastest(work: Callable[[], object], operations: float) -> float:
    """Operations a second of the fastest of some runs."""
    taken = []
    for _ in range(8):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return operations / min(taken)


def roofs(dtype: torch.dtype) -> tuple[float, float]:
    """Operations a second of a large dense channels-last convolution, forward, and of a large matrix product."""
    x = torch.randn(16, 256, 28, 28, dtype=dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    a, b = torch.randn(2, 1536, 1536, dtype=dtype)
    convolution = fastest(lambda: F.conv2d(x, kernel, padding=1), 2 * x.numel() * 256 * 9)
    return convolution, fastest(lambda: product(a, b), 2 * 1536**3)


def figures(rounds: int, types: list[str]) -> Iterator[Figure]:
    found = {name: roofs(TYPES[name]) for name in types}
    best = {name: max(rates) for name, rates in found.items()}
    for layer in LAYERS:
        yield from measure(layer, rounds, best)
    for name, (convolution, matrix) in found.items():
        yield Figure(f"roof: dense convolution, {name}", convolution / 1e9, "GFLOP/s")
        yield Figure(f"roof: matrix product, {name}", matrix / 1e9, "GFLOP/s")


if __name__ == "__main__":
    run("group_convolution", __doc__, figures)
