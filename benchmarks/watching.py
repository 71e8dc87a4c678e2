"""What a look of `status --watch` costs, beside reading the whole study again, as `status` does.

    python benchmarks/watching.py [--trials 10000] [--json]

Processor seconds of one process. Half of the trials have ended, each with 60 metrics; one is running.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from figures import Figure, show

from hssl_ray.report.progress import progress
from hssl_ray.report.watched import count
from hssl_ray.study.layout import study_folder
from hssl_ray.study.ledger import LEDGER, Ledger
from hssl_ray.study.results import results_table
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.study.watch import StudyWatch
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.durable import encode

STUDY = "watched"
METRIC = "probe/top1"


def planned(seed: int) -> PlannedTrial:
    config = TrialConfig(seed=seed)
    return PlannedTrial(config.trial_id, config, "h_ssl-rotation", f"h_ssl-rotation-s{seed}")


def started(trial: PlannedTrial) -> dict[str, Any]:
    return {"event": "started", "trial_id": trial.trial_id, "attempt": 1, "time": time.time()}


def ended(trial: PlannedTrial) -> dict[str, Any]:
    outcome = {"state": "finished", "metrics": {METRIC: 0.5} | {f"of/{number}": 0.5 for number in range(59)}}
    return {"event": "ended", "trial_id": trial.trial_id, "time": time.time(), "outcome": outcome}


def seconds(work: Callable[[], object]) -> float:
    since = time.process_time()
    work()
    return time.process_time() - since


def figures(trials: int, home: Path) -> Iterator[Figure]:
    rows = [planned(seed) for seed in range(trials)]
    done, rest = rows[: trials // 2], rows[trials // 2 :]
    path = study_folder(home, STUDY) / LEDGER

    def append(*events: dict[str, Any]) -> None:  # without the ledger's fsync, which is not what is measured
        with path.open("ab") as file:
            file.write(b"".join(map(encode, events)))

    with Ledger.open(home, STUDY) as ledger:
        ledger.planned("digest", {}, rows)
        append(*(event for trial in done for event in (started(trial), ended(trial))), started(rest[0]))
        whole = seconds(lambda: progress(results_table(home, STUDY, (METRIC,)), STUDY))
        watching = StudyWatch(home, STUDY, METRIC)

        def look() -> None:
            count(watching.look(), STUDY)

        yield Figure("reading the whole again", whole, "s")
        yield Figure("the first look", seconds(look), "s", better="lower")
        append(ended(rest[0]), started(rest[1]))
        yield Figure("a look after a trial ended", seconds(look), "s", better="lower")
        yield Figure("a look at which nothing was new", seconds(watching.look), "s", better="lower")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="one JSON line for each figure")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        show("watching", figures(asked.trials, Path(home)), as_json=asked.json)


if __name__ == "__main__":
    main()
