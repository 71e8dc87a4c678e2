"""The program that studies run. Torch is imported where a trial trains; a driver on a cluster does without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.trial.checkpoint_files import latest_valid
from hssl_ray.trial.config import TrialConfig

# All imports of torch are inside the functions: it takes more than a second.


def train(config: TrialConfig, report: Report, resume: Path | None = None, **settings: Any) -> None:
    """See `hssl_ray.trial.train.train_trial`."""
    from hssl_ray.trial.train import train_trial

    train_trial(config, report, resume, **settings)


def latest_checkpoint(workdir: Path) -> Path | None:
    """See `hssl_ray.trial.checkpoint_files.latest_valid`; a trial's folder has the trial's name."""
    return latest_valid(workdir, workdir.name)


PROGRAM = TrialProgram(train, latest_checkpoint, modules=("hssl_ray.trial.train",))
