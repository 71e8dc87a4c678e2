"""A program whose training a fault strikes, as light to import as the product's own. A cluster imports it."""

from pathlib import Path
from typing import Any

from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.trial.checkpoint_files import latest_valid
from hssl_ray.trial.config import TrialConfig

FAULTS = "faults.json"


def train(config: TrialConfig, report: Report, resume: Path | None = None, **settings: Any) -> None:
    """See `broken_training.train`."""
    from tests.faults import broken_training  # here: the processes around the ranks do without torch

    broken_training.train(config, report, resume, **settings)


PROGRAM = TrialProgram(train, latest_valid)
