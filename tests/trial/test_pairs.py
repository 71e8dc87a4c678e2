"""A-SSL and H-SSL on one batch and one draw: the same loss on an exact grid, another one elsewhere."""

import pytest
import torch

from hssl_ray.method.draws import DRAW_COLUMNS, Stream, pair_draw, uniforms
from hssl_ray.method.networks import build_network
from hssl_ray.method.objectives import info_nce
from hssl_ray.method.views import a_ssl_views, h_ssl_views
from hssl_ray.trial.collapse import alignment
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import TrialData, open_trial_data
from hssl_ray.trial.pairs import pair_metrics
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.task import Task

ALONE = Ranks(0, 1)


def prepared(**changes: object) -> tuple[Task, TrialData]:
    fields = {"width": 0.125, "epochs": 1, "warmup_epochs": 0, "batch_size": 24, "train_images": 100, **changes}
    config = TrialConfig.model_validate(fields)
    return Task(build_network(config), config), open_trial_data(config, torch.device("cpu"))


def measured(**changes: object) -> dict[str, float]:
    task, data = prepared(**changes)
    return pair_metrics(task, data.test, ALONE)


@pytest.mark.parametrize("objective", ["info_nce", "nt_xent"])
def test_the_gap_is_zero_on_an_exact_grid_and_not_on_an_even_one(objective: str) -> None:
    exact, even = (measured(objective=objective, image_size=size) for size in (29, 28))
    assert exact["eval/loss_gap"] < 1e-5 * abs(exact["eval/loss_h_ssl"])
    assert even["eval/loss_gap"] > 1e-3
    assert even["eval/loss_gap"] == abs(even["eval/loss_a_ssl"] - even["eval/loss_h_ssl"])


@pytest.mark.parametrize("group", ["rotation", "scale", "translation"])
@pytest.mark.parametrize("base_size", [1, 4])
def test_the_losses_are_eq_5_and_eq_7_on_the_same_draw(group: str, base_size: int) -> None:
    if group == "rotation" and base_size == 4:
        base_size = 3
    task, data = prepared(group=group, base_size=base_size, seed=3)
    found = pair_metrics(task, data.test, ALONE)
    net, indices = task.network, torch.arange(24) * len(data.test) // 24
    draw = pair_draw(net.group, uniforms(3, 0, Stream.DIAGNOSTICS, indices, DRAW_COLUMNS), base_size)
    x = data.test.take(indices).images
    assert not net.training
    with torch.no_grad():
        for name, views in (("a_ssl", a_ssl_views), ("h_ssl", h_ssl_views)):
            h1, h2 = (net.projection_head(v) for v in views(net.backbone, x, net.group, draw, base_size))
            assert found[f"eval/loss_{name}"] == pytest.approx(info_nce(h1, h2, 0.1).item(), rel=1e-5)
    assert found["eval/alignment"] == pytest.approx(alignment(h1, h2), rel=1e-4)  # the method is H-SSL


def test_the_batch_and_the_draw_are_the_seed_s_and_the_same_every_time() -> None:
    """Draws of training are others, so that the loss is of pairs never trained on; another seed draws others."""
    task, data = prepared()
    assert pair_metrics(task, data.test, ALONE) == pair_metrics(task, data.test, ALONE)
    indices = torch.arange(24)
    mine = uniforms(0, 0, Stream.DIAGNOSTICS, indices, 3)
    assert not torch.equal(mine, uniforms(0, 0, Stream.PAIRS, indices, 3))
    assert not torch.equal(mine, uniforms(1, 0, Stream.DIAGNOSTICS, indices, 3))


def test_a_ssl_s_own_views_are_measured_where_it_is_the_method() -> None:
    """On an even grid the two methods' pairs differ, so alignment does."""
    a, h = measured(method="a_ssl", image_size=28), measured(method="h_ssl", image_size=28)
    assert a["eval/loss_a_ssl"] == h["eval/loss_a_ssl"]
    assert a["eval/alignment"] != h["eval/alignment"]


def test_images_are_spread_over_the_set() -> None:
    _, data = prepared()
    assert data.test.spread(4).tolist() == [0, 500, 1000, 1500]
    assert data.test.spread(10**6).tolist() == list(range(2000))
