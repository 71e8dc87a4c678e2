"""The paper's networks as plain descriptions (App. A), from which both the modules and the plan's cost are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

BackboneName = Literal["mnist_cnn"]


@dataclass(frozen=True)
class ConvSpec:
    """One steerable convolution: effective_size**2 basis functions on a kernel_size grid, no bias."""

    in_channels: int
    out_channels: int
    kernel_size: int
    effective_size: int
    stride: int
    padding: int

    def output_size(self, size: int) -> int:
        """Cells along one side after the convolution."""
        return (size + 2 * self.padding - self.kernel_size) // self.stride + 1

    def keeps_centre(self, size: int) -> bool:
        """Whether strided samples stay symmetric about the centre, without which a quarter turn does not commute."""
        return (size + 2 * self.padding - self.kernel_size) % self.stride == 0

    @property
    def parameters(self) -> int:
        return self.in_channels * self.out_channels * self.effective_size**2

    def macs(self, size: int) -> int:
        """Multiply-accumulates for one image and one element of the lifted axis."""
        return self.in_channels * self.out_channels * self.kernel_size**2 * self.output_size(size) ** 2


@dataclass(frozen=True)
class Cost:
    """What one image costs in one forward pass of the backbone, and the backbone's size."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Architecture:
    """A lifting convolution followed by group convolutions, each with BatchNorm and ReLU; then head and probe.

    `probe_conv` is the classifier's own convolution (App. A: one more SESN layer before the linear classifier).
    """

    name: BackboneName
    layers: tuple[ConvSpec, ...]
    probe_conv: ConvSpec
    head_sizes: tuple[int, ...]

    @property
    def feature_channels(self) -> int:
        return self.layers[-1].out_channels

    def feature_size(self, image_size: int) -> int:
        """Cells along one side of the feature map z."""
        for layer in self.layers:
            image_size = layer.output_size(image_size)
        return image_size

    def is_exact(self, image_size: int) -> bool:
        """Whether every strided layer keeps the grid's centre, so that rotation equivariance is exact."""
        for layer in self.layers:
            if not layer.keeps_centre(image_size):
                return False
            image_size = layer.output_size(image_size)
        return True

    def exact_size(self, native_size: int) -> int:
        """The smallest exact grid that holds an image of `native_size` cells (28 -> 29)."""
        return next(size for size in range(native_size, 4 * native_size) if size % 2 and self.is_exact(size))

    def cost(self, image_size: int, lifted_order: int) -> Cost:
        """Parameters with BatchNorm's, and multiply-accumulates of one image over the whole lifted axis."""
        macs = 0
        for layer in self.layers:
            macs += layer.macs(image_size) * lifted_order
            image_size = layer.output_size(image_size)
        parameters = sum(layer.parameters + 2 * layer.out_channels for layer in self.layers)
        return Cost(parameters, macs)


def _widths(width: float, *channels: int) -> list[int]:
    return [max(1, round(c * width)) for c in channels]


def mnist_cnn(width: float, image_channels: int) -> Architecture:
    """App. A's MNIST network: channels (32, 64, 128) x width, kernels (11, 7, 7), effective sizes (11, 3, 3)."""
    first, second, third = _widths(width, 32, 64, 128)
    return Architecture(
        name="mnist_cnn",
        layers=(
            ConvSpec(image_channels, first, kernel_size=11, effective_size=11, stride=1, padding=5),
            ConvSpec(first, second, kernel_size=7, effective_size=3, stride=2, padding=3),
            ConvSpec(second, third, kernel_size=7, effective_size=3, stride=2, padding=3),
        ),
        probe_conv=ConvSpec(third, third, kernel_size=7, effective_size=3, stride=2, padding=0),
        head_sizes=(third, third, third),
    )


BACKBONES: dict[str, Callable[[float, int], Architecture]] = {"mnist_cnn": mnist_cnn}
assert set(BACKBONES) == set(get_args(BackboneName))
