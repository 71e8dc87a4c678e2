"""No-op trials through the whole path of this package; prints, as JSON, when it began, each trial's end, and its end.

    python benchmarks/our_sweep.py HOME TRIALS

Ledger, journals, Tune, MLflow in a SQLite file under HOME, `workers: 1`. What `hssl-ray run` does, with
`no_op_program` in place of training and without the comparison at the end. `no_op_trials.py` runs it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import no_op_program

from hssl_ray.study.engine import NoObserver
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.ray.settings import build_ray_engine
from hssl_ray.study.run import run_study
from hssl_ray.study.spec import PlannedTrial, Study
from hssl_ray.study.tracker.tracked import tracking_uri
from hssl_ray.study.tracking import MlflowTracker


class Clock(NoObserver):
    """When each trial ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        assert outcome.state == "finished", outcome
        self.ends.append(time.time())


def main(home: Path, trials: int) -> None:
    began = time.time()
    study = Study.model_validate(
        {"study": "no-op", "base": {"epochs": no_op_program.EPOCHS, "warmup_epochs": 0}, "seeds": trials}
    )
    clock, tracker = Clock(), MlflowTracker(tracking_uri(home), home)
    engine = build_ray_engine(no_op_program.PROGRAM)
    run_study(study, home=home, engine=engine, observers=[tracker, clock])
    assert tracker.close(600.0), "MLflow lacks writes"
    print(json.dumps({"began": began, "ends": clock.ends, "done": time.time()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
