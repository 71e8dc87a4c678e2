"""The paper's network: shapes and size, exact equivariance, a probe that trains only itself, seeded weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method.groups import Group
from hssl_ray.method.networks import Network, build_network
from hssl_ray.method.normalisation import BatchNorm
from hssl_ray.trial.config import TrialConfig

EquivarianceError = Callable[[Callable[[Tensor], Tensor], Group, Tensor], float]


def test_the_papers_size_and_shapes(group: Group, make_images: Callable[..., Tensor]) -> None:
    """App. A at width 1: 96,480 parameters, z (128, S x R, 8, 8) on the 29 grid, a head of 128s, a probe on 128. On C8
    the lift has 7 x 7 basis functions in place of 11 x 11.
    """
    config = TrialConfig.model_validate({"group": group.geometry.name})
    network = build_network(config)
    parameters = sum(weight.numel() for weight in network.backbone.parameters())
    expected = 96_480 - (32 * (121 - 49) if group.geometry.name == "rotation8" else 0)
    assert parameters == config.architecture.cost(config.grid).parameters == expected
    z = network(make_images(2, dtype=torch.float32))
    assert config.grid == 29
    assert z.shape == (2, 128, group.lifted_order, 8, 8)
    assert (z >= 0).all()  # after the last ReLU
    assert network.probe(z).shape == (2, 10)
    assert network.features(z).shape == (2, 128 * group.lifted_order)
    linears = [layer for layer in network.projection_head.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == [(128, 128)] * 3
    norms = [layer for layer in network.projection_head if isinstance(layer, BatchNorm)]
    assert [norm.relu for norm in norms] == [True, True, False]


def test_head_widens_with_the_base(make_network: Callable[..., Network]) -> None:
    head = make_network("scale", base_size=5).projection_head
    assert head(torch.randn(3, 16 * 5, dtype=torch.float64)).shape == (3, 16)


def test_features_are_spatial_means(make_network: Callable[..., Network]) -> None:
    z = torch.randn(2, 3, 4, 5, 5)
    features = make_network("rotation").features(z)
    assert features[1, 4 * 2 + 3].item() == pytest.approx(z[1, 2, 3].mean().item(), abs=1e-6)
    assert make_network("rotation").features(z.bfloat16()).dtype == torch.float32


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("training", [True, False])
def test_whole_network_commutes_with_quarter_turns(
    training: bool,
    make_network: Callable[..., Network],
    make_images: Callable[..., Tensor],
    equivariance_error: EquivarianceError,
) -> None:
    network = make_network("rotation").train(training)
    assert equivariance_error(network, network.group, make_images(3)) < 1e-10


@pytest.mark.parametrize("size", [33, 37])
def test_other_exact_grids_do_as_well(
    size: int,
    make_network: Callable[..., Network],
    make_images: Callable[..., Tensor],
    equivariance_error: EquivarianceError,
) -> None:
    network = make_network("rotation", image_size=size)
    assert equivariance_error(network, network.group, make_images(2, size)) < 1e-10


def test_even_grid_does_not(
    make_network: Callable[..., Network], make_images: Callable[..., Tensor], equivariance_error: EquivarianceError
) -> None:
    network = make_network("rotation", image_size=28)
    assert equivariance_error(network, network.group, make_images(3, 28)) > 0.1


def test_free_kernels_do_not(
    make_network: Callable[..., Network],
    make_images: Callable[..., Tensor],
    equivariance_error: EquivarianceError,
    without_structure: Callable[[nn.Module], nn.Module],
) -> None:
    network = make_network("rotation")
    without_structure(network)
    assert equivariance_error(network, network.group, make_images(3)) > 0.1


def test_probe_sends_nothing_back(make_network: Callable[..., Network], make_images: Callable[..., Tensor]) -> None:
    network = make_network("scale")
    z = network(make_images(2))
    network.probe(z.detach()).sum().backward()
    assert all(weight.grad is None for weight in network.backbone.parameters())
    assert all(weight.grad is not None for weight in network.probe.parameters())
    network.probe(z).sum().backward()  # attached: the supervised baseline
    assert all(weight.grad is not None for weight in network.backbone.parameters())


def test_weights_come_from_the_seed_alone() -> None:
    config = TrialConfig(group="scale", width=0.125, seed=3)
    state = torch.random.get_rng_state()
    first = build_network(config).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(10)
    second = build_network(config).state_dict()
    other = build_network(config.model_copy(update={"seed": 4})).state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    weights = [name for name, value in first.items() if value.dim() > 1]
    assert weights
    assert not any(torch.equal(first[name], other[name]) for name in weights)


def test_methods_and_objectives_share_their_first_weights() -> None:
    """Two trials that differ in method start from the same network, so a comparison is paired."""
    one = build_network(TrialConfig(method="a_ssl", width=0.125)).state_dict()
    two = build_network(TrialConfig(method="h_ssl", objective="nt_xent", width=0.125)).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_states_round_trip_without_bases(
    make_network: Callable[..., Network], make_images: Callable[..., Tensor]
) -> None:
    network, other = make_network("scale"), make_network("scale", seed=1)
    x = make_images(2)
    network(x)  # moves the running statistics
    assert not any("basis" in name for name in network.state_dict())
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.eval()(x), network.eval()(x))


@pytest.mark.parametrize("name", ["rotation", "scale", "translation"])
def test_bf16_autocast_is_close(
    name: str, make_network: Callable[..., Network], make_images: Callable[..., Tensor]
) -> None:
    network = make_network(name, dtype=torch.float32)
    x = make_images(8, dtype=torch.float32)
    expected = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        z = network(x)
    assert z.dtype == torch.bfloat16
    assert ((z.float() - expected).norm() / expected.norm()).item() < 0.02
    z.float().square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.backbone.parameters())
