"""Training that does nothing but report, for our sweep and for the stock one: what is left is what trials cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.trial.config import TrialConfig

EPOCHS = 1  # the stock recipe can hang with more: its reports pass through a queue of size one


def metrics_of(epoch: int) -> dict[str, float]:
    """The metrics of an epoch, as many as a trial of the quick-start study reports."""
    return {"epoch": float(epoch), **{f"train/metric_{number}": 1.0 / epoch + number for number in range(24)}}


def train(config: TrialConfig, report: Report, resume: Path | None = None, **settings: Any) -> None:
    """Report every epoch; no checkpoint, as the stock recipe has none."""
    for epoch in range(1, config.epochs + 1):
        report(metrics_of(epoch), None)


def latest_checkpoint(workdir: Path) -> Path | None:
    """None was ever made."""
    return None


PROGRAM = TrialProgram(train, latest_checkpoint)
