"""Networks as plain descriptions, from which the modules and the plan's cost are both made.

A feature map is (N, C, G, H, W); G is the lifted axis. Convolutions are counted with their full k * k kernels and every
element a filter spans, as the paper's code computes them; the modules leave out what is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BackboneName = Literal["mnist_cnn", "resnet20", "resnet18", "mlp"]
Structure = Literal["equivariant", "none"]

DENSE_SIDE = 4  # a fully connected layer's output is read as 4 x 4 rows (App. A: 2048 as 16 x 128)


@dataclass(frozen=True)
class ConvSpec:
    """One convolution without bias on a kernel_size grid: effective_size**2 basis functions, or a free kernel (None).

    `mixing`: elements of the lifted axis that a filter spans.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    effective_size: int | None
    stride: int
    padding: int
    mixing: int = 1

    def output_size(self, size: int) -> int:
        """Cells along one side after the convolution; below 1 if the map is too small for the kernel."""
        return (size + 2 * self.padding - self.kernel_size) // self.stride + 1

    def keeps_centre(self, size: int) -> bool:
        """Whether strided samples stay symmetric about the centre, without which a quarter turn does not commute."""
        return (size + 2 * self.padding - self.kernel_size) % self.stride == 0

    @property
    def parameters(self) -> int:
        return self.in_channels * self.out_channels * self.mixing * (self.effective_size or self.kernel_size) ** 2

    def macs(self, size: int) -> int:
        """Multiply-accumulates for one image and one element of the lifted axis."""
        kernel = self.in_channels * self.out_channels * self.mixing * self.kernel_size**2
        return kernel * self.output_size(size) ** 2


@dataclass(frozen=True)
class ConvLayer:
    """A convolution, then BatchNorm and ReLU if `norm`."""

    conv: ConvSpec
    norm: bool = True

    @property
    def out_channels(self) -> int:
        return self.conv.out_channels

    @property
    def stride(self) -> int:
        return self.conv.stride

    def output_size(self, size: int) -> int:
        return self.conv.output_size(size)

    def keeps_centre(self, size: int) -> bool:
        return self.conv.keeps_centre(size)

    @property
    def parameters(self) -> int:
        """With BatchNorm's."""
        return self.conv.parameters + (2 * self.out_channels if self.norm else 0)

    def macs(self, size: int) -> int:
        return self.conv.macs(size)


@dataclass(frozen=True)
class ResidualBlock:
    """SESN's pre-activation block: BatchNorm, ReLU, conv1, BatchNorm, ReLU, conv2, added to the shortcut.

    `shortcut` is a 1 x 1 convolution of the first ReLU's result; None adds the block's input itself.
    """

    conv1: ConvSpec
    conv2: ConvSpec
    shortcut: ConvSpec | None

    @property
    def out_channels(self) -> int:
        return self.conv2.out_channels

    @property
    def stride(self) -> int:
        return self.conv1.stride

    def output_size(self, size: int) -> int:
        return self.conv1.output_size(size)

    def keeps_centre(self, size: int) -> bool:
        return self.conv1.keeps_centre(size)

    @property
    def parameters(self) -> int:
        """With BatchNorms'."""
        convolutions = self.conv1.parameters + self.conv2.parameters
        norms = 2 * self.conv1.in_channels + 2 * self.conv2.in_channels
        return convolutions + norms + (self.shortcut.parameters if self.shortcut else 0)

    def macs(self, size: int) -> int:
        convolutions = self.conv1.macs(size) + self.conv2.macs(self.conv1.output_size(size))
        return convolutions + (self.shortcut.macs(size) if self.shortcut else 0)


@dataclass(frozen=True)
class DenseLayer:
    """A fully connected layer without bias, BatchNorm and ReLU, read as 4 x 4 rows of `out_channels`."""

    inputs: int
    out_channels: int

    @property
    def outputs(self) -> int:
        return self.out_channels * DENSE_SIDE**2

    def output_size(self, size: int) -> int:
        return DENSE_SIDE

    def keeps_centre(self, size: int) -> bool:
        return True

    @property
    def parameters(self) -> int:
        """With BatchNorm's."""
        return self.inputs * self.outputs + 2 * self.outputs

    def macs(self, size: int) -> int:
        return self.inputs * self.outputs


Layer = ConvLayer | ResidualBlock | DenseLayer


@dataclass(frozen=True)
class ConvProbe:
    """One more convolution, the maximum over the lifted axis, a linear layer."""

    conv: ConvSpec


@dataclass(frozen=True)
class PoolProbe:
    """The maximum over the lifted axis, BatchNorm, ReLU, the mean over space, a linear layer."""


@dataclass(frozen=True)
class FlatProbe:
    """A linear layer on the flattened features."""


Probe = ConvProbe | PoolProbe | FlatProbe


