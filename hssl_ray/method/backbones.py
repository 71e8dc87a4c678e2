"""The paper's networks (App. A) and their twins without structure (Table 2), by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from hssl_ray.method.architecture import (
    DENSE_SIDE,
    Architecture,
    BackboneName,
    ConvLayer,
    ConvProbe,
    ConvSpec,
    DenseLayer,
    FlatProbe,
    Layer,
    PoolProbe,
    ResidualBlock,
    Structure,
)

RESNETS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "resnet20": ((128, 256, 512), (1, 2, 2), 3),
    "resnet18": ((64, 128, 256, 512), (1, 2, 2, 2), 2),
}
"""Channels and stride of every stage, and blocks in a stage: CIFAR-10's network and Tiny ImageNet's."""


def build_architecture(
    name: BackboneName,
    *,
    width: float,
    image_channels: int,
    image_size: int,
    lifted_order: int,
    structure: Structure = "equivariant",
    mixing: int = 1,
    stem_stride: int = 1,
    largest_effective_size: int | None = None,
) -> Architecture:
    """The network that a study file names.

    Args:
        width: multiplies every channel count of the paper.
        image_size: cells along one side of the images; only `mlp`'s size depends on it.
        lifted_order: G of a feature map (N, C, G, H, W).
        mixing: elements of the lifted axis that a filter spans, in all but the 1 x 1 shortcuts.
        stem_stride: stride of a ResNet's lifting convolution.
        largest_effective_size: basis functions along one side that the group allows; None for the paper's.

    Raises:
        ValueError: the network cannot have this structure, group, mixing or stem.
    """
    if name == "mlp" and structure != "none":
        raise ValueError(f"structure: mlp has none, so it must be none, got {structure}")
    if name == "mlp" and lifted_order != 1:
        raise ValueError("group: mlp's 16 rows are read as cells of a grid, so it must be translation")
    if not 1 <= mixing <= lifted_order:
        raise ValueError(f"mixing: must be from 1 to the {lifted_order} lifted elements of the group, got {mixing}")
    if mixing != 1 and structure == "none":
        raise ValueError(f"mixing: without structure every filter sees all channels, so it must be 1, got {mixing}")
    if stem_stride != 1 and name not in RESNETS:
        raise ValueError(f"stem_stride: only a ResNet has a stem, so {name}'s must be 1, got {stem_stride}")
    recipe = _Recipe(width, structure, lifted_order, mixing, largest_effective_size)
    match name:
        case "mnist_cnn":
            return _mnist_cnn(recipe, image_channels)
        case "resnet20" | "resnet18":
            return _resnet(name, recipe, image_channels, stem_stride)
        case "mlp":
            return _mlp(recipe, image_channels * image_size**2)


@dataclass(frozen=True)
class _Recipe:
    """What all layers of a network share."""

    width: float
    structure: Structure
    lifted_order: int
    mixing: int
    largest_effective_size: int | None

    def scaled(self, channels: int) -> int:
        """A channel count of the paper at this width."""
        return max(1, round(channels * self.width))

    def layer(self, channels: int) -> int:
        """Channels of a hidden layer: without structure, those of all lifted elements."""
        return self.scaled(channels) * (self.lifted_order if self.structure == "none" else 1)

    def lift(self, image_channels: int, out: int, kernel_size: int, *, stride: int = 1) -> ConvSpec:
        """The first convolution: effective size as large as the kernel where the group allows it, size kept."""
        effective = min(kernel_size, self.largest_effective_size or kernel_size)
        used = effective if self.structure == "equivariant" else None
        return ConvSpec(image_channels, out, kernel_size, used, stride, kernel_size // 2)

    def conv(self, channels: int, out: int, *, stride: int = 1, padding: int = 3) -> ConvSpec:
        """A hidden convolution: kernel size 7, effective size 3."""
        effective = 3 if self.structure == "equivariant" else None
        return ConvSpec(channels, out, 7, effective, stride, padding, self.mixing)


def _mnist_cnn(recipe: _Recipe, image_channels: int) -> Architecture:
    """App. A's MNIST network: channels (32, 64, 128) x width, kernels (11, 7, 7), effective sizes (11, 3, 3)."""
    first, second, third = (recipe.layer(channels) for channels in (32, 64, 128))
    return Architecture(
        name="mnist_cnn",
        structure=recipe.structure,
        lifted_order=recipe.lifted_order,
        stages=(
            (ConvLayer(recipe.lift(image_channels, first, 11)),),
            (ConvLayer(recipe.conv(first, second, stride=2)),),
            (ConvLayer(recipe.conv(second, third, stride=2)),),
        ),
        head_sizes=(recipe.scaled(128),) * 3,
        head_norm=False,
        probe=ConvProbe(recipe.conv(third, third, stride=2, padding=0)),
    )


def _resnet(name: BackboneName, recipe: _Recipe, image_channels: int, stem_stride: int) -> Architecture:
    """App. A's ResNets: a lift to 9 channels, a convolution to 64, then stages of pre-activation blocks.

    BatchNorm and ReLU follow the second convolution alone. z is the last block's output, so signed, and fibers are
    normalised before the head.
    """
    channels, strides, blocks = RESNETS[name]
    lifted, before = recipe.layer(9), recipe.layer(64)
    stem: tuple[Layer, ...] = (
        ConvLayer(recipe.lift(image_channels, lifted, 7, stride=stem_stride), norm=False),
        ConvLayer(recipe.conv(lifted, before)),
    )
    stages = [stem]
    for out, stride in zip(map(recipe.layer, channels), strides, strict=True):
        inputs = (before, *(out,) * (blocks - 1))
        steps = (stride, *(1,) * (blocks - 1))
        stages.append(tuple(_block(recipe, i, out, s) for i, s in zip(inputs, steps, strict=True)))
        before = out
    return Architecture(
        name=name,
        structure=recipe.structure,
        lifted_order=recipe.lifted_order,
        stages=tuple(stages),
        head_sizes=(recipe.scaled(512), recipe.scaled(2048), recipe.scaled(512)),
        head_norm=True,
        probe=PoolProbe(),
    )


def _block(recipe: _Recipe, channels: int, out: int, stride: int) -> ResidualBlock:
    """Wherever the block's input cannot be added to its output, there is a shortcut.

    SESN has none where the stride alone changes, and fails there; the paper's networks change both at once.
    """
    changes = channels != out or stride != 1
    return ResidualBlock(
        conv1=recipe.conv(channels, out, stride=stride),
        conv2=recipe.conv(out, out),
        shortcut=ConvSpec(channels, out, 1, None, stride, 0) if changes else None,
    )


def _mlp(recipe: _Recipe, inputs: int) -> Architecture:
    """Table 2's MLP: fully connected layers of (784, 1024, 2048) x width, each read as 16 rows."""
    stages: list[tuple[Layer, ...]] = []
    for outputs in (784, 1024, 2048):
        layer = DenseLayer(inputs, recipe.scaled(outputs // DENSE_SIDE**2))
        stages.append((layer,))
        inputs = layer.outputs
    return Architecture(
        name="mlp",
        structure="none",
        lifted_order=1,
        stages=tuple(stages),
        head_sizes=(recipe.scaled(128),) * 3,
        head_norm=False,
        probe=FlatProbe(),
    )


assert {"mnist_cnn", "mlp", *RESNETS} == set(get_args(BackboneName))
