"""A layer's figures beside SESN's way, and the command line of the benchmarks that make them."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from figures import Figure, paired_ratio, show
from number_types import TYPES, add_types, chosen_types


@dataclass(frozen=True)
class Times:
    """Seconds of paired rounds: SESN's way in float32, and ours."""

    sesn: list[float]
    ours: list[float]

    @property
    def ratio(self) -> float:
        return paired_ratio(self.sesn, self.ours)

    @property
    def detail(self) -> dict[str, float | int | str]:
        medians = {"sesn_fp32_ms": self.sesn, "ours_ms": self.ours}
        return {name: 1e3 * statistics.median(times) for name, times in medians.items()} | {"rounds": len(self.ours)}


def alternate(
    sesn: Callable[[], float], ours: Callable[[torch.dtype], float], rounds: int, types: Iterable[str]
) -> dict[str, Times]:
    """Seconds of both sides by turns, of ours in each number type; after a round to warm up."""
    of_sesn: list[float] = []
    of_ours: dict[str, list[float]] = {name: [] for name in types}
    for _ in range(rounds + 1):
        of_sesn.append(sesn())
        for name, times in of_ours.items():
            times.append(ours(TYPES[name]))
    return {name: Times(of_sesn[1:], times[1:]) for name, times in of_ours.items()}


def run(name: str, description: str | None, figures: Callable[[int, list[str]], Iterable[Figure]]) -> None:
    """Parse the command line, measure so many rounds of the chosen number types, print."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of a trial's process; two trials share this machine")
    add_types(parser)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    show(name, figures(arguments.rounds, chosen_types(arguments.types)), as_json=arguments.json)