@dataclass(frozen=True)
class StageSpec:
    """A stage's feature map for one image size: channels of an element, pixels to a cell, cells along one side."""

    channels: int
    stride: int
    feature_size: int


@dataclass(frozen=True)
class Cost:
    """What one image costs in one forward pass of the backbone, and the backbone's size."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Architecture:
    """A backbone of stages in a row, the projection head on its fibers, the classifier that probes it.

    The last stage's map is z. With `structure` none the layers are plain ones, `lifted_order` times as wide, and every
    stage's map is read as `lifted_order` parts as if it were equivariant.
    """

    name: BackboneName
    structure: Structure
    lifted_order: int
    stages: tuple[tuple[Layer, ...], ...]
    head_sizes: tuple[int, ...]
    head_norm: bool  # BatchNorm before the head's first layer
    probe: Probe

    @property
    def parts(self) -> int:
        """Elements that a plain layer's channels are read as; 1 where the lifted axis is real."""
        return self.lifted_order if self.structure == "none" else 1

    @property
    def feature_channels(self) -> int:
        """Channels of z at one element."""
        return self.stages[-1][-1].out_channels // self.parts

    def feature_size(self, image_size: int) -> int:
        """Cells along one side of the feature map z."""
        return self.stage_specs(image_size)[-1].feature_size

    def stage_specs(self, image_size: int) -> tuple[StageSpec, ...]:
        """Every stage's map, first to last."""
        specs = []
        size, stride = image_size, 1
        for layers in self.stages:
            for layer in layers:
                size = layer.output_size(size)
                stride = max(1, image_size // DENSE_SIDE) if isinstance(layer, DenseLayer) else stride * layer.stride
            specs.append(StageSpec(layers[-1].out_channels // self.parts, stride, size))
        return tuple(specs)

    def is_exact(self, image_size: int) -> bool:
        """Whether every strided layer keeps the grid's centre, so that rotation equivariance is exact."""
        for layer in self._layers:
            if not layer.keeps_centre(image_size):
                return False
            image_size = layer.output_size(image_size)
        return True

    def exact_size(self, native_size: int) -> int:
        """The smallest exact grid that holds an image of `native_size` cells (28 -> 29), `native_size` for `mlp`."""
        if isinstance(self._layers[0], DenseLayer):
            return native_size
        return next(size for size in range(native_size, 4 * native_size) if size % 2 and self.is_exact(size))

    def cost(self, image_size: int) -> Cost:
        """Parameters with BatchNorm's, and multiply-accumulates of one image over the whole lifted axis."""
        macs = 0
        for layer in self._layers:
            macs += layer.macs(image_size) * self.lifted_order // self.parts
            image_size = layer.output_size(image_size)
        return Cost(sum(layer.parameters for layer in self._layers), macs)

    def stage_head_sizes(self, channels: int) -> tuple[int, ...]:
        """`head_sizes` on a stage of `channels`, in proportion to z's: for z itself `head_sizes`."""
        return tuple(max(1, size * channels // self.feature_channels) for size in self.head_sizes)

    def head_parameters(self, base_size: int, channels: int | None = None) -> int:
        """Parameters of the projection head on bundles of `base_size` fibers, BatchNorms' with them.

        `channels`: of the stage that the head is for; None for z.
        """
        channels = channels or self.feature_channels
        sizes = self.stage_head_sizes(channels)
        inputs = (channels * base_size, *sizes[:-1])
        layers = sum(i * o + 2 * o for i, o in zip(inputs, sizes, strict=True))
        return layers + (2 * inputs[0] if self.head_norm else 0)

    def probe_parameters(self, image_size: int, classes: int) -> int:
        """Parameters of the classifier for images of one size."""
        linear = (self.probe_inputs(image_size) + 1) * classes
        match self.probe:
            case ConvProbe(conv):
                return conv.parameters + linear
            case PoolProbe():
                return 2 * self.feature_channels + linear
            case FlatProbe():
                return linear

    def probe_inputs(self, image_size: int) -> int:
        """Numbers that the classifier's linear layer reads.

        Raises:
            ValueError: the feature map is smaller than the classifier's kernel.
        """
        size = self.feature_size(image_size)
        match self.probe:
            case ConvProbe(conv):
                if (side := conv.output_size(size)) < 1:
                    raise ValueError(
                        f"{self.name}'s classifier needs a feature map of {conv.kernel_size} x {conv.kernel_size} cells"
                        f" or more, got {size} x {size} at {image_size}"
                    )
                return conv.out_channels // self.parts * side**2
            case PoolProbe():
                return self.feature_channels
            case FlatProbe():
                return self.feature_channels * self.lifted_order * size**2

    @property
    def _layers(self) -> tuple[Layer, ...]:
        return tuple(layer for layers in self.stages for layer in layers)
