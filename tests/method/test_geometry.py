"""Distances on every group: a metric in every choice, invariant where the group is whole; bounds as shells."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch

from hssl_ray.method import geometry
from hssl_ray.method.geometry import METRICS, DistanceMetric, Geometry, GroupName
from hssl_ray.method.groups import Group, build_group, distance_matrix

CHOICES = [(name, metric) for name, metrics in METRICS.items() for metric in metrics]


def built(name: GroupName, metric: DistanceMetric, side: int = 5) -> Geometry:
    return geometry.geometry(name, side, metric)


@pytest.mark.parametrize(("name", "metric"), CHOICES)
def test_every_choice_is_a_metric(name: GroupName, metric: DistanceMetric) -> None:
    space = built(name, metric)
    table = distance_matrix(space)
    assert table.shape == (space.order, space.order)
    assert torch.equal(table, table.T)
    assert ((table == 0) == torch.eye(space.order, dtype=torch.bool)).all()
    assert (table[:, None, :] <= table[:, :, None] + table[None, :, :] + 1e-12).all()
    assert table.max().item() == pytest.approx(space.diameter)
    for g, h in itertools.product(range(0, space.order, max(1, space.order // 20)), repeat=2):
        assert table[g, h].item() == pytest.approx(space.distance(g, h))


@pytest.mark.parametrize(("name", "metric"), CHOICES)
def test_the_distances_that_exist_are_those_of_the_table(name: GroupName, metric: DistanceMetric) -> None:
    """All of them and no others, also between the places where a base of several elements fits."""
    space = built(name, metric)
    group = build_group(name, space, image_size=28, stride=4)
    for base_size in (1, 4) if name == "translation" else (1, 2, 3):
        origins = group.origins(base_size)
        table = group.distances[origins][:, origins].flatten().sort().values
        distinct = table[torch.cat([torch.tensor([True]), table.diff() > 1e-9])]
        assert space.distances(base_size) == pytest.approx(tuple(distinct.tolist()))


def test_distance_of_a_whole_group_stays_under_the_left_product(group: Group) -> None:
    """d(k g, k h) = d(g, h); on D4 the product from the right changes it."""
    if not group.geometry.whole:
        return
    g = torch.arange(group.order)
    k = g[:, None, None]
    table = group.distance(g[:, None], g)
    left = group.distance(group.compose(k, g[:, None]), group.compose(k, g))
    assert torch.equal(left, table.expand_as(left))
    right = group.distance(group.compose(g[:, None], k), group.compose(g, k))
    assert torch.equal(right, table.expand_as(right)) == (group.geometry.name != "dihedral")


def test_dihedral_distance_is_the_word_metric(group: Group) -> None:
    """The fewest single turns and reflections, multiplied from the right, from one element to another."""
    if group.geometry.name != "dihedral":
        return
    steps = (1, 3, 4)
    for start in range(8):
        found, frontier = {start: 0}, [start]
        while frontier:
            here = frontier.pop(0)
            for step in steps:
                there = int(group.compose(torch.tensor(here), torch.tensor(step)))
                if there not in found:
                    found[there] = found[here] + 1
                    frontier.append(there)
        assert {h: group.geometry.distance(start, h) for h in range(8)} == found


@pytest.mark.parametrize(
    ("name", "metric", "g", "h", "expected"),
    [
        ("rotation", "geodesic", 0, 3, 1.0),
        ("rotation8", "geodesic", 1, 6, 3.0),
        ("dihedral", "geodesic", 1, 4 + 3, 3.0),
        ("scale", "log_ratio", 1, 3, math.log(1.5 / 1.25)),
        ("scale", "index", 1, 5, 4.0),
        ("translation", "euclidean", 0, 24, math.sqrt(32)),
        ("translation", "chebyshev", 1, 14, 3.0),
        ("translation", "torus", 0, 24, math.sqrt(2)),
        ("translation", "torus", 0, 12, math.sqrt(8)),
        ("rotation_translation", "euclidean", 25 * 3, 4, math.sqrt(1 + 16)),
        ("rotation_translation", "chebyshev", 25 * 2, 14, math.sqrt(4 + 16)),
        ("scale_translation", "torus", 25 * 5, 4, math.hypot(math.log(1.75), 1)),
    ],
)
def test_distances_by_hand(name: GroupName, metric: DistanceMetric, g: int, h: int, expected: float) -> None:
    """On a grid of 5 x 5 cells."""
    assert built(name, metric).distance(g, h) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("space", "bounds", "says"),
    [
        (geometry.rotation(), (1.2, 1.8), "rotation are from 1.2 to 1.8 apart; the distances are 0, 1, 2"),
        (geometry.scale(), (0.6, None), "at least 0.6 apart; the nearest distances are"),
        (geometry.translation(8), (1.42, 1.43), "the nearest distances are 0, 1, 1.4142135624, 2, 2.2360679775"),
        (geometry.translation(2), (1.1, 1.2), "the distances are 0, 1, 1.4142135624"),
    ],
)
def test_empty_shells_name_the_distances_that_exist(
    space: Geometry, bounds: tuple[float, float | None], says: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        space.check_shell(1, *bounds)


@pytest.mark.parametrize("name", list(METRICS))
def test_every_distance_is_a_shell_and_between_two_is_none(name: GroupName) -> None:
    space = geometry.geometry(name, 8)
    there = space.distances()
    for distance in there:
        space.check_shell(1, round(distance, 10), round(distance, 10))  # as the message prints it
    for low, high in itertools.pairwise(there[:20]):
        if high - low > 1e-6:
            with pytest.raises(ValueError, match="no two elements"):
                space.check_shell(1, low + 1e-7, high - 1e-7)


def test_which_groups_hold_quarter_turns_and_which_are_whole() -> None:
    spaces = {name: geometry.geometry(name, 8) for name in METRICS}
    assert {name for name, space in spaces.items() if space.quarter_turns} == {
        "rotation",
        "rotation8",
        "dihedral",
        "rotation_translation",
    }
    assert {name for name, space in spaces.items() if space.whole} == {"rotation", "rotation8", "dihedral"}
    orders = {name: (space.order, space.lifted_order) for name, space in spaces.items()}
    assert orders == {
        "translation": (64, 1),
        "rotation": (4, 4),
        "scale": (6, 6),
        "rotation8": (8, 8),
        "dihedral": (8, 8),
        "rotation_translation": (256, 4),
        "scale_translation": (384, 6),
    }
    assert all(geometry.lifted_order(name) == lifted for name, (_, lifted) in orders.items())
    with pytest.raises(ValueError, match="must be 4 or 8 turns, got 5"):
        geometry.rotation(5)
