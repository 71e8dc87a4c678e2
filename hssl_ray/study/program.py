"""The program that studies run. Torch is imported where a trial trains; a driver on a cluster does without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.trial.checkpoint_files import Retention, latest_valid
from hssl_ray.trial.config import TrialConfig

# All imports of torch are inside the functions: it takes more than a second.


def train(
    config: TrialConfig,
    report: Report,
    resume: Path | None = None,
    *,
    workdir: Path,
    checkpoint_every: int,
    keep: Retention,
    beat: Callable[[], None],
) -> None:
    """See `hssl_ray.trial.train.train_trial`."""
    from hssl_ray.trial.train import train_trial

    train_trial(config, report, resume, workdir=workdir, checkpoint_every=checkpoint_every, keep=keep, beat=beat)


def latest_checkpoint(workdir: Path) -> Path | None:
    """See `hssl_ray.trial.checkpoint_files.latest_valid`; a trial's folder has the trial's name."""
    return latest_valid(workdir, workdir.name)


PROGRAM = TrialProgram(train, latest_checkpoint, modules=("hssl_ray.trial.train",))
