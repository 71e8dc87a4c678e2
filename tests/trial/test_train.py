"""The training loop: it learns, resumes exactly, gives the same on several ranks, and says when it diverges."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from hssl_ray.method.networks import build_network
from hssl_ray.trial.checkpoint_files import latest_valid
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import open_trial_data, training_batches
from hssl_ray.trial.endings import TrialDiverged, TrialStopped
from hssl_ray.trial.evaluate import measure_start
from hssl_ray.trial.precision import autocast, loss_scaler
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.task import Task
from hssl_ray.trial.train import train_trial

TINY: dict[str, object] = {
    "dataset": "mnist-mini",
    "train_images": 100,
    "batch_size": 20,
    "width": 0.125,
    "epochs": 3,
    "warmup_epochs": 1,
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "precision": "fp32",
}


def tiny(**changes: object) -> TrialConfig:
    return TrialConfig.model_validate(TINY | changes)


class Recorder:
    """A `report` that keeps what it is told, and can stop the trial after some epochs."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.metrics: list[dict[str, float]] = []
        self.checkpoints: list[Path | None] = []
        self._stop_after = stop_after

    def __call__(self, metrics: dict[str, float], committed: Path | None) -> None:
        self.metrics.append(metrics)
        self.checkpoints.append(committed)
        if len(self.metrics) == self._stop_after:
            raise TrialStopped("enough")


def weights(workdir: Path) -> dict[str, Tensor]:
    path = latest_valid(workdir)
    assert path is not None
    return load_file(path / "weights.safetensors")


@pytest.fixture(autouse=True)
def _few_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate on 200 test images: what is tested here is the loop, not the score."""
    from hssl_ray.trial import data

    whole = data.Images.__len__
    monkeypatch.setattr(data.Images, "__len__", lambda images: min(200, whole(images)))


@pytest.mark.parametrize("method", ["a_ssl", "h_ssl", "frozen", "supervised"])
def test_every_method_trains_and_reports_each_epoch(method: str, tmp_path: Path) -> None:
    told = Recorder()
    train_trial(tiny(method=method), told, workdir=tmp_path, checkpoint_every=2)
    assert [m["epoch"] for m in told.metrics] == [1.0, 2.0, 3.0]
    assert [path is not None for path in told.checkpoints] == [False, True, True]
    every = {
        "train/loss", "train/probe_loss", "train/learning_rate", "probe/top1", "eval/equivariance_error",
        "eval/feature_std", "eval/effective_rank", "perf/images_per_second", "perf/epoch_seconds", "epoch",
    }  # fmt: skip
    assert all(every <= m.keys() for m in told.metrics)
    assert all(0 < m["perf/evaluation_seconds"] < m["perf/epoch_seconds"] for m in told.metrics)
    starts = [any(name.startswith("equivariance/start/") for name in m) for m in told.metrics]
    assert starts == [True, False, False], "measured before the first step, reported with the first epoch"
    assert "probe/ridge_top1" in told.metrics[-1] and "probe/ridge_top1" not in told.metrics[0]
    assert told.metrics[-1]["train/loss"] < told.metrics[0]["train/loss"]


def test_rotation_equivariance_stays_exact_through_training(tmp_path: Path) -> None:
    """A grid of 29 keeps Eq. 1 to rounding, and A-SSL's loss equal to H-SSL's; 28 does neither (negative control)."""
    errors, gaps = {}, {}
    for size in (29, 28):
        told = Recorder()
        train_trial(tiny(epochs=2, image_size=size), told, workdir=tmp_path / str(size))
        errors[size] = told.metrics[-1]["eval/equivariance_error"]
        gaps[size] = told.metrics[-1]["eval/loss_gap"]
    assert errors[29] < 1e-5 < 0.05 < errors[28]
    assert gaps[29] < 1e-4 < 1e-3 < gaps[28]


def test_the_start_is_measured_before_the_first_step(tmp_path: Path) -> None:
    """What is reported as the start is the untrained network's error; after an epoch it is another."""
    config, told = tiny(epochs=1, image_size=28, method="a_ssl"), Recorder()
    train_trial(config, told, workdir=tmp_path)
    data = open_trial_data(config, torch.device("cpu"))
    expected = measure_start(build_network(config), data)
    assert {name: told.metrics[0][name] for name in expected} == expected
    assert told.metrics[0]["eval/equivariance_error"] != expected["equivariance/start/map"]


