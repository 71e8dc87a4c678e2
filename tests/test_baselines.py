"""The baselines that benchmarks compare with compute what the originals do, or a ratio to them would mean nothing."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hssl_ray.method.networks import Network, build_network
from hssl_ray.method.objectives import nt_xent
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.optim import Lars

GOLDEN = np.load(Path(__file__).parent / "golden" / "sesn_golden.npz")


@pytest.fixture
def sesn(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("sesn")


def golden(name: str) -> Tensor:
    return torch.from_numpy(GOLDEN[name]).double()


@pytest.mark.parametrize(
    ("layer", "basis", "name", "stride", "padding"),
    [
        ("SesnLiftingConv2d", "k11_e11_s6", "lift_k11_e11_s6_stride1_pad5", 1, 5),
        ("SesnLiftingConv2d", "k7_e7_s6", "lift_k7_e7_s6_stride1_pad3", 1, 3),
        ("SesnGroupConv2d", "k7_e3_s6", "conv_k7_e3_s6_stride2_pad3", 2, 3),
        ("SesnGroupConv2d", "k7_e3_s6", "conv_k7_e3_s6_stride1_pad3", 1, 3),
        ("SesnGroupConv2d", "k7_e3_s1", "conv_k7_e3_s1_stride2_pad3", 2, 3),
    ],
)
def test_sesns_way_is_sesns(sesn: ModuleType, layer: str, basis: str, name: str, stride: int, padding: int) -> None:
    weight = golden(f"{name}/weight")
    channels = weight.shape[1], weight.shape[0]
    module = getattr(sesn, layer)(*channels, golden(f"basis_A/{basis}"), stride=stride, padding=padding)
    module.weight = torch.nn.Parameter(weight)
    x = golden(f"{name}/x").requires_grad_()
    y = module(x)
    y.backward(golden(f"{name}/grad_y"))
    assert x.grad is not None
    for found, wanted in ((y, "y"), (x.grad, "grad_x"), (module.weight.grad, "grad_weight")):
        expected = golden(f"{name}/{wanted}")
        assert (found - expected).norm() <= 1e-5 * expected.norm(), wanted


@pytest.fixture
def stock(sesn: ModuleType) -> ModuleType:
    return importlib.import_module("stock_recipe")


def same_weights(stock: ModuleType, config: TrialConfig) -> tuple[Network, Any]:
    """Our network and the stock recipe's with our weights, in training mode."""
    ours, theirs = build_network(config), stock.StockNetwork(config.width)
    assert len(list(ours.parameters())) == len(list(theirs.parameters()))
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert mine.numel() == other.numel()
            other.copy_(mine.view_as(other))
    return ours, theirs


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).norm() <= 1e-5 * expected.norm())


def test_the_stock_recipes_network_is_ours(stock: ModuleType) -> None:
    """Features, logits, projected fibers and the gradient of every weight, in training mode."""
    config = TrialConfig(group="scale", width=0.125, batch_size=512)
    ours, theirs = same_weights(stock, config)
    ours, theirs = ours.double(), theirs.double()
    x = torch.randn(6, 1, 29, 29, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scale = torch.arange(6)
    z, z_stock = ours(x), theirs.backbone(x)
    views = ours.projection_head(ours.group.bundle(z, scale, torch.zeros_like(scale)))
    results = (z, views, ours.probe(z.detach()))
    expected = (z_stock, theirs.view(z_stock, scale), theirs.classify(z_stock))
    for found, wanted in zip(results, expected, strict=True):
        assert close(found, wanted)
    for outputs in (results, expected):
        torch.autograd.backward([output.exp().sum() for output in outputs])
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None and close(mine.grad, other.grad.view_as(mine))


def test_the_stock_recipes_network_has_weights_of_its_own(stock: ModuleType) -> None:
    """Negative control: other weights, other features."""
    config = TrialConfig(group="scale", width=0.125, batch_size=512)
    x = torch.randn(6, 1, 29, 29, generator=torch.Generator().manual_seed(0))
    assert not close(stock.StockNetwork(config.width).backbone(x), build_network(config)(x))


def test_the_stock_recipes_loss_and_optimiser_are_ours(stock: ModuleType) -> None:
    h1, h2 = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert close(stock.nt_xent(h1, h2, 0.2), nt_xent(h1, h2, 0.2))
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings = {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.1}
    optimizers = (
        Lars([ours], trust_coefficient=0.02, **settings),
        stock.StockLars([theirs], trust=0.02, **settings),
    )
    for step in range(3):
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = torch.full_like(weight, 0.1 * (step + 1))
            optimizer.step()
    assert close(theirs, ours)
    assert not close(theirs, start)


def test_the_stock_recipe_makes_two_views_of_each_image(stock: ModuleType) -> None:
    """On our grid and in our scaling, each image resized by itself."""
    images = torch.full((3, 1, 28, 28), 255, dtype=torch.uint8)
    first, second, label = stock.TwoViews(images, torch.tensor([4, 5, 6]), 29)[1]
    assert first.shape == second.shape == (1, 29, 29)
    assert label == 5
    assert first.max() == pytest.approx(1 / 0.3081, rel=1e-4)
    assert not torch.equal(first, second)
