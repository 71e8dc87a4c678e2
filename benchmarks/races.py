"""How long races of seeds last and how often they decide, for powers of the function that spends their error.

    python benchmarks/races.py [--races 1500]

Simulated pairs of normal values whose difference deviates by 0.014 between seeds, margin 0.02, confidence 0.95, looks
at 3, 6, 9 and 12 seeds. Prints the table of docs/decisions.md; it measures no time.
"""

from __future__ import annotations

import argparse
import statistics
from unittest.mock import patch

import numpy as np

from hssl_ray.study.file.sections import Race
from hssl_ray.study.search import looks
from hssl_ray.study.statistics import paired_difference

RACE = Race(start=3, at_most=12)
DIFFERENCES = (0.0, 0.01, 0.02, 0.04, 0.08)
POWERS = (1, 2, 3)


def race(truth: float, draw: np.random.Generator) -> tuple[int, bool]:
    """The seeds that one race takes, and whether it decides."""
    gaps: list[float] = []
    for look in RACE.looks:
        gaps += [draw.normal(truth, 0.014) for _ in range(look - len(gaps))]
        difference = paired_difference([0.0] * look, gaps)
        assert difference is not None
        if difference.verdict(0.02, looks.look_confidence(RACE, look, 0.95)) != "undecided":
            return look, True
    return RACE.at_most, False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=1500)
    count = parser.parse_args().races
    print("| true difference |", " | ".join(f"power {power}" for power in POWERS), "|")
    print("|---" * (1 + len(POWERS)) + "|")
    for truth in DIFFERENCES:
        cells = []
        for power in POWERS:
            draw = np.random.default_rng(1)
            with patch.object(looks, "_POWER", power):
                run = [race(truth, draw) for _ in range(count)]
            seeds, decided = statistics.mean(n for n, _ in run), statistics.mean(done for _, done in run)
            cells.append(f"{seeds:.1f}, {decided:.0%}")
        print(f"| {truth:g} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
