"""Criteria: every objective and similarity as a part of the network, and A-, F- and H-SSL as one method under each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method.criterion import build_criterion
from hssl_ray.method.criterion_spec import CONTRASTIVE, CriterionSpec, ObjectiveName
from hssl_ray.method.draws import Draw, Stream, pair_draw, uniforms
from hssl_ray.method.networks import Network
from hssl_ray.method.views import a_ssl_views, f_ssl_views, h_ssl_views
from tests.method.rank import SPECS

IMAGES = 12
every_criterion = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.objective}-{spec.similarity}")
Make = Callable[..., Network]


def of(spec: CriterionSpec) -> dict[str, object]:
    settings = {"objective": spec.objective, "similarity": spec.similarity, "temperature": spec.temperature}
    return {"width": 0.0625, **settings}


def random_draw(network: Network, base_size: int = 1) -> Draw:
    return pair_draw(network.group, uniforms(0, 0, Stream.PAIRS, torch.arange(IMAGES), 3), base_size)


def train_step(network: Network, views: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of two views in training mode, and the gradient of every weight it reaches."""
    network.zero_grad()
    loss = network.criterion(network.projection_head, *views)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Difference of two gradients, relative to their length."""
    assert a.keys() == b.keys()
    one, two = (torch.cat([grad.flatten() for grad in grads.values()]) for grads in (a, b))
    return float((one - two).norm() / two.norm())


@every_criterion
def test_a_ssl_is_h_ssl_under_every_objective(
    spec: CriterionSpec, make_network: Make, make_images: Callable[..., Tensor]
) -> None:
    """An exactly equivariant network and the same draw: equal loss, equal gradient of all weights, W and predictor
    with them. On an even grid, which is not equivariant, both differ (negative control).
    """
    base_size = 1 if spec.objective == "negative_cosine" else 2
    found = {}
    for size in (29, 28):
        network = make_network("rotation", base_size=base_size, image_size=size, **of(spec)).train()
        x, draw = make_images(IMAGES, size), random_draw(network, base_size)
        a_loss, a_gradients = train_step(network, a_ssl_views(network, x, network.group, draw, base_size))
        h_loss, h_gradients = train_step(network, h_ssl_views(network, x, network.group, draw, base_size))
        learned = {name.split(".")[0] for name in h_gradients}
        assert learned == {"backbone", "projection_head"} | ({"criterion"} if spec.parameters(16) else set())
        found[size] = (a_loss - h_loss).abs().item() / max(1.0, h_loss.abs().item()), apart(a_gradients, h_gradients)
    assert max(found[29]) < 1e-10
    assert found[28][0] > 1e-4 and found[28][1] > 0.03


@every_criterion
def test_f_ssl_is_h_ssl_on_translations_under_every_objective(
    spec: CriterionSpec, make_network: Make, make_images: Callable[..., Tensor]
) -> None:
    network = make_network("translation", **of(spec)).train()
    x, draw = make_images(IMAGES), random_draw(network)
    f_loss, f_gradients = train_step(network, f_ssl_views(network, x, network.group, draw))
    h_loss, h_gradients = train_step(network, h_ssl_views(network, x, network.group, draw))
    assert torch.equal(f_loss, h_loss) and apart(f_gradients, h_gradients) == 0


@every_criterion
def test_one_element_twice_gives_what_identical_views_give(
    spec: CriterionSpec, make_network: Make, make_images: Callable[..., Tensor]
) -> None:
    """g1 = g2: both views are one fiber h, and each loss has a closed form of h alone."""
    network = make_network("rotation", **of(spec)).train()
    draw = random_draw(network)
    x = make_images(IMAGES)
    v1, v2 = h_ssl_views(network, x, network.group, Draw(draw.g0, draw.g1, draw.g1))
    assert torch.equal(v1, v2)
    with torch.no_grad():
        loss = network.criterion(network.projection_head, v1, v2)
        expected = identical_views_loss(network, spec, v1)
    torch.testing.assert_close(loss, expected)


def identical_views_loss(network: Network, spec: CriterionSpec, v: Tensor) -> Tensor:
    h: Tensor = network.projection_head(v)
    unit = nn.functional.normalize(h, dim=1)
    match spec.objective:
        case "info_nce" | "nt_xent" | "dcl":
            scores = unit @ unit.T if spec.similarity == "cosine" else h @ h.T / h.shape[1]  # W starts at the identity
            logits = (scores.exp() if spec.similarity == "literal_bilinear" else scores) / spec.temperature
            positives = logits.diagonal()
            negatives = logits.masked_fill(torch.eye(IMAGES, dtype=torch.bool), -math.inf).logsumexp(1) + math.log(2)
            below = {
                "info_nce": negatives + math.log(2),
                "dcl": negatives,
                "nt_xent": torch.logaddexp(negatives, positives),
            }
            return (below[spec.objective] - positives).mean()
        case "negative_cosine":
            return -(unit * nn.functional.normalize(v, dim=1)).sum(1).mean()
        case "simsiam":
            assert isinstance(network.criterion.predictor, nn.Module)
            return -(unit * nn.functional.normalize(network.criterion.predictor(h), dim=1)).sum(1).mean()
        case "vicreg":  # nothing to pay for invariance
            off = h.T.cov() - h.var(0).diag()
            return 50 * (1 - (h.var(0) + 1e-4).sqrt()).clamp_min(0).mean() + 2 * off.square().sum() / h.shape[1]
        case "barlow_twins":  # every number agrees with itself
            correlation = h.T.corrcoef()
            return 0.005 * (correlation.square().sum() - h.shape[1])
    raise AssertionError(spec.objective)


@every_criterion
def test_the_plan_knows_what_a_criterion_learns(spec: CriterionSpec) -> None:
    for width in (3, 16):
        criterion = build_criterion(spec, width)
        assert spec.parameters(width) == sum(p.numel() for p in criterion.parameters())


def test_objectives_start_from_the_same_network(make_network: Make) -> None:
    """What an objective learns is drawn last, so backbone, head and probe are those of every other objective."""
    plain = make_network("rotation", width=0.0625).state_dict()
    for spec in SPECS:
        state = make_network("rotation", layerwise=spec.objective == "dcl", **of(spec)).state_dict()
        assert list(state)[: len(plain)] == list(plain)
        assert all(torch.equal(state[name], plain[name]) for name in plain)
        assert bool(spec.parameters(16)) == any(name.startswith("criterion.") for name in state)


def test_the_target_of_eq4_is_not_projected(make_network: Make) -> None:
    """h and f learn through the first view alone; SimSiam learns through both (negative control)."""
    for objective, learns in (("negative_cosine", False), ("simsiam", True)):
        network = make_network("rotation", objective=objective).train()
        generator = torch.Generator().manual_seed(0)
        v1, v2 = torch.randn(2, IMAGES, 16, generator=generator, dtype=torch.float64)
        train_step(network, (v1.requires_grad_(), v2.requires_grad_()))
        assert v1.grad is not None
        assert (v2.grad is not None) == learns


def test_only_contrastive_objectives_have_a_temperature(make_network: Make, make_images: Callable[..., Tensor]) -> None:
    v1, v2 = make_images(2, 8).reshape(2, -1, 16)
    for objective in get_args(ObjectiveName):
        losses = []
        for temperature in (0.1, 0.5):
            network = make_network("rotation", objective=objective, temperature=temperature).train()
            losses.append(network.criterion(network.projection_head, v1, v2).item())
        assert (losses[0] != losses[1]) == (objective in CONTRASTIVE)
