"""F29, and with it F3 and F4: a study under random faults, and seven things that must hold afterwards."""

import itertools
import math
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import read_history
from hssl_ray.study.spec import load_study
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.durable import read_log
from hssl_ray.trial.journal import JOURNAL, read_records, written
from hssl_ray.trial.train import train_trial
from tests.cli.mlflow_store import mlflow_runs
from tests.faults.chaos import CHAOS, only_in_chaos
from tests.faults.nemesis import Nemesis
from tests.faults.peace import furthest, weights_in_peace, weights_of
from tests.faults.table import Table
from tests.study.ray_cluster import is_agent, processes, wait_until


@dataclass(frozen=True)
class Schedule:
    """A study and how it is struck."""

    workers: int
    strikes: int
    pause: float
    seeds: int
    epochs: int

    @property
    def study(self) -> str:
        return f"""\
study: soak
base:
  dataset: mnist-mini
  train_images: 200
  batch_size: 50
  width: 0.125
  epochs: {self.epochs}
  warmup_epochs: 1
  optimizer: adamw
  learning_rate: 0.003
  precision: {"auto" if self.workers == 1 else "fp32"}
grid:
  method: [frozen, h_ssl]
seeds: {self.seeds}
checkpoints: {{every_epochs: 1}}
resilience: {{max_retries: 100}}
resources: {{workers: {self.workers}}}
compare: {{baseline: frozen}}
"""


ALONE = Schedule(1, 30, 15.0, 30, 20) if CHAOS else Schedule(1, 3, 2.0, 3, 6)  # ten minutes or so, and one
PAIRS = Schedule(2, 12, 15.0, 2, 30)  # ten minutes: a start takes as long as ten epochs


@pytest.mark.ray
@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("schedule", [ALONE, pytest.param(PAIRS, marks=only_in_chaos)], ids=["one", "two"])
def test_a_study_under_random_faults(tmp_path: Path, seed: int, schedule: Schedule, figures: Table) -> None:
    """Killed workers and drivers, signals, damaged checkpoints and a locked tracking store, in random order."""
    file, home = tmp_path / "soak.yaml", tmp_path / "home"
    file.write_text(schedule.study)
    nemesis = Nemesis(home, file, "soak", seed, schedule.strikes, schedule.pause)
    try:
        assert nemesis.run() == 0, nemesis.log()
        wait_until(lambda: not [one for one in processes(nemesis.mark) if not is_agent(one)], 30, "all processes end")
    finally:
        nemesis.end()
    planned = tuple(load_study(file).planned())
    trials = {one.trial_id: one.config for one in planned}
    lines = {trial_id: list(written(trial_folder(home, trial_id) / JOURNAL)) for trial_id in trials}
    damaged = Counter(fault.trial for fault in nemesis.struck if fault.kind == "checkpoint")

    broken = {
        "a: resumed before its newest checkpoint": sum(_went_back(lines[one], damaged[one]) for one in trials),
        "b: epochs missing or told twice": sum(_torn(lines[one], schedule) for one in trials),
        "c: runs": _wrong_runs(home, set(trials), schedule.epochs),
        "d: trials lost": len(trials) - _finished(home),
        "e: results that differ from those of a study in peace": _different(home, trials, tmp_path / "peace", schedule),
        "f: folders left": sum(Path(head).exists() for head in nemesis.heads) + (home / "studies/soak/engine").exists(),
    }
    figures.bad("F29", "invariants broken", sum(map(bool, broken.values())), len(broken))
    assert [name for name, count in broken.items() if count] == [], (broken, nemesis.struck)

    useful = len(trials) * schedule.epochs
    wasted = sum(len(one) for one in lines.values()) - useful + _attempts_cut_short(home)
    what = "useful epochs of all that were begun" + (", two workers" if schedule.workers > 1 else "")
    figures.share("F29", what, useful / (useful + wasted), ">= 0.9")
    killed = [fault for fault in nemesis.struck if fault.kind == "driver"]
    figures.bad(
        "F3", "trials lost, runs doubled or left RUNNING", broken["c: runs"] + broken["d: trials lost"], len(trials)
    )
    for fault in nemesis.struck:
        if fault.kind == "worker" and fault.recovered is not None:
            what = "from the kill to the next attempt, under random faults"
            figures.time("F2" if schedule.workers == 1 else "F1", what, fault.recovered, "<= 10 (median)")
        if fault.kind == "signal" and fault.recovered is not None:
            # By the signal itself where the driver was still importing: nothing had begun.
            assert fault.code in (130, 143, -signal.SIGINT, -signal.SIGTERM)
            figures.time("F4", "from the signal to the driver's end", fault.recovered, "<= 10")
    assert nemesis.drivers > len(killed)
    if CHAOS:
        assert useful / (useful + wasted) >= 0.9


