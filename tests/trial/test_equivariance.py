"""Eq. 1's error by stage and element: zero where the theory says so, on every stage's own grid, and not elsewhere."""

import math

import pytest
import torch
from torch import Tensor

from hssl_ray.method.groups import Group
from hssl_ray.method.networks import Network, build_network
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.equivariance import Error, equivariance_errors, relative, table


def network(group: str, **changes: object) -> Network:
    return build_network(TrialConfig.model_validate({"group": group, "width": 0.125, **changes}))


def noise(size: int, count: int = 4) -> Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(0))


def test_rotation_is_exact_at_every_stage_and_element_of_an_odd_grid_alone() -> None:
    exact = equivariance_errors(network("rotation"), noise(29), every_stage=True)
    assert [(e.stage, e.element) for e in exact] == [(s, g) for g in (1, 2, 3) for s in (1, 2, 3)]
    assert max(max(e.on_map, e.pooled) for e in exact) < 1e-5
    even = {
        (e.stage, e.element): e
        for e in equivariance_errors(network("rotation", image_size=28), noise(28), every_stage=True)
    }
    assert even[1, 1].on_map < 1e-5, "nothing is strided yet"
    assert all(even[stage, g].on_map > 0.1 and even[stage, g].pooled > 0.005 for stage in (2, 3) for g in (1, 2, 3))
    assert all(e.pooled < e.on_map for e in even.values() if e.stage > 1)


def test_translation_is_exact_on_every_stage_s_own_grid_while_nothing_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cell of the last grid is 2 cells of the second stage's and 4 of the first's. Taking it for one cell everywhere
    (negative control) is right at the last stage alone.
    """
    net, x = network("translation", image_size=61), torch.zeros(2, 1, 61, 61)
    x[:, :, 29:32, 29:32] = noise(3, 2)

    def one_cell_left() -> dict[int, Error]:
        return {e.stage: e for e in equivariance_errors(net, x, every_stage=True) if e.element == 1}

    assert all(e.on_map < 1e-5 and e.pooled < 1e-5 for e in one_cell_left().values())
    monkeypatch.setattr(type(net.group), "on_finer_grid", lambda group, factor: group)
    wrong = one_cell_left()
    assert wrong[1].on_map > 0.5 and wrong[2].on_map > 0.5 and wrong[3].on_map < 1e-5


def test_a_translation_that_leaves_nothing_known_is_left_out() -> None:
    """Content in the middle has left the one corner that a shift by the whole grid still knows."""
    net, x = network("translation", image_size=61), torch.zeros(2, 1, 61, 61)
    x[:, :, 29:32, 29:32] = noise(3, 2)
    found = equivariance_errors(net, x, every_stage=True)
    assert max(e.element for e in found) == net.group.order - 1
    assert not any("g255" in name for name in table(found, "equivariance"))
    assert math.isnan(relative(e for e in found if e.element == 255)[0])


def literal(net: Network, group: Group, x: Tensor, element: int) -> tuple[float, float]:
    """The error of one element on the last map, first lifted element alone, image by image."""
    wrong = norm = wrong_pooled = norm_pooled = 0.0
    g = torch.tensor([element])
    with torch.no_grad():
        for image in x[:, None]:
            there = net.eval()(group.transform_input(g, image))[0, :, 0]
            expected = group.transform_features(g, net(image))[0, :, 0]
            wrong += float(((there - expected) ** 2).sum())
            norm += float((expected**2).sum())
            wrong_pooled += float(((there.mean((1, 2)) - expected.mean((1, 2))) ** 2).sum())
            norm_pooled += float((expected.mean((1, 2)) ** 2).sum())
    return math.sqrt(wrong / norm), math.sqrt(wrong_pooled / norm_pooled)


def test_scale_is_measured_from_the_first_scale_as_a_literal_loop_measures_it() -> None:
    net, x = network("scale"), noise(29)
    found = equivariance_errors(net, x, every_stage=False)
    assert [(e.stage, e.element) for e in found] == [(3, g) for g in (1, 2, 3, 4, 5)]
    for error in found:
        assert (error.on_map, error.pooled) == pytest.approx(literal(net, net.group, x, error.element), rel=1e-4)
    every = equivariance_errors(net, x, every_stage=True)
    assert relative(found) == relative(e for e in every if e.stage == 3)
    assert 0.1 < relative(found)[0] < 2, "approximate at best: noise is the worst case"


def test_names_have_stage_element_and_reading() -> None:
    assert table([Error(2, 3, 1.0, 4.0, 9.0, 16.0), Error(1, 5, 1.0, 0.0, 0.0, 0.0)], "equivariance/start") == {
        "equivariance/start/stage2/g3/map": 0.5,
        "equivariance/start/stage2/g3/pooled": 0.75,
    }
