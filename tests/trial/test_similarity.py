"""CKA and orbit Procrustes: one and zero for the same network however its channels are named, far off for noise."""

import copy
import math

import pytest
import torch
from torch import Tensor

from hssl_ray.method.networks import Network, build_network
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import Images, open_trial_data
from hssl_ray.trial.similarity import linear_cka, orbit_procrustes, orbits, stage_similarities


def prepared(group: str, seed: int = 0, **changes: object) -> tuple[Network, Images]:
    config = TrialConfig.model_validate({"group": group, "width": 0.125, "seed": seed, **changes})
    return build_network(config), open_trial_data(config, torch.device("cpu")).test


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def renamed(network: Network) -> Network:
    """A copy whose second stage gives its channels in reverse order, and whose third stage reads them so."""
    twin = copy.deepcopy(network)
    second, third = twin.backbone.stages[1], twin.backbone.stages[2]
    with torch.no_grad():
        second[0].weight.copy_(second[0].weight.flip(0))  # type: ignore[index]
        third[0].weight.copy_(third[0].weight.flip(1))  # type: ignore[index]
    return twin


@pytest.mark.parametrize("group", ["rotation", "scale", "translation"])
def test_a_network_is_like_itself_and_like_a_copy_with_other_names_for_its_channels(group: str) -> None:
    network, images = prepared(group)
    here = orbits(network, images)
    for other in (network, renamed(network)):
        for stage in stage_similarities(here, orbits(other, images)):
            assert stage.cka == pytest.approx(1, abs=1e-6)
            assert stage.residual < 1e-5


def test_the_copy_has_other_names_indeed() -> None:
    """Negative control: channel by channel the copy is another network in the middle, and the same at the end."""
    network, images = prepared("rotation")
    here, there = orbits(network, images), orbits(renamed(network), images)
    assert not torch.allclose(here[1], there[1], atol=0.1 * float(here[1].std()))
    torch.testing.assert_close(here[2], there[2], rtol=1e-4, atol=1e-5)


def test_networks_of_two_seeds_and_noise_are_not_alike() -> None:
    network, images = prepared("rotation")
    here = orbits(network, images)
    there = orbits(prepared("rotation", seed=1)[0], images)
    for stage in stage_similarities(here, there)[1:]:
        assert stage.cka < 0.999 and stage.residual > 0.05
    for stage in stage_similarities(here, [noise(*z.shape) for z in here]):
        assert abs(stage.cka) < 0.1
        assert stage.residual > 0.9


def test_a_turn_of_the_lifted_axis_is_seen_by_procrustes_and_not_by_cka() -> None:
    """Another element's fibers under the right images: Q may not mix elements, CKA's rotations may."""
    network, images = prepared("scale")
    here = orbits(network, images)[-1]
    moved = here.roll(1, 1)
    assert linear_cka(here.flatten(1), moved.flatten(1)) == pytest.approx(1)
    assert orbit_procrustes(here, moved) > 0.1


def test_procrustes_undoes_a_rotation_of_channels_a_scale_and_a_shift_but_no_shear() -> None:
    z = noise(30, 4, 6)
    turn = torch.linalg.qr(noise(6, 6, seed=1))[0]
    assert orbit_procrustes(z, 3 * z @ turn + 5) < 1e-5
    assert linear_cka(z.flatten(1), (3 * z @ turn + 5).flatten(1)) == pytest.approx(1, abs=1e-5)
    sheared = z @ torch.diag(torch.logspace(0, 2, 6))
    assert orbit_procrustes(z, sheared) == pytest.approx(orbit_procrustes(sheared, z))
    assert orbit_procrustes(z, sheared) > 0.5


def test_procrustes_is_the_least_over_many_rotations_of_two_channels() -> None:
    a, b = (noise(20, 3, 2, seed=seed).double() for seed in (0, 1))
    best = orbit_procrustes(a, b)
    x, y = (z.flatten(0, 1) - z.flatten(0, 1).mean(0) for z in (a, b))
    residuals = []
    for angle in torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64).tolist():
        c, s = math.cos(angle), math.sin(angle)
        for q in ([[c, -s], [s, c]], [[c, s], [s, -c]]):
            turned = x @ torch.tensor(q, dtype=torch.float64)
            scale = max(0.0, float((turned * y).sum() / turned.square().sum()))
            residuals.append(float((scale * turned - y).norm() / y.norm()))
    assert best == pytest.approx(min(residuals), abs=1e-4)
    assert best <= min(residuals) + 1e-12 < max(residuals)


def literal_cka(a: Tensor, b: Tensor) -> float:
    """The unbiased estimator as its sums over distinct images (Song et al. 2012, Eq. 4), for few images."""
    n = len(a)
    k, l = ((z @ z.T).tolist() for z in (a.double(), b.double()))  # noqa: E741

    def hsic(p: list[list[float]], q: list[list[float]]) -> float:
        two = three = four = 0.0
        for i in range(n):
            for j in range(n):
                for r in range(n):
                    for s in range(n):
                        if len({i, j, r, s}) == 4:
                            four += p[i][j] * q[r][s]
                    if len({i, j, r}) == 3:
                        three += p[i][j] * q[i][r]
                if i != j:
                    two += p[i][j] * q[i][j]
        return two / (n * (n - 1)) + four / (n * (n - 1) * (n - 2) * (n - 3)) - 2 * three / (n * (n - 1) * (n - 2))

    return hsic(k, l) / math.sqrt(hsic(k, k) * hsic(l, l))


def test_cka_is_the_sum_over_distinct_images() -> None:
    a = noise(9, 5)
    b = a[:, :3] + 0.5 * noise(9, 3, seed=1)
    assert linear_cka(a, b) == pytest.approx(literal_cka(a, b), rel=1e-9)
    with pytest.raises(ValueError, match="at least 4, got 3"):
        linear_cka(a[:3], b[:3])


def test_cka_of_more_features_than_images_is_not_fooled() -> None:
    """The biased estimator calls two unrelated wide representations alike; this one does not."""
    a, b = noise(40, 4000), noise(40, 4000, seed=1)
    x, y = a - a.mean(0), b - b.mean(0)
    biased = (x @ x.T * (y @ y.T)).sum() / ((x @ x.T).norm() * (y @ y.T).norm())
    assert biased > 0.9
    assert abs(linear_cka(a, b)) < 0.1


def test_dead_stages_have_no_similarity_and_other_shapes_are_refused() -> None:
    dead, alive = torch.ones(10, 4, 3), noise(10, 4, 3)
    (stage,) = stage_similarities([dead], [alive])
    assert math.isnan(stage.cka) and math.isnan(stage.residual)
    with pytest.raises(ValueError, match=r"must have the same shapes, got \[\(10, 4, 3\)\] and \[\(10, 4, 2\)\]"):
        stage_similarities([alive], [alive[:, :, :2]])


def test_an_orbit_is_one_fiber_for_every_element() -> None:
    """Of rotation and scale the pooled fibers that H-SSL reads; of translation every cell of each stage's grid."""
    network, images = prepared("scale")
    last = orbits(network, images)[-1]
    x = images.take(images.spread(len(last))).images
    with torch.no_grad():
        torch.testing.assert_close(last, network.group.fibers(network(x)), rtol=1e-4, atol=1e-5)
    network, images = prepared("translation")
    assert [z.shape[1] for z in orbits(network, images)] == [29 * 29, 15 * 15, 8 * 8]