def _went_back(lines: list[dict[str, Any]], damaged: int) -> int:
    """Attempts that began before the epoch after the newest checkpoint told of, beyond those that had it damaged."""
    count = 0
    for before, line in itertools.pairwise(lines):
        if line["attempt"] != before["attempt"]:
            assert before["checkpoint"] is not None
            count += line["epoch"] != before["epoch"] + 1
    return max(0, count - damaged)


def _torn(lines: list[dict[str, Any]], schedule: Schedule) -> bool:
    """Whether epochs are missing, or one that was trained twice came out differently."""
    told: dict[int, dict[str, float]] = {}
    for line in lines:
        if not _same(told.setdefault(line["epoch"], line["metrics"]), line["metrics"], schedule):
            return True
    return sorted(told) != list(range(1, schedule.epochs + 1))


def _same(ours: dict[str, float], theirs: dict[str, float], schedule: Schedule) -> bool:
    """Whether two trainings of an epoch came to the same: to the bit, or with several workers in their loss."""
    if schedule.workers > 1:
        return math.isclose(ours["train/loss"], theirs["train/loss"], rel_tol=1e-5)
    return _computed(ours) == _computed(theirs)


def _computed(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("perf/")}


def _wrong_runs(home: Path, trials: set[str], epochs: int) -> int:
    """Trials without their one run, runs that are not finished, and runs without their every epoch."""
    runs = mlflow_runs(home)
    of_trials = Counter(run.trial_id for run in runs if run.kind == "trial")
    wrong = sum(of_trials[trial] != 1 for trial in trials) + len(of_trials.keys() - trials)
    wrong += sum(run.status != "FINISHED" for run in runs)
    every = list(range(1, epochs + 1))
    return wrong + len([run for run in runs if run.kind == "trial" and run.steps != every])


def _finished(home: Path) -> int:
    return len([one for one in read_history(home, "soak").outcomes.values() if one.state == "finished"])


def _attempts_cut_short(home: Path) -> int:
    """Each has begun an epoch that it did not end, at most."""
    events = read_log(home / "studies/soak/ledger.jsonl")
    return len([event for event in events if event["event"] == "started"]) - _finished(home)


def _different(home: Path, trials: dict[str, TrialConfig], peace: Path, schedule: Schedule) -> int:
    """Of the best trial and others: those that did not come out as they do when nothing happens."""
    final = {one: read_records(trial_folder(home, one) / JOURNAL)[-1].metrics for one in trials}
    chosen = sorted(final, key=lambda one: final[one]["probe/ridge_top1"])[-1:] + sorted(final)[: 2 if CHAOS else 1]
    different = 0
    for one in dict.fromkeys(chosen):
        if schedule.workers > 1:
            ours = weights_of(trial_folder(home, one), trials[one])
            different += furthest(ours, weights_in_peace(peace, trials[one], schedule.workers)) > 1e-6
        else:
            different += not _same(final[one], _last_in_peace(trials[one], peace / one), schedule)
    return different


def _last_in_peace(config: TrialConfig, folder: Path) -> dict[str, float]:
    """The metrics of a trial's last epoch."""
    torch.set_num_threads(1)
    told: list[dict[str, float]] = []
    folder.mkdir(parents=True)
    train_trial(config, lambda metrics, checkpoint: told.append(metrics), workdir=folder)
    return told[-1]
