"""A study of 10,000 trials: the driver's start, memory and end, and the commands that read what it leaves.

    python benchmarks/many_trials.py [--trials 10000] [--tracked 1000] [--ray 0] [--rounds 5] [--json]

The store is written by the product's own driver, whose trials report four epochs of as many metrics as real ones and
train nothing (`many_study.py`). Memory is the slope of the driver's resident memory over trials ended. `--tracked` is
how many trials write to MLflow too, in a study of their own, and `--ray` how many run on a Ray of their own; both are
slower than the rest together, so they are fewer. The store lies in memory where the system has a place for it: each
stub trial waits ten times for a disk, which real ones do too and do not notice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commands import CHECKOUT, command_figures
from figures import Figure, show

MEMORY = Path("/dev/shm")  # noqa: S108
READ_SECONDS = 3.0
START_SECONDS = 3.0
FLAT = 1024.0
"""Bytes a trial: an identity, a state and an outcome without metrics, in a few dictionaries."""


def driven(home: Path, trials: int, *options: str) -> dict[str, Any]:
    """What `many_study.py` prints."""
    command = [sys.executable, str(Path(__file__).with_name("many_study.py")), str(home), "--trials", str(trials)]
    done = subprocess.run(  # noqa: S603
        [*command, *options], env={**os.environ, **CHECKOUT}, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["counts"] == {"finished": trials}, found["counts"]
    return found


def memory_figure(what: str, found: dict[str, Any]) -> Figure:
    points = found["memory"]
    detail = {"MB_at_first": points[0][1] / 1e6, "MB_at_last": points[-1][1] / 1e6, "seconds": found["seconds"]}
    return Figure(what, found["bytes_per_trial"], "B/trial", FLAT, "lower", detail)


def driver_figures(home: Path, trials: int, tracked: int, on_ray: int) -> Iterator[Figure]:
    first = driven(home, trials)
    yield Figure(f"run, {trials:,} trials: to the first", first["seconds_to_first_trial"], "s", START_SECONDS, "lower")
    yield memory_figure(f"driver's memory, {trials:,} trials, inline", first)
    again = driven(home, trials)
    yield Figure("run again, all finished: to the end", again["seconds"], "s", START_SECONDS, "lower")
    if tracked:
        yield memory_figure(
            f"driver's memory, {tracked:,} trials, MLflow", driven(home / "tracked", tracked, "--tracking")
        )
    if on_ray:
        yield memory_figure(f"driver's memory, {on_ray:,} trials, Ray", driven(home / "ray", on_ray, "--engine", "ray"))


def reading_figures(home: Path, rounds: int) -> Iterator[Figure]:
    study = str(home / "many.yaml")
    commands: dict[str, tuple[tuple[str, ...], float | None]] = {}
    for command in ("plan", "status", "compare"):
        commands[f"hssl-ray {command}"] = ((command, study), READ_SECONDS)
        commands[f"hssl-ray {command} --json"] = ((command, study, "--json"), READ_SECONDS)
    commands["hssl-ray compare --all"] = (("compare", study, "--all"), None)
    yield from command_figures(commands, rounds, {"HSSL_HOME": str(home)})
    report = {"hssl-ray report": (("report", study), None)}
    yield from command_figures(report, 1, {"HSSL_HOME": str(home)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000, help="a multiple of 1,000")
    parser.add_argument("--tracked", type=int, default=1_000, help="a multiple of 1,000, or 0 for none")
    parser.add_argument("--ray", type=int, default=0, help="a multiple of 1,000, or 0 for none")
    parser.add_argument("--folder", type=Path, default=MEMORY if MEMORY.exists() else None, help="for the store")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON line for each figure")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        home = Path(folder)
        show("many_trials", driver_figures(home, asked.trials, asked.tracked, asked.ray), as_json=asked.json)
        show("many_trials", reading_figures(home, asked.rounds), as_json=asked.json)


if __name__ == "__main__":
    main()
