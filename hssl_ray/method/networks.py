"""The paper's MNIST network (App. A): backbone f, projection head h, and the classifier that probes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from hssl_ray.method.architecture import Architecture
from hssl_ray.method.criterion import build_criterion
from hssl_ray.method.criterion_spec import CriterionSpec
from hssl_ray.method.geometry import Geometry, GroupName
from hssl_ray.method.groups import Group, build_group
from hssl_ray.method.layout import spatial_mean
from hssl_ray.method.normalisation import BatchNorm
from hssl_ray.method.steerable import GroupConv2d, GroupPool, LiftingConv2d


class ImageInfo(Protocol):
    """What a network must know of its data set."""

    @property
    def size(self) -> int: ...
    @property
    def classes(self) -> int: ...


class NetworkConfig(Protocol):
    """What a network must know of its trial."""

    @property
    def group(self) -> GroupName: ...
    @property
    def base_size(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def grid(self) -> int: ...
    @property
    def geometry(self) -> Geometry: ...
    @property
    def architecture(self) -> Architecture: ...
    @property
    def criterion(self) -> CriterionSpec: ...
    @property
    def data(self) -> ImageInfo: ...


class Network(nn.Module):
    """backbone: (N, C, H, W) -> z (N, C', G, H', W');  projection_head: (N, B*C') -> (N, D);  probe: z -> (N,
    classes).

    The forward pass is the backbone's. Whoever probes a representation without training it gives the probe
    `z.detach()`.
    """

    def __init__(
        self,
        architecture: Architecture,
        group: Group,
        criterion: CriterionSpec,
        *,
        grid: int,
        base_size: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.group = group
        self.backbone = build_backbone(architecture, group)
        self.projection_head = build_projection_head(architecture, base_size)
        self.probe = build_probe(architecture, group, grid, classes)
        self.criterion = build_criterion(criterion, architecture.head_sizes[-1])

    def forward(self, x: Tensor) -> Tensor:
        """z = f(x)."""
        z: Tensor = self.backbone(x)
        return z

    def features(self, z: Tensor) -> Tensor:
        """What closed-form probes read, the fibers' spatial means: z -> (N, C'*G), in at least float32."""
        return spatial_mean(z).transpose(1, 2).flatten(1)


def build_network(config: NetworkConfig) -> Network:
    """One trial's network. Its weights depend on the configuration alone; the global generator stays as it was."""
    group = build_group(
        config.group, config.geometry, image_size=config.data.size, stride=feature_stride(config.architecture)
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return Network(
            config.architecture,
            group,
            config.criterion,
            grid=config.grid,
            base_size=config.base_size,
            classes=config.data.classes,
        )


def feature_stride(architecture: Architecture) -> int:
    """Pixels to one cell of the last feature map."""
    return math.prod(layer.stride for layer in architecture.layers)


class Backbone(nn.Module):
    """f as stages in a row: (N, C, H, W) -> z (N, C', G, H', W'). The first stage lifts, z is what the last one
    gives.
    """

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return x

    def stage_maps(self, x: Tensor) -> list[Tensor]:
        """The feature map after every stage, the last one z."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def build_backbone(architecture: Architecture, group: Group) -> Backbone:
    """A lifting convolution, then group convolutions, each with BatchNorm and ReLU; z is what the last ReLU gives."""
    stages = []
    for index, spec in enumerate(architecture.layers):
        layer = LiftingConv2d if index == 0 else GroupConv2d
        convolution = layer(
            spec.in_channels,
            spec.out_channels,
            spec.kernel_size,
            spec.effective_size,
            group,
            stride=spec.stride,
            padding=spec.padding,
        )
        stages.append(nn.Sequential(convolution, BatchNorm(spec.out_channels, relu=True)))
    return Backbone(stages)


def build_projection_head(architecture: Architecture, base_size: int) -> nn.Sequential:
    """h of Eq. 3: linear layers, BatchNorm after each, ReLU between. No biases: BatchNorm would take them out."""
    modules: list[nn.Module] = []
    width = architecture.feature_channels * base_size
    last = len(architecture.head_sizes) - 1
    for index, size in enumerate(architecture.head_sizes):
        modules += [nn.Linear(width, size, bias=False), BatchNorm(size, relu=index < last)]
        width = size
    return nn.Sequential(*modules)


def build_probe(architecture: Architecture, group: Group, grid: int, classes: int) -> nn.Sequential:
    """The classifier: one more group convolution, the maximum over the lifted axis, one linear layer."""
    spec = architecture.probe_conv
    side = spec.output_size(architecture.feature_size(grid))
    return nn.Sequential(
        GroupConv2d(
            spec.in_channels,
            spec.out_channels,
            spec.kernel_size,
            spec.effective_size,
            group,
            stride=spec.stride,
            padding=spec.padding,
        ),
        GroupPool(),
        nn.Flatten(),
        nn.Linear(spec.out_channels * side**2, classes),
    )
