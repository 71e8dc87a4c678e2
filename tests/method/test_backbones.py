"""Descriptions of the paper's networks: sizes and costs as numbers, equal to those of the modules made from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hssl_ray.method.architecture import ResidualBlock, StageSpec
from hssl_ray.method.backbones import build_architecture
from hssl_ray.method.native import SWITCH
from hssl_ray.method.networks import Network, build_network
from hssl_ray.method.steerable import GroupConv2d, LiftingConv2d
from hssl_ray.trial.config import TrialConfig

CIFAR: dict[str, Any] = {"dataset": "cifar10", "backbone": "resnet20"}
TINY: dict[str, Any] = {"dataset": "tiny-imagenet", "backbone": "resnet18"}
MLP: dict[str, Any] = {"backbone": "mlp", "structure": "none", "group": "translation"}
NETWORKS: dict[str, dict[str, Any]] = {
    "mnist, rotation": {"group": "rotation"},
    "mnist, full group convolution": {"group": "rotation", "mixing": 4},
    "cifar, rotation": {**CIFAR, "group": "rotation"},
    "cifar, translation": {**CIFAR, "group": "translation"},
    "cifar, strided stem": {**CIFAR, "group": "rotation", "stem_stride": 2, "mixing": 2},
    "tiny, rotation": {**TINY, "group": "rotation", "image_size": 33},
    "mnist, scale": {"group": "scale"},
    "cifar, scale": {**CIFAR, "group": "scale"},
    "mnist without structure": {"group": "scale", "structure": "none"},
    "mnist without structure, translation": {"group": "translation", "structure": "none"},
    "cifar without structure": {**CIFAR, "group": "rotation", "structure": "none"},
    "mlp": MLP,
    "mlp on colours": {**MLP, "dataset": "cifar10"},
}


def build(values: dict[str, Any], **changes: object) -> tuple[TrialConfig, Network]:
    config = TrialConfig.model_validate({"width": 0.0625, **values, **changes})
    return config, build_network(config)


def size_of(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def measured_macs(network: Network, x: Tensor) -> int:
    """Multiply-accumulates of the convolutions and linear layers that a forward pass runs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval().backbone(x)
    counted: dict[Any, int] = counter.get_flop_counts()["Global"]
    expansion = {torch.ops.aten.mm} if any("basis" in name for name, _ in network.named_buffers()) else set()
    return sum(flops for operation, flops in counted.items() if operation not in expansion) // 2


@pytest.mark.parametrize(
    ("values", "size", "parameters", "macs"),
    [
        pytest.param({"group": "scale"}, 28, 96_480, 254_241_792, id="mnist, six scales"),
        pytest.param({"group": "translation"}, 28, 96_480, 42_373_632, id="mnist, one"),
        pytest.param({**CIFAR, "group": "scale"}, 32, 17_219_691, 81_718_806_528, id="cifar, six scales"),
        pytest.param({**CIFAR, "group": "translation"}, 32, 17_219_691, 13_619_801_088, id="cifar, one"),
        pytest.param({**TINY, "group": "scale"}, 64, 11_170_923, 72_398_413_824, id="tiny imagenet, six scales"),
        pytest.param({**MLP}, 28, 3_522_336, 784 * 784 + 784 * 1024 + 1024 * 2048, id="mlp"),
        pytest.param({"group": "scale", "structure": "none"}, 28, 18_089_280, 1_434_381_312, id="mnist, 6 x CHW"),
    ],
)
def test_the_papers_sizes(values: dict[str, Any], size: int, parameters: int, macs: int) -> None:
    """Width 1 on native grids: 96 k and 0.254 GMAC, 17.2 M and 81.7 GMAC, 11.2 M and 72.4 GMAC."""
    cost = TrialConfig.model_validate({**values, "image_size": size}).architecture.cost(size)
    assert (cost.parameters, cost.macs) == (parameters, macs)


@pytest.mark.parametrize("name", NETWORKS)
def test_modules_have_the_parameters_described(name: str) -> None:
    config, network = build(NETWORKS[name])
    architecture = config.architecture
    assert size_of(network.backbone) == architecture.cost(config.grid).parameters
    assert size_of(network.probe) == architecture.probe_parameters(config.grid, config.data.classes)
    assert size_of(network.projection_head) == architecture.head_parameters(config.base_size)