def test_frozen_is_frozen(tmp_path: Path) -> None:
    config = tiny(method="frozen", epochs=1)
    start = {name: value.clone() for name, value in build_network(config).named_parameters()}
    train_trial(config, Recorder(), workdir=tmp_path)
    after = weights(tmp_path)
    assert all(torch.equal(after[name], start[name]) for name in start if not name.startswith("probe"))
    assert any(not torch.equal(after[name], start[name]) for name in start if name.startswith("probe"))


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
@pytest.mark.parametrize("method", ["a_ssl", "h_ssl"])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(method: str, optimizer: str, tmp_path: Path) -> None:
    config = tiny(method=method, optimizer=optimizer, learning_rate=0.01)
    whole, first, second = Recorder(), Recorder(stop_after=2), Recorder()
    train_trial(config, whole, workdir=tmp_path / "whole", checkpoint_every=1)
    with pytest.raises(TrialStopped):
        train_trial(config, first, workdir=tmp_path / "cut", checkpoint_every=1)
    train_trial(config, second, latest_valid(tmp_path / "cut"), workdir=tmp_path / "cut", checkpoint_every=1)
    pieces = first.metrics + second.metrics
    for ours, theirs in zip(whole.metrics, pieces, strict=True):
        assert {k: v for k, v in ours.items() if not k.startswith("perf/")} == {
            k: v for k, v in theirs.items() if not k.startswith("perf/")
        }
    expected, got = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_another_seed_is_another_trial(tmp_path: Path) -> None:
    """Negative control of the test above: equality is not for free."""
    one, two = Recorder(), Recorder()
    train_trial(tiny(epochs=1, seed=0), one, workdir=tmp_path / "0")
    train_trial(tiny(epochs=1, seed=1), two, workdir=tmp_path / "1")
    assert one.metrics[0]["train/loss"] != two.metrics[0]["train/loss"]


def test_a_loss_that_is_no_number_ends_the_trial(tmp_path: Path) -> None:
    told = Recorder()
    with pytest.raises(TrialDiverged, match=r"epoch 1, step \d: train/loss must stay finite, got (nan|inf)"):
        train_trial(tiny(learning_rate=1e30, warmup_epochs=0), told, workdir=tmp_path)
    assert told.metrics == [] and latest_valid(tmp_path) is None


def test_half_precision_takes_the_step_that_float32_does() -> None:
    """Reading A21: the gradient of a step, with float16's loss scaled and scaled back. A contrast of 20 images at a
    temperature of 0.1 magnifies rounding; bfloat16, with 3 bits less, is further off.
    """
    whole = first_gradient(tiny())
    away = {p: (first_gradient(tiny(precision=p)) - whole).norm() / whole.norm() for p in ("bf16", "fp16")}
    assert 0 < away["fp16"] < 0.15
    assert away["fp16"] < away["bf16"] < 0.3


def first_gradient(config: TrialConfig) -> Tensor:
    """All gradients of the first training step as one vector."""
    device = torch.device("cpu")
    task, scaler = Task(build_network(config), config), loss_scaler(config, device)
    batch = next(training_batches(open_trial_data(config, device).train, config, 0, Ranks.here()))
    with autocast(config, device):
        losses = task(batch.images, batch.labels, task.draw(0, batch.indices))
    scaler.scale(losses.total).backward()
    scale = scaler.get_scale() if scaler.is_enabled() else 1.0
    return torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None]) / scale


def test_float16_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """The loss scale goes on where it was."""
    config = tiny(precision="fp16")
    train_trial(config, Recorder(), workdir=tmp_path / "whole")
    stopped = Recorder(stop_after=1)
    with pytest.raises(TrialStopped):
        train_trial(config, stopped, workdir=tmp_path / "parts", checkpoint_every=1)
    train_trial(config, Recorder(), stopped.checkpoints[-1], workdir=tmp_path / "parts")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_the_classifier_sees_changes_its_loss_and_not_the_pairs(tmp_path: Path) -> None:
    """Reading A17: the untransformed images are classified instead of the first view's, which are harder."""
    view, clean = Recorder(), Recorder()
    trial = {"method": "a_ssl", "group": "translation", "train_images": 200, "epochs": 1}
    train_trial(tiny(**trial), view, workdir=tmp_path / "view")
    train_trial(tiny(**trial, probe_images="clean"), clean, workdir=tmp_path / "clean")
    assert clean.metrics[0]["train/loss"] == view.metrics[0]["train/loss"]
    assert clean.metrics[0]["train/probe_loss"] < view.metrics[0]["train/probe_loss"]


