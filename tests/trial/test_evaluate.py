"""What is measured when, the same on two ranks as on one, and what the map's probe reads."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from hssl_ray.method.networks import Network, build_network
from hssl_ray.study.metrics import EPOCH_METRICS, METRICS, TABLES
from hssl_ray.trial import data as trial_data
from hssl_ray.trial import evaluate as evaluation
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import Images, open_trial_data
from hssl_ray.trial.evaluate import (
    LARGEST_MAP,
    evaluate,
    evaluation_batch,
    measure_start,
    readable_map,
)
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.task import Task

PAIRED = {"eval/loss_a_ssl", "eval/loss_h_ssl", "eval/loss_gap", "eval/alignment", "eval/uniformity"}


def config(**changes: object) -> TrialConfig:
    fields = {"width": 0.125, "epochs": 6, "warmup_epochs": 0, "batch_size": 21, "train_images": 100}
    return TrialConfig.model_validate({**fields, "precision": "fp32", "image_size": 28, **changes})


def measured(trial: TrialConfig, epoch: int, ranks: Ranks | None = None) -> dict[str, float]:
    task = Task(build_network(trial), trial)
    return evaluate(task, open_trial_data(trial, torch.device("cpu")), ranks or Ranks(0, 1), epoch)


@pytest.fixture(autouse=True)
def _few_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer(monkeypatch)


def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Images.__len__
    monkeypatch.setattr(trial_data.Images, "__len__", lambda images: min(151, whole(images)))


def maps_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "LARGEST_MAP", 64)
    monkeypatch.setattr(evaluation, "HELD_MAPS", 0)


def plain(metrics: dict[str, float]) -> set[str]:
    return {name for name in metrics if not name.startswith(TABLES)}


@pytest.mark.parametrize("method", ["a_ssl", "h_ssl", "frozen", "supervised"])
def test_every_metric_a_study_may_name_is_measured(method: str) -> None:
    """Of methods without pairs, those that are not about pairs; the final ones at the last epoch alone."""
    trial = config(method=method)
    of_loop = {name for name in METRICS if name.startswith(("train/", "perf/"))}
    absent = set() if method.endswith("ssl") else PAIRED
    assert plain(measured(trial, 6)) == set(METRICS) - of_loop - absent
    assert plain(measured(trial, 5)) == set(EPOCH_METRICS) - of_loop - absent


def test_tables_come_at_powers_of_two_at_the_last_epoch_and_before_the_first_step() -> None:
    trial = config()
    expected = {f"equivariance/stage{s}/g{g}/{r}" for s in (1, 2, 3) for g in (1, 2, 3) for r in ("map", "pooled")}
    for epoch in range(1, 7):
        tables = {name for name in measured(trial, epoch) if name.startswith(TABLES)}
        assert tables == (expected if epoch in (1, 2, 4, 6) else set())
    start = measure_start(build_network(trial), open_trial_data(trial, torch.device("cpu")))
    assert {name.replace("start/", "") for name in start} == expected | {"equivariance/map", "equivariance/pooled"}


def _rank(rank: int, world: int, root: str) -> None:
    os.environ["HSSL_HOME"] = f"{root}/home"
    torch.set_num_threads(1)
    fewer(pytest.MonkeyPatch())
    dist.init_process_group("gloo", init_method=f"file://{root}/rendezvous", rank=rank, world_size=world)
    try:
        found = {name: measured(config(**CASES[name]), 6, Ranks.here()) for name in CASES}
        with pytest.MonkeyPatch.context() as patch:
            maps_are_not_held(patch)
            found["maps not held"] = measured(config(), 6, Ranks.here())
        Path(root, f"{rank}.json").write_text(json.dumps(found))
    finally:
        dist.destroy_process_group()


CASES: dict[str, dict[str, object]] = {
    "h_ssl": {},
    "a_ssl on scale": {"method": "a_ssl", "group": "scale", "objective": "nt_xent"},
    "half precision": {"precision": "bf16"},
}


def test_two_ranks_measure_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every metric, although two ranks share neither 151 images nor a batch of 21 evenly."""
    spawn(_rank, args=(2, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    first, last = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == last, "ranks report the same, bit for bit"
    for name in ("h_ssl", "a_ssl on scale"):  # half a precision is not the same on other shares
        assert first[name] == pytest.approx(measured(config(**CASES[name]), 6), rel=1e-5, abs=1e-6), name
    maps_are_not_held(monkeypatch)
    assert first["maps not held"] == pytest.approx(measured(config(), 6), rel=1e-5, abs=1e-6)


def test_a_collapsed_network_is_measured_too() -> None:
    """All images at one point: probes guess, nothing is spread, nothing fails."""
    trial = config(epochs=1)
    task = Task(build_network(trial), trial)
    with torch.no_grad():
        task.network.backbone.stages[-1][1].weight.zero_()  # type: ignore[index]
    found = evaluate(task, open_trial_data(trial, torch.device("cpu")), Ranks(0, 1), 1)
    assert found["eval/effective_rank"] == found["eval/feature_std"] == 0
    assert found["eval/uniformity"] == found["eval/alignment"] == 0
    assert math.isnan(found["eval/equivariance_error"])
    assert all(value < 0.2 for name, value in found.items() if name.startswith("probe/"))


def test_a_map_too_large_for_the_ridge_probe_is_averaged_to_the_finest_grid_that_is_not() -> None:
    z = torch.randn(2, 512, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    read = readable_map(z)
    assert read.shape == (2, 512 * 4 * 4) and read.shape[1] <= LARGEST_MAP < 512 * 5 * 5
    torch.testing.assert_close(read.view(2, 512, 4, 4)[:, :, 1, 2], z.amax(2)[:, :, 2:4, 4:6].mean((2, 3)))
    small = z[:, :100]
    assert torch.equal(readable_map(small), small.amax(2).flatten(1))


def test_a_batch_to_evaluate_fits_the_network() -> None:
    """So many numbers of the largest map, whatever the network: on a GPU all of MNIST's 1,024, fewer of a ResNet's; on
    a processor, where a batch is no faster for being large, fewer still.
    """
    small, large = TrialConfig(group="scale"), TrialConfig(group="scale", dataset="cifar10", backbone="resnet20")
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert evaluation_batch(small.architecture, small.grid, gpu) == 1024
    for device, most in ((gpu, 2**28), (cpu, 2**23)):
        batch = evaluation_batch(large.architecture, large.grid, device)
        assert batch * 6 * 128 * 33**2 <= most < (batch + 1) * 6 * 128 * 33**2
    assert 10 <= evaluation_batch(large.architecture, large.grid, cpu) < 20


def test_a_training_set_whose_maps_are_not_held_goes_through_the_network_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """And every metric is the same; nothing is held back where there are fewer images than numbers of a map."""
    trial = config()
    passes: list[int] = []
    monkeypatch.setattr(evaluation, "LARGEST_MAP", 64)  # fewer than images, unlike the network's own 1,024
    batches = evaluation._maps

    def counted(network: Network, images: Images, ranks: Ranks) -> Iterator[tuple[Tensor, Tensor]]:
        passes.append(len(images))
        yield from batches(network, images, ranks)

    monkeypatch.setattr(evaluation, "_maps", counted)
    held = measured(trial, 6)
    assert passes == [100, 151]
    monkeypatch.setattr(evaluation, "HELD_MAPS", 0)
    passes.clear()
    assert measured(trial, 6) == pytest.approx(held, rel=1e-9)
    assert passes == [100, 100, 151]
    monkeypatch.setattr(evaluation, "LARGEST_MAP", 144)
    passes.clear()
    measured(trial, 6)
    assert passes == [100, 151]
