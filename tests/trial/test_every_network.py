"""One training step of every network under every method: who learns and who does not, in float32 and bfloat16."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hssl_ray.method.networks import build_network
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.optim import build_optimizer
from hssl_ray.trial.task import Task

RESNET20: dict[str, Any] = {"dataset": "cifar10", "backbone": "resnet20", "width": 0.03125, "image_size": 17}
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet20, rotation": {**RESNET20, "group": "rotation"},
    "resnet20, translation": {**RESNET20, "group": "translation", "image_size": 25, "base_size": 4},
    "resnet20 without structure": {**RESNET20, "group": "scale", "structure": "none", "learning_rate": 0.001},
    "resnet18, mixing": {
        "dataset": "tiny-imagenet",
        "backbone": "resnet18",
        "group": "scale",
        "width": 0.03125,
        "image_size": 17,
        "mixing": 2,
    },
    "mnist_cnn without structure": {"group": "scale", "structure": "none", "width": 0.125, "base_size": 2},
    "mlp": {"backbone": "mlp", "group": "translation", "structure": "none", "width": 0.125},
}
IMAGES = 8


def task_of(name: str, **changes: object) -> Task:
    config = TrialConfig.model_validate({"learning_rate": 0.01, **NETWORKS[name], **changes})
    return Task(build_network(config), config).train()


def take_step(task: Task, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The loss of one step on noise, its gradients left in the weights."""
    config = task.config
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(IMAGES, config.data.channels, config.grid, config.grid, generator=generator)
    labels = torch.arange(IMAGES) % config.data.classes
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss: torch.Tensor = task(x, labels, task.draw(0, torch.arange(IMAGES))).total
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


@pytest.mark.parametrize("method", ["a_ssl", "h_ssl", "frozen", "supervised"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_method_trains_on_every_network(name: str, method: str) -> None:
    task = task_of(name, method=method)
    assert take_step(task).isfinite()
    trained = {part: False for part in ("backbone", "projection_head", "probe")}
    for weight_name, weight in task.network.named_parameters():
        trained[weight_name.split(".")[0]] |= weight.grad is not None
    self_supervised = method in ("a_ssl", "h_ssl")
    assert trained == {
        "backbone": method != "frozen",
        "projection_head": self_supervised,
        "probe": True,
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns_the_batch(name: str) -> None:
    """Ten steps on the same labels: the supervised loss falls well below its start."""
    task = task_of(name, method="supervised", optimizer="adamw")
    optimizer = build_optimizer(task.network, task.network.probe, task.config)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        losses.append(take_step(task).item())
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_is_close_on_every_network(name: str) -> None:
    """The supervised loss; self-supervised ones at temperature 0.1 magnify rounding by ten."""
    expected, found = (
        take_step(task_of(name, method="supervised"), dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    assert found.dtype == torch.float32
    assert (found - expected).abs() < 0.03 * expected
    assert found != expected  # bfloat16 was really used
