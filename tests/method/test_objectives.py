"""Objectives: equal to the paper's sums written as loops, stable, and honest about bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hssl_ray.method.objectives import info_nce, nt_xent

GOLDEN = Path(__file__).parents[1] / "golden" / "sesn_golden.npz"
Objective = Callable[[Tensor, Tensor, float], Tensor]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def eq3_by_hand(h1: Tensor, h2: Tensor, tau: float) -> float:
    """Eq. 3 summed over i, in the paper's own loops."""
    h, count, total = (h1, h2), len(h1), 0.0
    for i in range(count):
        positive = math.exp(cosine(h1[i], h2[i]) / tau)
        negatives = sum(
            math.exp(cosine(h[k][i], h[m][j]) / tau) for j in range(count) if j != i for k in (0, 1) for m in (0, 1)
        )
        total -= math.log(positive / negatives) / count
    return total


def simclr_by_hand(h1: Tensor, h2: Tensor, tau: float) -> float:
    """Eq. 1 of Chen et al. 2020, averaged over both directions of every pair."""
    h, count, total = torch.cat([h1, h2]), len(h1), 0.0
    for i in range(2 * count):
        others = sum(math.exp(cosine(h[i], h[j]) / tau) for j in range(2 * count) if j != i)
        total -= math.log(math.exp(cosine(h[i], h[(i + count) % (2 * count)]) / tau) / others)
    return total / (2 * count)


BY_HAND: dict[Objective, Callable[[Tensor, Tensor, float], float]] = {info_nce: eq3_by_hand, nt_xent: simclr_by_hand}


@pytest.fixture(params=list(BY_HAND), ids=["info_nce", "nt_xent"])
def objective(request: pytest.FixtureRequest) -> Objective:
    chosen: Objective = request.param
    return chosen


def views(count: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    h1, h2 = torch.randn(2, count, width, generator=generator, dtype=torch.float64)
    return h1, h2


def test_info_nce_equals_the_golden_value() -> None:
    with np.load(GOLDEN, allow_pickle=False) as archive:
        h1, h2 = (torch.from_numpy(archive[f"eq3/{name}"]) for name in ("h1", "h2"))
        expected = float(archive["eq3/loss_tau0.1"])
    assert info_nce(h1, h2, 0.1).item() == pytest.approx(expected, abs=1e-10)
    assert abs(nt_xent(h1, h2, 0.1).item() - expected) > 0.1  # negative control: the objectives differ
    assert abs(info_nce(h1, h2, 0.2).item() - expected) > 0.1


@pytest.mark.parametrize("tau", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("count", [2, 9])
def test_objectives_equal_literal_loops(objective: Objective, tau: float, count: int) -> None:
    h1, h2 = views(count, 6)
    assert objective(h1, h2, tau).item() == pytest.approx(BY_HAND[objective](h1, h2, tau), abs=1e-10)


def test_identical_views_have_a_closed_form() -> None:
    """All vectors equal: every similarity is 1, so Eq. 3 is log 4(N - 1) and NT-Xent log(2N - 1)."""
    h = torch.ones(8, 4)
    assert info_nce(h, h, 0.1).item() == pytest.approx(math.log(28), abs=1e-5)
    assert nt_xent(h, h, 0.1).item() == pytest.approx(math.log(15), abs=1e-5)


def test_info_nce_can_be_negative() -> None:
    """The positive is not in the denominator, so well separated pairs push the loss below zero; NT-Xent stays above."""
    h = torch.eye(4)
    assert info_nce(h, h, 0.1).item() == pytest.approx(math.log(12) - 10, abs=1e-4)
    assert nt_xent(h, h, 0.1).item() > 0


def test_views_and_lengths_do_not_matter_but_pairs_do(objective: Objective) -> None:
    h1, h2 = views(7, 5)
    loss = objective(h1, h2, 0.1)
    torch.testing.assert_close(objective(h2, h1, 0.1), loss)
    torch.testing.assert_close(objective(h1 * 3, h2 * 0.2, 0.1), loss)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(objective(h1[order], h2[order], 0.1), loss)
    assert (objective(h1, h2.roll(1, 0), 0.1) - loss).abs() > 0.05


def test_gradients_are_those_of_the_loops(objective: Objective) -> None:
    h1, h2 = (h.requires_grad_() for h in views(4, 3))
    assert torch.autograd.gradcheck(lambda a, b: objective(a, b, 0.2), (h1, h2))


def test_small_temperatures_stay_finite(objective: Objective) -> None:
    h1, h2 = (h.float().requires_grad_() for h in views(16, 8))
    loss = objective(h1, h2, 1e-3)  # exp(1000) is far beyond float32
    loss.backward()  # type: ignore[no-untyped-call]
    assert h1.grad is not None
    assert loss.isfinite()
    assert h1.grad.isfinite().all()


def test_half_precision_is_computed_in_float32(objective: Objective) -> None:
    h1, h2 = (h.to(torch.bfloat16) for h in views(32, 16))
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(h1, h2, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, objective(h1.float(), h2.float(), 0.1))


def test_a_large_batch_is_one_matrix_product(objective: Objective) -> None:
    h1, h2 = (h.float() for h in views(2048, 8))
    assert objective(h1, h2, 0.1).isfinite()


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (((1, 4), (1, 4)), "at least 2 images, got 1"),
        (((3, 4), (3, 5)), "two \\(N, D\\) batches of one shape"),
        (((3, 4, 1), (3, 4, 1)), "two \\(N, D\\) batches of one shape"),
    ],
)
def test_impossible_batches_are_refused(
    objective: Objective, shapes: tuple[tuple[int, ...], tuple[int, ...]], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        objective(torch.ones(shapes[0]), torch.ones(shapes[1]), 0.1)
