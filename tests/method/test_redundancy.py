"""VICReg and Barlow Twins: equal to their papers' sums written as loops, and zero where they should be."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hssl_ray.method.redundancy import barlow_twins, vicreg

Objective = Callable[[Tensor, Tensor], Tensor]


def views(count: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shared, own = torch.randn(2, count, width, generator=generator, dtype=torch.float64)
    return shared * 0.7 + 0.2, shared * 0.6 + own * 0.3


def vicreg_by_hand(h1: Tensor, h2: Tensor) -> float:
    """Eq. 1 to 6 of Bardes et al. 2022, the invariance averaged over the numbers of a vector as in Algorithm 1."""
    count, width = h1.shape
    invariance = sum(float(h1[i, d] - h2[i, d]) ** 2 for i in range(count) for d in range(width)) / count / width
    hinge = covariance = 0.0
    for h in (h1, h2):
        mean = [float(h[:, d].sum()) / count for d in range(width)]
        for d in range(width):
            for e in range(width):
                terms = (float(h[i, d] - mean[d]) * float(h[i, e] - mean[e]) for i in range(count))
                entry = sum(terms) / (count - 1)
                if d == e:
                    hinge += max(0.0, 1 - math.sqrt(entry + 1e-4)) / width
                else:
                    covariance += entry**2 / width
    return 25 * invariance + 25 * hinge + 1 * covariance


def barlow_by_hand(h1: Tensor, h2: Tensor) -> float:
    """Eq. 1 and 2 of Zbontar et al. 2021 on outputs that are mean-centred along the batch."""
    count, width = h1.shape
    a, b = h1 - h1.mean(0), h2 - h2.mean(0)
    total = 0.0
    for d in range(width):
        for e in range(width):
            product = sum(float(a[i, d] * b[i, e]) for i in range(count))
            norms = [math.sqrt(sum(float(column[i]) ** 2 for i in range(count))) for column in (a[:, d], b[:, e])]
            entry = product / norms[0] / norms[1]
            total += (1 - entry) ** 2 if d == e else 0.005 * entry**2
    return total


BY_HAND: dict[Objective, Callable[[Tensor, Tensor], float]] = {vicreg: vicreg_by_hand, barlow_twins: barlow_by_hand}


@pytest.fixture(params=list(BY_HAND), ids=["vicreg", "barlow_twins"])
def objective(request: pytest.FixtureRequest) -> Objective:
    chosen: Objective = request.param
    return chosen


@pytest.mark.parametrize("count", [2, 9])
def test_objectives_equal_literal_loops(objective: Objective, count: int) -> None:
    h1, h2 = views(count, 5)
    assert objective(h1, h2).item() == pytest.approx(BY_HAND[objective](h1, h2), abs=1e-10)
    torch.testing.assert_close(objective(h2, h1), objective(h1, h2))
    if count > 2:
        assert (objective(h1, h2.roll(1, 0)) - objective(h1, h2)).abs() > 0.05  # pairs matter


def test_gradients_are_those_of_the_loops(objective: Objective) -> None:
    h1, h2 = (h.requires_grad_() for h in views(6, 3))
    assert torch.autograd.gradcheck(objective, (h1, h2))


def test_uncorrelated_equal_views_cost_nothing(objective: Objective) -> None:
    """Columns of a Hadamard matrix: orthogonal, of mean 0 and variance over 1; an image's number lost costs much."""
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(3):
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)])
    h = hadamard[:, 1:]
    assert objective(h, h).item() == pytest.approx(0, abs=1e-12)
    assert objective(h, h.where(torch.arange(7) > 0, 0.0)) > 0.9


def test_collapse_is_what_costs_most() -> None:
    """All images alike: VICReg's hinge is full at both views, Barlow Twins has no correlation left."""
    h = torch.ones(8, 4, dtype=torch.float64)
    assert vicreg(h, h).item() == pytest.approx(25 * 2 * (1 - 0.01), abs=1e-9)
    assert barlow_twins(h, h).item() == pytest.approx(4, abs=1e-9)
    one_number = views(8, 1)[0].expand(-1, 4)  # every number of a vector the same: redundant
    assert barlow_twins(one_number, one_number).item() == pytest.approx(0.005 * 12, abs=1e-9)


def test_half_precision_is_computed_in_float32(objective: Objective) -> None:
    h1, h2 = (h.to(torch.bfloat16) for h in views(32, 16))
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(h1, h2)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, objective(h1.float(), h2.float()))


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (((1, 4), (1, 4)), "at least 2 images, got 1"),
        (((3, 4), (3, 5)), "two \\(N, D\\) batches of one shape"),
    ],
)
def test_impossible_batches_are_refused(
    objective: Objective, shapes: tuple[tuple[int, ...], tuple[int, ...]], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        objective(torch.ones(shapes[0]), torch.ones(shapes[1]))
