"""`hssl-ray` with stand-in trials: `python -m tests.faults.stand_in run STUDY`.

A trial of temperature 0.5 fails with an error that quotes every secret of the environment. The others wait at their
second epoch for the file that HSSL_TEST_GATE names.
"""

import os
import time
from pathlib import Path
from typing import Any

from hssl_ray.cli import main
from hssl_ray.study import program
from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.trial.config import TrialConfig
from tests.study import engine_programs as programs

GATE = "HSSL_TEST_GATE"
SECRETS = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN")


def train(config: TrialConfig, report: Report, resume: Path | None = None, **options: Any) -> None:
    if config.temperature == 0.5:
        raise ConnectionError(" ".join(f"{name} was {os.environ.get(name)}" for name in SECRETS))

    def waiting(metrics: dict[str, float], checkpoint: Path | None) -> None:
        report(metrics, checkpoint)
        while metrics["epoch"] == 2 and not Path(os.environ[GATE]).exists():
            time.sleep(0.05)

    programs.train(config, waiting, resume, **options)


if __name__ == "__main__":
    from tests.faults.stand_in import train as found_by_import  # a cluster's processes have another __main__

    program.PROGRAM = TrialProgram(found_by_import, programs.latest_checkpoint)
    main()
