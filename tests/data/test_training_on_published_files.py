"""From CIFAR-10's and Tiny ImageNet's published files to a trained ResNet, all in small."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from hssl_ray.data.catalog import DatasetInfo
from hssl_ray.data.errors import DataError
from hssl_ray.data.pixels import Content
from hssl_ray.data.prepare import prepare
from hssl_ray.trial.checkpoint_files import latest_valid
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.train import train_trial

SMALL: dict[str, object] = {
    "width": 0.03125,
    "epochs": 2,
    "warmup_epochs": 1,
    "learning_rate": 0.003,
    "optimizer": "adamw",
    "precision": "fp32",
}
CIFAR: dict[str, object] = {**SMALL, "dataset": "cifar10", "backbone": "resnet20", "batch_size": 25}
TINY: dict[str, object] = {**SMALL, "dataset": "tiny-imagenet", "backbone": "resnet18", "batch_size": 6}


def trained(config: TrialConfig, workdir: Path) -> list[dict[str, float]]:
    """Every epoch's metrics."""
    told: list[dict[str, float]] = []
    train_trial(config, lambda metrics, committed: told.append(metrics), workdir=workdir)
    assert latest_valid(workdir) is not None
    assert [metrics["epoch"] for metrics in told] == [1.0, 2.0]
    assert all(math.isfinite(value) for metrics in told for value in metrics.values())
    return told


@pytest.fixture
def cifar10_prepared(
    cifar10: DatasetInfo, content: Callable[[DatasetInfo], Content], cifar_folder: Callable[[Content], Path]
) -> None:
    prepare(cifar10, cifar_folder(content(cifar10)))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": "h_ssl", "group": "rotation", "image_size": 17}, id="h_ssl, rotation"),
        pytest.param({"method": "a_ssl", "group": "scale", "image_size": 17}, id="a_ssl, scale, cropped"),
        pytest.param({"method": "h_ssl", "group": "scale", "structure": "none", "image_size": 17}, id="twin"),
    ],
)
def test_cifar10_trains(changes: dict[str, object], cifar10_prepared: None, tmp_path: Path) -> None:
    config = TrialConfig.model_validate({**CIFAR, **changes})
    told = trained(config, tmp_path / "trial")
    if config.group == "rotation":
        assert told[-1]["eval/equivariance_error"] < 1e-4  # an exact grid, after training


def test_tiny_imagenet_trains(tiny_imagenet: DatasetInfo, tiny_folder: Path, tmp_path: Path) -> None:
    prepare(tiny_imagenet, tiny_folder)
    config = TrialConfig.model_validate({**TINY, "method": "a_ssl", "group": "rotation", "image_size": 17})
    resized = TrialConfig.model_validate({**config.model_dump(), "method": "h_ssl", "image_fit": "resize"})
    for name, trial in (("crop", config), ("resize", resized)):
        assert trained(trial, tmp_path / name)[-1]["eval/equivariance_error"] < 1e-4


def test_without_the_files_a_trial_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cifar10"):
        train_trial(TrialConfig.model_validate(CIFAR), lambda metrics, committed: None, workdir=tmp_path)
