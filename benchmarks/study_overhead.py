"""What a study of 24 short trials costs beside its training, and where the rest goes.

    python benchmarks/study_overhead.py [--rounds 3] [--epochs 1] [--standing] [--json]

`hssl-ray run` on a home of its own, two trials at a time, from the command to the shell's next prompt: Ray's start and
end or, with `--standing`, the services of `hssl-ray up`; the first imports of every process, MLflow, the comparison and
the page. Training is what the
journals say: an epoch's steps and its evaluation, and that of the network before the first one. What it is set
against is the sum of that over two processes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, show

from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.ledger import LEDGER
from hssl_ray.trial.durable import read_log
from hssl_ray.trial.journal import JOURNAL, Record, read_records
from studies import Ran, alone, run_study_file, standing

CONCURRENT = 2
BAR = 1.15
STUDY = """\
study: overhead
base:
  dataset: mnist-mini
  train_images: 2000
  batch_size: 250
  group: scale
  width: 0.25
  epochs: {epochs}
  warmup_epochs: 1
  optimizer: adamw
  learning_rate: 0.004
grid:
  method: [a_ssl, h_ssl]
seeds: {seeds}
compare: {{baseline: a_ssl, against: h_ssl, metric: probe/ridge_top1, margin: 0.03}}
"""


@dataclass(frozen=True)
class Trained:
    """A trial's times, in seconds since the command was started."""

    started: float
    """The driver wrote that it starts."""
    first_step: float
    last_record: float
    ended: float
    """The driver wrote that it ended."""
    training: float
    """Epochs, steps and evaluation."""


def trained(home: Path, ran: Ran) -> list[Trained]:
    """Every trial of the study, in the order of their ends."""
    events = read_log(study_folder(home, "overhead") / LEDGER)
    starts = {event["trial_id"]: event["time"] - ran.began for event in events if event["event"] == "started"}
    found = []
    for event in events:
        if event["event"] != "ended":
            continue
        records = read_records(trial_folder(home, event["trial_id"]) / JOURNAL)
        found.append(_trained(records, starts[event["trial_id"]], event["time"] - ran.began, ran.began))
    return found


def _trained(records: list[Record], started: float, ended: float, began: float) -> Trained:
    training = [record.metrics["perf/epoch_seconds"] for record in records]
    training[0] += records[0].metrics.get("perf/start_seconds", 0.0)
    first_step = records[0].time - training[0] - began
    return Trained(started, first_step, records[-1].time - began, ended, sum(training))


def parts(ran: Ran, trials: list[Trained]) -> dict[str, float]:
    """Where the time went that no training filled, in seconds of the wall; they add up to the overhead.

    A gap of one of two processes counts half, because the other one trains.
    """
    training = sum(trial.training for trial in trials) / CONCURRENT
    first = min(trial.first_step for trial in trials)
    last = max(trial.last_record for trial in trials)
    end = max(trial.ended for trial in trials)
    running = sorted(trials, key=lambda trial: trial.first_step)
    ends = sorted(trial.last_record for trial in trials)
    tail = (ends[-1] - ends[-CONCURRENT]) / CONCURRENT
    lead = (running[CONCURRENT - 1].first_step - first) / CONCURRENT
    return {
        "until_the_study_opens": ran.first("study overhead"),
        "until_ray_is_up": ran.first("dashboard while") - ran.first("study overhead"),
        "until_the_first_step": first - ran.first("dashboard while"),
        "one_slot_at_start": lead,
        "between_trials": last - first - training - tail - lead,
        "one_slot_at_end": tail,
        "last_end": end - last,
        "until_the_page": ran.first("Page:") - end,
        "until_the_prompt": ran.seconds - ran.first("Page:"),
    }


def gaps(trials: list[Trained]) -> list[float]:
    """Seconds from an end that the driver wrote to the first step of the trial that took its place."""
    order = sorted(trials, key=lambda trial: trial.first_step)[CONCURRENT:]
    ends = sorted(trial.last_record for trial in trials)
    return [trial.first_step - end for trial, end in zip(order, ends, strict=False)]


def measure(rounds: int, epochs: int, seeds: int, on_standing: bool) -> Iterator[Figure]:
    ratios, means, details = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
            home = Path(folder)
            study = home / "study.yaml"
            study.write_text(STUDY.format(epochs=epochs, seeds=seeds))
            with (standing if on_standing else alone)(home) as variables:
                ran = run_study_file(study, home, variables)
            trials = trained(home, ran)
        training = sum(trial.training for trial in trials)
        means.append(training / len(trials))
        ratios.append(ran.seconds / (training / CONCURRENT))
        details.append({"wall": ran.seconds, "training": training / CONCURRENT, **parts(ran, trials)})
        details[-1]["gap"] = statistics.median(gaps(trials))
    middle = {name: statistics.median(detail[name] for detail in details) for name in details[0]}
    yield Figure(
        "study of 24 trials, wall over training" + (", on standing services" if on_standing else ""),
        statistics.median(ratios),
        "x",
        BAR,
        "lower",
        {"rounds": rounds, "training_of_a_trial": statistics.median(means), **middle},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1, help="so that a trial trains for about 5 s on this machine")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--standing", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    show(
        "study_overhead",
        measure(arguments.rounds, arguments.epochs, arguments.seeds, arguments.standing),
        as_json=arguments.json,
    )


if __name__ == "__main__":
    main()
