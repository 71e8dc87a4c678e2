"""The paper's ResNets: exactly equivariant on exact grids, the theorem on them, heads and probes as read in A12."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method.draws import Draw, Stream, pair_draw, uniforms
from hssl_ray.method.groups import Group
from hssl_ray.method.networks import Network
from hssl_ray.method.normalisation import BatchNorm
from hssl_ray.method.objectives import info_nce
from hssl_ray.method.views import Views, a_ssl_views, h_ssl_views

EquivarianceError = Callable[[Callable[[Tensor], Tensor], Group, Tensor], float]

NARROW = 0.03125
RESNETS: dict[str, dict[str, Any]] = {
    "resnet20": {"dataset": "cifar10", "backbone": "resnet20", "width": NARROW},
    "resnet18": {"dataset": "tiny-imagenet", "backbone": "resnet18", "width": NARROW, "image_size": 33},
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", RESNETS)
def test_resnets_commute_with_quarter_turns(
    name: str,
    training: bool,
    make_network: Callable[..., Network],
    make_images: Callable[..., Tensor],
    equivariance_error: EquivarianceError,
) -> None:
    network = make_network("rotation", **RESNETS[name]).train(training)
    assert equivariance_error(network, network.group, make_images(2, 33, channels=3)) < 1e-10


@pytest.mark.parametrize("changes", [{"mixing": 4}, {"stem_stride": 2}], ids=["mixing", "stem_stride"])
def test_options_keep_equivariance(
    changes: dict[str, Any],
    make_network: Callable[..., Network],
    make_images: Callable[..., Tensor],
    equivariance_error: EquivarianceError,
) -> None:
    network = make_network("rotation", **{**RESNETS["resnet20"], "image_size": 17, **changes})
    assert equivariance_error(network, network.group, make_images(2, 17, channels=3)) < 1e-10


@pytest.mark.parametrize("name", RESNETS)
def test_even_grids_do_not(
    name: str,
    make_network: Callable[..., Network],
    make_images: Callable[..., Tensor],
    equivariance_error: EquivarianceError,
) -> None:
    network = make_network("rotation", **{**RESNETS[name], "image_size": 32})
    assert equivariance_error(network, network.group, make_images(2, 32, channels=3)) > 0.1


def test_mixing_mixes(make_network: Callable[..., Network], make_images: Callable[..., Tensor]) -> None:
    """Each orientation's features see all orientations of the layer before, not its own alone."""
    for mixing, mixes in ((1, False), (2, True)):
        block = make_network("rotation", **{**RESNETS["resnet20"], "mixing": mixing}).backbone.stages[1].eval()
        z = make_images(1, 9, channels=8).view(1, 2, 4, 9, 9)
        other = z.clone()
        other[:, :, 1] += 1.0
        same = torch.equal(block(z)[:, :, 0], block(other)[:, :, 0])
        assert same != mixes


def _gradients(
    network: Network, x: Tensor, draw: Draw, views_of: Callable[[Network, Tensor, Group, Draw], Views]
) -> tuple[Tensor, Tensor]:
    """Both views, and the gradient of Eq. 3 as one vector, in training mode."""
    network.train().zero_grad()
    v1, v2 = views_of(network, x, network.group, draw)
    info_nce(network.projection_head(v1), network.projection_head(v2), 0.1).backward()  # type: ignore[no-untyped-call]
    gradients = [weight.grad.flatten() for weight in network.parameters() if weight.grad is not None]
    return torch.cat([v1, v2]).detach(), torch.cat(gradients)


@pytest.mark.parametrize(("size", "same"), [(17, True), (16, False)])
def test_a_ssl_and_h_ssl_are_one_method_on_a_resnet(
    size: int, same: bool, make_network: Callable[..., Network], make_images: Callable[..., Tensor]
) -> None:
    """The theorem with training-mode BatchNorm in blocks and before the head; on an even grid it fails."""
    network = make_network("rotation", **{**RESNETS["resnet20"], "image_size": size})
    x = make_images(6, size, channels=3)
    draw = pair_draw(network.group, uniforms(0, 0, Stream.PAIRS, torch.arange(6), 3))
    a_views, a_gradient = _gradients(network, x, draw, a_ssl_views)
    h_views, h_gradient = _gradients(network, x, draw, h_ssl_views)
    views_apart = ((a_views - h_views).norm() / h_views.norm()).item()
    gradients_apart = ((a_gradient - h_gradient).norm() / h_gradient.norm()).item()
    assert (views_apart < 1e-11 and gradients_apart < 1e-9) if same else min(views_apart, gradients_apart) > 0.05


@pytest.mark.parametrize("name", ["rotation", "scale", "translation"])
def test_features_are_signed_and_heads_normalise_them(
    name: str, make_network: Callable[..., Network], make_images: Callable[..., Tensor]
) -> None:
    """z is a block's output, without a ReLU; bundles pass a BatchNorm of their own width before the head."""
    network = make_network(name, base_size=1, **RESNETS["resnet20"])
    z = network(make_images(2, 33, channels=3))
    assert z.shape == (2, 16, network.group.lifted_order, 9, 9)
    assert (z < 0).any() and (z > 0).any()
    first, *rest = network.projection_head
    assert isinstance(first, BatchNorm) and not first.relu
    assert first.weight.shape == (16,)
    sizes = [(layer.in_features, layer.out_features) for layer in rest if isinstance(layer, nn.Linear)]
    assert sizes == [(16, 16), (16, 64), (64, 16)]
    wide = make_network(name, base_size=4 if name == "translation" else 3, **RESNETS["resnet20"])
    head = wide.projection_head[0]
    assert isinstance(head, BatchNorm) and head.weight.shape == (16 * (4 if name == "translation" else 3),)


def test_probe_is_max_then_norm_then_relu_then_mean(make_network: Callable[..., Network]) -> None:
    """App. A word by word, written out."""
    network = make_network("rotation", **RESNETS["resnet20"])
    z = torch.randn(5, 16, 4, 9, 9, dtype=torch.float64)
    pooled = z.amax(2)
    mean, variance = pooled.mean((0, 2, 3), keepdim=True), pooled.var((0, 2, 3), unbiased=False, keepdim=True)
    means = ((pooled - mean) / (variance + 1e-5).sqrt()).relu().mean((2, 3))
    linear = network.probe[-1]
    assert isinstance(linear, nn.Linear)
    torch.testing.assert_close(network.probe(z), means @ linear.weight.T + linear.bias, rtol=0, atol=1e-10)


def test_probe_forgets_the_turn(make_network: Callable[..., Network], make_images: Callable[..., Tensor]) -> None:
    network = make_network("rotation", **RESNETS["resnet20"]).eval()
    x = make_images(2, 33, channels=3)
    turned = network.group.transform_input(torch.tensor([1, 3]), x)
    torch.testing.assert_close(network.probe(network(turned)), network.probe(network(x)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", RESNETS)
def test_resnet_probe_sends_nothing_back(
    name: str, make_network: Callable[..., Network], make_images: Callable[..., Tensor]
) -> None:
    network = make_network("scale", **RESNETS[name])
    z = network(make_images(2, 33, channels=3))
    network.probe(z.detach()).square().sum().backward()
    assert all(weight.grad is None for weight in network.backbone.parameters())
    assert all(weight.grad is not None for weight in network.probe.parameters())
    network.probe(z).square().sum().backward()  # attached: the supervised baseline
    assert all(weight.grad is not None for weight in network.backbone.parameters())
