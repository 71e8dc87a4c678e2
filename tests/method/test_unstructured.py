"""Table 2's twins: the same shapes without the symmetry, read as if they had it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method.blocks import JoinParts, SplitParts
from hssl_ray.method.groups import Group
from hssl_ray.method.networks import Network
from hssl_ray.method.steerable import GroupConv2d, LiftingConv2d

EquivarianceError = Callable[[Callable[[Tensor], Tensor], Group, Tensor], float]

TWINS: dict[str, dict[str, Any]] = {
    "mnist_cnn": {"width": 0.125},
    "resnet20": {"dataset": "cifar10", "backbone": "resnet20", "width": 0.03125, "image_size": 17},
    "resnet18": {"dataset": "tiny-imagenet", "backbone": "resnet18", "width": 0.03125, "image_size": 17},
}


def images_for(name: str, make_images: Callable[..., Tensor], count: int = 2) -> Tensor:
    return make_images(count, 29) if name == "mnist_cnn" else make_images(count, 17, channels=3)


@pytest.mark.parametrize("group", ["rotation", "scale", "translation"])
@pytest.mark.parametrize("name", TWINS)
def test_twins_have_their_originals_shapes(
    name: str, group: str, make_network: Callable[..., Network], make_images: Callable[..., Tensor]
) -> None:
    """Every stage's map, the probe's logits, the head's outputs; and no steerable layer anywhere."""
    x = images_for(name, make_images)
    original, twin = (make_network(group, structure=structure, **TWINS[name]) for structure in ("equivariant", "none"))
    ours, theirs = twin.backbone.stage_maps(x), original.backbone.stage_maps(x)
    assert [z.shape for z in ours] == [z.shape for z in theirs]
    assert twin.probe(ours[-1]).shape == original.probe(theirs[-1]).shape
    assert [w.shape for w in twin.projection_head.parameters()] == [
        w.shape for w in original.projection_head.parameters()
    ]
    assert not any(isinstance(module, GroupConv2d | LiftingConv2d) for module in twin.modules())


@pytest.mark.parametrize("name", TWINS)
def test_twins_are_not_equivariant(
    name: str,
    make_network: Callable[..., Network],
    make_images: Callable[..., Tensor],
    equivariance_error: EquivarianceError,
) -> None:
    """Negative control: on the grid where the original is exact, to 1e-10."""
    x = images_for(name, make_images)
    twin, original = (make_network("rotation", structure=kind, **TWINS[name]) for kind in ("none", "equivariant"))
    assert equivariance_error(twin, twin.group, x) > 0.3
    assert equivariance_error(original, original.group, x) < 1e-10


def test_hidden_layers_are_dense_over_the_parts(make_network: Callable[..., Network]) -> None:
    """Six times the channels in and out of every hidden convolution, full kernels, the classifier's with them."""
    twin = make_network("scale", structure="none", width=0.125)
    shapes = [tuple(m.weight.shape) for m in twin.modules() if isinstance(m, nn.Conv2d)]
    assert shapes == [(24, 1, 11, 11), (48, 24, 7, 7), (96, 48, 7, 7), (96, 96, 7, 7)]
    linear = twin.probe[-1]
    assert isinstance(linear, nn.Linear) and linear.in_features == 16  # the maximum over the emulated axis


def test_a_part_of_z_is_a_sixth_of_the_channels(
    make_network: Callable[..., Network], make_images: Callable[..., Tensor]
) -> None:
    twin = make_network("scale", structure="none", width=0.125).eval()
    x = make_images(2, 29)
    dense = x
    for stage in twin.backbone.stages:
        assert isinstance(stage, nn.Sequential)
        dense = nn.Sequential(*[m for m in stage if not isinstance(m, JoinParts | SplitParts)])(dense)
    assert torch.equal(twin(x), dense.view(2, 6, 16, 8, 8).transpose(1, 2))
    assert twin.group.fibers(twin(x)).shape == (2, 6, 16)


MLP: dict[str, Any] = {"backbone": "mlp", "structure": "none"}


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_mlp_is_read_as_sixteen_rows(
    dataset: str, make_network: Callable[..., Network], make_images: Callable[..., Tensor]
) -> None:
    """App. A: 2048 numbers as (16, 128); a fiber is a row."""
    network = make_network("translation", **MLP, dataset=dataset, width=0.25)
    x = make_images(3) if dataset == "mnist" else make_images(3, 32, channels=3)
    x = x[:, :, :28, :28] if dataset == "mnist" else x
    z = network(x)
    assert z.shape == (3, 32, 1, 4, 4)
    assert network.group.order == 16
    fibers = network.group.fibers(z)
    assert fibers.shape == (3, 16, 32)
    assert network.projection_head(fibers[:, 5]).shape == (3, 32)
    assert network.probe(z).shape == (3, 10)
    assert network.features(z).shape == (3, 16 * 32)


def test_mlp_at_the_papers_width(make_network: Callable[..., Network]) -> None:
    network = make_network("translation", **MLP, width=1.0)
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linears] == [
        (784, 784),
        (784, 1024),
        (1024, 2048),
        (128, 128),
        (128, 128),
        (128, 128),
        (2048, 10),
    ]


def test_mlp_does_not_commute_with_shifts(
    make_network: Callable[..., Network], make_images: Callable[..., Tensor], equivariance_error: EquivarianceError
) -> None:
    network = make_network("translation", **MLP)
    assert equivariance_error(network, network.group, make_images(2, 28)) > 0.3


@pytest.mark.parametrize("values", [{"structure": "none", "group": "scale"}, {**MLP, "group": "translation"}])
def test_twins_probe_sends_nothing_back(
    values: dict[str, Any], make_network: Callable[..., Network], make_images: Callable[..., Tensor]
) -> None:
    network = make_network(**values)
    z = network(make_images(3, 28 if values.get("backbone") else 29))
    network.probe(z.detach()).square().sum().backward()
    assert all(weight.grad is None for weight in network.backbone.parameters())
    network.probe(z).square().sum().backward()
    assert all(weight.grad is not None for weight in network.backbone.parameters())
