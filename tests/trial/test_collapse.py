"""Collapse measures against closed forms."""

import math

import pytest
import torch

from hssl_ray.trial.collapse import alignment, effective_rank, feature_std, uniformity


def test_effective_rank_counts_equal_directions() -> None:
    """k orthogonal directions of equal energy have effective rank k; one direction has 1; a point has 0."""
    for k in (1, 3, 7):
        basis = torch.linalg.qr(torch.randn(16, k, generator=torch.Generator().manual_seed(k)))[0]
        signs = torch.cat((basis.T, -basis.T))
        assert effective_rank(signs) == pytest.approx(k, rel=1e-6)
    assert effective_rank(torch.ones(5, 4)) == 0.0


@pytest.mark.parametrize("shape", [(200, 30), (30, 200)])
def test_effective_rank_is_that_of_the_singular_values(shape: tuple[int, int]) -> None:
    """Spectra over five orders of magnitude, with dead features, more images than features and fewer."""
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(-5, 0, shape[1])
    features[:, 3] = 7.0
    p = torch.linalg.svdvals((features - features.mean(0)).double())
    p = p / p.sum()
    assert effective_rank(features) == pytest.approx(torch.special.entr(p).sum().exp().item(), rel=1e-6)


def test_feature_std_tells_spread_from_collapse() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = feature_std(torch.randn(4000, 64, generator=generator))
    collapsed = feature_std(torch.ones(4000, 64) + 1e-4 * torch.randn(4000, 64, generator=generator))
    assert spread == pytest.approx(1 / math.sqrt(64), rel=0.05)
    assert collapsed < 0.001


def circle(count: int) -> torch.Tensor:
    angles = torch.arange(count, dtype=torch.float64) * 2 * math.pi / count
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_alignment_is_the_squared_chord_whatever_the_lengths() -> None:
    """Pairs an angle apart lie 2 - 2 cos apart; the same pairs are at 0, opposite ones at 4."""
    here, quarter = circle(8), circle(8).roll(2, 0)
    assert alignment(here, 3 * here) == pytest.approx(0, abs=1e-12)
    assert alignment(here, 5 * quarter) == pytest.approx(2)
    assert alignment(here, -here) == pytest.approx(4)


def test_uniformity_of_the_circle_is_its_bessel_function_and_of_a_point_nothing() -> None:
    """On the circle the mean of exp(-2 |u - v|**2) is exp(-4) I_0(4); equal vectors give 0, two opposite ones -8."""
    exact = -4 + torch.special.i0(torch.tensor(4.0, dtype=torch.float64)).log().item()
    assert uniformity(7 * circle(2000)) == pytest.approx(exact, abs=2e-3)
    assert uniformity(torch.ones(10, 3)) == pytest.approx(0, abs=1e-12)
    assert uniformity(circle(2)) == pytest.approx(-8)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        uniformity(circle(1))


def test_uniformity_of_half_a_circle_is_worse() -> None:
    """Negative control: a value nearer to 0."""
    assert uniformity(circle(400)[:200]) > uniformity(circle(400)) + 0.2
