"""Counter-based randomness: pure, uniform, independent; draws that keep to the base and the distance."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hssl_ray.method import geometry
from hssl_ray.method.draws import DRAW_COLUMNS, Draw, Stream, augmentation_draw, pair_draw, permutation, uniforms
from hssl_ray.method.groups import Group, Scale


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


BASES = {
    "rotation": (1, 2, 3),
    "scale": (1, 2, 5),
    "translation": (1, 4, 49),
    "rotation8": (1, 4, 7),
    "dihedral": (1, 2, 7),
    "rotation_translation": (1, 2, 4),
    "scale_translation": (1, 2, 6),
}
MANY = 20_000


def test_pair_draws_stay_inside(group: Group) -> None:
    for base_size in BASES[group.geometry.name]:
        draw = pair_draw(group, numbers(MANY), base_size)
        origins = set(group.origins(base_size).tolist())
        assert set(draw.g1.tolist()) == origins
        assert set(draw.g2.tolist()) == origins
        for g in (draw.g1, draw.g2):
            group.shift(group.base(draw.g0, base_size), g[:, None])  # raises if a fiber leaves the window
        ends = group.geometry.lifted_order if group.geometry.cyclic else 1  # places without a cell of their own
        assert set(draw.g0.tolist()) == {place * group.geometry.cells for place in range(ends)}


Bounds = tuple[float | None, float | None]
BALLS: dict[str, tuple[Bounds, ...]] = {
    "rotation": ((None, 0.0), (None, 1.0), (1.0, None), (2.0, 2.0), (0.0, 2.0)),
    "scale": ((None, 0.0), (None, 0.1), (None, 0.3), (0.01, None), (0.4, None), (0.1, 0.2)),
    "translation": ((None, 0.0), (None, 1.0), (None, 1.5), (None, 4.0), (1e-6, 2.0), (6.0, None), (5.0, 5.0)),
    "rotation8": ((None, 1.0), (3.0, None), (4.0, 4.0)),
    "dihedral": ((None, 1.0), (2.0, 3.0), (3.0, 3.0)),
    "rotation_translation": ((None, 1.0), (1e-6, 2.0), (9.5, None), (5.0, 5.0)),
    "scale_translation": ((None, 1.0), (1e-6, 0.6), (9.8, None), (5.0, 5.0)),
}


def chi_squared(counts: Tensor, expected: Tensor | float) -> float:
    """Standard deviations by which counts differ from what is expected more than chance would have them."""
    degrees = len(counts) - 1
    total = float(((counts - expected).square() / expected).sum())
    return (total - degrees) / math.sqrt(max(1, 2 * degrees))


def test_pairs_are_uniform_within_the_bounds(group: Group) -> None:
    """g1 is uniform over the elements that have a partner within the bounds, g2 over the partners of g1: nothing is
    thrown away and drawn again.
    """
    for low, high in BALLS[group.geometry.name]:
        draw = pair_draw(group, numbers(MANY), 1, high, low)
        apart = group.distance(draw.g1, draw.g2)
        assert apart.min() >= (low or 0.0) - 1e-9
        assert apart.max() <= (apart.max() if high is None else high + 1e-9)
        g = torch.arange(group.order)
        table = group.distance(g[:, None], g)
        within = (table >= (low or 0.0) - 1e-9) & (table <= (torch.inf if high is None else high + 1e-9))
        paired = within.any(1)
        counts = torch.bincount(draw.g1, minlength=group.order).double()
        assert (counts[~paired] == 0).all()
        assert chi_squared(counts[paired], MANY / int(paired.sum())) < 6
        share = within.double() / within.sum(1, keepdim=True).clamp_min(1)  # of each g2, given g1
        met = torch.zeros_like(share).index_put_((draw.g1, draw.g2), torch.ones(MANY).double(), accumulate=True)
        assert (met[~within] == 0).all()
        expected = (counts[:, None] * share)[within]
        assert chi_squared(met[within], expected.clamp_min(1e-9)) < 6
        middle = int(g[paired][int(paired.sum()) // 2])
        if counts[middle] > 30 * within[middle].sum():
            assert set(draw.g2[draw.g1 == middle].tolist()) == set(g[within[middle]].tolist())


def test_an_exact_shell_is_one_distance(group: Group) -> None:
    for distance in group.geometry.distances()[:: max(1, len(group.geometry.distances()) // 6)]:
        draw = pair_draw(group, numbers(200), 1, distance, distance)
        assert (group.distance(draw.g1, draw.g2) - distance).abs().max() < 1e-9
        if distance > 0:
            assert (draw.g1 != draw.g2).all()  # reading A9's "exclude identical"


def test_a_shell_holds_between_bases_too() -> None:
    """Bases of three scales have four places; the two in the middle have no partner at the largest distance."""
    group = Scale(geometry.scale())
    draw = pair_draw(group, numbers(500), 3, None, 0.4)
    assert {(int(a), int(b)) for a, b in zip(draw.g1, draw.g2, strict=True)} == {(0, 3), (3, 0)}
    with pytest.raises(ValueError, match="no two elements of scale are at least"):
        pair_draw(group, numbers(2), 3, None, 0.5)


def test_without_a_bound_partners_are_independent(group: Group) -> None:
    draw = pair_draw(group, numbers(MANY), 1, None)
    same = (draw.g1 == draw.g2).double().mean().item()
    assert same == pytest.approx(1 / group.order, abs=5 * (group.order * MANY) ** -0.5)
    zero = pair_draw(group, numbers(MANY), 1, None, 0.0)
    assert torch.equal(draw.g1, zero.g1) and torch.equal(draw.g2, zero.g2)


DRAWN = {  # g0, g1, g2; g1 and g2 within 1; the augmentation's first parameters
    "rotation": (([2, 2, 1, 0], [1, 0, 0, 1], [0, 2, 1, 2]), ([1, 0, 0, 1], [0, 1, 0, 2]), [1.0, 0.0]),
    "scale": (
        ([0, 0, 0, 0], [1, 0, 1, 1], [1, 3, 1, 4]),
        ([1, 0, 1, 1], [1, 3, 1, 4]),
        [0.682962616165687, 0.6712242512419296],
    ),
    "translation": (
        ([0, 0, 0, 0], [16, 1, 14, 16], [11, 35, 17, 45]),
        ([16, 1, 14, 16], [8, 2, 13, 17]),
        [-3.0, -3.0],
    ),
}


def test_draws_are_pinned(group: Group) -> None:
    """A change here would change every trial that was ever run. Columns for products were added behind the others,
    which keep their values.
    """
    u = uniforms(7, 2, Stream.PAIRS, torch.arange(4), DRAW_COLUMNS)
    assert torch.equal(u[:, :5], uniforms(7, 2, Stream.PAIRS, torch.arange(4), 5))
    if group.geometry.name in DRAWN:
        free, near, augmented = DRAWN[group.geometry.name]
        draw, bounded = pair_draw(group, u), pair_draw(group, u, 1, 1.0)
        assert (draw.g0.tolist(), draw.g1.tolist(), draw.g2.tolist()) == free
        assert (bounded.g1.tolist(), bounded.g2.tolist()) == near
        paper = augmentation_draw(group, u)
        assert [paper.g1.flatten()[0].item(), paper.g2.flatten()[0].item()] == pytest.approx(augmented, abs=1e-15)


def test_negative_distances_are_refused(group: Group) -> None:
    with pytest.raises(ValueError, match="max_distance: must be at least 0"):
        pair_draw(group, numbers(2), 1, -1.0)
    with pytest.raises(ValueError, match="min_distance: must be at least 0"):
        pair_draw(group, numbers(2), 1, None, -1.0)


def test_augmentation_draws_share_the_base(group: Group) -> None:
    draw = augmentation_draw(group, numbers(MANY), 1)
    assert set(draw.g0.tolist()) == set(range(group.order))
    assert not torch.equal(draw.g1, draw.g2)
    first, second = (g.double().view(MANY, -1) for g in (draw.g1, draw.g2))
    assert len(first) == len(second) == MANY
    parameters = torch.corrcoef(torch.cat([draw.g0.double()[:, None], first, second], dim=1).T)
    assert (parameters - torch.eye(len(parameters))).abs().max() < 0.04  # every one is drawn by itself


def test_draws_are_the_same_however_the_batch_is_split(group: Group) -> None:
    u = numbers(64)
    draws: list[Callable[[Tensor], Draw]] = [
        lambda v: pair_draw(group, v, 1, 1.0),
        lambda v: augmentation_draw(group, v),
    ]
    for draw_of in draws:
        whole, parts = draw_of(u), [draw_of(part) for part in torch.split(u, 13)]
        for field in ("g0", "g1", "g2"):
            assert torch.equal(getattr(whole, field), torch.cat([getattr(part, field) for part in parts]))
