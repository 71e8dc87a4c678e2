"""A driver that counts what it keeps of Tune: `python -m tests.study.laps_driver HOME TRIALS LAP`.

Prints as JSON how the trials ended, how many of Tune's trials were alive at the end of each, how much Ray then kept of
what it had said of trials, and `left`, what it kept of that at the end of the last lap. The end of the first trial
leaves holes in the driver's heap: `resident` is its memory in MiB before that, after it, and at the end of the study.
"""

import gc
import json
import sys
from pathlib import Path

from hssl_ray.study.engine import NoObserver
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.ray.settings import build_ray_engine
from hssl_ray.study.run import run_study
from hssl_ray.study.spec import PlannedTrial, Study
from tests.holes import make_holes, resident
from tests.study.engine_programs import PROGRAM

HOLES = 200
"""MiB of them."""


class Alive(NoObserver):
    def __init__(self) -> None:
        self.counts: list[int] = []
        self.said: list[int] = []
        self.resident: list[float] = []
        self._small: list[bytearray] = []

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        from ray.tune.experiment import Trial  # after Ray's settings

        self.counts.append(sum(type(one) is Trial for one in gc.get_objects()))
        self.said.append(said())
        if not self._small:
            self.resident.append(resident())
            self._small = make_holes(HOLES)
            self.resident.append(resident())


def said() -> int:
    from ray.util import debug

    return sum(key.startswith("tune_func_encode") for key in debug._logged)


def main(home: str, trials: int, lap: int) -> None:
    def shorten(address: str) -> None:
        from hssl_ray.study.ray import tune_loop

        tune_loop.LAP = lap

    gc.disable()  # or it would find by chance what is to be collected at a lap's end
    alive = Alive()
    study = Study(study="fake", base={"epochs": 2, "warmup_epochs": 0}, seeds=trials)
    engine = build_ray_engine(PROGRAM, shorten)
    summary = run_study(study, home=Path(home), engine=engine, observers=[alive])
    alive.resident.append(resident())
    found = {"alive": alive.counts, "said": alive.said, "resident": alive.resident, "left": said()}
    print(json.dumps({"ended": summary.counts, **found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
