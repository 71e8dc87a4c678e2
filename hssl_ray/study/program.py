"""The program that studies run. Torch is imported where a trial trains; a driver on a cluster does without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.trial.config import TrialConfig

# All imports of torch are inside the functions: it takes more than a second.


def train(
    config: TrialConfig,
    report: Report,
    resume: Path | None = None,
    *,
    workdir: Path,
    checkpoint_every: int,
    keep: int,
    beat: Callable[[], None],
) -> None:
    """See `hssl_ray.trial.train.train_trial`."""
    from hssl_ray.trial.train import train_trial

    train_trial(config, report, resume, workdir=workdir, checkpoint_every=checkpoint_every, keep=keep, beat=beat)


def latest_checkpoint(workdir: Path) -> Path | None:
    """See `hssl_ray.trial.checkpoint.latest_valid`."""
    from hssl_ray.trial.checkpoint import latest_valid

    return latest_valid(workdir)


PROGRAM = TrialProgram(train, latest_checkpoint, modules=("hssl_ray.trial.train",))
