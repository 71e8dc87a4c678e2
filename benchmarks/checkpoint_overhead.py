"""What keeping a trial safe costs it: the share of its time that goes into checkpoints and into the journal.

    python benchmarks/checkpoint_overhead.py [--rounds 3] [--epochs 10] [--json]

The quick-start study's H-SSL trial in this process, one thread, checkpoints as they come by default: every fifth epoch
and after the last, the newest two kept. Both figures are over the trial's whole time, its data and its evaluation
included. The disk is the one that holds `$TMPDIR`; a checkpoint waits for it four times a file.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from figures import Figure, show

from hssl_ray.data.manifest import parquet_directory, read_manifest
from hssl_ray.data.mapped import ensure_mapped
from hssl_ray.trial import checkpoint
from hssl_ray.trial.checkpoint_files import KEEP_NEWEST, committed, retain, size_of
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import JOURNAL, Journal, Record
from hssl_ray.trial.train import train_trial

BAR = 0.035
SETTINGS: dict[str, Any] = {
    "dataset": "mnist-mini",
    "group": "scale",
    "width": 0.25,
    "batch_size": 250,
    "warmup_epochs": 1,
    "optimizer": "adamw",
    "learning_rate": 0.004,
}


class Stopwatch:
    """Adds up the time that a function takes, over all of its calls."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            since = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds.append(time.perf_counter() - since)

        return timed


def one_trial(config: TrialConfig, workdir: Path) -> dict[str, float]:
    """Seconds of a trial and of what kept it safe."""
    saving, removing, writing, commit = Stopwatch(), Stopwatch(), Stopwatch(), checkpoint.commit
    checkpoint.commit = saving.around(commit)
    since = time.perf_counter()
    try:
        with Journal(workdir / JOURNAL) as journal:
            append, thin_out = writing.around(journal.append), removing.around(retain)

            def report(metrics: dict[str, float], saved: Path | None) -> None:
                append(Record(int(metrics["epoch"]), metrics, saved and saved.name))
                if saved is not None:
                    thin_out(workdir, KEEP_NEWEST)

            train_trial(config, report, workdir=workdir)
    finally:
        checkpoint.commit = commit
    return {
        "trial": time.perf_counter() - since,
        "checkpoints": sum(saving.seconds) + sum(removing.seconds),
        "a_checkpoint": statistics.median(saving.seconds),
        "count": len(saving.seconds),
        "journal": sum(writing.seconds),
        "megabytes": size_of(workdir) / len(committed(workdir)) / 1e6,
    }


def measure(rounds: int, epochs: int) -> Iterator[Figure]:
    ensure_mapped(read_manifest("mnist-mini", parquet_directory("mnist-mini")))
    config = TrialConfig(**SETTINGS, epochs=epochs)
    taken = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="checkpoints-") as folder:
            taken.append(one_trial(config, Path(folder)))
    middle: dict[str, float | int | str] = {name: statistics.median(one[name] for one in taken) for name in taken[0]}
    shares = {name: [one[name] / one["trial"] for one in taken] for name in ("checkpoints", "journal")}
    detail = {**middle, "rounds": rounds, "epochs": epochs, "most": max(shares["checkpoints"])}
    yield Figure("checkpoints, share of a trial", statistics.median(shares["checkpoints"]), "", BAR, "lower", detail)
    yield Figure(
        "journal, share of a trial", statistics.median(shares["journal"]), "", None, "lower", {"rounds": rounds}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    show("checkpoint_overhead", measure(arguments.rounds, arguments.epochs), as_json=arguments.json)


if __name__ == "__main__":
    main()
