"""The paper's networks (App. A) as modules: backbone f, projection head h, and the classifier that probes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from hssl_ray.method.architecture import (
    Architecture,
    ConvLayer,
    ConvProbe,
    ConvSpec,
    DenseLayer,
    FlatProbe,
    Layer,
    PoolProbe,
    ResidualBlock,
    StageSpec,
)
from hssl_ray.method.blocks import (
    Dense,
    FreeConv2d,
    JoinParts,
    PointwiseConv2d,
    PreActivationBlock,
    SpatialMean,
    SplitParts,
)
from hssl_ray.method.criterion import build_criterion
from hssl_ray.method.criterion_spec import CriterionSpec
from hssl_ray.method.geometry import Geometry, GroupName
from hssl_ray.method.groups import Group, build_group
from hssl_ray.method.layerwise import StageLoss
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
    def layerwise(self) -> bool: ...
    def geometry_on(self, feature_size: int) -> Geometry: ...
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
    `z.detach()`. `groups` are the group as it acts on the map of each stage that has a loss: every stage's if the
    network learns layerwise, else the last one's alone. `stage_losses` belong to all of these stages but the last.
    """

    def __init__(
        self,
        architecture: Architecture,
        groups: Sequence[Group],
        criterion: CriterionSpec,
        *,
        grid: int,
        base_size: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.groups = groups
        self.group = group = groups[-1]
        self.backbone = build_backbone(architecture, group)
        self.projection_head = build_projection_head(architecture, base_size)
        self.probe = build_probe(architecture, group, grid, classes)
        self.criterion = build_criterion(criterion, architecture.head_sizes[-1])
        stages = architecture.stage_specs(grid)
        self.stage_losses = nn.ModuleList(
            StageLoss(
                build_projection_head(architecture, base_size, stage.channels),
                build_criterion(criterion, architecture.stage_head_sizes(stage.channels)[-1]),
            )
            for stage in stages[-len(groups) : -1]
        )

    def forward(self, x: Tensor) -> Tensor:
        """z = f(x)."""
        z: Tensor = self.backbone(x)
        return z

    def features(self, z: Tensor) -> Tensor:
        """What closed-form probes read, in at least float32: z -> (N, C'*G), the fibers' spatial means; of `mlp`, whose
        rows are no places, z itself.
        """
        if isinstance(self.architecture.probe, FlatProbe):
            return z.flatten(1).to(torch.promote_types(z.dtype, torch.float32))
        return spatial_mean(z).transpose(1, 2).flatten(1)


def build_network(config: NetworkConfig) -> Network:
    """One trial's network. Its weights depend on the configuration alone; the global generator stays as it was."""
    stages = config.architecture.stage_specs(config.grid)
    groups = [_stage_group(config, stage) for stage in (stages if config.layerwise else stages[-1:])]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return Network(
            config.architecture,
            groups,
            config.criterion,
            grid=config.grid,
            base_size=config.base_size,
            classes=config.data.classes,
        )


def _stage_group(config: NetworkConfig, stage: StageSpec) -> Group:
    """The group as it acts on a stage's feature map."""
    image_size = min(config.data.size, config.grid)
    return build_group(config.group, config.geometry_on(stage.feature_size), image_size=image_size, stride=stage.stride)


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
    """The stages of an architecture; z is what the last one gives."""
    stages = []
    for index, layers in enumerate(architecture.stages):
        modules: list[nn.Module] = []
        plain = architecture.structure == "none" and not isinstance(layers[0], DenseLayer)
        if plain and index > 0:
            modules.append(JoinParts())
        for place, layer in enumerate(layers):
            modules += _build_layer(layer, group, lifts=index == place == 0)
        if plain:
            modules.append(SplitParts(architecture.parts))
        stages.append(nn.Sequential(*modules))
    return Backbone(stages)


def _build_layer(layer: Layer, group: Group, *, lifts: bool) -> list[nn.Module]:
    match layer:
        case ConvLayer(spec, norm):
            convolution = _build_convolution(spec, group, lifts=lifts)
            return [convolution, BatchNorm(spec.out_channels, relu=True)] if norm else [convolution]
        case ResidualBlock(conv1, conv2, shortcut):
            first, second = (_build_convolution(conv, group) for conv in (conv1, conv2))
            way = _build_shortcut(shortcut)
            return [PreActivationBlock(conv1.in_channels, first, conv2.in_channels, second, way)]
        case DenseLayer():
            return [Dense(layer)]


def _build_convolution(spec: ConvSpec, group: Group, *, lifts: bool = False) -> nn.Module:
    """A steerable convolution, or a plain one where the kernel is free."""
    channels = spec.in_channels, spec.out_channels
    if spec.effective_size is None:
        return FreeConv2d(*channels, spec.kernel_size, stride=spec.stride, padding=spec.padding)
    sizes = spec.kernel_size, spec.effective_size
    if lifts:
        return LiftingConv2d(*channels, *sizes, group, stride=spec.stride, padding=spec.padding)
    return GroupConv2d(*channels, *sizes, group, stride=spec.stride, padding=spec.padding, mixing=spec.mixing)


def _build_shortcut(spec: ConvSpec | None) -> nn.Module | None:
    return None if spec is None else PointwiseConv2d(spec.in_channels, spec.out_channels, stride=spec.stride)


def build_projection_head(architecture: Architecture, base_size: int, channels: int | None = None) -> nn.Sequential:
    """h of Eq. 3: linear layers, BatchNorm after each, ReLU between. No biases: BatchNorm would take them out.

    A ResNet's fibers pass a BatchNorm first. `channels`: of the stage that the head is for; None for z.
    """
    channels = channels or architecture.feature_channels
    width = channels * base_size
    modules: list[nn.Module] = [BatchNorm(width)] if architecture.head_norm else []
    sizes = architecture.stage_head_sizes(channels)
    for index, size in enumerate(sizes):
        modules += [nn.Linear(width, size, bias=False), BatchNorm(size, relu=index < len(sizes) - 1)]
        width = size
    return nn.Sequential(*modules)


def build_probe(architecture: Architecture, group: Group, grid: int, classes: int) -> nn.Sequential:
    """The classifier that reads z, (N, C, G, H, W) -> (N, classes)."""
    modules: list[nn.Module]
    match architecture.probe:
        case ConvProbe(spec):
            modules = [_build_convolution(spec, group)]
            if architecture.structure == "none":
                modules = [JoinParts(), *modules, SplitParts(architecture.parts)]
            modules += [GroupPool(), nn.Flatten()]
        case PoolProbe():
            modules = [GroupPool(), BatchNorm(architecture.feature_channels, relu=True), SpatialMean()]
        case FlatProbe():
            modules = [nn.Flatten()]
    return nn.Sequential(*modules, nn.Linear(architecture.probe_inputs(grid), classes))
