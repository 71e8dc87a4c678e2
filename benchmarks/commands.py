"""Whole processes of `hssl-ray`, timed as a person waits for them."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import Figure

ROOT = Path(__file__).parents[1]
CHECKOUT = {"PYTHONPATH": str(ROOT)}
"""The command measured is this checkout's, whatever is installed."""


@dataclass(frozen=True)
class Taken:
    """Seconds on the clock from a process's start to its end, and of the processor, which neighbours disturb less."""

    wall: float
    processor: float


def timed(arguments: Sequence[str], environment: Mapping[str, str]) -> Taken:
    """One run of `hssl-ray`.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    since, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "hssl_ray", *arguments],
        env={**os.environ, **CHECKOUT, **environment},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    wall, after = time.perf_counter() - since, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Taken(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def command_figures(
    commands: Mapping[str, tuple[Sequence[str], float | None]], rounds: int, environment: Mapping[str, str]
) -> Iterator[Figure]:
    """The median wall time of each command, by its name, with its bar in seconds; rounds alternate.

    The first round warms the file cache and is not counted.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, (arguments, _) in commands.items():
            one = timed(arguments, environment)
            taken[name] += [one] if number else []
    for name, (_, bar) in commands.items():
        walls = [one.wall for one in taken[name]]
        detail: dict[str, float | int | str] = {
            "least": min(walls),
            "processor": statistics.median(one.processor for one in taken[name]),
            "rounds": rounds,
        }
        yield Figure(name, statistics.median(walls), "s", bar, "lower", detail)
