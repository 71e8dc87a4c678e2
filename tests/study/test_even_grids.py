"""What a plan says of grids that strided layers cannot keep centred, against networks on such grids."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hssl_ray.method.networks import Network, build_network
from hssl_ray.study.even_grids import MEASURED, expected_error, off_centre
from hssl_ray.study.forecast import forecast
from hssl_ray.study.spec import Study
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import open_trial_data
from hssl_ray.trial.equivariance import equivariance_errors, relative
from hssl_ray.trial.optim import build_optimizer, set_learning_rate
from hssl_ray.trial.task import Task

SMALL = {"width": 0.125, "epochs": 1, "warmup_epochs": 0, "batch_size": 100, "train_images": 600}
DATASETS = {"mnist_cnn": "mnist", "resnet20": "cifar10", "resnet18": "tiny-imagenet"}


def config(**changes: object) -> TrialConfig:
    return TrialConfig.model_validate({"group": "rotation", **SMALL, **changes})


def digits(trial: TrialConfig, count: int = 32) -> Tensor:
    return open_trial_data(trial, torch.device("cpu")).test.take(torch.arange(0, 2000, 2000 // count)[:count]).images


def errors(network: Network, images: Tensor) -> tuple[float, float]:
    """Eq. 1 over the quarter turns, on the map and after the spatial mean."""
    return relative(equivariance_errors(network, images, every_stage=False))


@pytest.mark.parametrize("backbone", DATASETS)
def test_off_centre_is_zero_on_exact_grids_alone_and_measured_elsewhere(backbone: str) -> None:
    architecture = config(backbone=backbone, dataset=DATASETS[backbone]).architecture
    away = {size: off_centre(architecture, size) for size in range(24, 100)}
    assert {size for size in away if away[size] == 0} == {size for size in away if architecture.is_exact(size)}
    assert set(away.values()) - {0} == set(MEASURED[backbone])


def test_the_centre_of_the_map_is_where_it_is_said_to_be() -> None:
    """28 cells: a map of 14 samples pixels 0 to 26, one of 7 then 0 to 24, whose centre is 12 and not 13.5."""
    architecture = config().architecture
    assert [off_centre(architecture, size) for size in (28, 29, 30, 31)] == [1.5, 0, 0.5, 1]


@pytest.mark.parametrize("group", ["rotation8", "dihedral", "rotation_translation"])
def test_every_group_with_quarter_turns_is_warned(group: str) -> None:
    assert expected_error(config(group=group, image_size=28)) == expected_error(config(image_size=28))


@pytest.mark.parametrize("size", [28, 30, 31])
def test_a_network_without_training_errs_as_the_plan_says(size: int) -> None:
    trial = config(image_size=size)
    said = expected_error(trial)
    assert said is not None
    on_map, pooled = errors(build_network(trial), digits(trial))
    assert on_map == pytest.approx(said.on_map, rel=0.15)
    assert said.pooled / 2 < pooled < 2 * said.pooled


def test_a_trained_network_errs_as_the_plan_says() -> None:
    trial = config(image_size=28, optimizer="adamw", learning_rate=0.003)
    said = expected_error(trial)
    assert said is not None
    network, images = build_network(trial), digits(trial)
    before = network.features(network.eval()(images))
    _train(network, trial, steps=10)
    after = network.features(network.eval()(images))
    assert (after - before).norm() > 0.2 * before.norm()  # it is another network by now
    on_map, pooled = errors(network, images)
    assert said.on_map / 1.5 < on_map < 1.5 * said.on_map
    assert said.pooled / 3 < pooled < 3 * said.pooled


def _train(network: Network, trial: TrialConfig, steps: int) -> None:
    task, data = Task(network, trial).train(), open_trial_data(trial, torch.device("cpu")).train
    optimizer = build_optimizer(network, network.probe, trial)
    set_learning_rate(optimizer, trial.learning_rate)
    for step in range(steps):
        batch = data.take(torch.arange(40) + 40 * step)
        optimizer.zero_grad()
        task(batch.images, batch.labels, task.draw(0, batch.indices)).total.backward()
        optimizer.step()


def test_a_resnet_errs_as_the_plan_says() -> None:
    trial = config(backbone="resnet20", dataset="cifar10", width=0.03, image_size=32)
    said = expected_error(trial)
    assert said is not None
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    on_map, pooled = errors(build_network(trial), noise)
    assert said.on_map / 1.5 < on_map < 1.5 * said.on_map
    assert said.pooled / 3 < pooled < 3 * said.pooled


@pytest.mark.parametrize("size", [29, 33])
def test_an_exact_grid_has_neither_error_nor_warning(size: int) -> None:
    """Negative control."""
    trial = config(image_size=size)
    assert expected_error(trial) is None
    assert max(errors(build_network(trial), digits(trial))) < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"group": "scale"},
        {"group": "translation"},
        {"group": "scale_translation"},
        {"backbone": "resnet20", "dataset": "cifar10", "image_size": 32, "structure": "none"},
    ],
)
def test_what_never_commutes_with_quarter_turns_expects_nothing_of_them(changes: dict[str, object]) -> None:
    assert expected_error(config(**{"image_size": 28, **changes})) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_size": 28}, "off by about 0.91 of the feature map's norm, 0.08 after pooling"),
        ({"image_size": 30}, "off by about 0.54 of the feature map's norm, 0.08 after pooling"),
        ({"backbone": "resnet20", "dataset": "cifar10", "image_size": 32}, "off by about 0.78 of"),
        ({"backbone": "resnet18", "dataset": "tiny-imagenet", "image_size": 64}, "off by about 0.90 of"),
    ],
)
def test_the_warning_has_the_number(changes: dict[str, object], says: str) -> None:
    base = {"group": "rotation", **SMALL, **changes}
    study = Study.model_validate({"study": "s", "base": base, "grid": {"method": ["a_ssl", "h_ssl"]}, "seeds": 3})
    (warning,) = forecast(study).warnings
    assert says in warning
    del base["image_size"]
    assert forecast(Study.model_validate({**study.model_dump(), "base": base})).warnings == []
