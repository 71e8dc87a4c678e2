"""One trial from first epoch to last, in the order things happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.amp import GradScaler

from hssl_ray.method.networks import build_network
from hssl_ray.trial import checkpoint
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import TrialData, open_trial_data, training_batches
from hssl_ray.trial.eager import data_parallel
from hssl_ray.trial.evaluate import evaluate, measure_start
from hssl_ray.trial.finite import FiniteLoss
from hssl_ray.trial.optim import build_optimizer, learning_rate, set_learning_rate
from hssl_ray.trial.precision import autocast, loss_scaler
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.task import StepLosses, Task

Report = Callable[[dict[str, float], Path | None], None]


def train_trial(
    config: TrialConfig,
    report: Report,
    resume: Path | None = None,
    *,
    workdir: Path,
    checkpoint_every: int = 5,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Train one trial, alone or as one rank of an initialised process group.

    Args:
        config: the trial.
        report: called after every epoch, on every rank, with that epoch's metrics and the checkpoint committed with
            it, if one was due. May raise `TrialStopped`.
        resume: checkpoint folder to go on from; training then equals training that was never interrupted.
        workdir: the trial's folder; checkpoints lie under `checkpoints/`. All stay; `report` may remove older ones.
        checkpoint_every: epochs between checkpoints; the last epoch always has one.
        beat: called after every batch, also of an evaluation; see `pulse`.

    Raises:
        TrialDiverged: the loss became infinite or not a number, on this rank or on another.
        TrialStopped: `report` raised it.
        ValueError: the batch cannot be shared by the ranks, or the checkpoint is not of this trial.
        DataError: the data set is missing or damaged.
    """
    ranks = Ranks.here()
    if config.batch_size % ranks.world_size:
        raise ValueError(f"batch_size: must be a multiple of the {ranks.world_size} workers, got {config.batch_size}")
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")

    data = open_trial_data(config, device)
    network = build_network(config).to(device)
    task = Task(network, config)
    optimizer = build_optimizer(network, network.probe, config)
    scaler = loss_scaler(config, device)
    done = 0 if resume is None else checkpoint.restore(resume, config, network, optimizer, scaler)
    step_module: nn.Module = task
    if ranks.world_size > 1:
        step_module = data_parallel(task)

    at_start = {}
    if done == 0:
        started = time.perf_counter()
        at_start = measure_start(network, data)
        at_start["perf/start_seconds"] = time.perf_counter() - started
    for epoch in range(done, config.epochs):
        started = time.perf_counter()
        losses = train_epoch(step_module, task, optimizer, scaler, data, epoch, ranks, beat)
        trained = time.perf_counter()
        metrics = {
            "epoch": float(epoch + 1),
            "train/loss": losses[0],
            "train/probe_loss": losses[1],
            **{f"train/loss_stage{stage}": loss for stage, loss in enumerate(losses[2:], start=1)},
            "train/learning_rate": learning_rate(config, (epoch + 1) * config.steps_per_epoch - 1),
            "perf/images_per_second": config.steps_per_epoch * config.batch_size / (trained - started),
        }
        last = epoch + 1 == config.epochs
        metrics |= evaluate(task, data, ranks, epoch + 1, beat)
        if epoch == 0:  # there is no earlier record that could hold them
            metrics |= at_start
        metrics["perf/evaluation_seconds"] = time.perf_counter() - trained
        metrics["perf/epoch_seconds"] = time.perf_counter() - started

        committed = None
        if last or (epoch + 1) % checkpoint_every == 0:
            started = time.perf_counter()
            if ranks.first:
                committed = checkpoint.commit(
                    workdir, config, network, optimizer, scaler, epoch=epoch + 1, metrics=metrics
                )
            ranks.barrier()
            metrics["perf/checkpoint_seconds"] = time.perf_counter() - started
        report(metrics, committed)


def train_epoch(
    step_module: nn.Module,
    task: Task,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler,
    data: TrialData,
    epoch: int,
    ranks: Ranks,
    beat: Callable[[], None] = lambda: None,
) -> list[float]:
    """One pass over the training images. Returns the means over its steps of the method's and the probe's loss, and of
    every stage's where each has its own.

    Raises:
        TrialDiverged: see `FiniteLoss`.
    """
    config = task.config
    task.train()
    finite = FiniteLoss(ranks, epoch + 1)
    total = torch.zeros((), device=data.train.device)
    for step, batch in enumerate(training_batches(data.train, config, epoch, ranks)):
        set_learning_rate(optimizer, learning_rate(config, epoch * config.steps_per_epoch + step))
        with autocast(config, data.train.device):
            losses: StepLosses = step_module(batch.images, batch.labels, task.draw(epoch, batch.indices))
        finite.check(losses.total)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        total = total + torch.cat((torch.stack((losses.method, losses.probe)), losses.stages))
        beat()
    finite.finish()
    means: list[float] = (ranks.total(total) / (ranks.world_size * config.steps_per_epoch)).tolist()
    return means
