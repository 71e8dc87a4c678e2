"""One process and two ranks compute the same: objectives, BatchNorm, a whole training step, in value and gradient."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import hssl_ray
from tests.method.rank import SPECS

Results = dict[str, Tensor]
SCRIPT = Path(__file__).with_name("rank.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results, Results]:
    """What one process found, and what rank 0 and rank 1 of two found."""
    folder = tmp_path_factory.mktemp("ranks")
    package = str(Path(hssl_ray.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": package, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(SCRIPT), str(rank), str(world_size), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, world_size in ((0, 1), (0, 2), (1, 2))
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in started:
            process.kill()
            process.wait()
    one, first, second = (
        torch.load(folder / f"rank-{name}.pt", weights_only=True) for name in ("0-of-1", "0-of-2", "1-of-2")
    )
    return one, first, second


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> bool:
    return bool((actual - expected).abs().max() <= tolerance * expected.abs().max().clamp_min(1))


CRITERIA = [f"{spec.objective}-{spec.similarity}" for spec in SPECS]


@pytest.mark.parametrize("name", CRITERIA)
def test_objectives_see_every_ranks_images(name: str, ranks: tuple[Results, Results, Results]) -> None:
    """Each rank has the loss of the whole batch; the gradient is ranks times too large, which DDP's mean takes out. So
    is that of what the objective learns.
    """
    one, first, second = ranks
    assert close(first[f"{name}/loss"], one[f"{name}/loss"], 1e-12)
    assert close(second[f"{name}/loss"], one[f"{name}/loss"], 1e-12)
    gathered = torch.cat([first[f"{name}/rows"], second[f"{name}/rows"]]) / 2
    assert close(gathered, one[f"{name}/rows"], 1e-12)
    for field in (key for key in one if key.startswith(f"{name}/learned/")):
        assert close((first[field] + second[field]) / 2, one[field], 1e-12)


def test_every_criterion_that_learns_is_compared(ranks: tuple[Results, Results, Results]) -> None:
    learned = {key.split("/")[0] for key in ranks[0] if "/learned/" in key}
    assert learned == {name for name in CRITERIA if "bilinear" in name or "simsiam" in name}
    halves = (
        ranks[1]["simsiam-cosine/learned/predictor.0.weight"],
        ranks[2]["simsiam-cosine/learned/predictor.0.weight"],
    )
    assert not close(*halves)  # one rank alone has not the gradient of the whole batch


def test_a_layerwise_step_is_that_of_one_process(ranks: tuple[Results, Results, Results]) -> None:
    """Each stage's loss, and the gradient of every weight, heads, criteria and probe with them."""
    one, first, second = ranks
    gradients = [name for name in one if name.startswith("layerwise/same/")]
    assert len(gradients) == 3 * 3 + 3 * (9 + 1) + 3
    for rank in (first, second):
        for name in ("layerwise/loss", *gradients):
            assert close(rank[name], one[name], 1e-12), name


@pytest.mark.parametrize("name", ["maps", "relu", "rows"])
def test_batch_norm_is_that_of_the_whole_batch(name: str, ranks: tuple[Results, Results, Results]) -> None:
    """Values, input gradients, running statistics and (summed) weight gradients, though the shares are uneven."""
    one, first, second = ranks
    assert close(torch.cat([first[f"{name}/rows"], second[f"{name}/rows"]]), one[f"{name}/rows"])
    for field in ("running_mean", "running_var"):
        for rank in (first, second):
            assert close(rank[f"{name}/same/{field}"], one[f"{name}/same/{field}"])
    for field in ("weight", "bias"):
        total = first[f"{name}/sum/{field}"] + second[f"{name}/sum/{field}"]
        assert close(total, one[f"{name}/sum/{field}"])


def test_plain_batch_norm_is_not(ranks: tuple[Results, Results, Results]) -> None:
    """Negative control: torch's own layer, with each rank's own statistics, gives other values."""
    one, first, second = ranks
    apart = torch.cat([first["local/rows"], second["local/rows"]]) - one["local/rows"]
    assert apart.abs().max() > 0.1
    assert not close(first["local/same/running_mean"], one["local/same/running_mean"])


def test_a_training_step_is_that_of_one_process(ranks: tuple[Results, Results, Results]) -> None:
    """Forward, BatchNorm, gathered negatives, backward, DDP: the loss and the gradient of every weight."""
    one, first, second = ranks
    gradients = [name for name in one if name.startswith("step/same/")]
    assert len(gradients) == 3 * 3 + 3 * 3
    for rank in (first, second):
        assert close(rank["step/loss"], one["step/loss"])
        for name in gradients:
            assert close(rank[name], one[name]), name
