"""A driver that counts what it keeps of Tune: `python -m tests.study.laps_driver HOME TRIALS LAP`.

Prints as JSON how the trials ended, how many of Tune's trials were alive at the end of each, how much Ray then kept of
what it had said of trials, and whether the allocator gave a large block a place of its own; `left` is what Ray kept at
the end of the last lap.
"""

import ctypes
import gc
import json
import sys
from pathlib import Path

from hssl_ray.study.engine import NoObserver
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.ray.settings import build_ray_engine
from hssl_ray.study.run import run_study
from hssl_ray.study.spec import PlannedTrial, Study
from tests.study.engine_programs import PROGRAM

allocate, free_this = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
allocate.argtypes, allocate.restype, free_this.argtypes = [ctypes.c_size_t], ctypes.c_void_p, [ctypes.c_void_p]


class Alive(NoObserver):
    def __init__(self) -> None:
        self.counts: list[int] = []
        self.said: list[int] = []
        self.apart: list[bool] = []

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        from ray.tune.experiment import Trial  # after Ray's settings

        gc.collect()
        self.counts.append(sum(type(one) is Trial for one in gc.get_objects()))
        self.said.append(said())
        self.apart.append(is_apart())


def said() -> int:
    from ray.util import debug

    return sum(key.startswith("tune_func_encode") for key in debug._logged)


def is_apart() -> bool:
    """Whether glibc maps a block of 1 MiB on its own: the second lowest bit of the word before it."""
    free_this(allocate(2**20))  # which would have raised glibc's own limit
    block = allocate(2**20)
    mapped = ctypes.c_size_t.from_address(block - 8).value & 2
    free_this(block)
    return bool(mapped)


def main(home: str, trials: int, lap: int) -> None:
    def shorten(address: str) -> None:
        from hssl_ray.study.ray import tune_loop

        tune_loop.LAP = lap

    alive = Alive()
    study = Study(study="fake", base={"epochs": 2, "warmup_epochs": 0}, seeds=trials)
    engine = build_ray_engine(PROGRAM, shorten)
    summary = run_study(study, home=Path(home), engine=engine, observers=[alive])
    found = {"alive": alive.counts, "said": alive.said, "apart": alive.apart, "apart_after": is_apart(), "left": said()}
    print(json.dumps({"ended": summary.counts, **found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
