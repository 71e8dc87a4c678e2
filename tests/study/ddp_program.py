"""A stand-in for `train_trial` with workers: a linear model under DDP, its gradient averaged over the ranks."""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.trial.config import TrialConfig
from tests.study.engine_programs import SECONDS, latest_checkpoint


def train(
    config: TrialConfig,
    report: Report,
    resume: Path | None = None,
    *,
    workdir: Path,
    **settings: Any,
) -> None:
    """Reports the gradient that every rank holds after a step on its own rank as input: the mean of the ranks."""
    # Here, because a driver imports this module before Ray's settings are made, and Ray reads them while imported.
    from ray.util import list_named_actors

    rank = dist.get_rank()
    done = 0 if resume is None else json.loads((resume / "state.json").read_text())["epoch"]
    model = DistributedDataParallel(torch.nn.Linear(1, 1, bias=False))
    for epoch in range(done + 1, config.epochs + 1):
        time.sleep(float(os.environ.get(SECONDS, "0")))
        model.zero_grad()
        model(torch.full((1, 1), float(rank))).sum().backward()
        gradient = next(model.parameters()).grad
        assert gradient is not None
        committed = None
        if rank == 0:
            committed = workdir / "checkpoints" / f"epoch-{epoch:05d}"
            committed.mkdir(parents=True)
            (committed / "state.json").write_text(json.dumps({"epoch": epoch}))
        metrics = {
            "epoch": float(epoch),
            "train/loss": 1.0 / epoch + config.seed,
            "train/gradient": gradient.item(),
            "world": float(dist.get_world_size()),
            "coordinators": float(sum("Coordinator" in actor["name"] for actor in list_named_actors(True))),
        }
        report(metrics | {"threads": float(torch.get_num_threads())}, committed)


PROGRAM = TrialProgram(train, latest_checkpoint)
