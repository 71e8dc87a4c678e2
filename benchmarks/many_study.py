"""A study of 10,000 trials whose trials do nothing but report, run by the product's own driver; and its memory.

    python benchmarks/many_study.py HOME [--trials 10000] [--tracking] [--engine inline]

Prints one JSON line: seconds to the first trial and in all, and the driver's resident memory by trials finished. What
it leaves under HOME is a finished study: the ledger, the journals and the outcomes that real trials would leave.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hssl_ray.study.engine import NoObserver, Observer, Report, TrialProgram
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.metrics import EPOCH_METRICS, FINAL_METRICS
from hssl_ray.study.ray.settings import build_ray_engine
from hssl_ray.study.run import run_study
from hssl_ray.study.spec import PlannedTrial, Study, load_study
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import Record

SAMPLES = 20
"""Times that the memory is looked at."""
SETTINGS = 2500
"""Of 10,000 trials; each with two methods and two seeds."""

TEXT = """\
# 10,000 trials: two methods, 2,500 settings, two seeds.
study: many
base: {{dataset: mnist-mini, group: rotation, width: 0.25, epochs: 4, warmup_epochs: 1, batch_size: 256}}
grid:
  learning_rate: {rates}
  temperature: {temperatures}
  weight_decay: {decays}
  method: [a_ssl, h_ssl]
seeds: 2
compare: {{baseline: a_ssl, against: h_ssl, metric: probe/ridge_top1, margin: 0.02}}
"""


def write_study(path: Path, trials: int = 10_000) -> Path:
    """A study file of `trials` trials, a multiple of 1,000: 10 temperatures, 25 weight decays, rates for the rest."""
    assert trials % 1000 == 0 and trials > 0
    path.write_text(
        TEXT.format(
            rates=[round(0.001 * (step + 1), 6) for step in range(trials // 1000)],
            temperatures=[round(0.05 * (step + 1), 6) for step in range(10)],
            decays=[round(1e-6 * (step + 1), 8) for step in range(25)],
        )
    )
    return path


def epoch_metrics(config: TrialConfig, epoch: int, draw: random.Random) -> dict[str, float]:
    """As many metrics as `trial.evaluate` reports for a network of three stages, tables of all stages included."""
    last = epoch == config.epochs
    found = {"epoch": float(epoch), **{name: draw.random() for name in EPOCH_METRICS}}
    prefixes = ["equivariance/start"] if epoch == 1 else []
    prefixes += ["equivariance"] if last or epoch.bit_count() == 1 else []
    for prefix in prefixes:
        for stage in range(1, 4):
            for element in range(1, 4):
                for kind in ("map", "pooled"):
                    found[f"{prefix}/stage{stage}/g{element}/{kind}"] = draw.random()
    if last:
        found |= {name: 0.8 + 0.02 * draw.random() for name in FINAL_METRICS}
    return found


def report_only(config: TrialConfig, report: Report, resume: Path | None = None, **settings: Any) -> None:
    """A trial without training: random metrics, fixed by the trial."""
    draw = random.Random(config.trial_id)  # noqa: S311  numbers to compare, guards nothing
    for epoch in range(1, config.epochs + 1):
        report(epoch_metrics(config, epoch, draw), None)


def no_checkpoint(workdir: Path) -> Path | None:
    """Nothing was saved."""
    return None


PROGRAM = TrialProgram(report_only, no_checkpoint)


def resident() -> int:
    """Resident memory of this process, bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@dataclass
class MemoryLog(NoObserver):
    """Notes the driver's memory as trials end, and when the first one began; a slow tracker is waited for."""

    every: int
    settle: Observer | None = None
    began: float = field(default_factory=time.monotonic)
    first: float | None = None
    ended: int = 0
    points: list[tuple[int, int]] = field(default_factory=list)
    """(trials ended, bytes)."""

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
        if self.first is None:
            self.first = time.monotonic() - self.began

    def trial_reported(self, planned: PlannedTrial, record: Record) -> None: ...

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        self.ended += 1
        if flush := getattr(self.settle, "flush", None):
            flush(600.0)  # a real trial takes longer than the tracker's writes, so nothing piles up there
        if self.ended % self.every == 0:
            gc.collect()
            self.points.append((self.ended, resident()))


def bytes_per_trial(points: Iterable[tuple[int, int]]) -> float:
    """Slope of memory over trials ended, least squares, the first quarter (warm-up) left out."""
    kept = list(points)
    kept = kept[len(kept) // 4 :]
    mean_x = sum(x for x, _ in kept) / len(kept)
    mean_y = sum(y for _, y in kept) / len(kept)
    return sum((x - mean_x) * (y - mean_y) for x, y in kept) / sum((x - mean_x) ** 2 for x, _ in kept)


def drive(home: Path, study: Study, *, tracking: bool, engine: str) -> dict[str, object]:
    """Run what is left of the study, and say what it took."""
    observers: list[Observer] = []
    tracker = None
    if tracking:
        # Imported here: MLflow is not part of the driver that is measured without it.
        from hssl_ray.study.tracker.mlflow_store import initialise
        from hssl_ray.study.tracker.tracked import tracking_uri
        from hssl_ray.study.tracking import MlflowTracker

        initialise(tracking_uri(home), home)
        tracker = MlflowTracker(tracking_uri(home), home)
        observers.append(tracker)
    memory = MemoryLog(max(1, study.trial_count // SAMPLES), settle=tracker)
    runs = InlineEngine(PROGRAM) if engine == "inline" else build_ray_engine(PROGRAM, lambda url: None)
    summary = run_study(study, home=home, engine=runs, observers=[*observers, memory])
    if tracker is not None:
        tracker.close(600.0)
    return {
        "counts": summary.counts,
        "seconds": time.monotonic() - memory.began,
        "seconds_to_first_trial": memory.first,
        "memory": memory.points,
        "bytes_per_trial": bytes_per_trial(memory.points) if len(memory.points) > 3 else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--tracking", action="store_true", help="write to MLflow too")
    parser.add_argument("--engine", choices=("inline", "ray"), default="inline")
    asked = parser.parse_args()
    asked.home.mkdir(parents=True, exist_ok=True)
    study = load_study(write_study(asked.home / "many.yaml", asked.trials))
    print(json.dumps(drive(asked.home, study, tracking=asked.tracking, engine=asked.engine)))


if __name__ == "__main__":
    main()