@pytest.mark.parametrize("name", NETWORKS)
def test_modules_do_the_work_described(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With kernels as large as described; scales' own are cropped to their support and cost less."""
    monkeypatch.setenv(SWITCH, "0")  # separable kernels cost less still
    config, network = build(NETWORKS[name])
    x = torch.zeros(1, config.data.channels, config.grid, config.grid)
    as_built = measured_macs(network, x)
    for module in network.backbone.modules():
        if isinstance(module, LiftingConv2d | GroupConv2d):
            module.margins = [0] * len(module.margins)
    described = config.architecture.cost(config.grid).macs
    assert measured_macs(network, x) == described
    cropped = config.group == "scale" and config.structure == "equivariant"
    assert 0.6 * described < as_built < 0.8 * described if cropped else as_built == described


@pytest.mark.parametrize("name", NETWORKS)
def test_every_stage_gives_the_map_described(name: str) -> None:
    config, network = build(NETWORKS[name])
    maps = network.backbone.stage_maps(torch.randn(2, config.data.channels, config.grid, config.grid))
    specs = config.architecture.stage_specs(config.grid)
    order = config.lifted_order
    assert [tuple(z.shape) for z in maps] == [(2, s.channels, order, s.feature_size, s.feature_size) for s in specs]
    assert specs[-1].channels == config.architecture.feature_channels
    assert network.probe(maps[-1]).shape == (2, config.data.classes)
    fibers = network.group.fibers(maps[-1])
    assert network.projection_head(fibers[:, 0]).shape == (2, config.architecture.head_sizes[-1])


def test_maps_at_the_papers_width() -> None:
    """App. A's channels and strides; 33 and 65 cells give 9 x 9."""
    cifar = TrialConfig.model_validate({**CIFAR, "group": "scale"})
    assert cifar.grid == 33
    assert cifar.architecture.stage_specs(cifar.grid) == (
        StageSpec(64, 1, 33),
        StageSpec(128, 1, 33),
        StageSpec(256, 2, 17),
        StageSpec(512, 4, 9),
    )
    assert cifar.architecture.head_sizes == (512, 2048, 512)
    tiny = TrialConfig.model_validate({**TINY, "group": "rotation"})
    assert tiny.grid == 65
    assert [(s.channels, s.stride, s.feature_size) for s in tiny.architecture.stage_specs(65)] == [
        (64, 1, 65),
        (64, 1, 65),
        (128, 2, 33),
        (256, 4, 17),
        (512, 8, 9),
    ]
    strided = TrialConfig.model_validate({**TINY, "stem_stride": 2})
    assert (strided.grid, strided.architecture.feature_size(65)) == (65, 5)
    mlp = TrialConfig.model_validate(MLP)
    assert mlp.grid == 28  # nothing to keep exact
    assert [s.channels * s.feature_size**2 for s in mlp.architecture.stage_specs(28)] == [784, 1024, 2048]


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet18", 2)])
def test_residual_stages(name: Any, blocks: int) -> None:
    """A shortcut where channels or stride change, and there alone."""
    stem, *stages = build_architecture(name, width=1, image_channels=3, image_size=32, lifted_order=4).stages
    assert len(stem) == 2
    before = 64
    for stage in stages:
        assert len(stage) == blocks
        for layer in stage:
            assert isinstance(layer, ResidualBlock)
            changes = layer.conv1.in_channels != layer.out_channels or layer.stride != 1
            assert (layer.shortcut is not None) == changes
            assert layer.conv1.in_channels == before
            before = layer.out_channels


def test_a_stride_alone_needs_a_shortcut_too() -> None:
    """As narrow as can be, all stages have one channel."""
    _, network = build({**CIFAR, "group": "rotation"}, width=0.001)
    assert network(torch.randn(2, 3, 33, 33)).shape == (2, 1, 4, 9, 9)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "equivariant mlp": ({"backbone": "mlp", "group": "translation"}, "structure: mlp has none"),
    "mlp that turns": ({**MLP, "group": "rotation"}, "group: mlp's 16 rows are read as cells"),
    "mixing no element": ({"mixing": 0}, "mixing"),
    "mixing too many": ({"group": "rotation", "mixing": 5}, "mixing: must be from 1 to the 4 lifted elements"),
    "mixing the grid": ({"group": "translation", "mixing": 2}, "mixing: must be from 1 to the 1 lifted elements"),
    "mixing without structure": ({"structure": "none", "mixing": 2}, "mixing: without structure"),
    "stem of a plain network": ({"stem_stride": 2}, "stem_stride: only a ResNet has a stem"),
    "small map": (
        {**CIFAR, "backbone": "mnist_cnn", "image_size": 24},
        "feature map of 7 x 7 cells or more, got 6 x 6",
    ),
    "resized to more": ({"image_fit": "resize"}, "image_fit: images of 28 cells fit 29 as they are"),
    "resized to as many": ({"image_fit": "resize", "image_size": 28}, "image_fit: images of 28 cells fit 28"),
    "one cell to move on": (
        {**TINY, "group": "translation", "image_size": 8},
        "image_size: leaves translation a single cell",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_networks_that_make_no_sense_are_refused(case: str) -> None:
    values, says = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        TrialConfig.model_validate(values)
    assert says in str(caught.value)


def test_weights_start_alike_with_and_without_structure() -> None:
    """Free kernels take the steerable layers' initialisation: uniform within the inverse root of the fan-in."""
    _, network = build({"group": "translation", "structure": "none"}, width=1.0)
    weights = [w for name, w in network.backbone.named_parameters() if "conv" in name]
    for weight in weights:
        bound = weight[0].numel() ** -0.5
        assert 0.98 * bound < weight.abs().max().item() <= bound


def test_a_shift_of_a_cell_is_the_maps_stride(make_network: Callable[..., Network]) -> None:
    """Translation's elements move images by whole cells of z."""
    for changes, stride in (({}, 4), ({**TINY, "image_size": 33}, 8), ({**MLP}, 7)):
        network = make_network(**{"group": "translation", **changes})
        x = torch.zeros(1, 1, 30, 30, dtype=torch.float64)
        x[0, 0, 20, 20] = 1.0
        moved = network.group.transform_input(torch.tensor([1]), x)  # one cell to the left
        assert moved[0, 0, 20, 20 - stride] == 1.0