def test_a_frozen_backbones_statistics_follow_the_data_or_stay(tmp_path: Path) -> None:
    """Reading A18."""
    start = build_network(tiny(method="frozen")).state_dict()
    for norm, moved in (("data", True), ("initial", False)):
        train_trial(tiny(method="frozen", frozen_norm=norm, epochs=1), Recorder(), workdir=tmp_path / norm)
        found = weights(tmp_path / norm)
        running = [name for name in found if name.startswith("backbone") and "running" in name]
        assert running and all(torch.equal(found[name], start[name]) != moved for name in running)


TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}  # of the whole gradient, relative to its length


def first_step(config: TrialConfig, dtype: torch.dtype) -> dict[str, Tensor]:
    """Loss and gradients of the first training step, as this rank has them after the backward pass."""
    ranks = Ranks.here()
    data = open_trial_data(config, torch.device("cpu"))
    task = Task(build_network(config), config).to(dtype)
    step: nn.Module = task if ranks.world_size == 1 else DistributedDataParallel(task, forward_sync_buffers=False)
    batch = next(training_batches(data.train, config, 0, ranks))
    losses = step(batch.images.to(dtype), batch.labels, task.draw(0, batch.indices))
    losses.total.backward()
    gradients = {f"gradient {name}": p.grad for name, p in task.named_parameters() if p.grad is not None}
    running = {f"running {name}": value for name, value in task.named_buffers() if "running" in name}
    return gradients | running | {"loss": ranks.total(losses.total.detach()).view(1) / ranks.world_size}


def _two_ranks(rank: int, world: int, root: str, config: TrialConfig) -> None:
    os.environ["HSSL_HOME"] = f"{root}/home"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{root}/rendezvous", rank=rank, world_size=world)
    try:
        for dtype in TOLERANCES:
            found = first_step(config, dtype)
            if rank == 0:
                save_file({name: value.contiguous() for name, value in found.items()}, f"{root}/{dtype}.safetensors")
        train_trial(config, Recorder(), workdir=Path(root) / "ranks")
    finally:
        dist.destroy_process_group()


SHARED: dict[str, dict[str, object]] = {
    "A-SSL": {"method": "a_ssl"},
    "H-SSL": {"method": "h_ssl"},
    "supervised": {"method": "supervised"},
    "layerwise": {"method": "h_ssl", "layerwise": True},
    "ResNet": {"method": "h_ssl", "backbone": "resnet20", "width": 1 / 32, "image_size": 17},
    "without structure": {"method": "a_ssl", "group": "scale", "structure": "none", "width": 0.0625},
}


@pytest.mark.parametrize("changes", SHARED.values(), ids=SHARED)
def test_two_workers_compute_what_one_does(changes: dict[str, object], tmp_path: Path) -> None:
    """Same global batch, same draws: loss, gradients and BatchNorm statistics through DDP equal one process's."""
    config = tiny(epochs=2, **changes)
    rounding = 5 if config.layerwise else 1  # the first stage contrasts 4 numbers, whose gradient mostly cancels
    spawn(_two_ranks, args=(2, str(tmp_path), config), nprocs=2)  # type: ignore[no-untyped-call]
    for dtype, tolerance in TOLERANCES.items():
        expected, got = first_step(config, dtype), load_file(tmp_path / f"{dtype}.safetensors")
        assert expected.keys() == got.keys()
        for part in ("loss", "gradient", "running"):
            names = [name for name in expected if name.startswith(part)]
            difference = torch.cat([(got[name] - expected[name]).flatten() for name in names])
            whole = torch.cat([expected[name].flatten() for name in names]).norm()
            assert difference.norm() <= tolerance * rounding * whole, part
    assert latest_valid(tmp_path / "ranks") is not None
