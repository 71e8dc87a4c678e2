"""How long a trial of two workers takes from its start to its first step, and what it waits for.

    python benchmarks/workers_start.py [--rounds 3] [--json]

`hssl-ray run` on a study of two such trials, one after the other, on a Ray that is up. The start is the ledger's; the
first step is the first record's time less what its epoch took (the measurement of the untrained network counts as a
step). In between, the processes of the trial say where it is: when each appears, and when it has become what it is for,
that is, when its imports are done. The second trial is the one that counts; the first also pays for cold files.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, show

from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.ledger import LEDGER
from hssl_ray.trial.durable import read_log
from hssl_ray.trial.journal import JOURNAL, read_records
from studies import run_study_file

BAR = 8.0
STUDY = """\
study: pair
base:
  dataset: mnist-mini
  train_images: 200
  batch_size: 100
  group: scale
  width: 0.25
  epochs: 1
  warmup_epochs: 0
  optimizer: adamw
  learning_rate: 0.004
  method: h_ssl
seeds: 2
resources: {workers: 2}
"""
ACTORS = {
    "trial_process": "ray::train_group",
    "controller": "ray::TrainController",
    "cleaner": "ray::PlacementGroupCleaner",
    "synchronisation": "ray::SynchronizationActor",
    "ranks": "ray::RayTrainWorker",
}


class Watch(threading.Thread):
    """When the processes of this machine got their names, in seconds since 1970."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.named: dict[int, tuple[str, float]] = {}
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.03):
            for folder in Path("/proc").glob("[0-9]*"):
                pid = int(folder.name)
                try:
                    name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                known = next((part for part, title in ACTORS.items() if name.startswith(title)), None)
                if known is not None and self.named.get(pid, ("",))[0] != known:
                    self.named[pid] = (known, time.time())

    def stop(self) -> list[tuple[str, float]]:
        self._done.set()
        self.join()
        return sorted(self.named.values(), key=lambda one: one[1])


def measure(rounds: int) -> Iterator[Figure]:
    seconds: list[float] = []
    cold: list[float] = []
    parts: dict[str, list[float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="pair-") as folder:
            home = Path(folder)
            study = home / "study.yaml"
            study.write_text(STUDY)
            watch = Watch()
            watch.start()
            run_study_file(study, home)
            named = watch.stop()
            starts = [event for event in read_log(study_folder(home, "pair") / LEDGER) if event["event"] == "started"]
            for event, into in zip(starts, (cold, seconds), strict=True):
                record = read_records(trial_folder(home, event["trial_id"]) / JOURNAL)[0]
                spent = record.metrics["perf/epoch_seconds"] + record.metrics.get("perf/start_seconds", 0.0)
                into.append(record.time - spent - event["time"])
            begun = starts[1]["time"]
            for part in ACTORS:
                times = [at - begun for name, at in named if name == part and at > begun - 5.0]
                if times:
                    parts.setdefault(part, []).append(max(times))
    detail = {f"{part}_ready_at": statistics.median(values) for part, values in parts.items()}
    detail["first_trial"] = statistics.median(cold)
    yield Figure("trial of two workers, start to first step", statistics.median(seconds), "s", BAR, "lower", detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    show("workers_start", measure(arguments.rounds), as_json=arguments.json)


if __name__ == "__main__":
    main()
