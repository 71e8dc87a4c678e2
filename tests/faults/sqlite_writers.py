"""One process of many that track studies of their own in one SQLite store: four drivers at once, on threads."""

import json
import logging
import sys
import time
from pathlib import Path

from hssl_ray.study.engine import Summary
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.tracking import MlflowTracker
from hssl_ray.trial.journal import JOURNAL, Journal, Record
from tests.faults.chaos import CHAOS
from tests.study import engine_programs as programs

DRIVERS, METRICS = 4, 16
EPOCHS = 40 if CHAOS else 8


def main() -> None:
    home, process = Path(sys.argv[1]), int(sys.argv[2])
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("hssl_ray").addHandler(handler)

    uri = f"sqlite:///{home / 'mlflow.db'}"
    trackers = [MlflowTracker(uri, home) for _ in range(DRIVERS)]
    trials = [programs.trial(DRIVERS * process + number, epochs=EPOCHS) for number in range(DRIVERS)]
    journals = [Journal(home / "trials" / trial.trial_id / JOURNAL) for trial in trials]
    for number, (tracker, trial) in enumerate(zip(trackers, trials, strict=True)):
        tracker.study_opened(programs.study(name=f"s{process}-{number}"), 1)
        tracker.trial_started(trial, 1)
    started = time.monotonic()
    for epoch in range(1, EPOCHS + 1):
        for tracker, trial, journal in zip(trackers, trials, journals, strict=True):
            record = Record(epoch, {f"m/{n}": epoch + n / 100 for n in range(METRICS)})
            journal.append(record)
            tracker.trial_reported(trial, record)
        while any(tracker.unsynced for tracker in trackers) and time.monotonic() < started + 200:
            time.sleep(0.005)  # so that every epoch is a write of its own
    for tracker, trial in zip(trackers, trials, strict=True):
        tracker.trial_ended(trial, Outcome("finished"))
        tracker.study_closed(Summary({"finished": 1}, 1.0))
    unsynced = [tracker.close(100) or tracker.unsynced for tracker in trackers]
    print(json.dumps({"said": said, "unsynced": unsynced, "seconds": time.monotonic() - started}))


if __name__ == "__main__":
    main()
