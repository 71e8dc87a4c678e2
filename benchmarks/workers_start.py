"""How long a trial of two workers takes from its start to its first step, and what it waits for.

    python benchmarks/workers_start.py [--rounds 3] [--standing] [--json]

`hssl-ray run` on a study of two such trials, one after the other, on a Ray of its own or, with `--standing`, on that of
`hssl-ray up`. The start is the ledger's; the first step is the first record's time less what its epoch took (the
measurement of the untrained network counts as a step). The second trial is the one that counts; the first also pays for
cold files.

The breakdown comes from the processes themselves (`traced/sitecustomize.py`): for each part, when it was reached after
the start, by the later of the ranks, and how many processor seconds its process had used by then. The last line adds up
the processor seconds of every process of the study from the start to the first step: on a machine that is busy with
something else, those are the figures to look at.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, show
from processors import Processors

from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.ledger import LEDGER
from hssl_ray.trial.durable import read_log
from hssl_ray.trial.journal import JOURNAL, read_records
from studies import alone, run_study_file, standing

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
PARTS = (
    "trial process",
    "controller",
    "rank",
    "context",
    "torch imported",
    "group joined",
    "told to train",
    "training called",
    "data open",
    "network built",
    "DDP wrapped",
    "kernels loaded",
    "untrained network measured",
    "first forward",
    "cleaner",
)
"""As `traced/sitecustomize.py` calls them, in the order in which they come."""


@dataclass(frozen=True)
class Started:
    """One trial's start."""

    seconds: float
    """To its first step."""
    reached: dict[str, tuple[float, float]]
    """When each part was there, in seconds from the start, and its process's processor seconds by then."""
    processors: dict[str, float]
    """Processor seconds by process, until the first step."""


def starts(home: Path, trace: Path, processors: Processors) -> list[Started]:
    """Of the study's trials, in their order."""
    traced = [json.loads(line) for file in trace.iterdir() for line in file.read_text().splitlines()]
    found = []
    for event in read_log(study_folder(home, "pair") / LEDGER):
        if event["event"] != "started":
            continue
        begun = event["time"]
        record = read_records(trial_folder(home, event["trial_id"]) / JOURNAL)[0]
        spent = record.metrics["perf/epoch_seconds"] + record.metrics.get("perf/start_seconds", 0.0)
        first_step = record.time - spent
        reached: dict[str, tuple[float, float]] = {}
        for told in sorted(traced, key=lambda told: told["at"]):
            if begun < told["at"] < record.time and told["what"] in PARTS:
                reached[told["what"]] = (told["at"] - begun, told["processor"])
        found.append(Started(first_step - begun, reached, processors.between(begun, first_step)))
    return found


def measure(rounds: int, on_standing: bool) -> Iterator[Figure]:
    first, second = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="pair-") as folder, Processors() as processors:
            home, trace = Path(folder), Path(folder) / "trace"
            trace.mkdir()
            study = home / "study.yaml"
            study.write_text(STUDY)
            traced = {"HSSL_TRACE": str(trace), "PYTHONPATH": str(Path(__file__).with_name("traced"))}
            with (standing if on_standing else alone)(home, traced) as variables:
                run_study_file(study, home, variables)
            cold, warm = starts(home, trace, processors)
        first.append(cold)
        second.append(warm)
    for part in PARTS:
        rows = [one.reached[part] for one in second if part in one.reached]
        if rows:
            at, used = (statistics.median(row[i] for row in rows) for i in (0, 1))
            yield Figure(f"... {part}", at, "s", detail={"processor_seconds": used}, better="lower")
    names = dict.fromkeys(name for one in second for name in one.processors)
    used_by = {name: statistics.median(one.processors.get(name, 0.0) for one in second) for name in names}
    total = statistics.median(sum(one.processors.values()) for one in second)
    large = {name: used for name, used in used_by.items() if used >= 0.1}
    yield Figure("processor seconds, start to first step", total, "s", detail=large, better="lower")
    value, before = (statistics.median(one.seconds for one in each) for each in (second, first))
    what = "trial of two workers, start to first step" + (", on a standing Ray" if on_standing else "")
    yield Figure(what, value, "s", BAR, "lower", {"rounds": rounds, "first_trial": before})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--standing", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    show("workers_start", measure(arguments.rounds, arguments.standing), as_json=arguments.json)


if __name__ == "__main__":
    main()
