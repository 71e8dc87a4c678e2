"""Counter-based randomness: pure, uniform, independent; draws that keep to the base and the distance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hssl_ray.method import geometry
from hssl_ray.method.draws import DRAW_COLUMNS, Stream, augmentation_draw, pair_draw, permutation, uniforms
from hssl_ray.method.groups import Group, Rotation, Scale, Translation


def numbers(count: int, seed: int = 0, epoch: int = 0) -> Tensor:
    return uniforms(seed, epoch, Stream.PAIRS, torch.arange(count), DRAW_COLUMNS)


def test_numbers_do_not_depend_on_the_batch() -> None:
    whole = numbers(1000)
    assert whole.dtype == torch.float64
    shuffled = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniforms(0, 0, Stream.PAIRS, shuffled, DRAW_COLUMNS), whole[shuffled])
    parts = [uniforms(0, 0, Stream.PAIRS, part, 2) for part in torch.split(torch.arange(1000), 77)]
    assert torch.equal(torch.cat(parts), whole[:, :2])


PINNED = [[0.7198514895116321, 0.05737001781575457]]
PINNED_ORDER = [3, 1, 4, 5, 2, 0]


def test_numbers_are_pinned() -> None:
    """A change here would change every trial that was ever run."""
    assert uniforms(1, 2, 3, torch.tensor([4]), 2).tolist() == PINNED
    assert permutation(3, 1, 6).tolist() == PINNED_ORDER


def test_numbers_are_uniform() -> None:
    u = numbers(20_000)
    assert ((u >= 0) & (u < 1)).all()
    for column in u.T:
        counts = torch.histc(column, 50, 0, 1)
        assert ((counts - 400).square() / 400).sum() < 95  # chi-squared, 49 degrees: p = 1e-4
    assert (u.mean(0) - 0.5).abs().max() < 0.008


def test_numbers_are_independent_across_every_coordinate() -> None:
    base = numbers(20_000)
    others = {
        "seed": numbers(20_000, seed=1),
        "epoch": numbers(20_000, epoch=1),
        "stream": uniforms(0, 0, Stream.ORDER, torch.arange(20_000), DRAW_COLUMNS),
        "next image": base.roll(1, 0),
        "next column": base.roll(1, 1),
        "seed and epoch swapped": uniforms(7, 3, 1, torch.arange(20_000), DRAW_COLUMNS),
    }
    others["as before, swapped"] = uniforms(3, 7, 1, torch.arange(20_000), DRAW_COLUMNS)
    for name, other in others.items():
        correlation = ((base - 0.5) * (other - 0.5)).mean(0) * 12
        assert correlation.abs().max() < 0.035, name
        assert (base == other).sum() == 0, name
    assert not torch.equal(others["seed and epoch swapped"], others["as before, swapped"])


def test_permutations_visit_everything_in_ever_new_order() -> None:
    orders = [permutation(seed, epoch, 500) for seed in (0, 1) for epoch in range(4)]
    for order in orders:
        assert order.dtype == torch.int64
        assert torch.equal(order.sort().values, torch.arange(500))
    for i, order in enumerate(orders):
        assert sum(torch.equal(order, other) for other in orders) == 1
        assert torch.equal(order, [permutation(s, e, 500) for s in (0, 1) for e in range(4)][i])
    assert (orders[0] - torch.arange(500)).abs().double().mean() > 120  # 167 expected


BASES = {"rotation": (1, 2, 3), "scale": (1, 2, 5), "translation": (1, 4, 49)}


def test_pair_draws_stay_inside(group: Group) -> None:
    for base_size in BASES[group.geometry.name]:
        draw = pair_draw(group, numbers(500), base_size)
        origins = set(group.origins(base_size).tolist())
        assert set(draw.g1.tolist()) == origins
        assert set(draw.g2.tolist()) == origins
        for g in (draw.g1, draw.g2):
            group.shift(group.base(draw.g0, base_size), g[:, None])  # raises if a fiber leaves the window
        assert set(draw.g0.tolist()) == (set(range(group.order)) if group.geometry.cyclic else {0})


DISTANCES = {"rotation": (0.0, 1.0, 2.0), "scale": (0.0, 0.1, 0.3), "translation": (0.0, 1.0, 1.5, 4.0)}


def test_partners_are_uniform_within_the_distance(group: Group) -> None:
    """g1 is uniform over the group, g2 over the ball about g1: neither is thrown away and drawn again."""
    for bound in DISTANCES[group.geometry.name]:
        draw = pair_draw(group, numbers(20_000), 1, bound)
        assert group.distance(draw.g1, draw.g2).max() <= bound + 1e-9
        counts = torch.bincount(draw.g1, minlength=group.order).double()
        expected = 20_000 / group.order
        assert ((counts - expected).square() / expected).sum() < group.order + 6 * (2 * group.order) ** 0.5
        middle = group.order // 2
        ball = [h for h in range(group.order) if group.geometry.distance(middle, h) <= bound + 1e-9]
        partners = draw.g2[draw.g1 == middle]
        counts = torch.bincount(partners, minlength=group.order).double()
        assert set(partners.tolist()) == set(ball)
        assert (counts[ball] / len(partners) - 1 / len(ball)).abs().max() < 5 * (len(ball) * len(partners)) ** -0.5


def test_without_a_bound_partners_are_independent(group: Group) -> None:
    draw = pair_draw(group, numbers(20_000), 1, None)
    same = (draw.g1 == draw.g2).double().mean().item()
    assert same == pytest.approx(1 / group.order, abs=5 * (group.order * 20_000) ** -0.5)


def test_negative_distances_are_refused(group: Group) -> None:
    with pytest.raises(ValueError, match="max_distance: must be at least 0"):
        pair_draw(group, numbers(2), 1, -1.0)


def test_augmentation_draws_share_the_base(group: Group) -> None:
    draw = augmentation_draw(group, numbers(2000), 1)
    assert set(draw.g0.tolist()) == set(range(group.order))
    assert not torch.equal(draw.g1, draw.g2)
    assert len(draw.g1) == len(draw.g2) == 2000
    correlation = torch.corrcoef(
        torch.stack([draw.g1.double().view(2000, -1)[:, 0], draw.g2.double().view(2000, -1)[:, 0]])
    )
    assert correlation[0, 1].abs() < 0.1


def test_draws_are_the_same_however_the_batch_is_split() -> None:
    for group in (
        Rotation(geometry.rotation()),
        Scale(geometry.scale()),
        Translation(geometry.translation(8), image_size=28, stride=4),
    ):
        u = numbers(64)
        whole = pair_draw(group, u, 1, 1.0)
        parts = [pair_draw(group, part, 1, 1.0) for part in torch.split(u, 13)]
        for field in ("g0", "g1", "g2"):
            assert torch.equal(getattr(whole, field), torch.cat([getattr(part, field) for part in parts]))
